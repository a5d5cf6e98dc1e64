"""The ceiling told by geometry: by one pass at the steered layer, by bisection after it."""

import math

import numpy as np
import pytest
import torch
from architectures import SENTENCES
from made_up import made_up
from test_geometry import manifolds as manifolds  # the fixture

from workbench.geometric_ceiling import _search, ceiling_from_geometry
from workbench.geometry import displacement
from workbench.manifold import Manifolds
from workbench.models import LM

TEXTS = (SENTENCES[1], SENTENCES[3], SENTENCES[5])


def shares(tiny: LM, manifolds: Manifolds, grid, layer: int) -> np.ndarray:
    frame = displacement(
        tiny, made_up(tiny), TEXTS, grid, manifolds, kinds=["principal"], layers=[layer]
    )
    weighted = frame["beyond_principal"] * frame["tokens"]
    sums = weighted.groupby(frame["coefficient_norm"]).sum()
    return (sums / frame.groupby("coefficient_norm")["tokens"].sum()).to_numpy()


@pytest.mark.parametrize("layer", [1, 2])
def test_half_of_the_tokens_lie_beyond_from_there_on(
    tiny: LM, manifolds: Manifolds, layer: int
) -> None:
    found = ceiling_from_geometry(
        tiny, made_up(tiny), TEXTS, manifolds=manifolds, layer=layer, tolerance=0.02
    )
    for sign in (1, -1):
        here = found[sign]
        assert 0 < here < 2
        around = shares(tiny, manifolds, sign * here * np.array([0.9, 1.1]), layer)
        below, above = around if sign == 1 else around[::-1]
        assert below < 0.5 <= above
    assert found.layer == layer
    assert found.kind == "principal"
    assert found.tried["beyond"].between(0, 1).all()


def test_the_steered_layer_takes_one_pass_and_others_few(tiny: LM, manifolds: Manifolds) -> None:
    one = ceiling_from_geometry(tiny, made_up(tiny), TEXTS, manifolds=manifolds)
    assert (one.passes, one.rows) == (1, 3)
    other = ceiling_from_geometry(tiny, made_up(tiny), TEXTS, manifolds=manifolds, layer=2)
    assert other.passes <= 8
    assert other.rows <= 3 * (1 + 10 + 2 * 6)
    assert "passes" in repr(other)


def test_nothing_too_far_within_reach(tiny: LM, manifolds: Manifolds) -> None:
    found = ceiling_from_geometry(tiny, made_up(tiny), TEXTS, manifolds=manifolds, reach=1e-4)
    assert found.sides == {1: math.inf, -1: math.inf}


def test_a_search_finds_a_step() -> None:
    for edge in (1e-3, 0.03, 0.4, 1.99):
        found = _search(lambda c, at=edge: (np.abs(c) >= at).astype(float), 0.5, 2.0, 0.01)
        assert found[1] == pytest.approx(edge, rel=0.01) or edge < 2 / 16 / 64
    assert _search(lambda c: np.zeros(len(c)), 0.5, 2.0, 0.05) == {1: math.inf, -1: math.inf}
    sided = _search(lambda c: (c > 0.3).astype(float), 0.5, 2.0, 0.01)
    assert sided[-1] == math.inf
    assert sided[1] == pytest.approx(0.3, rel=0.01)


def test_a_manifold_is_made_where_none_is_given(tiny: LM) -> None:
    found = ceiling_from_geometry(tiny, made_up(tiny), TEXTS)
    assert found[1] > 0


def test_bad_input_is_refused(tiny: LM, manifolds: Manifolds) -> None:
    for wrong in ({"level": 1.0}, {"share": 0}, {"reach": -1}, {"tolerance": math.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ceiling_from_geometry(tiny, made_up(tiny), TEXTS, manifolds=manifolds, **wrong)
    with pytest.raises(ValueError, match="from 1 on"):
        ceiling_from_geometry(tiny, made_up(tiny), TEXTS, manifolds=manifolds, layer=0)
    with pytest.raises(ValueError, match="no ordinary text"):
        ceiling_from_geometry(
            tiny, made_up(tiny), TEXTS, manifolds=manifolds, level=0.01, share=0.5
        )
    with pytest.raises(ValueError, match="no token"):
        ceiling_from_geometry(tiny, made_up(tiny), ["a"], manifolds=manifolds)
    assert torch.is_grad_enabled()
