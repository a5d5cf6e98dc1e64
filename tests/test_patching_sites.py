"""A map of patches at every site, head by head, is a loop of single runs with plain hooks."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from architectures import build
from torch import Tensor

from workbench.anatomy.patching import Cell, patch
from workbench.anatomy.patching_effects import patching_effects
from workbench.interventions.updates import Place
from workbench.loading.models import LM

SOURCE, TARGET = "A girl and her sea went", "A girl and her day went"
ANSWERS = (" to", " the")


def module_at(lm: LM, layer: int, site: str) -> torch.nn.Module:
    path = f"{lm.layer_path}.{max(layer, 0)}"
    if site == "mlp":
        path += "." + lm.projection_name(layer)
    elif site in ("attention", "heads"):
        path += "." + lm.attention_name(layer)
    return lm.model.get_submodule(path)


def run_at(
    lm: LM, text: str, layer: int, site: str, change: Any = lambda hidden: hidden
) -> tuple[Tensor, Tensor]:
    """Logits (V,) of the last token, and what the place holds (T, W), with a plain hook there."""
    seen: list[Tensor] = []
    ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]

    def changed(value: Tensor) -> Tensor:
        hidden = value.clone().view(1, ids.shape[1], -1)
        seen.append(hidden[0].clone())
        return change(hidden).view(value.shape)

    def before(_module: Any, given: Any) -> Any:
        return (changed(given[0]), *given[1:])

    def after(_module: Any, _given: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (changed(output[0]), *output[1:])
        return changed(output)

    own = module_at(lm, layer, site)
    early = site == "heads" or layer < 0
    hook = own.register_forward_pre_hook(before) if early else own.register_forward_hook(after)
    try:
        with torch.no_grad():
            return lm.model(ids).logits[0, -1], seen[0]
    finally:
        hook.remove()


def noted(lm: LM, logits: Tensor) -> list[float]:
    one, other = (lm.tokenizer.encode(each, add_special_tokens=False)[-1] for each in ANSWERS)
    return [float(logits[one] - logits[other]), float(logits.log_softmax(-1)[one])]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "falcon"])
def test_every_cell_is_a_run_with_a_hook(name: str) -> None:
    lm = build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no model runs whole for want of its lower half
        found = patching_effects(
            lm,
            SOURCE,
            TARGET,
            ANSWERS,
            sites=["residual", "attention", "mlp", "heads"],
            positions=[8, 11],
            align={7: 7, 8: 8, 11: 11},
        )
    assert len(found) == 3 * 2 * (3 + lm.heads)
    start, end = (noted(lm, run_at(lm, text, 0, "residual")[0]) for text in (TARGET, SOURCE))
    assert abs(found.attrs["target_difference"] - start[0]) < 1e-4
    assert abs(found.attrs["source_logprob"] - end[1]) < 1e-4
    for row in found.itertuples():
        _, held = run_at(lm, SOURCE, row.layer, row.site)
        width = held.shape[1] // lm.heads
        part = slice(None) if row.head < 0 else slice(row.head * width, (row.head + 1) * width)

        def change(hidden: Tensor, row: Any = row, held: Tensor = held, part: Any = part) -> Tensor:
            hidden[0, row.position, part] = held[row.position, part]
            return hidden

        logits = run_at(lm, TARGET, row.layer, row.site, change)[0]
        difference, logprob = noted(lm, logits)
        share = (difference - start[0]) / (end[0] - start[0])
        assert abs(row.logit_difference - difference) < 1e-4
        assert abs(row.logprob - logprob) < 1e-4
        assert abs(row.recovered - share) < 1e-3 + 1e-3 * abs(share)


def test_heads_belong_to_their_site() -> None:
    lm = build("llama")
    with pytest.raises(ValueError, match="head 0 at the site 'residual': only 'heads' has heads"):
        patch(lm, SOURCE, SOURCE, [Cell(Place(0), 0, 0)])
    with pytest.raises(ValueError, match="head 4 is out of range"):
        patch(lm, SOURCE, SOURCE, [Cell(Place(0, "heads"), 0, 4)])
