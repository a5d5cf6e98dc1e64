"""Heat maps: of what parts of a model do, over its layers and heads."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.look import TEMPLATE, WIDTH, redrawable
from workbench.wording import number

# Height of a cell, and the room around all of them, in pixels.
_CELL, _AROUND = 26, 90
# As many cells as have their number written in them.
_WRITTEN = 120
_PARTS = {"attention": "attention", "mlp": "MLP", "layer": "layer", "direction": "direction"}


@redrawable
def component_map(
    frame: pd.DataFrame, *, value: str = "kl", unit: str = "KL (nats)", title: str = ""
) -> go.Figure:
    """What ablating each part of a model does: layers upwards, heads and whole parts across.

    Args:
        frame: rows of `ablation_effects`, with `layer`, `kind`, `head` and the column `value`,
            whose mean over prompts or pairs is drawn; rows of the whole model are left out.
        value: such as "kl", "change" (of log-odds), or "coherence" of judged texts.
        unit: of the value, in words.
        title: above the figure.
    """
    mine = frame[frame["kind"] != "whole"]
    if mine.empty:
        raise ValueError("no part to draw: every row is of the whole model, or there is none")
    counts = mine.loc[mine["kind"] == "head", "head"]
    columns = [f"{head}" for head in sorted(counts.unique())]
    columns += [name for kind, name in _PARTS.items() if (mine["kind"] == kind).any()]
    names = mine["head"].astype(str).where(mine["kind"] == "head", mine["kind"].map(_PARTS))
    wide = mine.assign(part=names).pivot_table(
        index="layer", columns="part", values=value, aggfunc="mean", dropna=False
    )
    wide = wide.reindex(columns=columns)
    figure = _heat(wide, [str(name) for name in columns], unit, title, "layer %{y}, %{x}")
    heads, whole = len(counts) > 0, len(columns) > counts.nunique()
    across = "Head, or whole part" if heads and whole else "Head" if heads else "Part"
    figure.update_xaxes(title_text=across)
    figure.update_yaxes(title_text="Layer")
    return figure


def _heat(
    wide: pd.DataFrame,
    names: Sequence[str],
    unit: str,
    title: str,
    where: str,
) -> go.Figure:
    """A table as colours: blue to red about 0 where it has both signs, else from white."""
    least, most = float(wide.min().min()), float(wide.max().max())
    size = max(abs(least), abs(most), 1e-12)
    both = least < -0.05 * size and most > 0
    ends = (-size, size) if both or most <= 0 else (min(0.0, least), size)
    scale = "RdBu_r" if ends[0] < 0 else "Blues"
    values = wide.to_numpy(dtype=float)
    few = values.size <= _WRITTEN
    figure = go.Figure(
        go.Heatmap(
            z=values,
            text=[[number(each, ".2g") if each == each else "" for each in row] for row in values],
            texttemplate="%{text}" if few else None,
            textfont={"size": 11},
            x=list(names),
            y=[html.escape(str(name)) for name in wide.index],
            zmin=ends[0],
            zmax=ends[1],
            colorscale=scale,
            xgap=1,
            ygap=1,
            colorbar={
                "title": {"text": html.escape(unit), "side": "right", "font": {"size": 13}},
                "thickness": 12,
                "outlinewidth": 0,
            },
            hovertemplate=f"{where}: %{{z:.3g}}<extra></extra>",
        )
    )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=_AROUND + _CELL * len(wide) + (30 if title else 0),
        margin={"t": 20 + (30 if title else 0), "b": 70, "r": 20},
        title={"text": html.escape(title)},
    )
    # Plotly would read some of the labels as numbers.
    figure.update_xaxes(type="category", showgrid=False, ticks="")
    figure.update_yaxes(type="category", showgrid=False, ticks="")
    return figure
