"""The layer profile: what it measures is what odds and log-probabilities say, and it is found on a
model where the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import SENTENCES, build
from torch import Tensor

from workbench import figures
from workbench.anatomy import layer_profile
from workbench.anatomy.layer_profile import strengths_by_layer
from workbench.anatomy.layer_strengths import STEP, Strengths
from workbench.anatomy.profile_task import ProfileTask
from workbench.contrast.pairs import Pair, Pairs
from workbench.forward import tracing
from workbench.forward.tracing import forward
from workbench.loading.models import LM
from workbench.preference.odds import odds
from workbench.text.positions import everything, nth
from workbench.text.splits import text_hashes
from workbench.text.tokens import Batch, encode
from workbench.vectors.steering_vector import SteeringVector

WORDS = ("good", "bad", "warm", "cold", "here", "there", "now", "then")
TEXTS = list(SENTENCES[:3])


def pairs_of(start: int, name: str) -> Pairs:
    made = [
        Pair(prompt=f"{first} {start}", positive=f" {one}", negative=f" {other}")
        for first in ("I am", "She was")
        for one, other in zip(WORDS[::2], WORDS[1::2], strict=True)
    ]
    return Pairs(made, name=name)


def vector_of(lm: LM) -> SteeringVector:
    generator = torch.Generator().manual_seed(5)
    directions = {k: torch.randn(lm.width, generator=generator) for k in range(lm.layers)}
    norms = dict.fromkeys(directions, 1.0)
    return SteeringVector(directions, norms, lm.name, lm.fingerprint, "hand", 0)


def test_preferences_are_those_of_odds_and_divergences_those_of_the_logits() -> None:
    lm = build("llama")
    vector, pairs = vector_of(lm), pairs_of(1, "a")
    strengths = Strengths(lm, vector, (0, 1))
    table = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.3, -0.4]], dtype=torch.float64)
    found = strengths.preferences(pairs, table)
    for row, (a, b) in enumerate(table.tolist()):
        edits = vector.at({0: a, 1: b})
        expected = odds(lm, edits, pairs, [0, 1], quiet=True).query("m == 1")["preference"]
        np.testing.assert_allclose(found[row].numpy(), expected.to_numpy(), atol=1e-4)
    batch = encode(lm, TEXTS)
    with torch.no_grad():
        before, after = (
            forward(lm, batch, edits, lambda logits: logits.log_softmax(-1))
            for edits in ((), vector.at({0: 0.3, 1: -0.4}))
        )
    kl = (before.exp() * (before - after)).sum(-1)[batch.attention].mean()
    divergences = strengths.divergences(TEXTS, table)
    assert float(divergences[2]) == pytest.approx(float(kl), rel=1e-3)
    assert float(divergences[0]) == pytest.approx(0, abs=1e-7)
    # Near no steering the divergence is half of a'Fa.
    fisher, small = strengths.fisher(TEXTS), torch.tensor([STEP, -STEP], dtype=torch.float64)
    near = float(strengths.divergences(TEXTS, small[None])[0])
    assert near == pytest.approx(float(small @ fisher @ small) / 2, rel=0.1)


@pytest.mark.parametrize("memory", [1.0, 2e5, 6e5])
def test_the_fisher_information_keeps_to_its_memory(
    memory: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row, then two, then all of them at once; some of the tokens where not all fit."""
    lm = build("llama")
    strengths = Strengths(lm, vector_of(lm), (0, 1, 2))
    whole, rows, real = strengths.fisher(TEXTS), [], tracing.forward

    def noted(lm: LM, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        rows.append((len(batch), len(batch) * kwargs["keep"] * 12 * lm.vocabulary))
        return real(lm, batch, *args, **kwargs)

    monkeypatch.setattr(tracing, "forward", noted)
    found = replace(strengths, memory=memory).fisher(TEXTS)
    assert all(count == 1 or need <= memory for count, need in rows)
    assert len(rows) > len(TEXTS)
    torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-6)


def test_a_profile_steers_where_it_was_searched() -> None:
    lm = build("llama")
    vector, pairs = vector_of(lm), pairs_of(1, "a")
    found = layer_profile.find(lm, vector, pairs, TEXTS, kl=0.02, rounds=0, positions=nth(1))
    given = found.at(vector, -2.0)
    assert {each.layer: each.coefficient for each in given} == {
        layer: -2 * strength for layer, strength in found.strengths.items()
    }
    assert {each.positions for each in given} == {nth(1)}
    other, text = pairs_of(2, "b"), ["Another text to read"]
    here = layer_profile.compare(lm, vector, found, other, text)
    same = layer_profile.compare(lm, vector, found, other, text, positions=nth(1))
    everywhere = layer_profile.compare(lm, vector, found, other, text, positions=everything)
    pd.testing.assert_frame_equal(here, same)
    assert not np.allclose(here["gain"], everywhere["gain"])
    for table in (found.tried, here, strengths_by_layer(found, here)):
        assert table.attrs["positions"] == repr(nth(1))


def test_no_profile_of_the_search_is_worse_than_its_best_single_layer_at_the_budget() -> None:
    lm = build("llama")
    vector, pairs = vector_of(lm), pairs_of(1, "a")
    found = layer_profile.find(lm, vector, pairs, TEXTS, kl=0.02, rounds=2)
    tried = found.tried.set_index("profile")
    singles = tried.loc[[name for name in tried.index if name.startswith("layer ")], "gain"]
    assert found.gain >= singles.max()
    assert found.gain >= tried.loc["equal strengths", "gain"]
    layers = tuple(range(lm.layers))
    strengths = Strengths(lm, vector, layers)
    for profile in (found.strengths, found.single, found.equal):
        row = torch.tensor([[profile.get(k, 0.0) for k in layers]], dtype=torch.float64)
        assert float(strengths.divergences(TEXTS, row)[0]) == pytest.approx(0.02, rel=0.02)
    table = layer_profile.compare(lm, vector, found, pairs_of(2, "b"), ["Another text to read"])
    rows = table.set_index("profile")
    assert rows.loc["best single layer", ["more", "more_low", "more_high"]].tolist() == [0, 0, 0]
    assert (rows["gain_low"] <= rows["gain"]).all()
    np.testing.assert_allclose(rows["kl"], 0.02, rtol=0.02)
    shown = strengths_by_layer(found, table)
    bars = {trace.name.split(":")[0]: list(trace.y) for trace in figures.layer_profiles(shown).data}
    scale = rows.loc["profile", "scale"]
    assert bars["profile"] == pytest.approx([found.strengths[k] * scale for k in layers])
    assert sum(value != 0 for value in bars["best single layer"]) == 1


def test_the_search_finds_the_best_of_all_angles() -> None:
    lm = build("llama")
    vector, pairs = vector_of(lm), pairs_of(1, "a")
    found = layer_profile.find(lm, vector, pairs, TEXTS, kl=0.02, layers=[0, 2], rounds=6)
    strengths = Strengths(lm, vector, (0, 2))
    budget: dict[str, Any] = {}
    for name, own in (("found", found.strengths), ("one", found.single), ("all", found.equal)):
        profile = torch.tensor([[own.get(0, 0.0), own.get(2, 0.0)]])
        budget[name] = profile
        assert abs(float(strengths.divergences(TEXTS, profile)) / 0.02 - 1) < 0.015
    none = strengths.preferences(pairs, torch.zeros(1, 2)).mean()

    def gain(profiles: Tensor) -> Tensor:
        return strengths.preferences(pairs, profiles).mean(dim=1) - none

    assert abs(float(gain(budget["found"])) - found.gain) < 1e-3
    turns = torch.arange(48) * 2 * math.pi / 48
    grid = torch.stack([turns.cos(), turns.sin()], dim=1)
    size = torch.full((48, 1), 0.05)
    for _ in range(12):  # to the budget, each angle by itself
        cost = strengths.divergences(TEXTS, size * grid).float()[:, None]
        size *= (0.02 / cost).sqrt().clamp(0.5, 2)
    most = float(gain(size * grid).max())
    assert found.gain > 0.97 * most
    assert float(gain(budget["one"])) <= found.gain + 1e-6
    assert set(found.tried.columns) == {"profile", "kl", "gain", 0, 2}


def test_a_budget_is_found_where_the_divergence_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steeper than any power that a step could be told by: only a bracket holds it."""
    lm = build("llama")
    monkeypatch.setattr(
        Strengths,
        "divergences",
        lambda _self, _texts, table: (40 * (table.norm(dim=1) - 0.5)).exp().clamp(1e-6, 1e3),
    )
    strengths = Strengths(lm, vector_of(lm), (0, 1))
    task = ProfileTask(strengths, pairs_of(1, "a"), encode(lm, TEXTS), 0.1)
    shapes = torch.tensor([[1.0, 0.0], [0.3, -0.4], [20.0, 1.0]], dtype=torch.float64)
    found = task.at_budget(shapes, None)
    expected = 0.5 + math.log(0.1) / 40
    assert found.norm(dim=1).tolist() == pytest.approx([expected] * 3, abs=1e-3)
    ratio = found / shapes
    assert torch.allclose(ratio[1, 0], ratio[1, 1])


def test_the_profile_leans_on_the_layer_that_was_made_to_matter() -> None:
    """At the last layer the direction is what the unembedding reads of the positive words less the
    negative ones; elsewhere it is noise. One layer is as good as the best, noise adds little."""
    lm = build("llama")
    pairs, last = pairs_of(1, "a"), lm.layers - 1
    ids = [lm.tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in WORDS]
    rows = lm.model.get_output_embeddings().weight.detach().float()[ids]
    vector = vector_of(lm)
    directions = {**vector.directions, last: rows[::2].sum(0) - rows[1::2].sum(0)}
    told = SteeringVector(directions, vector.residual_norm, lm.name, lm.fingerprint, "hand", last)
    found = layer_profile.find(lm, told, pairs, TEXTS, kl=0.01, rounds=2)
    assert set(found.single) == {last}
    assert found.single[last] > 0
    assert found.strengths[last] > 0
    tried = found.tried.set_index("profile")["gain"]
    assert tried[f"layer {last}"] > max(tried[f"layer {k}"] for k in range(last))


def test_what_the_search_saw_and_bad_budgets_are_refused() -> None:
    lm = build("llama")
    vector, pairs = vector_of(lm), pairs_of(1, "a")
    for kl in (0.0, -1.0, math.inf, "0.1"):
        with pytest.raises(ValueError, match="give a positive number"):
            layer_profile.find(lm, vector, pairs, TEXTS, kl=kl)  # type: ignore[arg-type]
    found = layer_profile.LayerProfile(
        {0: 1.0},
        {0: 1.0},
        {0: 1.0, 1: 1.0},
        0.02,
        0.0,
        None,
        frozenset(pairs.texts),  # type: ignore[arg-type]
    )
    with pytest.raises(ValueError, match="the search's"):
        layer_profile.compare(lm, vector, found, pairs, ["Another text"])
    mine = replace(vector, provenance={"texts": sorted(text_hashes(TEXTS))})
    with pytest.raises(ValueError, match="the vector's"):
        layer_profile.find(lm, mine, pairs, TEXTS)
    with pytest.raises(ValueError, match="give one of them"):
        vector.at({0: 1.0}, layers=[0])
    with pytest.raises(ValueError, match="names no layer"):
        vector.at({})


def test_what_is_no_number_of_its_kind_is_refused_before_any_work(monkeypatch) -> None:
    lm = build("llama")
    vector, pairs = vector_of(lm), pairs_of(1, "a")

    def work(*_: object, **__: object) -> None:
        raise AssertionError("a forward was run")

    monkeypatch.setattr(tracing, "forward", work)
    for how, message in (
        *(({"rounds": r}, f"rounds {r!r}: give a whole number") for r in (-1, True, 1.5)),
        *(({"memory": m}, f"memory {m!r}: give a positive") for m in (0, -1, math.inf, True)),
        ({"layers": np.int64(1)}, "is not a list; give layers="),
        ({"layers": []}, "layers is empty"),
        ({"layers": [1, 1]}, "1 stands twice"),
    ):
        with pytest.raises(ValueError, match=message):
            layer_profile.find(lm, vector, pairs, TEXTS, **how)  # type: ignore[arg-type]
    one = {1: 1.0}
    found = layer_profile.LayerProfile(one, one, one, 0.02, 0.0, pd.DataFrame(), frozenset())
    for how, message in (
        *(({"level": c}, f"level {c!r}: give a number") for c in (0, 1, math.nan, "a", True)),
        ({"seed": -1}, "seed -1: give a whole number"),
        ({"memory": 0}, "memory 0: give a positive"),
        ({"others": {"equal strengths": one}}, "'equal strengths': that is ours"),
        ({"others": {"mine": {1: 0.0}}}, "the profile 'mine' of others is {1: 0.0}"),
        ({"others": {"mine": {}}}, "the profile 'mine' of others"),
        ({"others": {"mine": {1: math.nan}}}, "give finite strengths"),
    ):
        with pytest.raises(ValueError, match=message):
            layer_profile.compare(lm, vector, found, pairs, TEXTS, **how)  # type: ignore[arg-type]
    strengths = Strengths(lm, vector, (0, 1))
    for shape in ((2,), (1, 3), (0, 2)):
        for call, given in ((strengths.preferences, pairs), (strengths.divergences, TEXTS)):
            with pytest.raises(ValueError, match="give one row for each profile"):
                call(given, torch.ones(shape))  # type: ignore[operator]
    with pytest.raises(ValueError, match="give finite numbers"):
        strengths.divergences(TEXTS, torch.tensor([[math.nan, 1.0]]))
