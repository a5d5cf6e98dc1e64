"""A sweep over components in one batch is a loop of single runs with plain hooks."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from architectures import MIXTURES_OF_EXPERTS, NAMES, SENTENCES, build
from test_ablation import everyone, hooked, zeroed

import workbench as wb
from workbench.anatomy import ablation_sweep
from workbench.anatomy.ablation import Component, ablate, heads, parts, places
from workbench.anatomy.ablation_effects import (
    next_token_effects,
    over_draws,
    preference_effects,
    write_ablated,
)
from workbench.anatomy.ablation_tables import largest
from workbench.anatomy.fillings import means, zero
from workbench.anatomy.resampling import draws, samples
from workbench.contrast.pairs import Pair, Pairs
from workbench.forward import decoding, tracing
from workbench.statistics.intervals import bootstrap_mean
from workbench.text import tokens
from workbench.text.positions import last, mask
from workbench.text.token_texts import token_texts

PROMPTS = [SENTENCES[0], "A girl and", "Please tell me a story about a king"]
PAIRS = Pairs(
    [
        Pair(prompt="The old fox", positive=" walked slowly.", negative=" lost his golden crown"),
        Pair(prompt="I am", positive=" very sad", negative=" happy there all day. They"),
    ],
    name="made up",
)
NEXT = ["kl", "logit", "logprob"]


@pytest.mark.parametrize("name", [each for each in NAMES if each not in MIXTURES_OF_EXPERTS])
def test_the_next_token_is_that_of_single_runs(name: str) -> None:
    lm = build(name)
    components = [*everyone(lm), *heads(lm, [0, 2])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no model runs whole for want of its lower half
        found = next_token_effects(lm, PROMPTS, components)
    assert len(found) == len(components) * len(PROMPTS)
    for (index, component), (row, prompt) in (
        ((i, c), (r, p)) for i, c in enumerate(components) for r, p in enumerate(PROMPTS)
    ):
        ids = lm.tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            whole = lm.model(ids).logits[0, -1]
            with hooked(lm, component, zeroed(lm, component)):
                ablated = lm.model(ids).logits[0, -1]
        log, own = whole.log_softmax(-1), ablated.log_softmax(-1)
        best = int(whole.argmax())
        expected = [
            float((log.exp() * (log - own)).sum()),
            float((ablated - whole)[best] - (ablated - whole).mean()),
            float(own[best] - log[best]),
        ]
        line = found.iloc[index * len(PROMPTS) + row]
        assert (line["layer"], line["kind"]) == (component.layer, component.kind)
        assert line["head"] == (-1 if component.head is None else component.head)
        assert line["prompt_index"] == row
        assert line["token"] == token_texts(lm.tokenizer, [best])[0]
        assert "\N{REPLACEMENT CHARACTER}" not in line["token"]
        np.testing.assert_allclose(line[NEXT].to_numpy(float), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "falcon"])
def test_log_odds_are_those_of_single_runs(name: str) -> None:
    lm = build(name)
    components = everyone(lm)
    found = preference_effects(lm, PAIRS, components)
    assert list(found["pair"]) == [0, 1] * len(components)
    for index, component in enumerate([None, *components]):
        edits = [] if component is None else ablate(lm, [component])
        for row, pair in enumerate(PAIRS):
            sides = [
                tracing.logprobs(lm, tokens.encode(lm, [pair.prompt], [text]), edits)
                for text in (pair.positive, pair.negative)
            ]
            expected = float(sides[0].nansum() - sides[1].nansum())
            if component is None:
                np.testing.assert_allclose(
                    found[found["pair"] == row]["whole"], expected, atol=1e-4
                )
                whole = found
                continue
            line = whole.iloc[(index - 1) * 2 + row]
            assert line["preference"] == pytest.approx(expected, abs=1e-4)
            assert line["change"] == pytest.approx(expected - line["whole"], abs=1e-4)
    one = preference_effects(lm, PAIRS[:1], components[:1])
    before, after = (
        -sum(
            float(tracing.logprobs(lm, tokens.encode(lm, ["The old fox"], [t]), edits).nanmean())
            for t in (PAIRS[0].positive, PAIRS[0].negative)
        )
        / 2
        for edits in ([], ablate(lm, components[:1]))
    )
    assert one["loss"][0] == pytest.approx(after - before, abs=1e-4)


@pytest.mark.parametrize("per", ["zero", "mean", "position", "draws"])
def test_the_same_however_the_sweep_is_cut(per: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = build("llama")
    components = [*heads(lm), *parts(lm), *everyone(lm)]
    read = places(components)
    long = [f"{text} {text}" for text in SENTENCES]
    given = {
        "zero": {},
        "mean": {"by": means(lm, SENTENCES, read)},
        "position": {"by": means(lm, long, read, per="position")},
        "draws": {"by": draws(lm, PROMPTS, long, read, 2)},
    }[per]
    found = next_token_effects(lm, PROMPTS, components, **given)
    assert (found["kl"] > 1e-3).mean() > 0.5
    for tokens_, enough in ((20, 1), (4096, 1), (60, 10**6)):
        monkeypatch.setattr(tracing, "TOKENS", tokens_)
        monkeypatch.setattr(ablation_sweep, "_ENOUGH", enough)
        again = next_token_effects(lm, PROMPTS, components, **given)
        pd.testing.assert_frame_equal(again, found, atol=1e-4, rtol=1e-4)
    small = next_token_effects(lm, PROMPTS, components, memory=1.0, **given)
    pd.testing.assert_frame_equal(small, found, atol=1e-4, rtol=1e-4)


def test_one_row_is_one_prompt_and_one_component_in_few_forwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All heads in one forward; with some more rows, not ablated, where it begins half way up."""
    lm = build("llama")
    rows: list[int] = []
    plain = tracing.forward
    monkeypatch.setattr(
        tracing,
        "forward",
        lambda lm, batch, *a, **k: (rows.append(len(batch)), plain(lm, batch, *a, **k))[1],
    )
    next_token_effects(lm, PROMPTS[1:3], heads(lm))
    assert rows == [2 * lm.layers * lm.heads]
    rows.clear()
    next_token_effects(lm, PROMPTS[1:3], heads(lm, [1, 2]))
    assert rows == [2 * 2 * lm.heads + 2]


def test_only_the_positions_that_are_named_are_ablated() -> None:
    lm = build("llama")
    found = next_token_effects(lm, PROMPTS, heads(lm, [1]), positions=last)
    everywhere = next_token_effects(lm, PROMPTS, heads(lm, [1]))
    assert not np.allclose(found["kl"], everywhere["kl"])
    # In the last layer nothing but the last token's own head reaches its logits.
    top = lm.layers - 1
    pd.testing.assert_frame_equal(
        next_token_effects(lm, PROMPTS, heads(lm, [top]), positions=last),
        next_token_effects(lm, PROMPTS, heads(lm, [top])),
        atol=1e-5,
    )


def test_texts_are_those_written_alone() -> None:
    lm = build("llama")
    components = [*heads(lm, [1]), *parts(lm, layers=[0])]
    found = write_ablated(lm, PROMPTS, components, new_tokens=6, temperature=0.7, seed=3)
    assert list(found["kind"][:3]) == ["whole"] * 3
    for index, component in enumerate([None, *components]):
        edits = [] if component is None else ablate(lm, [component])
        made = wb.generate(lm, PROMPTS, edits, new_tokens=6, temperature=0.7, seed=3, score=False)
        assert list(found["text"][index * 3 : index * 3 + 3]) == made.texts
    assert found["text"].nunique() > 6
    assert set(found["finish"]) <= {"end", "length"}


def test_blocks_that_need_more_than_the_stream_run_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of Gemma-3n, whose upper blocks read keys of lower ones."""
    lm = build("llama")
    components = [*heads(lm), *parts(lm)]
    expected = next_token_effects(lm, PROMPTS, components)
    monkeypatch.setattr(ablation_sweep, "_ENOUGH", 1)
    plain, begun = tracing.forward, []

    def forward(lm, batch, edits, finish, *, below=None, **how):
        begun.append(-1 if below is None else below.layer)
        if below is not None and below.layer == 1:
            # In some rows, and too small to be seen in the largest logit.
            wrong = below.stream.clone()
            wrong[len(wrong) // 2 :, :, 0] += 0.05
            below = replace(below, stream=wrong)
        return plain(lm, batch, edits, finish, below=below, **how)

    monkeypatch.setattr(tracing, "forward", forward)
    with pytest.warns(
        UserWarning, match=r"the blocks of .* above 1 do not follow .* run the whole"
    ):
        found = next_token_effects(lm, PROMPTS, components)
    pd.testing.assert_frame_equal(found, expected, atol=1e-4, rtol=1e-4)
    assert begun.count(1) == 1
    assert begun.count(0) >= 1
    begun.clear()
    with pytest.warns(UserWarning, match=r"log-probabilities differ by up to .* nats"):
        preference_effects(lm, PAIRS, components)


def test_only_what_ends_a_row_is_the_next_token() -> None:
    lm = build("llama")
    made = wb.generate(lm, PROMPTS, new_tokens=4)
    written = made.batch.extend(made.ids, torch.tensor([4, 2, 4]))
    with pytest.raises(ValueError, match="row 1 of the batch ends before its last column"):
        next_token_effects(lm, written, heads(lm))


def test_a_uniform_shift_of_all_logits_is_no_effect() -> None:
    lm = build("llama")
    head = lm.model.get_output_embeddings()
    # A direction that adds one number to all logits, but for what the norm does to the rest.
    component = Component(2, "direction", direction=torch.ones(lm.width))
    before = next_token_effects(lm, PROMPTS, [component])
    shift = torch.randn(lm.width)
    hook = head.register_forward_hook(lambda _m, given, out: out + (given[0] @ shift)[..., None])
    after = next_token_effects(lm, PROMPTS, [component])
    hook.remove()
    np.testing.assert_allclose(after[NEXT].to_numpy(), before[NEXT].to_numpy(), atol=1e-4)
    # Nor is a token that no text can hold.
    never = torch.zeros(lm.vocabulary)
    never[-1] = -torch.inf
    hook = head.register_forward_hook(lambda _m, _given, out: out + never)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = next_token_effects(lm, PROMPTS, [component])
    hook.remove()
    assert np.isfinite(after[NEXT].to_numpy()).all()


def test_a_table_says_how_it_came_about() -> None:
    lm = build("llama")
    components = [*heads(lm, [0]), Component(1, "mlp", name="the MLP")]
    read = places(components)
    long = [f"{text} {text}" for text in SENTENCES]
    by = means(lm, SENTENCES, read)
    found = next_token_effects(lm, PROMPTS, components, by=by, positions=last)
    about = found.attrs
    assert json.loads(json.dumps(about)) == about
    assert (about["model"], about["weights"]) == (lm.name, lm.fingerprint)
    tokens_ = sum(len(lm.tokenizer(text)["input_ids"]) - 1 for text in SENTENCES)
    assert about["filling"] == {
        "filling": "means",
        "per": "token",
        "texts": len(SENTENCES),
        "tokens": tokens_,
        "positions": "but_first(everything)",
    }
    assert about["positions"] == "last"
    assert (
        about["tokens_sha256"]
        != next_token_effects(lm, SENTENCES, heads(lm)).attrs["tokens_sha256"]
    )
    assert list(found["component"].unique()) == list(range(5))
    assert list(found["name"].unique()) == ["head", "the MLP"]
    several = draws(lm, PROMPTS, long, read, 3, seed=2)
    found = next_token_effects(lm, PROMPTS, components, by=several)
    assert [each["draw"] for each in found.attrs["filling"]] == [0, 1, 2]
    assert {each["seed"] for each in found.attrs["filling"]} == {2}
    for draw, each in enumerate(several):
        alone = next_token_effects(lm, PROMPTS, components, by=each).assign(draw=draw)
        own = found[found["draw"] == draw].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, alone, atol=1e-5)
    made = write_ablated(lm, PROMPTS, components, new_tokens=2, seed=4, temperature=0.5)
    assert (made.attrs["seed"], made.attrs["temperature"], made.attrs["new_tokens"]) == (4, 0.5, 2)
    assert preference_effects(lm, PAIRS, components).attrs["pairs_sha256"] == PAIRS.fingerprint


def test_over_draws_is_students_interval() -> None:
    rows = [
        {"component": 0, "layer": 1, "kind": "mlp", "head": -1, "name": "mlp", "draw": draw,
         "prompt_index": row, "kl": value}
        for row, values in enumerate([(1.0, 2.0, 6.0), (5.0, 5.0, 5.0)])
        for draw, value in enumerate(values)
    ]  # fmt: skip
    found = over_draws(pd.DataFrame(rows), "kl")
    assert list(found["prompt_index"]) == [0, 1]
    assert list(found["draws"]) == [3, 3]
    low, high = scipy.stats.t.interval(0.95, 2, 3.0, scipy.stats.sem([1, 2, 6]))
    np.testing.assert_allclose(found[["mean", "low", "high"]], [[3, low, high], [5, 5, 5]])
    alone = over_draws(pd.DataFrame(rows[:1]), "kl")
    assert alone["low"].isna().all()
    assert list(alone["mean"]) == [1.0]
    with pytest.raises(ValueError, match="there is no column 'change'"):
        over_draws(pd.DataFrame(rows), "change")


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_it_runs_as_on_a_remote_server(name: str) -> None:
    lm = build(name)
    components = [*heads(lm, [0]), *everyone(lm)]
    here = next_token_effects(lm, PROMPTS, components)
    there = next_token_effects(lm, PROMPTS, components, remote="local")
    pd.testing.assert_frame_equal(there, here, atol=1e-5, rtol=1e-4)
    pd.testing.assert_frame_equal(
        preference_effects(lm, PAIRS, components, remote="local"),
        preference_effects(lm, PAIRS, components),
        atol=1e-5,
        rtol=1e-4,
    )


def test_what_makes_no_sense_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = build("llama")
    bad = [*heads(lm), Component(0, "head", 4)]
    long = means(lm, SENTENCES, places(heads(lm)), per="position")

    def work(*_: object, **__: object) -> None:
        raise AssertionError("a forward was run")

    few = means(lm, SENTENCES, places(heads(lm, [0])))
    others = samples(lm, SENTENCES[:3], [f"{t} {t}" for t in SENTENCES], places(heads(lm)))
    for module, name in ((tracing, "forward"), (tracing, "lower"), (decoding, "decode")):
        monkeypatch.setattr(module, name, work)
    for call in (next_token_effects, write_ablated):
        with pytest.raises(ValueError, match="head 4 is out of range"):
            call(lm, PROMPTS, bad)
        with pytest.raises(ValueError, match="components is empty"):
            call(lm, PROMPTS, [])
        with pytest.raises(ValueError, match="belongs to one batch"):
            call(lm, PROMPTS, heads(lm), positions=mask(torch.ones(5)))
        with pytest.raises(ValueError, match="there is no mean of 'heads' at layer 1"):
            call(lm, PROMPTS, heads(lm), by=few)
    with pytest.raises(ValueError, match="the samples were drawn for"):
        next_token_effects(lm, PROMPTS, heads(lm), by=[zero, others])
    with pytest.raises(ValueError, match="by is empty"):
        next_token_effects(lm, PROMPTS, heads(lm), by=[])
    with pytest.raises(ValueError, match="memory -1: give a positive number"):
        next_token_effects(lm, PROMPTS, heads(lm), memory=-1)
    with pytest.raises(ValueError, match="two whole texts"):
        preference_effects(lm, Pairs([Pair(positive="a", negative="b")], name="x"), heads(lm))
    for wrong in (0, -6, True, "3"):
        with pytest.raises(ValueError, match=f"new_tokens {wrong!r}: give a whole number"):
            write_ablated(lm, PROMPTS, heads(lm), new_tokens=wrong)
    with pytest.raises(ValueError, match="take means over all tokens"):
        write_ablated(lm, PROMPTS, heads(lm), by=long)


def test_the_largest_changes_come_with_their_intervals() -> None:
    draws = np.random.default_rng(0).normal(size=(3, 24))
    draws += np.array([[0.1], [-3.0], [1.0]])
    names = {"layer": [0, 0, 1], "kind": ["head", "mlp", "head"], "head": [3, -1, 0]}
    rows = pd.DataFrame({"component": [0, 1, 2], **names})
    frame = rows.loc[rows.index.repeat(24)].assign(change=draws.ravel(), loss=draws.ravel() ** 2)
    found = largest(frame, 2)
    assert found[["layer", "kind", "head"]].to_numpy().tolist() == [[0, "mlp", -1], [1, "head", 0]]
    for row, values in zip(found.itertuples(), draws[[1, 2]], strict=True):
        change, loss = bootstrap_mean(values), bootstrap_mean(values**2)
        assert (row.change, row.low, row.high) == (change.value, change.low, change.high)
        assert (row.loss, row.loss_low, row.loss_high) == (loss.value, loss.low, loss.high)
    with pytest.raises(ValueError, match="no column 'kl'"):
        largest(frame, value="kl")
    with pytest.raises(ValueError, match="several draws"):
        largest(frame.assign(draw=range(72)))
