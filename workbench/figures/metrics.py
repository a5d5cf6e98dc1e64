"""Metrics that stand in for a judge: over the coefficient, and by what each can tell."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import (
    BLUE,
    GREEN,
    INK,
    LEGEND_ROW,
    ORANGE,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    band,
    redrawable,
    stack,
)
from workbench.sweeps.bands import band_over_prompts
from workbench.sweeps.frames import axis_title
from workbench.sweeps.metrics import METRICS

_READERS = {"unsteered": BLUE, "steered": ORANGE}
# Of the upper panels: the axis' title and the metric, counted so that down is worse.
_PANELS = (
    ("Log-probability<br>(nats per token)", "surprisal", -1),
    ("Entropy<br>(nats per token)", "entropy", 1),
)
_ROW, _LABELS, _NOTE = 26, 235, 16  # pixels of a row, the column of names, a line of the note
_ABOVE = 128  # of the settings' names
_SAME = 0.0201  # areas that differ by no more are copies (two hundredths, and rounding)
_DARK = 0.88  # of a cell, so that white is read better than black
# From the wrong way over chance to always right.
_SCALE = [[0, VERMILLION], [0.5, "#FFFFFF"], [1, BLUE]]


@redrawable
def metric_curves(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Metrics over the coefficient, read by the unsteered and by the steered model, above the
    coherence of the same texts.

    Args:
        frame: one row per text, as `metrics.measured` gives it for one read.
        title: above the figure.

    Lines are means over prompts, bands 95 % bootstrap intervals over prompts.
    """
    figure = stack(len(_PANELS) + 2, above=LEGEND_ROW, title=title, panel=112)
    for row, (words, metric, sign) in enumerate(_PANELS, 1):
        for reader, color in _READERS.items():
            shown = frame.assign(shown=sign * frame[f"{metric}_{reader}"])
            line = band_over_prompts(shown, "shown", axis="coefficient")
            band(figure, row, line, f"read by the {reader} model", color, named=row == 1)
        figure.update_yaxes(title_text=words, row=row, col=1)
    for row, words, column, color in (
        (len(_PANELS) + 1, "Repeated<br>3-grams (share)", "repetition", VERMILLION),
        (len(_PANELS) + 2, "Coherence<br>(0 to 1)", "coherence", GREEN),
    ):
        line = band_over_prompts(frame, column, axis="coefficient")
        band(figure, row, line, column, color, named=False)
        figure.update_yaxes(title_text=words, range=[-0.04, 1.04], row=row, col=1)
    figure.update_yaxes(title_font={"size": 12})
    figure.update_xaxes(title_text=axis_title("norm"), row=len(_PANELS) + 2, col=1)
    return figure


@redrawable
def metric_areas(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """How well each metric tells texts that hold, setting by setting.

    Args:
        frame: as `comparison.compare` gives it.
        title: above the figure.

    Numbers are areas under the curve among texts at the same coefficient, in hundredths: 50 is
    chance. Bold: above chance (by its 95 % interval), and not shown to lie behind the setting's
    best metric (the interval of the paired difference holds 0). A metric that is within two
    hundredths of another of the same model everywhere is only named, below. Intervals are in the
    hover label and in the data.
    """
    settings = list(dict.fromkeys(frame["setting"]))
    tables = {
        column: frame.pivot(index="metric", columns="setting", values=column).reindex(
            index=list(METRICS), columns=settings
        )
        for column in ("area", "low", "high", "behind_low")
    }
    copies = _copies(tables["area"])
    wide = {
        name: table.drop(index=list(copies)).to_numpy(dtype=float) for name, table in tables.items()
    }
    kept = [words for name, words in METRICS.items() if name not in copies]
    notes = [
        "Area under the curve × 100; 50: chance. Bold: above chance, and not",
        "shown to lie behind the best of its column.",
        *["Not drawn, as nowhere more than 2 apart:"] * bool(copies),
        *(f"{METRICS[name]} (as {METRICS[other]})" for name, other in copies.items()),
    ]
    below = _NOTE * len(notes) + 16
    figure = go.Figure(
        go.Heatmap(
            z=wide["area"],
            x=[html.escape(setting) for setting in settings],
            y=[html.escape(words) for words in kept],
            zmin=0,
            zmax=1,
            colorscale=_SCALE,
            text=[
                [_written(*cell) for cell in zip(*row, strict=True)]
                for row in zip(wide["area"], wide["low"], wide["behind_low"], strict=True)
            ],
            texttemplate="%{text}",
            textfont={"size": 12, "color": INK},
            customdata=np.stack([wide["low"], wide["high"]], axis=-1),
            hovertemplate=(
                "%{y}, %{x}: %{z:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>"
            ),
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    figure.add_annotation(
        text="<br>".join(map(html.escape, notes)),
        xref="paper",
        yref="paper",
        x=1,
        y=0,
        yshift=-8,
        xanchor="right",
        yanchor="top",
        align="left",
        showarrow=False,
        font={"size": 12},
    )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=len(kept) * _ROW + _ABOVE + below + (30 if title else 0),
        margin={"l": _LABELS, "t": _ABOVE + (30 if title else 0), "b": below, "r": 40},
        title={"text": html.escape(title)},
    )
    plain = {"showline": False, "ticks": "", "showgrid": False}
    figure.update_xaxes(side="top", tickangle=-40, tickfont={"size": 12}, **plain)
    figure.update_yaxes(autorange="reversed", tickfont={"size": 12}, **plain)
    return figure


def _copies(areas: pd.DataFrame) -> dict[str, str]:
    """Metrics that nowhere differ by more than two hundredths from one above, of the same model:
    the name of each, and of the other."""
    found: dict[str, str] = {}
    for index, name in enumerate(areas.index):
        for other in areas.index[:index]:
            same = name.rsplit("_", 1)[-1] == other.rsplit("_", 1)[-1] and other not in found
            if same and np.allclose(
                areas.loc[name], areas.loc[other], rtol=0, atol=_SAME, equal_nan=True
            ):
                found[name] = other
                break
    return found


def _written(area: float, low: float, behind: float) -> str:
    """What stands in a cell; white where it is dark."""
    if np.isnan(area):
        return "–"
    number = f"{100 * area:.0f}"
    number = f"<b>{number}</b>" if behind <= 0 and low > 0.5 else number
    return f'<span style="color:white">{number}</span>' if area > _DARK else number
