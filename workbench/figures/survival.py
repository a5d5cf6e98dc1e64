"""How the trait and the life of a text change with the coefficient, in one figure."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import (
    INK,
    LEGEND_ROW,
    PURPLE,
    VERMILLION,
    band,
    legend,
    redrawable,
    stack,
    widths,
)
from workbench.sweeps.bands import SCALES, drawn_band
from workbench.sweeps.frames import axis_title, coefficient_axis
from workbench.sweeps.slopes import slope_summary
from workbench.sweeps.survival import (
    SHARES,
    break_tokens,
    ceilings_by_length,
    exact_break_tokens,
    survival,
)

# Where every text is intact the map is as good as white; where none is, dark.
_SHADES = [[0, "#3B4A54"], [0.5, "#A9B8C2"], [1, "#F7F9FA"]]
# Of the lines, by share: as plotly calls them, and in words.
_DASHES = {0.5: ("solid", "solid"), 0.95: ("dash", "dashed")}
_STEP = 4  # tokens between the points of a line


@redrawable
def survival_map(frame: pd.DataFrame, *, trait: str = "trait", title: str = "") -> go.Figure:
    """The trait over the coefficient, prompt by prompt, over a map of texts that are still intact.

    Args:
        frame: a sweep, as `sweep.sweep` returns it. Without a judge of the trait the upper panel is
            left out; with an exact judge's `breaks_at` its lines stand beside the package's own.
        trait: what the trait's axis is called.
        title: above the figure.

    Below: colour is the share of texts without a break by each token, as seen without a judge;
    lines are where half of the texts, and where 95 % of them, have not broken.
    """
    steered = frame[frame["vector"] == "vector"]
    axis, unit = coefficient_axis(steered)
    judged = "trait" in frame.columns and bool(steered["trait"].notna().any())
    rows = 2 if judged else 1
    figure = stack(rows, above=LEGEND_ROW, title=title, panel=190)
    if judged:
        _traits(figure, steered, axis, trait)
    _map(figure, survival(frame), rows)
    ends = {"intact": (break_tokens(frame), VERMILLION)}
    if "breaks_at" in frame.columns:
        ends["holds"] = (exact_break_tokens(frame), INK)
    for (name, (breaks, color)), width in zip(
        ends.items(), widths(len(ends), thickest=3.2), strict=True
    ):
        _lines(figure, frame, breaks, name, {"color": color, "width": width}, rows)
    longest = int(frame["tokens"].max())
    words = ", ".join(f"{_DASHES[share][1]}: {share:.0%}" for share in SHARES) + " of texts"
    figure.layout[legend(rows)].update(title={"text": f"{words}   ", "font": {"size": 12}})
    figure.update_yaxes(title_text="Token of the text", range=[0.5, longest + 0.5], row=rows, col=1)
    figure.update_xaxes(title_text=axis_title(unit), row=rows, col=1)
    reach = float(steered[axis].abs().max())
    figure.update_xaxes(range=[-reach, reach])
    return figure


def _traits(figure: go.Figure, steered: pd.DataFrame, axis: str, trait: str) -> None:
    """A thin line a prompt, the mean with its interval (of five prompts or more), the share that
    moves the other way."""
    for _, own in steered.sort_values(axis).groupby("prompt_index"):
        figure.add_scatter(
            x=own[axis],
            y=own["trait"],
            mode="lines",
            line={"color": PURPLE, "width": 0.7},
            opacity=0.25,
            hoverinfo="skip",
            showlegend=False,
            row=1,
            col=1,
        )
    band(figure, 1, drawn_band(steered, "trait", axis=axis), "mean", PURPLE)
    summary = slope_summary(steered)
    if len(summary):
        share, low, high = (
            summary.iloc[0][f"anti_steerable{end}"] for end in ("", "_low", "_high")
        )
        share, low, high = (100 * each for each in (share, low, high))
        words = f"prompts that move the wrong way: {share:.0f} % [{low:.0f}, {high:.0f}]   "
        words = words if pd.notna(share) else ""
        figure.layout[legend(1)].update(title={"text": words, "font": {"size": 12}})
    low, high = SCALES["trait"]
    label = f"{html.escape(trait[:1].upper() + trait[1:])}<br>(−1 to 1)"
    figure.update_yaxes(title_text=label, range=[low - 0.08, high + 0.08], row=1, col=1)


def _map(figure: go.Figure, table: pd.DataFrame, row: int) -> None:
    wide = table.pivot(index="token", columns="coefficient", values="share")
    figure.add_heatmap(
        x=wide.columns,
        y=wide.index,
        z=wide.to_numpy(),
        zmin=0,
        zmax=1,
        colorscale=_SHADES,
        colorbar={
            "title": {"text": "intact", "font": {"size": 12}},
            "tickformat": ".0%",
            "tickvals": [0, 0.5, 1],
            "len": 0.4,
            "y": 0.2,
            "thickness": 12,
        },
        hovertemplate="%{z:.0%} intact at token %{y}, coefficient %{x:.3g}<extra></extra>",
        row=row,
        col=1,
    )


def _lines(
    figure: go.Figure,
    frame: pd.DataFrame,
    breaks: pd.Series,
    name: str,
    look: dict[str, Any],
    row: int,
) -> None:
    """Up to where the shares of texts hold, over the length of the text, one line a sign."""
    longest = int(frame["tokens"].max())
    lengths = sorted({*range(_STEP, longest + 1, _STEP), longest})
    table = ceilings_by_length(frame, lengths, breaks)
    table = table[np.isfinite(table["value"])]
    for share in SHARES:
        for sign in (1, -1):
            line = table[(table["share"] == share) & (table["sign"] == sign)]
            figure.add_scatter(
                x=line["value"],
                y=line["tokens"],
                mode="lines",
                name=name,
                legendgroup=name,
                legend=legend(row),
                showlegend=sign == 1 and share == SHARES[0],
                line={**look, "dash": _DASHES[share][0]},
                hovertemplate=f"{share:.0%} {name} up to %{{x:.2f}} at token %{{y}}<extra></extra>",
                row=row,
                col=1,
            )
