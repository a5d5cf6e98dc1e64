"""Several properties at once: what conditioning costs, beside equal KL, and token by token."""

from __future__ import annotations

import html
from itertools import cycle, product

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
    printable,
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
_COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
_DASHES = ("solid", "dash", "dot", "dashdot")
_PANEL, _SMALL = 190, 150  # pixels of height


@redrawable
def composed_tradeoffs(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """The share of texts with both properties against coherence, a curve a schedule.

    Args:
        frame: one row per `row` of panels, `column` of panels, `schedule` and `level`, with the
            shares `both` and `coherence` and, NaN for none, their `… low` and `… high`.
        title: above the figure.

    Curves run from the weakest to the strongest; up and to the right is better.
    """
    rows, columns = (list(dict.fromkeys(frame[name])) for name in ("row", "column"))
    figure = make_subplots(
        rows=len(rows), cols=len(columns), shared_xaxes="all", shared_yaxes="all",
        horizontal_spacing=0.04, vertical_spacing=0.09 / len(rows),
        column_titles=[html.escape(each) for each in columns],
        row_titles=[html.escape(each) for each in rows],
    )  # fmt: skip
    looks = {**_CURVES, **{name: (*look, "none") for name, look in _POINTS.items()}}
    seen: set[str] = set()
    for (row, column), panel in frame.groupby(["row", "column"], sort=False):
        place = {"row": rows.index(row) + 1, "col": columns.index(column) + 1}
        for name, (color, symbol, dash) in looks.items():
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
                marker={"color": color, "symbol": symbol, "size": 9 if dash == "none" else 6,
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
    plot = _PANEL * len(rows)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=plot + 190 + (30 if title else 0),
        margin={"t": 34 + (30 if title else 0), "b": 156, "r": 40},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": -62 / plot, "x": 0, "yanchor": "top"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(range=[-6, 106], dtick=25)
    figure.update_yaxes(range=[-6, 108], dtick=25)
    figure.update_xaxes(title_text="Coherence (percent of words)", row=len(rows))
    middle = (len(rows) + 1) // 2
    figure.update_yaxes(title_text="Both properties (percent of texts)", row=middle, col=1)
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
    measures = {"both": "Both properties", "coherence": "Coherence"}
    figure = make_subplots(
        rows=2, cols=len(panels), shared_xaxes="all", shared_yaxes="rows",
        horizontal_spacing=0.05, vertical_spacing=0.07,
        column_titles=[html.escape(each) for each in panels],
    )  # fmt: skip
    seen: set[str] = set()
    looks = {**_CURVES, **{name: (*look, "none") for name, look in _POINTS.items()}}
    for row, measure in enumerate(measures, 1):
        for column, panel in enumerate(panels, 1):
            for name, (color, symbol, _) in looks.items():
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
        figure.update_yaxes(title_text=f"{words} (points)", row=row, col=1)
    return figure


@redrawable
def coefficients_over_text(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """The coefficient of every property at each token of a text, a panel a schedule.

    Args:
        frame: one row per `schedule`, `property` and `step`, with `text` (of the token) and
            `coefficient`, of either sign.
        title: above the figure.

    Under every panel stand the tokens that were written at these coefficients. Colors come by
    turns; from the second turn on lines are dashed.
    """
    schedules = list(dict.fromkeys(frame["schedule"]))
    properties, every = dict.fromkeys(frame["property"]), cycle(product(_DASHES, _COLORS))
    looks = dict(zip(properties, every, strict=False))
    figure = make_subplots(
        rows=len(schedules),
        cols=1,
        subplot_titles=[html.escape(each) for each in schedules],
        vertical_spacing=0.46 / len(schedules),
    )
    for row, schedule in enumerate(schedules, 1):
        mine = frame[frame["schedule"] == schedule]
        for place, (name, own) in enumerate(mine.groupby("property", sort=False)):
            thick = 3.2 if place == 0 else 1.2  # seen where the next lies upon it
            dash, color = looks[name]
            figure.add_scatter(
                x=own["step"],
                y=own["coefficient"],
                mode="lines+markers",
                line={"color": color, "width": thick, "shape": "hvh", "dash": dash},
                marker={"color": color, "size": 4 + thick},
                name=html.escape(str(name)),
                legendgroup=str(name),
                showlegend=row == 1,
                row=row,
                col=1,
            )
        words = mine.drop_duplicates("step")
        figure.update_xaxes(
            tickvals=words["step"].tolist(),
            ticktext=[_token(each) for each in words["text"]],
            tickangle=-90,
            tickfont={"size": 10},
            showgrid=False,
            range=[-0.7, frame["step"].max() + 0.7],
            row=row,
            col=1,
        )
        least, most = min(mine["coefficient"].min(), 0.0), max(mine["coefficient"].max(), 0.0)
        height = max(most - least, 0.1)
        below = 0.15 if least < 0 else 0.06
        ends = [least - below * height, max(most, least + height) + 0.15 * height]
        figure.update_yaxes(range=ends, nticks=4, row=row, col=1)
    figure.update_yaxes(title_text="Coefficient (times the delta)", row=(len(schedules) + 1) // 2)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=(_SMALL + 30) * len(schedules) + 120,
        margin={"t": 74 + (30 if title else 0), "b": 84},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": 1 + 42 / ((_SMALL + 30) * len(schedules)), "x": 0,
                "yanchor": "bottom"},
    )  # fmt: skip
    figure.update_annotations(font={"size": 13})
    return figure


@redrawable
def step_forms(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Deltas of every step beside their average: both properties over the strength.

    Args:
        frame: one row per `panel` (a row of panels), `schedule` (a column), `form` ("per step" or
            "averaged") and `level`, with the share `both`, `both low` and `both high`.
        title: above the figure.
    """
    panels, schedules = (list(dict.fromkeys(frame[name])) for name in ("panel", "schedule"))
    figure = make_subplots(
        rows=len(panels), cols=len(schedules), shared_yaxes="all", shared_xaxes="columns",
        horizontal_spacing=0.03, vertical_spacing=0.07,
        column_titles=[html.escape(each) for each in schedules],
        row_titles=[html.escape(each) for each in panels],
    )  # fmt: skip
    for form, color, symbol in (("per step", BLUE, "circle"), ("averaged", VERMILLION, "diamond")):
        for row, panel in enumerate(panels, 1):
            for column, schedule in enumerate(schedules, 1):
                mine = frame[
                    (frame["panel"] == panel)
                    & (frame["schedule"] == schedule)
                    & (frame["form"] == form)
                ].sort_values("level")
                percent = mine.assign(
                    **{each: 100 * mine[each] for each in ("both", "both low", "both high")}
                )
                figure.add_scatter(
                    x=percent["level"],
                    y=percent["both"],
                    error_y=error_bars(percent, "both", color, low="both low", high="both high"),
                    mode="lines+markers",
                    line={"color": color, "width": 1.6},
                    marker={"color": color, "symbol": symbol, "size": 6},
                    name="a delta a step" if form == "per step" else "their average",
                    legendgroup=form,
                    showlegend=row == column == 1,
                    row=row,
                    col=column,
                )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=_PANEL * len(panels) + 150 + (30 if title else 0),
        margin={"t": 70 + (30 if title else 0), "b": 60, "r": 40},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": 1 + 34 / (_PANEL * len(panels)), "x": 0,
                "yanchor": "bottom"},
    )  # fmt: skip
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(title_text="Strength", row=len(panels))
    figure.update_yaxes(range=[-6, 108], dtick=25)
    figure.update_yaxes(title_text="Both properties (percent of texts)", row=1, col=1)
    return figure


def _token(text: str) -> str:
    """A token as a label: its spaces are seen."""
    plain = "".join(map(printable, text.strip() or "␣"))
    return html.escape(plain if len(plain) <= 12 else plain[:11] + "…")
