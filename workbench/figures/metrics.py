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
    ("Log-probability<br>(nats per text)", "sequence", -1),
    ("Entropy<br>(nats per token)", "entropy", 1),
)
_ROW, _LABELS = 26, 235  # pixels of a row and of the column of names
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
            band(figure, row, line, f"{reader} model", color, named=row == 1)
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
    chance. Bold: not shown to lie behind the setting's best metric (the 95 % interval of the paired
    difference holds 0). Intervals are in the hover label and in the data.
    """
    settings = list(dict.fromkeys(frame["setting"]))
    wide = {
        column: frame.pivot(index="metric", columns="setting", values=column)
        .reindex(index=list(METRICS), columns=settings)
        .to_numpy(dtype=float)
        for column in ("area", "low", "high", "behind_low")
    }
    written = [
        [
            "–" if np.isnan(value) else f"<b>{value:.0%}</b>" if low <= 0 else f"{value:.0%}"
            for value, low in zip(values, behind, strict=True)
        ]
        for values, behind in zip(wide["area"], wide["behind_low"], strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=wide["area"],
            x=[html.escape(setting) for setting in settings],
            y=[html.escape(name) for name in METRICS.values()],
            zmin=0,
            zmax=1,
            colorscale=_SCALE,
            text=[[cell.replace("%", "") for cell in row] for row in written],
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
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=len(METRICS) * _ROW + 190 + (30 if title else 0),
        margin={"l": _LABELS, "t": 160 + (30 if title else 0), "b": 24, "r": 40},
        title={"text": html.escape(title)},
    )
    plain = {"showline": False, "ticks": "", "showgrid": False}
    figure.update_xaxes(side="top", tickangle=-40, tickfont={"size": 12}, **plain)
    figure.update_yaxes(autorange="reversed", tickfont={"size": 12}, **plain)
    return figure
