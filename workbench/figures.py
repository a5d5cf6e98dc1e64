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

from workbench.bands import SCALES, band_over_prompts
from workbench.detector_figures import predicted_ceilings
from workbench.frames import axis_title, coefficient_axis
from workbench.intervals import bootstrap_mean
from workbench.judge_figures import error_by_agreement, judge_agreement
from workbench.law_figures import odds_curves
from workbench.law_pair_figures import pair_spread, pairs_needed
from workbench.law_score_figures import law_scores
from workbench.law_study_figures import law_curves
from workbench.layer_figures import separation, slopes_by_layer
from workbench.look import (
    BELOW,
    BLUE,
    GREEN,
    GREY,
    INK,
    LEGEND_ROW,
    ORANGE,
    PURPLE,
    SKY,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    band,
    legend_rows,
    redrawable,
    safe,
    stack,
    visible,
)
from workbench.manifold_figures import distance_by_layer, distance_link, layer_maps
from workbench.manifold_maps import manifold_plane, manifold_space
from workbench.manifold_study_figures import across_vectors, distance_sensitivity
from workbench.method_figures import trait_and_utility
from workbench.metric_figures import metric_areas, metric_curves
from workbench.survival_figures import survival_map
from workbench.tradeoff_figures import trait_against_coherence

__all__ = [
    "across_vectors",
    "distance_by_layer",
    "distance_link",
    "distance_sensitivity",
    "error_by_agreement",
    "judge_agreement",
    "law_curves",
    "law_scores",
    "layer_maps",
    "manifold_plane",
    "manifold_space",
    "metric_areas",
    "metric_curves",
    "odds_curves",
    "pair_spread",
    "pairs_needed",
    "predicted_ceilings",
    "separation",
    "slopes_by_layer",
    "survival_map",
    "sweep_curves",
    "token_bars",
    "trait_against_coherence",
    "trait_and_utility",
]

MARKS: Mapping[str, str] = MappingProxyType(
    {"onset": ORANGE, "recommended": GREEN, "ceiling": VERMILLION}
)
# The pattern of a control's line, drawn in grey behind the others.
CONTROLS: Mapping[str, str] = MappingProxyType({"random": "solid", "shuffled": "dashdot"})
NEUTRAL = "dot"  # the pattern of a control of another name
TEXT, PROMPT = 140, 60  # letters of each that a hover label shows; the CSV beside has all
FEWEST = 5  # prompts; the mean of fewer is not drawn

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
    """What a sweep did to the texts, one panel a measure, over the coefficient.

    Coefficients are in residual norms, or raw, as the axis says, where the sweep knew no norms.

    Args:
        frame: one row per (prompt, coefficient), as `sweep.sweep` returns it. Panels whose columns
            are missing or empty are left out. Rows whose `vector` is neither "vector" nor
            "prompted" are controls: each name gets a grey line and band, of the measure that its
            panel draws first; rows of "prompted" make the dashed level of prompting for the trait.
        ceiling: marks to draw, as `Ceiling.marks()` returns them or an object that has that
            method: records with `mark` ("onset", "recommended" or "ceiling"), `value` and, for
            the shaded span, `low` and `high`, in the axis's unit and with their sign.
        trait: what the trait's axis and its line are called.
        title: above the figure; none by default, because a paper has captions.

    Lines are means over prompts, bands 95 % bootstrap intervals over prompts; where fewer than five
    prompts have a value, as of the trait where texts fall apart, nothing is drawn (unless the sweep
    has no more). Each dot in the first panel is one text, whose beginning is shown on hover.
    """
    frame = frame.assign(vector=frame.get("vector", "vector"))
    if {"longest_repeat", "tokens"} <= set(frame.columns):
        frame = frame.assign(repeat_share=frame["longest_repeat"] / frame["tokens"].clip(lower=1))
    steered = frame[frame["vector"] == "vector"]
    if steered.empty:
        kinds = sorted(set(frame["vector"].astype(str)))
        raise ValueError(f"no rows of the vector itself to draw: the frame's vectors are {kinds}")
    axis, unit = coefficient_axis(steered)
    panels = [panel for panel in SWEEP_PANELS if any(_has(steered, c) for c, _, _ in panel[1])]
    controls = _controls(frame)
    marks = [mark for mark in ceiling or () if pd.notna(mark["value"])]
    names = [name for name, _, _ in controls] + [name for _, name, _ in panels[0][1]]
    above = LEGEND_ROW * legend_rows(names)
    figure = stack(len(panels), above=above + (17 * len(MARKS) if marks else 0), title=title)
    for row, (label, lines, bounds) in enumerate(panels, start=1):
        for words, dash, part in controls:
            if _has(part, lines[0][0]):
                line = _line(part, lines[0][0], axis)
                band(figure, row, line, words, GREY, shade=0.3, dash=dash, named=row == 1)
        for column, name, color in lines:
            if _has(steered, column):
                name = trait if column == "trait" else name
                line = _line(steered, column, axis)
                band(figure, row, line, name, color)
                _prompted(figure, row, frame, column, axis)
        label = label.replace("Trait", html.escape(trait[:1].upper() + trait[1:]))
        figure.update_yaxes(title_text=label, range=bounds, nticks=5, row=row, col=1)
    _dots(figure, steered, panels[0][1][0][0], axis)
    _draw_marks(figure, marks, above - 6)
    figure.update_xaxes(title_text=axis_title(unit), row=len(panels), col=1)
    figure.update_xaxes(nticks=10)
    return figure


def _line(part: pd.DataFrame, column: str, axis: str) -> pd.DataFrame:
    line = band_over_prompts(part, column, axis=axis)
    return line[line["prompts"] >= min(FEWEST, part["prompt_index"].nunique())]


def _has(frame: pd.DataFrame, column: str) -> bool:
    return column in frame.columns and bool(frame[column].notna().any())


def _controls(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Every control of the sweep: its name, the line's pattern, its rows."""
    kinds = [str(kind) for kind in frame["vector"].unique() if kind not in ("vector", "prompted")]
    return [
        (kind, CONTROLS.get(kind, NEUTRAL), frame[frame["vector"].astype(str) == kind])
        for kind in kinds
    ]


def _prompted(figure: go.Figure, row: int, frame: pd.DataFrame, column: str, axis: str) -> None:
    """The level that asking for the trait in the prompt reaches without steering."""
    prompted = frame[frame["vector"] == "prompted"]
    if column in ("coherence", "trait") and _has(prompted, column):
        found = bootstrap_mean(prompted[column], bounds=SCALES.get(column))
        line = pd.DataFrame(
            {"x": end, "mean": found.value, "low": found.low, "high": found.high}
            for end in frame[axis].agg(["min", "max"])
        )
        band(figure, row, line, "asked in the prompt", INK, shade=0.12, dash="dash")


def _dots(figure: go.Figure, steered: pd.DataFrame, column: str, axis: str) -> None:
    """One dot a text in the first panel, so that every text can be read on hover.

    A trace for each prompt, so that the prompt is stored once.
    """
    if "text" not in steered.columns:
        return
    for _, part in steered.groupby("prompt_index"):
        prompt = part["prompt"].iloc[0] if "prompt" in part.columns else ""
        figure.add_scatter(
            x=part[axis],
            y=part[column],
            mode="markers",
            marker={"size": 4, "color": BLUE, "opacity": 0.28},
            hovertext=[safe(text, limit=TEXT) for text in part["text"]],
            hovertemplate=f"<b>%{{x:+.3g}}</b> · {_literal(safe(prompt, limit=PROMPT))}<br>"
            "%{hovertext}<extra></extra>",
            showlegend=False,
            row=1,
            col=1,
        )


def _literal(text: str) -> str:
    """Text for a hover template, whose own fields begin with "%{"."""
    return text.replace("%{", "%&#123;").replace("{", "&#123;")


def _draw_marks(figure: go.Figure, marks: Sequence[Mapping[str, Any]], above: int) -> None:
    """Vertical lines through all panels, their intervals shaded, named above the first panel.

    Each kind of mark has a line of text of its own, `above` pixels over the first panel and
    higher, so that no two names meet.
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
            yshift=above + 17 * kinds.index(kind),
            yanchor="bottom",
            xanchor="right" if x < 0 else "left",  # the two signs' names grow apart
            text=f"{kind} {x:+.3g}".replace("-", "−"),
            font={"color": color, "size": 12},
            showarrow=False,
        )


@redrawable
def token_bars(
    frame: pd.DataFrame,
    *,
    count: int = 10,
    unit: str = "per unit of the vector",
    chance: float | None = None,
    title: str = "",
) -> go.Figure:
    """What a vector says through the unembedding: the tokens that it favours and those it hinders.

    Args:
        frame: one row per token, with `token` (its text) and `logit` (what the vector adds to
            that token's logit); the largest and the smallest are drawn.
        count: how many of either kind at most.
        unit: of the horizontal axis, in words.
        chance: how large the largest change is under a random direction (`lens.largest_by_chance`);
            shaded, as nothing within it is told by the vector.
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
    if chance is not None:
        figure.add_vrect(
            x0=-chance, x1=chance, fillcolor=GREY, opacity=0.25, line_width=0, layer="below"
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
