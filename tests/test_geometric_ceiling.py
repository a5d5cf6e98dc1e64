"""The ceiling told by geometry: from one pass at the steered layer, by bisection after it."""

import math
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from architectures import SENTENCES
from made_up import made_up
from test_geometry import manifolds as manifolds  # the fixture

from workbench.forward import tracing
from workbench.forward.reference import chosen_tokens
from workbench.geometry import manifold
from workbench.geometry.ceiling_rules import Asked, compare
from workbench.geometry.distance_rules import Beyond, Rise
from workbench.geometry.geometric_ceiling import _search, ceiling_from_geometry
from workbench.geometry.manifold import Manifolds
from workbench.loading.models import LM
from workbench.text.positions import content, mask
from workbench.text.tokens import encode

TEXTS = (SENTENCES[1], SENTENCES[3], SENTENCES[5])


@pytest.fixture(scope="module")
def raw(tiny: LM) -> Manifolds:
    """Of streams in their own length."""
    rng = Random(0)
    texts = [" ".join(rng.sample(SENTENCES, 2))[: rng.randint(40, 90)] for _ in range(80)]
    return manifold.fit(tiny, texts, unit=False, kinds=["principal"], progress=False)


def steered(tiny: LM, manifolds: Manifolds, c: float, layer: int) -> torch.Tensor:
    """Distances of the tokens that count."""
    batch = encode(tiny, list(TEXTS))
    touched = mask(chosen_tokens(tiny, batch, content, manifolds.skip))
    streams = tracing.activations(
        tiny, batch, [layer], touched, interventions=made_up(tiny).at(c)
    ).values[:, 0]
    return manifolds.at(layer, "principal").distance(streams)


@pytest.mark.parametrize("layer", [1, 2])
def test_half_of_the_tokens_lie_beyond_from_there_on(
    tiny: LM, manifolds: Manifolds, layer: int
) -> None:
    found = ceiling_from_geometry(
        tiny, made_up(tiny), TEXTS, rule=Beyond(), manifolds=manifolds, layer=layer, tolerance=0.02
    )
    bound = manifolds.at(layer, "principal").threshold()
    for sign in (1, -1):
        assert 0 < found[sign] < 2
        below, above = (
            float(
                (steered(tiny, manifolds, sign * part * found[sign], layer) > bound).double().mean()
            )
            for part in (0.9, 1.1)
        )
        assert below < 0.5 <= above
    assert found.layer == layer
    assert found.kind == "principal"
    assert found.tried["reached"].between(0, 1).all()


@pytest.mark.parametrize("layer", [1, 2])
def test_the_mean_distance_has_risen_from_there_on(tiny: LM, raw: Manifolds, layer: int) -> None:
    found = ceiling_from_geometry(
        tiny, made_up(tiny), TEXTS, manifolds=raw, layer=layer, tolerance=0.01
    )
    unsteered = steered(tiny, raw, 0.0, layer).mean()
    for sign in (1, -1):
        assert 0 < found[sign] < 2
        here = steered(tiny, raw, sign * found[sign], layer).mean() / unsteered
        assert float(here) == pytest.approx(Rise().times, abs=0.01)


def test_the_steered_layer_takes_one_pass_and_others_few(tiny: LM, raw: Manifolds) -> None:
    runs: list[int] = []
    block: Any = tiny.model.model.layers[0]
    handle = block.register_forward_pre_hook(lambda *_: runs.append(1))
    try:
        one = ceiling_from_geometry(tiny, made_up(tiny), TEXTS, manifolds=raw)
    finally:
        handle.remove()
    assert (len(runs), one.rows) == (1, 3)
    other = ceiling_from_geometry(tiny, made_up(tiny), TEXTS, manifolds=raw, layer=2)
    assert other.rows <= 3 * (1 + 10 + 2 * 7)
    assert "texts read" in repr(other)


def test_nothing_too_far_within_reach(tiny: LM, raw: Manifolds) -> None:
    found = ceiling_from_geometry(tiny, made_up(tiny), TEXTS, manifolds=raw, reach=1e-4)
    assert found.sides == {1: math.inf, -1: math.inf}


def test_rules_stand_beside_each_other(tiny: LM, manifolds: Manifolds, raw: Manifolds) -> None:
    asked = [Asked(Rise(), raw, "principal", 1), Asked(Beyond(), manifolds, "principal", 2)]
    table = compare(tiny, made_up(tiny), TEXTS, asked)
    for each, row in zip(asked, table.to_dict("records"), strict=True):
        alone = ceiling_from_geometry(
            tiny, made_up(tiny), TEXTS, rule=each.rule, manifolds=each.manifolds, layer=each.layer
        )
        assert (row["+"], row["−"], row["texts read"]) == (alone[1], alone[-1], alone.rows)
    assert table["rule"].tolist() == ["Rise", "Beyond"]
    assert "why not" not in table
    table = compare(
        tiny, made_up(tiny), TEXTS, [asked[0], Asked(Rise(), manifolds, "principal", 1)]
    )
    assert "unit=False" in table["why not"].iloc[1]
    assert np.isnan(table["+"].iloc[1])


def test_a_search_finds_a_step() -> None:
    for edge in (1e-3, 0.03, 0.4, 1.99):
        found = _search(lambda c, at=edge: (np.abs(c) >= at).astype(float), 0.5, 2.0, 0.01)
        if edge > 2 / 16 / 64:
            assert found[1] == pytest.approx(edge, rel=0.01)
        else:  # it matters no more
            assert edge <= found[1] <= 2 / 16 / 64 * 2
    assert _search(lambda c: np.zeros(len(c)), 0.5, 2.0, 0.05) == {1: math.inf, -1: math.inf}
    sided = _search(lambda c: (c > 0.3).astype(float), 0.5, 2.0, 0.01)
    assert sided[-1] == math.inf
    assert sided[1] == pytest.approx(0.3, rel=0.01)


def test_a_manifold_is_made_where_none_is_given(tiny: LM) -> None:
    for rule in (Rise(), Beyond()):
        # A prompt that is too short to be judged does no harm.
        found = ceiling_from_geometry(tiny, made_up(tiny), [*TEXTS, "a"], rule=rule)
        assert 0 < found[1] < 2
        assert found.rows == 3


def test_bad_input_is_refused(tiny: LM, manifolds: Manifolds, raw: Manifolds) -> None:
    vector = made_up(tiny)
    for make, named in (
        (lambda: Rise(1.0), "times 1.0"),
        (lambda: Beyond(level=1.0), "level"),
        (lambda: Beyond(share=0), "share"),
    ):
        with pytest.raises(ValueError, match=named):
            make()
    for wrong in ({"reach": -1}, {"tolerance": math.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ceiling_from_geometry(tiny, vector, TEXTS, manifolds=raw, **wrong)
    with pytest.raises(ValueError, match="fit it with unit=False"):
        ceiling_from_geometry(tiny, vector, TEXTS, manifolds=manifolds)
    with pytest.raises(ValueError, match="from 1 on"):
        ceiling_from_geometry(tiny, vector, TEXTS, manifolds=raw, layer=0)
    with pytest.raises(ValueError, match="no ordinary text"):
        ceiling_from_geometry(tiny, vector, TEXTS, manifolds=manifolds, rule=Beyond(0.01, 0.5))
    with pytest.raises(ValueError, match="no token"):
        ceiling_from_geometry(tiny, vector, ["a"], manifolds=raw)
    assert torch.is_grad_enabled()
