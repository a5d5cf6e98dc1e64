"""Cosines by hand and against torch's own; chance where its distribution is known by heart."""

import io
import math

import pandas as pd
import pytest
import torch

from workbench import figures
from workbench.vectors.cosines import cosine_by_chance, cosines, cosines_across_layers
from workbench.vectors.steering_vector import SteeringVector


def vector(*directions: list[float], layer: int = 0, weights: str = "") -> SteeringVector:
    """One direction per layer, from layer 0 on."""
    made = {index: torch.tensor(each) for index, each in enumerate(directions)}
    return SteeringVector(made, {}, "made up", weights, "by hand", layer=layer)


def test_chance_is_that_of_known_distributions() -> None:
    # On a sphere the cosine is uniform (Archimedes), on a circle it is the sine of a uniform angle.
    assert cosine_by_chance(3) == pytest.approx(0.95)
    assert cosine_by_chance(3, level=0.5) == pytest.approx(0.5)
    assert cosine_by_chance(2) == pytest.approx(math.sin(0.95 * math.pi / 2))
    assert cosine_by_chance(1) == 1
    # In many dimensions it is normal, with a standard deviation of 1 / sqrt(D).
    assert cosine_by_chance(4096) * 64 == pytest.approx(1.95996, abs=2e-3)
    drawn = torch.randn(20_000, 24, generator=torch.Generator().manual_seed(1))
    inside = (drawn[:, 0] / drawn.norm(dim=1)).abs() <= cosine_by_chance(24, level=0.8)
    assert float(inside.float().mean()) == pytest.approx(0.8, abs=0.01)
    with pytest.raises(ValueError, match="width 0"):
        cosine_by_chance(0)
    with pytest.raises(ValueError, match="level 95 is not between"):
        cosine_by_chance(8, level=95)


def test_a_table_by_hand() -> None:
    made = {"x": vector([2.0, 0, 0]), "tilted": vector([3.0, 4.0, 0]), "away": vector([-1.0, 0, 0])}
    found = cosines(made)
    assert list(found["first"]) == ["x"] * 3 + ["tilted"] * 3 + ["away"] * 3
    assert list(found["second"]) == ["x", "tilted", "away"] * 3
    expected = [1, 0.6, -1, 0.6, 1, -0.6, -1, -0.6, 1]
    assert found["cosine"].tolist() == pytest.approx(expected, abs=1e-7)
    # On a sphere the share of directions that are as much alike or opposite is 1 - |cosine|.
    assert found["p"].tolist() == pytest.approx([1 - abs(c) for c in expected], abs=1e-6)
    assert found["chance"].tolist() == pytest.approx([0.95] * 9)
    assert set(found["layer"]) == {0}


def test_layers_against_torch() -> None:
    one, other = (
        vector(*torch.randn(4, 16, generator=torch.Generator().manual_seed(seed)).tolist())
        for seed in (0, 1)
    )
    found = cosines_across_layers(one, other, layers=[3, 1])
    assert list(zip(found["first"], found["second"], strict=True)) == [
        (3, 3), (3, 1), (1, 3), (1, 1)
    ]  # fmt: skip
    for row in found.itertuples():
        expected = torch.cosine_similarity(
            one.directions[row.first], other.directions[row.second], 0
        )
        assert row.cosine == pytest.approx(float(expected), abs=1e-6)
    alone = cosines_across_layers(one).pivot(index="first", columns="second", values="cosine")
    assert alone.shape == (4, 4)
    pd.testing.assert_frame_equal(alone, alone.T, check_names=False)
    assert alone.to_numpy().diagonal() == pytest.approx(1)
    at_three = cosines({"one": one, "other": other}, layer=3)
    assert at_three["cosine"][1] == pytest.approx(found["cosine"][0])


def test_what_cannot_be_compared_is_refused() -> None:
    one, two = vector([1.0, 2.0]), vector([1.0, 2.0], [2.0, 1.0], layer=1)
    with pytest.raises(ValueError, match="vectors is empty"):
        cosines({})
    with pytest.raises(ValueError, match="widths differ: 3"):
        cosines({"one": one, "wide": vector([1.0, 2.0, 3.0])})
    with pytest.raises(ValueError, match=r"different default layers, .*'two': 1.*give layer="):
        cosines({"one": one, "two": two})
    with pytest.raises(ValueError, match="'one' has no direction at layer 1"):
        cosines({"two": two, "one": one}, layer=1)
    with pytest.raises(ValueError, match="direction of 'none' at layer 0 has length 0"):
        cosines({"one": one, "none": vector([0.0, 0.0])})
    own, foreign = vector([1.0, 2.0], weights="aa"), vector([1.0, 2.0], weights="bb")
    with pytest.raises(ValueError, match="made on different weights"):
        cosines_across_layers(own, foreign)
    # One of unknown weights does not hide that two others differ.
    with pytest.raises(ValueError, match="made on different weights"):
        cosines({"unknown": one, "own": own, "foreign": foreign})
    with pytest.raises(ValueError, match=r"layers is empty; name some of \(0, 1\)"):
        cosines_across_layers(two, layers=[])


def test_a_map_is_drawn_from_a_saved_table_too() -> None:
    names = {"<b>": vector([2.0, 0, 0]), "tilted": vector([3.0, 4.0, 0])}
    frame = cosines(names)
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    for table in (frame, again):
        figure = figures.cosine_map(table)
        (drawn,) = figure.data
        assert list(drawn.x) == list(drawn.y) == ["&lt;b&gt;", "tilted"]
        assert drawn.z.tolist() == [[1.0, pytest.approx(0.6)], [pytest.approx(0.6), 1.0]]
        assert (drawn.zmin, drawn.zmax) == (-1, 1)
        # 0.6 is within chance: grey, as the middle of the scale.
        colors = [color for place, color in drawn.colorscale if abs(2 * place - 1) < 0.951]
        assert set(colors) >= {"#E6E6E6"}
        assert drawn.text[0][0] == '<span style="color:white">1.00</span>'
        assert drawn.text[0][1] == "0.60"  # on grey
        assert "±0.95" in figure.layout.annotations[0].text
    layers = figures.cosine_map(cosines_across_layers(vector([1.0, 0, 0], [0.0, 1, 0])))
    assert layers.layout.yaxis.title.text == layers.layout.xaxis.title.text == "Layer"
    one, other = vector([1.0, 0, 0], [0.0, 1, 0]), vector([1.0, 1, 0], [0.0, 0, 1])
    two = figures.cosine_map(cosines_across_layers(one, other))
    assert two.layout.yaxis.title.text == "Layer of the first vector"
    assert two.layout.xaxis.title.text == "Layer of the second vector"
    with pytest.raises(ValueError, match="no cosine to draw"):
        figures.cosine_map(frame[:0])
