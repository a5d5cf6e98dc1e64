"""The patching map is plain hooks, cell by cell; its ends are the target and the source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import build
from test_patching import SOURCE, TARGET, ids_of, run, stream

from workbench import figures
from workbench.anatomy.patching import act_add
from workbench.anatomy.patching_effects import patching_effects
from workbench.forward.tracing import forward
from workbench.interventions.updates import EMBEDDINGS
from workbench.loading.models import LM
from workbench.text.tokens import encode

FAMILIES = ("llama", "gpt2", "gemma2", "gpt_neox", "qwen2", "mpt")


def answers(lm: LM) -> tuple[int, int]:
    """The tokens in which the prompts differ."""
    both = zip(ids_of(lm, SOURCE)[0].tolist(), ids_of(lm, TARGET)[0].tolist(), strict=True)
    return next((a, b) for a, b in both if a != b)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_cell_is_its_hook(name: str) -> None:
    lm = build(name)
    one, other = answers(lm)
    source, target = ids_of(lm, SOURCE), ids_of(lm, TARGET)
    frame = patching_effects(lm, SOURCE, TARGET, (one, other))
    assert len(frame) == lm.layers * target.shape[1]
    for layer in range(lm.layers):
        held = stream(lm, source, layer)
        for position in (0, 1, target.shape[1] - 1):

            def change(hidden: torch.Tensor, at: int = position, held: Any = held) -> Any:
                hidden[0, at] = held[at]
                return hidden

            logits = run(lm, target, layer, change)[-1]
            row = frame[(frame["layer"] == layer) & (frame["position"] == position)].iloc[0]
            expected = float(logits[one] - logits[other])
            assert row["logit_difference"] == pytest.approx(expected, abs=1e-4)
            log = float(logits.log_softmax(-1)[one])
            assert row["logprob"] == pytest.approx(log, abs=1e-4)


def test_patched_at_the_last_layer_and_token_the_target_answers_as_the_source() -> None:
    lm = build("llama")
    frame = patching_effects(lm, SOURCE, TARGET, answers(lm), layers=[-1, 0, lm.layers - 1])
    last = frame["position"].max()
    cells = frame.set_index(["layer", "position"])["recovered"]
    assert cells[lm.layers - 1, last] == pytest.approx(1, abs=1e-3)
    # Nothing differs in the last token itself, nor before the word that does.
    assert cells[EMBEDDINGS, last] == pytest.approx(0, abs=1e-4)
    assert cells[0, 0] == pytest.approx(0, abs=1e-4)
    everywhere = frame.attrs
    assert everywhere["source_difference"] != everywhere["target_difference"]
    row = frame.iloc[3]
    gap = everywhere["source_difference"] - everywhere["target_difference"]
    expected = (row["logit_difference"] - everywhere["target_difference"]) / gap
    assert row["recovered"] == pytest.approx(expected, rel=1e-5)


def test_heads_are_patched_apart_and_in_parts_that_fit_memory() -> None:
    lm = build("llama")
    every = patching_effects(lm, SOURCE, TARGET, answers(lm), sites=["heads", "attention"])
    assert sorted(every.loc[every["site"] == "heads", "head"].unique()) == list(range(lm.heads))
    small = patching_effects(
        lm, SOURCE, TARGET, answers(lm), sites=["heads", "attention"], memory=1
    )
    torch.testing.assert_close(
        torch.tensor(every["logit_difference"].to_numpy()),
        torch.tensor(small["logit_difference"].to_numpy()),
        atol=1e-4,
        rtol=1e-4,
    )


def test_the_same_on_a_server() -> None:
    lm = build("llama")
    here = patching_effects(lm, SOURCE, TARGET, answers(lm), layers=[0])
    there = patching_effects(lm, SOURCE, TARGET, answers(lm), layers=[0], remote="local")
    assert there["recovered"].tolist() == pytest.approx(here["recovered"].tolist(), abs=1e-4)
    edits = [act_add(lm, " Love", " Hate", layer=0, remote=remote) for remote in (False, "local")]
    batch = encode(lm, [TARGET])
    logits = [
        forward(lm, batch, own, lambda logits: logits[:, -1], remote=remote)
        for own, remote in zip(edits, (False, "local"), strict=True)
    ]
    torch.testing.assert_close(logits[0], logits[1].detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "opt"])
def test_act_add_before_the_first_block_is_its_hook(name: str) -> None:
    """Layer 0 of the paper: what goes into the first block."""
    lm = build(name)
    one, two = ids_of(lm, SOURCE), ids_of(lm, TARGET)
    first = lm.model.get_submodule(f"{lm.layer_path}.0")
    seen: list[torch.Tensor] = []
    handle = first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        lm.model(one)
        lm.model(two)
    handle.remove()
    delta = (seen[0] - seen[1])[0]

    def add(_module: Any, given: Any) -> Any:
        hidden = given[0].clone()
        hidden[0, : len(delta)] += 2 * delta
        return (hidden, *given[1:])

    handle = first.register_forward_pre_hook(add)
    with torch.no_grad():
        expected = lm.model(ids_of(lm, TARGET)).logits[0, -1]
    handle.remove()
    edits = act_add(lm, SOURCE, TARGET, layer=EMBEDDINGS, coefficient=2.0)
    with torch.no_grad():
        found = forward(lm, encode(lm, [TARGET]), edits, lambda logits: logits[0, -1])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_mapped_is_refused_before_any_work() -> None:
    lm = build("llama")
    ids = answers(lm)
    for how, message in (
        ({"sites": "residual"}, "give a list of one at least"),
        ({"sites": ["nowhere"]}, "site 'nowhere' is unknown"),
        ({"layers": 1}, r"give layers=\[1\]"),
        ({"layers": [9]}, "layer 9 is out of range"),
        ({"positions": [99]}, "position 99 of the target has no place"),
    ):
        with pytest.raises(ValueError, match=message):
            patching_effects(lm, SOURCE, TARGET, ids, **how)
    with pytest.raises(ValueError, match="both answers are the token"):
        patching_effects(lm, SOURCE, TARGET, (ids[0], ids[0]))
    with pytest.raises(ValueError, match="say which position takes which"):
        patching_effects(lm, SOURCE + " on", TARGET, ids)
    with pytest.raises(ValueError, match="nothing to recover"):
        patching_effects(lm, TARGET, TARGET, ids)


def test_the_map_has_the_layers_upwards_and_the_tokens_across() -> None:
    lm = build("llama")
    frame = patching_effects(lm, SOURCE, TARGET, answers(lm), layers=[-1, 0, 1])
    (map_,) = figures.patching_map(frame).data
    assert list(map_.y) == ["embeddings", "0", "1"]
    assert len(map_.x) == frame["position"].nunique()
    value = frame[(frame["layer"] == 1) & (frame["position"] == 2)]["recovered"].iloc[0]
    assert map_.z[2][2] == pytest.approx(value)
    assert map_.zmin == -map_.zmax <= -1
    (above,) = figures.patching_map(frame.assign(recovered=frame["recovered"].abs())).data
    assert above.zmin == 0  # nothing below it
    with pytest.raises(ValueError, match="no site 'mlp'"):
        figures.patching_map(frame, site="mlp")


def test_prompts_of_different_length_are_filled_with_spaces_by_sentencepiece_too(
    stories: LM,
) -> None:
    """Alone a space is two tokens of that tokenizer."""
    edits = act_add(stories, " cheerful", " grim", layer=1)
    assert len(edits) > 3


def test_numbers_of_numpy_are_answers_layers_and_positions() -> None:
    lm = build("llama")
    ids = answers(lm)
    plain = patching_effects(lm, SOURCE, TARGET, ids, layers=[1], positions=[2])
    some = np.array([1, 2])
    numpy = patching_effects(
        lm, SOURCE, TARGET, tuple(np.array(ids)), layers=some[:1], positions=some[1:]
    )
    pd.testing.assert_frame_equal(plain, numpy)
    for how, message in (
        ({"layers": some[0]}, "give layers="),
        ({"layers": [True]}, "layer True is out of range"),
        ({"positions": [True]}, "position True: give a whole number"),
        ({"memory": 0}, "memory 0: give a positive number"),
        ({"memory": float("nan")}, "memory nan: give a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            patching_effects(lm, SOURCE, TARGET, ids, **how)
    for wrong in (True, 1.0, -1, lm.vocabulary):
        with pytest.raises(ValueError, match=f"answer {wrong!r}: give a whole number from 0"):
            patching_effects(lm, SOURCE, TARGET, (ids[0], wrong))
