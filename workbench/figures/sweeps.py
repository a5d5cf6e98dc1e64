"""A sweep over the coefficient: a panel a measure, its marks, and every text on hover."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import (
    BELOW,
    BLUE,
    GREEN,
    GREY,
    INK,
    LEGEND_ROW,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    align_legend,
    band,
    legend_rows,
    redrawable,
    safe,
    stack,
)
from workbench.statistics.intervals import bootstrap_mean
from workbench.support.checks import require_frame
from workbench.support.wording import LOGGED
from workbench.sweeps.bands import SCALES, drawn_band
from workbench.sweeps.frames import axis_title, coefficient_axis

MARKS: Mapping[str, str] = MappingProxyType(
    {"onset": ORANGE, "recommended": GREEN, "ceiling": VERMILLION}
)
# The pattern of a control's line, drawn in grey behind the others.
CONTROLS: Mapping[str, str] = MappingProxyType({"random": "solid", "shuffled": "dashdot"})
NEUTRAL = "dot"  # the pattern of a control of another name
TEXT, PROMPT = 140, 60  # letters of each that a hover label shows; the CSV beside has all
_MARK = 17  # pixels of height of a mark's name

# A panel: the title of its axis, its lines as (column, name, colour), and its range.
Panel = tuple[str, tuple[tuple[str, str, str], ...], tuple[float, float] | None]

SWEEP_PANELS: tuple[Panel, ...] = (
    (
        "Log-probability<br>(nats per token)",
        (
            ("logprob_unsteered", "read by the unsteered model", BLUE),
            ("logprob_steered", "read by the steered model", ORANGE),
        ),
        None,
    ),
    ("Coherence<br>(0 to 1)", (("coherence", LOGGED["coherence"], GREEN),), (-0.04, 1.04)),
    ("Trait<br>(−1 to 1)", (("trait", LOGGED["trait"], PURPLE),), (-1.08, 1.08)),
    (
        "Repetition<br>(share of text)",
        (
            ("repeated_2", "repeated pairs of tokens", SKY),
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

    Raises ValueError for what is no frame of a sweep, and for one without rows of the vector.
    """
    require_frame(frame, "a sweep's frame, such as frame = sweep(lm, vector, prompts)")
    if not {"coefficient", "coefficient_norm"} & set(frame.columns):
        raise ValueError(
            f"the frame has the columns {list(frame.columns)}, and no coefficient; give a sweep's "
            "frame"
        )
    frame = frame.assign(vector=frame.get("vector", "vector"))
    if "distinct_2" in frame.columns:
        frame = frame.assign(repeated_2=1 - frame["distinct_2"])
    if {"longest_repeat", "tokens"} <= set(frame.columns):
        frame = frame.assign(repeat_share=frame["longest_repeat"] / frame["tokens"].clip(lower=1))
    steered = frame[frame["vector"] == "vector"]
    if steered.empty:
        kinds = sorted(set(frame["vector"].astype(str)))
        raise ValueError(f"no rows of the vector itself to draw: the frame's vectors are {kinds}")
    axis, unit = coefficient_axis(steered)
    panels = [panel for panel in SWEEP_PANELS if any(_has(steered, c) for c, _, _ in panel[1])]
    if not panels:
        raise ValueError(
            f"the frame has the columns {list(frame.columns)}, and no measure of a sweep; give the "
            "frame as sweep returned it"
        )
    controls = _controls(frame)
    marks = [mark for mark in ceiling or () if pd.notna(mark["value"])]
    names = [name for name, _, _ in controls] + [name for _, name, _ in panels[0][1]]
    named = _MARK * len(MARKS) + 4 if marks else 0
    figure = stack(len(panels), above=LEGEND_ROW * legend_rows(names) + named, title=title)
    plot = figure.layout.height - figure.layout.margin.t - BELOW
    align_legend(figure, 1, names)
    figure.layout.legend.y += named / plot  # above the names of the marks
    for row, (label, lines, bounds) in enumerate(panels, start=1):
        for words, dash, part in controls:
            if _has(part, lines[0][0]):
                line = drawn_band(part, lines[0][0], axis=axis)
                band(figure, row, line, words, GREY, shade=0.3, dash=dash, named=row == 1)
        for column, name, color in lines:
            if _has(steered, column):
                name = trait if column == "trait" else name
                line = drawn_band(steered, column, axis=axis)
                band(figure, row, line, name, color)
                _prompted(figure, row, frame, column, axis)
        label = label.replace("Trait", html.escape(trait[:1].upper() + trait[1:]))
        figure.update_yaxes(title_text=label, range=bounds, nticks=5, row=row, col=1)
    _dots(figure, steered, panels[0][1][0][0], axis)
    _draw_marks(figure, marks)
    figure.update_xaxes(title_text=axis_title(unit), row=len(panels), col=1)
    figure.update_xaxes(nticks=10)
    return figure


def _has(frame: pd.DataFrame, column: str) -> bool:
    return column in frame.columns and bool(frame[column].notna().any())


def _controls(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Every control of the sweep: its name in words, the line's pattern, its rows."""
    kinds = [str(kind) for kind in frame["vector"].unique() if kind not in ("vector", "prompted")]
    return [
        (
            f"control: {kind}",
            CONTROLS.get(kind, NEUTRAL),
            frame[frame["vector"].astype(str) == kind],
        )
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


def _draw_marks(figure: go.Figure, marks: Sequence[Mapping[str, Any]]) -> None:
    """Vertical lines through all panels, their intervals shaded, named above the first panel.

    Each line ends at its name. Each kind of mark has a line of text of its own, the ceiling's the
    lowest: it lies outermost, and names grow outwards, so that no line crosses a name.
    """
    kinds, panels = list(MARKS), len(list(figure.select_yaxes()))
    shapes: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    for mark in marks:
        kind, x = mark["mark"], mark["value"]
        if kind not in MARKS:
            raise ValueError(f"unknown mark {kind!r}: one of {kinds} is drawn")
        color = MARKS[kind]
        ends = mark.get("low"), mark.get("high")
        if all(map(pd.notna, ends)):
            low, high = map(float, ends)  # type: ignore[arg-type]
            span = {"fillcolor": color, "opacity": 0.13, "line": {"width": 0}, "layer": "below"}
            shapes += _upright(panels, low, high, type="rect", **span)
        dash = {"onset": "dot", "recommended": "solid", "ceiling": "dash"}[kind]
        line = {"color": color, "width": 1.6, "dash": dash}
        shapes += _upright(panels, x, x, type="line", line=line, layer="above")
        above = _MARK * (len(kinds) - 1 - kinds.index(kind))
        shapes.append(
            {
                "type": "line", "x0": x, "x1": x, "xref": "x", "layer": "above", "line": line,
                "yref": "paper", "yanchor": 1, "ysizemode": "pixel", "y0": 0, "y1": above + _MARK,
            }
        )  # fmt: skip
        words.append(
            {
                "x": x,
                "xref": "x",
                "y": 1,
                "yref": "paper",
                "yshift": above,
                "xshift": -3 if x < 0 else 3,
                "yanchor": "bottom",
                "xanchor": "right" if x < 0 else "left",  # the two signs' names grow apart
                "text": f"{kind} {x:+.3g}".replace("-", "−"),
                "font": {"color": INK, "size": 12},
                "showarrow": False,
            }
        )
    # All at once: plotly takes a tenth of a second for each shape that is added by itself.
    figure.update_layout(
        shapes=[*figure.layout.shapes, *shapes],
        annotations=[*figure.layout.annotations, *words],
    )


def _upright(panels: int, x0: float, x1: float, **look: Any) -> list[dict[str, Any]]:
    """A shape over the whole height of every panel."""
    names = ["", *map(str, range(2, panels + 1))]
    return [
        {"x0": x0, "x1": x1, "y0": 0, "y1": 1, "xref": f"x{n}", "yref": f"y{n} domain", **look}
        for n in names
    ]
