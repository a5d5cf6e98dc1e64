"""Ordinary text and steered trails in the plane and in space."""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    PURPLE,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    redrawable,
)
from workbench.support.wording import number

_WORDS = {
    "first": "first component",
    "second": "second component",
    "target": "target direction",
    "across": "greatest variance across it",
    "next": "next greatest",
}
_PLANES = (("first", "second"), ("target", "across"))
_GROUPS = {
    "ordinary": ("ordinary text", GREY, 3, 0.35),
    "positive": ("with the trait", PURPLE, 6, 0.9),
    "negative": ("without it", GREEN, 6, 0.9),
}
# From one end of the coefficient to the other.
_SCALE = [[0, VERMILLION], [0.5, "#F2F2F2"], [1, BLUE]]
_PANEL = 300
_TRAILS = 8  # in the plane


@redrawable
def manifold_plane(
    frame: pd.DataFrame, *, shares: Mapping[str, float], title: str = ""
) -> go.Figure:
    """Ordinary text, texts with the trait and without, and where steering moves tokens, in two
    planes: of the first two principal components, and of the target with what varies most across.

    Args:
        frame: rows of `projection.projected`.
        shares: axis -> share of ordinary text's variance along it, as `projection.axes` gives it.
        title: above the figure.

    Thin lines are single tokens under rising coefficients; the large points are the mean of all,
    from negative coefficients (red) to positive ones (blue). The arrow is the target direction, two
    standard deviations of ordinary text to either side. Both axes of a panel have one scale.
    """
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.15)
    for column, plane in enumerate(_PLANES, start=1):
        _plane(figure, frame, plane, shares, column)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 160,
        height=_PANEL + 150 + (30 if title else 0),
        margin={"t": 62 + (30 if title else 0), "b": 66, "r": 84},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    return figure


def _plane(
    figure: go.Figure,
    frame: pd.DataFrame,
    plane: tuple[str, str],
    shares: Mapping[str, float],
    column: int,
) -> None:
    x, y = plane
    place = {"row": 1, "col": column}
    for group, (name, color, size, opacity) in _GROUPS.items():
        mine = frame[frame["group"] == group]
        figure.add_scatter(
            x=mine[x],
            y=mine[y],
            mode="markers",
            name=name,
            legendgroup=group,
            showlegend=column == 1,
            marker={"color": color, "size": size, "opacity": opacity},
            hoverinfo="skip",
            **place,
        )
    reach = float(frame["coefficient_norm"].abs().max())
    trails = list(frame[frame["group"] == "steered"].groupby("point"))[:_TRAILS]
    for index, (_, trail) in enumerate(trails):
        line = trail.sort_values("coefficient_norm")
        figure.add_scatter(
            x=line[x],
            y=line[y],
            mode="lines",
            line={"color": INK, "width": 0.7},
            opacity=0.45,
            name="single tokens, steered",
            legendgroup="trail",
            showlegend=column == 1 and index == 0,
            hoverinfo="skip",
            **place,
        )
    mean = frame[frame["group"] == "mean"].sort_values("coefficient_norm")
    figure.add_scatter(
        x=mean[x],
        y=mean[y],
        mode="lines+markers",
        name="mean of all tokens, steered",
        legendgroup="mean",
        showlegend=False,
        line={"color": GREY, "width": 1.5},
        marker={
            "color": mean["coefficient_norm"],
            "colorscale": _SCALE,
            "cmin": -reach,
            "cmax": reach,
            "size": 9,
            "line": {"color": INK, "width": 1},
            "showscale": column == 2,
            "colorbar": {
                "title": {"text": "coefficient<br>(norms)", "font": {"size": 12}},
                "thickness": 12,
                "len": 0.8,
            },
        },
        hovertemplate="coefficient %{marker.color:+.2f}<extra></extra>",
        **place,
    )
    ends = frame[frame["group"] == "target"].sort_values("point")
    figure.add_annotation(
        x=ends[x].iloc[1],
        y=ends[y].iloc[1],
        ax=ends[x].iloc[0],
        ay=ends[y].iloc[0],
        xref=f"x{column}" if column > 1 else "x",
        yref=f"y{column}" if column > 1 else "y",
        axref=f"x{column}" if column > 1 else "x",
        ayref=f"y{column}" if column > 1 else "y",
        showarrow=True,
        arrowhead=3,
        arrowwidth=2,
        arrowcolor=INK,
        opacity=0.8,
    )
    if column == 1:
        look = {"color": "white", "size": 9, "line": {"color": INK, "width": 1}}
        for name, mode, line in (
            ("mean of all tokens, steered", "lines+markers", {"color": GREY, "width": 1.5}),
            ("target direction (arrow)", "lines", {"color": INK, "width": 2}),
        ):
            figure.add_scatter(x=[None], y=[None], mode=mode, name=name, line=line, marker=look)
    figure.update_xaxes(title_text=_named(x, shares), **place)
    figure.update_yaxes(
        title_text=_named(y, shares), scaleanchor=f"x{column}" if column > 1 else "x", **place
    )


def _named(axis: str, shares: Mapping[str, float]) -> str:
    words = _WORDS[axis]
    return f"{words[:1].upper()}{words[1:]}<br>({shares[axis]:.1%} of the variance)"


@redrawable
def manifold_space(
    frame: pd.DataFrame, *, shares: Mapping[str, float], title: str = ""
) -> go.Figure:
    """Ordinary text, and where steering moves tokens, along the target and the two greatest
    variances across it: in space, with a slider of the coefficient.

    Args:
        frame: rows of `projection.projected`.
        shares: axis -> share of ordinary text's variance along it.
        title: above the figure.

    Black points are single tokens at the slider's coefficient, the diamond the mean of all; the
    grey line is the whole path of the mean, the black one the target direction. Frames are computed
    beforehand.
    """
    names = ("target", "across", "next")

    def points(mine: pd.DataFrame) -> dict[str, pd.Series]:
        return dict(zip("xyz", (mine[name] for name in names), strict=True))

    figure = go.Figure()
    for group, (name, color, size, opacity) in _GROUPS.items():
        figure.add_scatter3d(
            **points(frame[frame["group"] == group]),
            mode="markers",
            name=name,
            marker={"color": color, "size": size * 0.6, "opacity": opacity},
            hoverinfo="skip",
        )
    mean = frame[frame["group"] == "mean"].sort_values("coefficient_norm")
    ends = frame[frame["group"] == "target"].sort_values("point")
    for part, name, color, width in (
        (mean, "path of the mean", GREY, 5),
        (ends, "target direction", INK, 9),
    ):
        figure.add_scatter3d(
            **points(part), mode="lines", name=name, line={"color": color, "width": width}
        )
    grid = mean["coefficient_norm"].to_list()
    start = int(np.argmin(np.abs(np.subtract(grid, max(grid) / 2))))
    steered = frame[frame["group"] == "steered"]

    def moving(c: float) -> list[go.Scatter3d]:
        tokens = steered[np.isclose(steered["coefficient_norm"], c)]
        middle = mean[np.isclose(mean["coefficient_norm"], c)]
        dots = {"size": 4, "color": INK}
        big = {"size": 7, "color": INK, "symbol": "diamond"}
        return [
            go.Scatter3d(**points(tokens), mode="markers", name="steered tokens", marker=dots),
            go.Scatter3d(**points(middle), mode="markers", name="their mean", marker=big),
        ]

    fixed = len(figure.data)
    figure.add_traces(moving(grid[start]))
    figure.frames = [
        go.Frame(data=moving(c), traces=[fixed, fixed + 1], name=f"{c:+.2f}") for c in grid
    ]
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    steps = [
        {"method": "animate", "label": number(c), "args": [[f"{c:+.2f}"], still]} for c in grid
    ]
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 100,
        height=560 + (30 if title else 0),
        margin={"t": 20 + (30 if title else 0), "b": 10, "l": 10, "r": 10},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "top", "itemsizing": "constant"},
        sliders=[
            {
                "steps": steps,
                "active": start,
                "currentvalue": {"prefix": "coefficient (residual norms): "},
                "pad": {"t": 10},
            }
        ],
        scene={
            "aspectmode": "cube",
            "camera": {
                "eye": {"x": 1.0, "y": -2.2, "z": 0.9},
                "center": {"x": 0, "y": 0, "z": -0.15},
            },
            **{
                f"{side}axis": {
                    "title": {"text": _named(name, shares), "font": {"size": 11}},
                    "tickfont": {"size": 10},
                    "nticks": 5,
                }
                for side, name in zip("xyz", names, strict=True)
            },
        },
    )
    return figure
