"""Texts that a model writes by itself: what its cost on ordinary text is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.generation.generate import generate
from workbench.support.checks import check_whole

if TYPE_CHECKING:
    from workbench.loading.models import LM


def own_texts(
    lm: LM, prompts: Sequence[str], count: int, *, new_tokens: int = 24, seed: int = 0
) -> list[str]:
    """So many texts: the different prompts in turn, each with what the model writes after it at
    temperature 1. Where there are fewer prompts than texts, a prompt is continued several times.

    Raises ValueError for a count below 1, for no prompts, and as `generate`.
    """
    check_whole("count", count, 1)
    different = list(dict.fromkeys(prompts))
    if not different:
        raise ValueError("no prompts: there is nothing to continue")
    chosen = [different[row % len(different)] for row in range(count)]
    made = generate(lm, chosen, new_tokens=new_tokens, temperature=1.0, seed=seed, score=False)
    return [before + text for before, text in zip(chosen, made.texts, strict=True)]
