"""Frames in, plotly figures out: the figures of the notebooks and the report.

Every function takes a tidy frame first and plain values by keyword, and notes in the figure's
`layout.meta` how it was called, so that `report.redraw` can draw it again from a saved CSV. Knows
nothing of models, files or notebooks. Text from a model is escaped on the way in.
"""

import html
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.look import (
    BELOW,
    BLUE,
    COLORS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    band,
    interval,
    legend,
    redrawable,
    safe,
    stack,
    visible,
)

MARKS: Mapping[str, str] = MappingProxyType(
    {"onset": ORANGE, "recommended": GREEN, "ceiling": VERMILLION}
)
CONTROLS = ("random", "shuffled")

# A panel: the title of its axis, its lines as (column, name, colour), and its range.
Panel = tuple[str, tuple[tuple[str, str, str], ...], tuple[float, float] | None]

SWEEP_PANELS: tuple[Panel, ...] = (
    (
        "Log-probability<br>(nats per token)",
        (
            ("logprob_unsteered", "unsteered model", BLUE),
            ("logprob_steered", "steered model", ORANGE),
        ),
        None,
    ),
    ("Coherence<br>(0 to 1)", (("coherence", "coherence", GREEN),), (-0.04, 1.04)),
    ("Trait<br>(−1 to 1)", (("trait", "trait", PURPLE),), (-1.08, 1.08)),
    (
        "Repetition<br>(share of text)",
        (
            ("distinct_2", "distinct pairs of tokens", SKY),
            ("repeat_share", "longest repeat", VERMILLION),
        ),
        (-0.04, 1.04),
    ),
)


@redrawable
def sweep_curves(
    frame: pd.DataFrame,
    *,
    ceiling: Sequence[Mapping[str, Any]] | None = None,
    trait: str = "trait",
    title: str = "",
) -> go.Figure:
    """What a sweep did to the texts, one panel a measure, over the coefficient in residual norms.

    Args:
        frame: one row per (prompt, coefficient), as `sweep.sweep` returns it. Panels whose columns
            are missing or empty are left out. Rows whose `vector` is "random" or "shuffled" make
            the grey band; rows of "prompted" make the dashed level of prompting for the trait.
        ceiling: marks to draw, as `Ceiling.marks()` returns them or an object that has that
            method: records with `mark` ("onset", "recommended" or "ceiling"), `value` and, for
            the shaded span, `low` and `high`, in residual norms and with their sign.
        trait: what the trait's axis and its line are called.
        title: above the figure; none by default, because a paper has captions.

    Lines are means over prompts, bands 95 % bootstrap intervals (see `interval`); each dot in the
    first panel is one text, shown on hover.
    """
    frame = frame.assign(vector=frame.get("vector", "vector"))
    if {"longest_repeat", "tokens"} <= set(frame.columns):
        frame = frame.assign(repeat_share=frame["longest_repeat"] / frame["tokens"].clip(lower=1))
    steered = frame[frame["vector"] == "vector"]
    if steered.empty:
        kinds = sorted(set(frame["vector"].astype(str)))
        raise ValueError(f"no rows of the vector itself to draw: the frame's vectors are {kinds}")
    panels = [panel for panel in SWEEP_PANELS if any(_has(steered, c) for c, _, _ in panel[1])]
    marks = [mark for mark in ceiling or () if pd.notna(mark["value"])]
    figure = stack(len(panels), above=28 + (17 * len(MARKS) if marks else 0), title=title)
    for row, (label, lines, bounds) in enumerate(panels, start=1):
        _controls(figure, row, frame, lines[0][0])
        for column, name, color in lines:
            if _has(steered, column):
                name = trait if column == "trait" else name
                line = interval(steered, column)
                band(figure, row, line, name, color)
                _prompted(figure, row, frame, column)
        label = label.replace("Trait", html.escape(trait[:1].upper() + trait[1:]))
        figure.update_yaxes(title_text=label, range=bounds, nticks=5, row=row, col=1)
    _dots(figure, steered, panels[0][1][0][0])
    _draw_marks(figure, marks)
    figure.update_xaxes(
        title_text="Steering coefficient (residual-stream norms)", row=len(panels), col=1
    )
    figure.update_xaxes(nticks=10)
    return figure


def _has(frame: pd.DataFrame, column: str) -> bool:
    return column in frame.columns and bool(frame[column].notna().any())


def _controls(figure: go.Figure, row: int, frame: pd.DataFrame, column: str) -> None:
    """Where random and shuffled-label vectors of equal norm lead, in grey behind the lines."""
    controls = frame[frame["vector"].isin(CONTROLS)]
    if _has(controls, column):
        line = interval(controls, column)
        band(figure, row, line, "random or shuffled vector", GREY, shade=0.45, named=row == 1)


def _prompted(figure: go.Figure, row: int, frame: pd.DataFrame, column: str) -> None:
    """The level that asking for the trait in the prompt reaches without steering."""
    prompted = frame[frame["vector"] == "prompted"]
    if column in ("coherence", "trait") and _has(prompted, column):
        ends = frame["coefficient_norm"].agg(["min", "max"])
        figure.add_scatter(
            x=ends,
            y=[prompted[column].mean()] * 2,
            mode="lines",
            name="prompted",
            line={"color": INK, "width": 1.5, "dash": "dash"},
            legend=legend(row),
            hovertemplate="prompted instead of steered: %{y:.3g}<extra></extra>",
            row=row,
            col=1,
        )


def _dots(figure: go.Figure, steered: pd.DataFrame, column: str) -> None:
    """One dot a text in the first panel, so that every text can be read on hover."""
    if "text" not in steered.columns:
        return
    prompts = steered["prompt"] if "prompt" in steered.columns else pd.Series("", steered.index)
    hover = [
        f"<b>{x:+.3g}</b> · {safe(prompt, limit=120)}<br>{safe(text)}"
        for x, prompt, text in zip(
            steered["coefficient_norm"], prompts, steered["text"], strict=True
        )
    ]
    figure.add_scatter(
        x=steered["coefficient_norm"],
        y=steered[column],
        mode="markers",
        marker={"size": 4, "color": BLUE, "opacity": 0.28},
        hovertext=hover,
        hoverinfo="text",
        showlegend=False,
        row=1,
        col=1,
    )


def _draw_marks(figure: go.Figure, marks: Sequence[Mapping[str, Any]]) -> None:
    """Vertical lines through all panels, their intervals shaded, named above the first panel.

    Each kind of mark has a line of text of its own above the figure, so that no two names meet.
    """
    kinds = list(MARKS)
    for mark in marks:
        kind, x = mark["mark"], mark["value"]
        if kind not in MARKS:
            raise ValueError(f"unknown mark {kind!r}: one of {kinds} is drawn")
        color = MARKS[kind]
        low, high = mark.get("low"), mark.get("high")
        if pd.notna(low) and pd.notna(high):
            figure.add_vrect(
                x0=low, x1=high, fillcolor=color, opacity=0.13, line_width=0, layer="below"
            )
        dash = {"onset": "dot", "recommended": "solid", "ceiling": "dash"}[kind]
        figure.add_vline(x=x, line={"color": color, "width": 1.6, "dash": dash}, layer="above")
        figure.add_annotation(
            x=x,
            xref="x",
            y=1,
            yref="paper",
            yshift=22 + 17 * kinds.index(kind),
            yanchor="bottom",
            xanchor="right" if x < 0 else "left",  # the two signs' names grow apart
            text=f"{kind} {x:+.2f}".replace("-", "−"),
            font={"color": color, "size": 12},
            showarrow=False,
        )


@redrawable
def separation(
    frame: pd.DataFrame, *, layer: int | None = None, by: str | None = None, title: str = ""
) -> go.Figure:
    """How well each layer tells held-out pairs apart: accuracy above, d′ below.

    Args:
        frame: one row per layer (and per `by`), with `layer`, `accuracy` in [0, 1] and `d_prime`
            in standard deviations.
        layer: the chosen layer, marked by a vertical line.
        by: a column, such as "method" or "trait", whose values get a line each.
        title: above the figure.
    """
    groups = [("", frame)] if by is None else list(frame.groupby(by, sort=False))
    symbols = ["circle", "square", "diamond", "triangle-up", "triangle-down", "x", "cross"]
    legend_rows = -(-len(groups) // 3) if by else 0
    figure = stack(2, above=14 + 20 * legend_rows, title=title, panel=170)
    for index, (name, group) in enumerate(groups):
        group = group.sort_values("layer")
        style = {
            "mode": "lines+markers",
            "name": html.escape(str(name)),
            "legendgroup": str(name),
            "line": {"color": COLORS[index % len(COLORS)], "width": 2},
            "marker": {"size": 7, "symbol": symbols[index % 7]},
        }
        for row, column, unit in ((1, "accuracy", ".1%"), (2, "d_prime", ".2f")):
            figure.add_scatter(
                x=group["layer"],
                y=group[column],
                showlegend=by is not None and row == 1,
                hovertemplate=f"layer %{{x}}: %{{y:{unit}}}<extra>{style['name']}</extra>",
                row=row,
                col=1,
                **style,
            )
    figure.add_hline(y=0.5, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col=1)  # type: ignore[arg-type]
    if layer is not None:
        figure.add_vline(x=layer, line={"color": INK, "width": 1.2, "dash": "dash"})
    lowest = min(0.4, float(frame["accuracy"].min()))
    figure.update_yaxes(
        title_text="Accuracy on<br>held-out pairs", tickformat=".0%", range=[lowest - 0.02, 1.03],
        row=1, col=1,
    )  # fmt: skip
    figure.update_yaxes(
        title_text="Separation d′<br>(standard deviations)", rangemode="tozero", row=2, col=1
    )
    chosen = "" if layer is None else f"; dashed: the chosen layer, {layer}"
    figure.update_xaxes(title_text=f"Layer (output of the block{chosen})", row=2, col=1)
    if frame["layer"].nunique() <= 16:
        figure.update_xaxes(dtick=1)
    return figure


@redrawable
def token_bars(
    frame: pd.DataFrame,
    *,
    count: int = 10,
    unit: str = "per unit of the vector",
    title: str = "",
) -> go.Figure:
    """What a vector says through the unembedding: the tokens that it favours and those it hinders.

    Args:
        frame: one row per token, with `token` (its text) and `logit` (what the vector adds to
            that token's logit); the largest and the smallest are drawn.
        count: how many of either kind at most.
        unit: of the horizontal axis, in words.
        title: above the figure.
    """
    ranked = frame.sort_values("logit", ascending=False, kind="stable")
    boosted = ranked[ranked["logit"] > 0].head(count)
    suppressed = ranked[ranked["logit"] < 0].tail(count)
    shown = pd.concat([boosted, suppressed])
    if shown.empty:
        raise ValueError("no token to draw: every value of the column 'logit' is 0 or missing")
    names = [html.escape(visible(token)) for token in shown["token"]]
    above = 56 if title else 30
    figure = go.Figure()
    parts = ((boosted, "favoured", BLUE, 0), (suppressed, "hindered", VERMILLION, len(boosted)))
    for part, name, color, first in parts:
        figure.add_bar(
            x=part["logit"],
            y=list(range(first, first + len(part))),
            orientation="h",
            marker={"color": color},
            name=name,
            hovertext=[
                f"{html.escape(visible(token))}: {value:+.3g}"
                for token, value in zip(part["token"], part["logit"], strict=True)
            ],
            hoverinfo="text",
        )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=above + BELOW + 21 * len(shown),
        margin={"t": above},
        title={"text": html.escape(title)},
        bargap=0.25,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(shown))),
        ticktext=names,
        autorange="reversed",
        showgrid=False,
        ticks="",
    )
    figure.update_xaxes(
        title_text=f"Change of the token's logit ({html.escape(unit)})",
        zeroline=True,
        zerolinecolor=INK,
        zerolinewidth=1,
    )
    return figure
