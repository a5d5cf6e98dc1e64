"""Several properties at once: schedules of the coefficient against each other."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    error_bars,
    growing,
    redrawable,
)

_CURVES = {
    "fixed": (INK, "circle", "solid"),
    "start": (GREEN, "square", "solid"),
    "diminishing": (ORANGE, "diamond", "solid"),
    "dynamic, low cap": (BLUE, "circle", "solid"),
    "dynamic, divided, bounded": (SKY, "triangle-up", "dash"),
    "KL budget": (PURPLE, "triangle-down", "dash"),
}
_POINTS = {
    "unsteered": (GREY, "circle-open"),
    "asked by an instruction": (GREY, "star"),
    "in-context examples": (GREY, "x-thin-open"),
    "fixed, a pair": (INK, "circle-open"),
    "dynamic, undivided": (VERMILLION, "cross"),
    "dynamic, divided": (VERMILLION, "cross-open"),
    "dynamic, low cap, divided": (BLUE, "circle-open"),
}
_LOOKS = {**_CURVES, **{name: (*look, "none") for name, look in _POINTS.items()}}
_PANEL = 190  # pixels of height


@redrawable
def composed_tradeoffs(
    frame: pd.DataFrame, *, rows: Sequence[str] | None = None, title: str = ""
) -> go.Figure:
    """The share of texts with both properties against coherence, a curve a schedule.

    Args:
        frame: one row per `row` of panels, `column` of panels, `schedule` and `level`, with the
            shares `both` and `coherence` and, NaN for none, their `… low` and `… high`.
        rows: of panels that are drawn (default: the frame's first, such as all languages together).
        title: above the figure.

    Curves run from the weakest to the strongest, whose points are the smallest and the largest; up
    and to the right is better. Raises ValueError for a row that the frame lacks.
    """
    there, columns = (list(dict.fromkeys(frame[name])) for name in ("row", "column"))
    rows = there[:1] if rows is None else list(rows)
    unknown = [each for each in rows if each not in there]
    if unknown or not rows:
        raise ValueError(f"rows {unknown or rows!r} are not in the frame: choose of {there}")
    frame = frame[frame["row"].isin(rows)]
    figure = make_subplots(
        rows=len(rows), cols=len(columns), shared_xaxes="all", shared_yaxes="all",
        horizontal_spacing=0.04, vertical_spacing=0.09 / len(rows),
        column_titles=[html.escape(each) for each in columns],
        row_titles=[html.escape(each) for each in rows] if len(rows) > 1 else None,
    )  # fmt: skip
    seen: set[str] = set()
    for (row, column), panel in frame.groupby(["row", "column"], sort=False):
        place = {"row": rows.index(row) + 1, "col": columns.index(column) + 1}
        for name, (color, symbol, dash) in _LOOKS.items():
            mine = panel[panel["schedule"] == name].sort_values("level", kind="stable")
            if not len(mine):
                continue
            shares = [c for c in mine if c.startswith(("both", "coherence"))]
            percent = mine.assign(**{each: 100 * mine[each] for each in shares})
            bars = {}
            if "both low" in percent and percent["both low"].notna().all() and dash != "none":
                bars["error_y"] = error_bars(percent, "both", color, low="both low",
                                             high="both high")  # fmt: skip
            line = {} if dash == "none" else {"line": {"color": color, "dash": dash, "width": 1.6}}
            figure.add_scatter(
                x=percent["coherence"],
                y=percent["both"],
                mode="markers" if dash == "none" else "lines+markers",
                marker={"color": color, "symbol": symbol, "opacity": 1,
                        "size": 9 if dash == "none" else growing(len(mine), most=12),
                        "line": {"width": 1.6, "color": color}},
                name=name,
                legendgroup=name,
                showlegend=name not in seen,
                customdata=percent["level"],
                hovertemplate="%{y:.0f} % both, %{x:.0f} % coherent, at %{customdata:g}"
                f"<extra>{html.escape(name)}</extra>",
                **line,
                **bars,
                **place,
            )  # fmt: skip
            seen.add(name)
    plot = (_PANEL if len(rows) > 1 else 2 * _PANEL - 90) * len(rows)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=plot + 210 + (30 if title else 0),
        margin={"t": 34 + (30 if title else 0), "b": 176, "r": 40},
        title={"text": html.escape(title)},
        legend={
            "orientation": "h",
            "y": -62 / plot,
            "x": 0,
            "yanchor": "top",
            "title": {"text": "Larger points: stronger", "font": {"size": 13}, "side": "top"},
        },
    )
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(range=[-6, 106], dtick=25)
    figure.update_yaxes(range=[-6, 108], dtick=25)
    figure.update_xaxes(title_text="Coherence (percent of words)", row=len(rows))
    middle = (len(rows) + 1) // 2
    words = "Both properties<br>(percent of texts)"
    figure.update_yaxes(title_text=words, row=middle, col=1)
    return figure


@redrawable
def composed_equal_kl(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """How much more of both properties, and of coherence, than fixed coefficients of the same KL.

    Args:
        frame: one row per `panel` and `schedule` and setting, with `kl` (nats a token) and the
            differences of shares `both` and `coherence` with `… low` and `… high`.
        title: above the figure.
    """
    panels = list(dict.fromkeys(frame["panel"]))
    measures = {"both": "Both properties,", "coherence": "Coherence,"}
    figure = make_subplots(
        rows=2, cols=len(panels), shared_xaxes="all", shared_yaxes="rows",
        horizontal_spacing=0.05, vertical_spacing=0.07,
        column_titles=[html.escape(each) for each in panels],
    )  # fmt: skip
    seen: set[str] = set()
    for row, measure in enumerate(measures, 1):
        for column, panel in enumerate(panels, 1):
            for name, (color, symbol, _) in _LOOKS.items():
                mine = frame[(frame["panel"] == panel) & (frame["schedule"] == name)]
                mine = mine.dropna(subset=[measure])
                if not len(mine):
                    continue
                ends = [measure, f"{measure} low", f"{measure} high"]
                points = mine.assign(**{each: 100 * mine[each] for each in ends})
                figure.add_scatter(
                    x=points["kl"],
                    y=points[measure],
                    error_y=error_bars(points, measure, color, low=ends[1], high=ends[2]),
                    mode="markers",
                    marker={"color": color, "symbol": symbol, "size": 7},
                    name=name,
                    legendgroup=name,
                    showlegend=name not in seen,
                    customdata=points["level"],
                    hovertemplate="%{y:+.0f} points at %{x:.2f} nats a token, level %{customdata:g}"
                    f"<extra>{html.escape(name)}</extra>",
                    row=row,
                    col=column,
                )
                seen.add(name)
            figure.add_hline(y=0, line={"color": GREY, "width": 1.2, "dash": "dot"},  # type: ignore[arg-type]
                             row=row, col=column)  # type: ignore[arg-type]  # fmt: skip
    line = {"color": GREY, "width": 1.2, "dash": "dot"}
    figure.add_scatter(x=[None], y=[None], mode="lines", name="fixed, same KL", line=line)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=2 * 200 + 170 + (30 if title else 0),
        margin={"t": 34 + (30 if title else 0), "b": 118},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": -0.16, "x": 0, "yanchor": "top"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(title_text="KL from unsteered (nats a token)", row=2)
    for row, words in enumerate(measures.values(), 1):
        figure.update_yaxes(title_text=f"{words}<br>gain over fixed (points)", row=row, col=1)
    return figure
