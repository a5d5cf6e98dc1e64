"""Ceilings by geometry, one rule beside another (geometric_ceiling.py has one)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from workbench.geometry.distance_rules import Rule
from workbench.geometry.geometric_ceiling import ceiling_from_geometry
from workbench.geometry.manifold import Manifolds
from workbench.text.tokens import Prompt
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True)
class Asked:
    """A rule, the manifolds it reads, of which kind, and the layer where it looks."""

    rule: Rule
    manifolds: Manifolds
    kind: str
    layer: int


def compare(
    lm: LM, vector: SteeringVector, texts: Sequence[Prompt], asked: Sequence[Asked]
) -> pd.DataFrame:
    """What every rule says of the same vector and prompts: `rule`, `kind`, `layer`, the ceiling of
    either sign in residual norms ("+" and "−", infinite: none within reach), and `texts read`.

    A rule that cannot be held to these prompts, such as one that finds them too far off as they
    are, has gaps, and in "why not" the reason; without such a rule there is no such column.
    """
    rows = []
    for each in asked:
        rows.append(
            {"rule": type(each.rule).__name__, "kind": each.kind, "layer": each.layer}
            | _said(lm, vector, texts, each)
        )
    return pd.DataFrame(rows)


def _said(
    lm: LM, vector: SteeringVector, texts: Sequence[Prompt], asked: Asked
) -> dict[str, object]:
    try:
        found = ceiling_from_geometry(
            lm,
            vector,
            texts,
            rule=asked.rule,
            manifolds=asked.manifolds,
            kind=asked.kind,
            layer=asked.layer,
        )
    except ValueError as error:
        return {"why not": str(error)}
    return {"+": found[1], "−": found[-1], "texts read": found.rows}
