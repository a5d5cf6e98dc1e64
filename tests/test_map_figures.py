"""Heat maps on made-up frames."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.colors
import plotly.graph_objects as go
import pytest

from workbench import figures


def cells(values: dict[tuple[int, str, int, str], list[float]], column: str = "kl") -> pd.DataFrame:
    """(layer, kind, head, name) -> the value of each prompt, as `ablation_effects` has it."""
    return pd.DataFrame(
        [
            {
                "component": number,
                "layer": layer,
                "kind": kind,
                "head": head,
                "name": name,
                "draw": 0,
                "prompt_index": row,
                column: value,
            }
            for number, ((layer, kind, head, name), own) in enumerate(values.items())
            for row, value in enumerate(own)
        ]
    )


def colour(drawn: Any, value: float) -> tuple[float, ...]:
    """What a value is drawn in, red, green and blue to 255."""
    share = (value - drawn.zmin) / (drawn.zmax - drawn.zmin)
    scale = [[float(at), shade] for at, shade in drawn.colorscale]
    (found,) = plotly.colors.sample_colorscale(scale, [share])
    return plotly.colors.unlabel_rgb(found)


def under(figure: go.Figure) -> str:
    return " ".join(each.text for each in figure.layout.annotations)


def ends(said: str) -> list[float]:
    return [float(each) for each in re.findall(r"-?[\d.]+", said.partition("]")[0])]


def exact(values: list[float]) -> list[float]:
    """Percentiles of the means of all resamples."""
    means = [np.mean(each) for each in itertools.product(values, repeat=len(values))]
    return list(np.quantile(means, [0.025, 0.975]))


def test_a_component_map_is_the_mean_over_prompts() -> None:
    rows = [
        {"layer": layer, "kind": kind, "head": head, "prompt_index": row, "kl": layer + head + row}
        for layer in range(2)
        for kind, head in (("head", 0), ("head", 10), ("head", 2), ("mlp", -1))
        for row in range(2)
    ]
    drawn, grey = figures.component_map(pd.DataFrame(rows)).data
    assert list(drawn.x) == ["head 0", "head 2", "head 10", "MLP"]
    assert list(drawn.y) == ["0", "1"]
    means = np.where(np.isnan(grey.z), drawn.z, grey.z)
    assert np.allclose(means, [[0.5, 2.5, 10.5, -0.5], [1.5, 3.5, 11.5, 0.5]])


@pytest.mark.parametrize("least", [-0.01, -3.0, -1e-6])
def test_zero_is_white_whatever_is_below_it(least: float) -> None:
    frame = cells({(0, "head", 0, "head"): [1.0], (0, "head", 1, "head"): [least]}, "change")
    (drawn,) = figures.component_map(frame, value="change").data
    assert drawn.zmin == -drawn.zmax
    assert min(colour(drawn, 0.0)) > 240
    red, _, blue = colour(drawn, drawn.zmax)
    assert red > blue
    red, _, blue = colour(drawn, drawn.zmin)
    assert blue > red
    (drawn,) = figures.component_map(frame[frame["head"] == 0], value="change").data
    assert drawn.zmin == 0
    assert min(colour(drawn, 0.0)) > 240


def test_the_unit_is_that_of_the_column() -> None:
    known = {
        "kl": "KL (nats)",
        "change": "Δ log-odds (nats)",
        "loss": "Δ loss (nats per token)",
        "logprob": "Δ log P (nats)",
        "made_up": "made_up",
    }
    for column, unit in known.items():
        frame = cells({(0, "mlp", -1, "mlp"): [1.0, 2.0]}, column)
        figure = figures.component_map(frame, value=column)
        assert figure.data[0].colorbar.title.text == unit
        assert ("ablated less whole" in under(figure)) == unit.startswith("Δ")
    figure = figures.component_map(frame, value="made_up", unit="a <unit>")
    assert figure.data[0].colorbar.title.text == "a &lt;unit&gt;"


def test_of_judged_texts_the_difference_to_the_whole_model_is_drawn() -> None:
    whole = cells({(-1, "whole", -1, "whole"): [1.0, 0.5]}, "coherence")
    ablated = cells({(1, "mlp", -1, "mlp"): [0.25, 0.5], (1, "layer", -1, "layer"): [0, 0]})
    frame = pd.concat([whole, ablated.rename(columns={"kl": "coherence"})])
    figure = figures.component_map(frame, value="coherence")
    drawn, unsure = figure.data
    assert np.allclose(drawn.z, [[np.nan, -0.75]], equal_nan=True)
    assert np.allclose(unsure.z, [[-0.375, np.nan]], equal_nan=True)  # -0.75 and 0: not told from 0
    assert drawn.colorbar.title.text == "Δ coherence"
    assert drawn.zmin == -drawn.zmax


def test_components_of_one_layer_and_kind_have_columns_of_their_own_by_name() -> None:
    both = {(1, "direction", -1, "joy"): [1.0], (1, "direction", -1, "fear"): [5.0]}
    frame = cells({**both, (0, "head", 0, "head"): [2.0], (0, "mlp", -1, "mlp"): [3.0]})
    (drawn,) = figures.component_map(frame).data
    assert list(drawn.x) == ["head 0", "MLP", "joy", "fear"]
    assert np.allclose(drawn.z, [[2, 3, np.nan, np.nan], [np.nan] * 2 + [1, 5]], equal_nan=True)
    with pytest.raises(ValueError, match=r"0 and 1 are both 'direction' at layer 1, .* a name"):
        figures.component_map(frame.assign(name=frame["kind"]))


def test_what_is_not_told_from_0_is_marked_and_the_count_is_said() -> None:
    sure, unsure = [1.0, 1.1, 1.2, 0.9], [9.0, -9.0, 0.5, -0.6]
    frame = cells(
        {
            (0, "head", 0, "head"): sure,
            (0, "head", 1, "head"): unsure,
            (0, "head", 2, "head"): [*sure[:3], np.nan],
            (0, "head", 3, "head"): [2.0] + [np.nan] * 3,
        },
        "change",
    )
    figure = figures.component_map(frame, value="change")
    drawn, grey = figure.data
    assert list(drawn.text[0]) == ["+1.05", "", "+1.10", "+2.00"]
    assert list(grey.text[0]) == ["", "(−0.02)", "", ""]
    assert {color for _, color in grey.colorscale} == {"#E6E6E6"}
    assert grey.z[0][1] == pytest.approx(-0.025)
    assert np.isnan(drawn.z[0][1])
    assert grey.hovertemplate == drawn.hovertemplate
    assert drawn.zmax == 2  # the scale is that of cells that are told from 0
    said = list(drawn.customdata[0])
    for cell, own in ((0, sure), (1, unsure)):
        np.testing.assert_allclose(ends(said[cell]), exact(own), atol=0.03)
    assert said[0].endswith("n = 4")
    assert said[2].endswith("n = 3 of 4")
    assert said[3] == ", n = 1 of 4"
    assert "grey, (…): the 95 % interval includes 0" in under(figure)
    assert "4 of 16 missing" in under(figure)
    quiet = figures.component_map(frame[frame["head"] == 0], value="change")
    assert "interval" not in under(quiet)
    assert "missing" not in under(quiet)
    # Many cells hold no numbers.
    many = {(layer, "head", head, "head"): unsure for layer in range(12) for head in range(12)}
    many[3, "head", 3, "head"] = sure
    figure = figures.component_map(cells(many, "change"), value="change")
    drawn, grey = figure.data
    assert drawn.texttemplate is None is grey.texttemplate
    assert np.argwhere(np.isfinite(drawn.z)).tolist() == [[3, 3]]
    assert np.isfinite(grey.z).sum() == 143
    assert "grey: the 95 % interval includes 0" in under(figure)


def test_draws_are_averaged_before_prompts_are_counted() -> None:
    one = cells({(0, "mlp", -1, "mlp"): [1.0, 3.0]})
    frame = pd.concat([one, one.assign(kl=one["kl"] + 1, draw=1)])
    (drawn,) = figures.component_map(frame).data
    assert np.allclose(drawn.z, [[2.5]])
    assert drawn.customdata[0][0] == " [1.5, 3.5], n = 2"


def test_what_cannot_be_drawn_is_refused() -> None:
    frame = cells({(-1, "whole", -1, "whole"): [1.0]})
    with pytest.raises(ValueError, match="no part to draw"):
        figures.component_map(frame)
    with pytest.raises(ValueError, match="no value to draw: all 2 of 'kl' are missing"):
        figures.component_map(cells({(0, "mlp", -1, "mlp"): [np.nan, np.nan]}))
    with pytest.raises(ValueError, match="there is no column 'change'; the frame has"):
        figures.component_map(frame, value="change")
