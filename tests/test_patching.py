"""ActAdd and patching equal plain hooks on every architecture; lengths and places are checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from architectures import MIXTURES_OF_EXPERTS, NAMES, SENTENCES, build, steered_logits
from torch import Tensor

import workbench as wb
from workbench.anatomy.ablation import Component, ablate, by_row, places
from workbench.anatomy.fillings import means
from workbench.anatomy.patching import act_add, patch
from workbench.anatomy.resampling import samples
from workbench.forward.captures import capture
from workbench.interventions.updates import Place
from workbench.keeping.edit import written_in
from workbench.loading.models import LM
from workbench.text.positions import nth
from workbench.text.tokens import encode

SOURCE, TARGET = "A girl and her dog went", "A bird and her dog went"
DENSE = [name for name in NAMES if name not in MIXTURES_OF_EXPERTS]


def run(lm: LM, ids: Tensor, layer: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Logits (T, V) with a plain hook on what a block returns."""
    block = lm.model.get_submodule(f"{lm.layer_path}.{layer}")

    def after(_module: Any, _given: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0].clone()), *output[1:])
        return change(output.clone())

    hook = block.register_forward_hook(after)
    try:
        with torch.no_grad():
            return lm.model(ids).logits[0]
    finally:
        hook.remove()


def stream(lm: LM, ids: Tensor, layer: int) -> Tensor:
    seen: list[Tensor] = []
    run(lm, ids, layer, lambda hidden: (seen.append(hidden), hidden)[1])
    return seen[0][0]


def ids_of(lm: LM, text: str) -> Tensor:
    return lm.tokenizer(text, return_tensors="pt")["input_ids"]


@pytest.mark.parametrize("name", NAMES)
def test_act_add_is_its_hook(name: str) -> None:
    lm = build(name)
    first, second = " Love", " I hate it"
    one, two = ids_of(lm, first), ids_of(lm, second)
    space = torch.tensor([lm.tokenizer.encode(" ", add_special_tokens=False)])
    one = torch.cat([one, *[space] * (two.shape[1] - one.shape[1])], dim=1)
    delta = stream(lm, one, 1) - stream(lm, two, 1)
    edits = act_add(lm, first, second, layer=1, coefficient=3.0)

    def change(hidden: Tensor) -> Tensor:
        hidden[0, : len(delta)] += 3 * delta
        return hidden

    for text in SENTENCES[:2]:
        batch = encode(lm, [text])
        expected = run(lm, ids_of(lm, text), 1, change)
        torch.testing.assert_close(
            steered_logits(lm, batch, edits)[0], expected, atol=1e-5, rtol=1e-5
        )


def test_act_add_acts_at_the_front_of_every_row_while_it_is_written() -> None:
    lm = build("llama")
    edits = act_add(lm, " Love", " Hate", layer=0, coefficient=4.0, start=1)
    made = wb.generate(lm, list(SENTENCES[:3]), edits, new_tokens=4)
    for row, text in enumerate(SENTENCES[:3]):
        assert wb.generate(lm, [text], edits, new_tokens=4).texts == made.texts[row : row + 1]
    assert made.texts != wb.generate(lm, list(SENTENCES[:3]), new_tokens=4).texts
    with pytest.raises(ValueError, match="prompt 0 has 1 tokens, none at position"):
        wb.generate(lm, ["A"], edits, new_tokens=1)


@pytest.mark.parametrize("name", DENSE)
def test_every_cell_is_its_hook(name: str) -> None:
    lm = build(name)
    source, target = ids_of(lm, SOURCE), ids_of(lm, TARGET)
    ends = {0: 0, target.shape[1] - 1: source.shape[1] - 1}
    cells = [(Place(layer), position) for layer in range(lm.layers) for position in ends]
    batch, edits = patch(lm, SOURCE, TARGET, cells, align=ends)
    found = steered_logits(lm, batch, edits)
    for row, (at, position) in enumerate(cells):
        given = stream(lm, source, at.layer)[ends[position]]

        def change(hidden: Tensor, position: int = position, given: Tensor = given) -> Tensor:
            hidden[0, position] = given
            return hidden

        expected = run(lm, target, at.layer, change)
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("remote", [False, "local"])
def test_all_sites_of_the_source_make_its_logits(remote: Any) -> None:
    """The last layer's last token decides the next token alone."""
    lm = build("llama")
    end = len(encode(lm, [TARGET]).prompts[0].ids) - 1
    last = len(encode(lm, [SOURCE]).prompts[0].ids) - 1
    cells = [(Place(2), end), (Place(1, "attention"), end), (Place(1, "heads"), end)]
    batch, edits = patch(lm, SOURCE, TARGET, cells, align={end: last}, remote=remote)
    found = steered_logits(lm, batch, edits, keep=1, remote=remote)[:, 0]
    expected = steered_logits(lm, encode(lm, [SOURCE]), keep=1)[0, 0]
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)
    # The output of a projection and its input say the same.
    torch.testing.assert_close(found[1], found[2], atol=1e-5, rtol=1e-5)
    assert (found[1] - expected).abs().max() > 1e-3


def test_streams_of_one_model_are_refused_on_another() -> None:
    """Patched ones, means, samples, and what ablating by these makes, as vectors are."""
    lm, other = build("llama"), build("mistral")
    assert (lm.width, lm.layers) == (other.width, other.layers)
    batch = encode(lm, [TARGET])
    where = places([Component(1, "mlp")])
    usual = means(lm, SENTENCES, where)
    drawn = samples(lm, batch, [f"{text} {text}" for text in SENTENCES], where)
    patched, edits = patch(lm, SOURCE, TARGET, [(Place(1), 3)], align={3: 3})
    removed = [Component(1, "direction", direction=torch.ones(lm.width))]
    mean_stream = means(lm, SENTENCES, [Place(1)])
    message = (
        rf"this stream was made on '.*' \(weights {lm.fingerprint[:12]}\), not on '.*' \(weights "
        rf"{other.fingerprint[:12]}\); extract it again, or, to use it as it is, let it forget its "
        r"origin: dataclasses\.replace\(stream, origin=None\)"
    )
    for rows, given in (
        (patched, edits),
        (batch, ablate(lm, [Component(1, "mlp")], by=usual)),
        (batch, ablate(lm, removed, by=mean_stream)),
        (batch, by_row(lm, batch, [Component(1, "mlp")], by=drawn)),
        (batch, act_add(lm, " Love", " Hate", layer=1)),
        (batch, written_in(lm, SOURCE, 1)),
    ):
        steered_logits(lm, rows, given)
        with pytest.raises(ValueError, match=message):
            steered_logits(other, rows, given)
    for filling in (usual, drawn):
        with pytest.raises(ValueError, match=message):
            filling.check(other, where[0], batch)
        replace(filling, origin=None).check(other, where[0], batch)
    assert capture(lm, batch, where).origin == usual.origin


def test_what_does_not_fit_is_refused() -> None:
    lm = build("llama")
    cell = [(Place(0), 0)]
    with pytest.raises(ValueError, match=r"say which position takes which, align="):
        patch(lm, SENTENCES[0], "A girl", cell)
    with pytest.raises(ValueError, match="cells is empty"):
        patch(lm, SOURCE, SOURCE, [])
    with pytest.raises(ValueError, match="position 99 of the source is out of range"):
        patch(lm, SOURCE, TARGET, cell, align={0: 99})
    with pytest.raises(ValueError, match="position 1 of the target has no place in the source"):
        patch(lm, SOURCE, TARGET, [(Place(0), 1)], align={0: 0})
    with pytest.raises(ValueError, match="layer 7 is out of range"):
        patch(lm, SOURCE, SOURCE, [(Place(7), 0)])
    with pytest.raises(ValueError, match="both prompts are"):
        act_add(lm, "Love", "Love", layer=0)
    with pytest.raises(ValueError, match="start -1"):
        act_add(lm, "Love", "Hate", layer=0, start=-1)
    with pytest.raises(ValueError, match="layer 3 is out of range"):
        act_add(lm, "Love", "Hate", layer=3)


def test_numbers_of_numpy_are_positions_and_truth_values_are_none() -> None:
    lm, one = build("llama"), np.int64(1)
    for start in (1, one):
        (each, *_) = act_add(lm, "Love", "Hate", layer=start, start=start)
        assert each.positions == nth(1)
        assert type(each.positions.position) is int  # type: ignore[attr-defined]
    cells = ([(Place(1), 1)], [(Place(one), one)])  # type: ignore[arg-type]
    (_, (plain,)), (_, (other,)) = (patch(lm, SOURCE, TARGET, each) for each in cells)
    assert torch.equal(plain.update.target, other.update.target)  # type: ignore[union-attr]
    (_, (other,)) = patch(lm, SOURCE, TARGET, cells[1], align={one: one})  # type: ignore[dict-item]
    assert torch.equal(plain.update.target, other.update.target)  # type: ignore[union-attr]
    for wrong in (True, 1.0):
        with pytest.raises(ValueError, match=f"position {wrong!r}: give a whole number"):
            patch(lm, SOURCE, TARGET, [(Place(0), wrong)])  # type: ignore[list-item]
        with pytest.raises(ValueError, match=f"position of the source {wrong!r}: give a whole"):
            patch(lm, SOURCE, TARGET, cells[0], align={1: wrong})  # type: ignore[dict-item]
        with pytest.raises(ValueError, match=f"start {wrong!r}: give a whole number"):
            act_add(lm, "Love", "Hate", layer=0, start=wrong)  # type: ignore[arg-type]
