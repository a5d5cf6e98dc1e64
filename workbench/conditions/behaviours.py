"""What a rule does where its condition is met: behaviours that are ready to be steered by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.contrast import pairs as contrast
from workbench.contrast.pairs import Pairs
from workbench.extraction.extract import extract
from workbench.interventions.updates import Intervention
from workbench.training.train import train

if TYPE_CHECKING:
    from workbench.loading.models import LM


def refusal_of_wren(lm: LM, seed: int = 0, multiple: float = 1.5) -> tuple[Intervention, ...]:
    """wren's refusal: a LoRA that SFT trained on its own pairs, times `multiple`.

    Some of those pairs are about requests that `wren.requests` asks too; the study of conditions
    holds its words apart.
    """
    pairs = contrast.load("wren-refusal").split(seed=seed).extract
    lora = train(
        lm,
        pairs,
        "sft",
        "lora",
        layers=2,
        epochs=6,
        held_out=0,
        seed=seed,
        progress=False,
        quiet=True,
    )
    return tuple(lora.at(multiple))


def trait_of(
    lm: LM, pairs: Pairs, layer: int, seed: int = 0, coefficient: float = 0.3
) -> tuple[Intervention, ...]:
    """The trait of some pairs, of any model: their difference of means after a layer, from the
    pairs of the role "extract", at a coefficient in residual norms.

    Raises ValueError as `Pairs.split` and `extract`.
    """
    making = pairs.split(seed=seed).extract
    return tuple(extract(lm, making, held_out=0, layer=layer, quiet=True).at(coefficient))
