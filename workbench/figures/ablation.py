"""A map of what ablating each part of a model does, over its layers and heads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import redrawable
from workbench.figures.maps import WRITTEN, heat
from workbench.statistics.intervals import ratio, resamples

_RESAMPLES = 2000
_HUNDREDTHS = 0.1  # differences that reach it are written in hundredths
_PARTS = {"attention": "attention", "mlp": "MLP", "layer": "layer", "direction": "direction"}
# What the columns of `ablation_effects` are called, and their units. Δ is ablated less whole.
_UNITS = {
    "kl": "KL (nats)",
    "logit": "Δ logit",
    "logprob": "Δ log P (nats)",
    "preference": "log-odds (nats)",
    "whole": "log-odds (nats)",
    "change": "Δ log-odds (nats)",
    "loss": "Δ loss (nats per token)",
}


@redrawable
def component_map(
    frame: pd.DataFrame, *, value: str = "kl", unit: str = "", title: str = ""
) -> go.Figure:
    """What ablating each part of a model does: layers upwards, heads and whole parts across.

    A cell is the mean over prompts or pairs (over draws first, if there are several). Where the
    95 % interval of that mean includes 0, the cell is grey and its number in parentheses; it is a
    bootstrap's over the prompts, too narrow below some ten of them. Values that are missing are
    counted below the map, and the label of a cell has its interval and how many prompts are in it.

    Args:
        frame: rows of `ablation_effects`, with `layer`, `kind`, `head` and the column `value`. If
            there are rows of the whole model, as in judged texts, the difference to the one of the
            same prompt is drawn.
        value: such as "kl", "change" (of log-odds), or "coherence" of judged texts.
        unit: of the value, in words; by default what its column holds.
        title: above the figure.

    Raises ValueError for no part, for a column that is not there, and for two components that
    would share a cell, such as two directions without names.
    """
    if value not in frame:
        raise ValueError(f"there is no column {value!r}; the frame has {list(frame.columns)}")
    whole, mine = frame[frame["kind"] == "whole"], frame[frame["kind"] != "whole"]
    if mine.empty:
        raise ValueError("no part to draw: every row is of the whole model, or there is none")
    mine = mine.assign(part=_labels(mine), value=mine[value].astype(float))
    _check_apart(mine)
    missing = int(mine["value"].isna().sum())
    if missing == len(mine):
        raise ValueError(f"no value to draw: all {missing} of {value!r} are missing")
    level = len(whole) > 0
    if level:
        before = whole.groupby("prompt_index")[value].mean()
        mine["value"] -= mine["prompt_index"].map(before)
    unit = unit or _UNITS.get(value, f"Δ {value}" if level else value)
    counts = mine.loc[mine["kind"] == "head", "head"]
    columns = [f"head {head}" for head in sorted(counts.unique())]
    others = mine[mine["kind"] != "head"]
    order = others["kind"].map(list(_PARTS).index)
    columns += list(dict.fromkeys(others.loc[order.sort_values(kind="stable").index, "part"]))
    tables = {
        name: cells.unstack().reindex(columns=columns) for name, cells in _means(mine).items()
    }
    wide = tables["mean"]
    unsure = (tables["low"] <= 0) & (tables["high"] >= 0)
    notes = ["Δ: ablated less whole"] * unit.startswith("Δ")
    if unsure.any(axis=None):
        written = wide.size <= WRITTEN
        notes.append(f"grey{', (…)' if written else ''}: the 95 % interval includes 0")
    signed = unit.startswith("Δ") and wide.abs().max(axis=None) >= _HUNDREDTHS
    missing = int(mine["value"].isna().sum())
    if missing:
        notes.append(f"{missing} of {len(mine)} missing")
    figure = heat(
        wide,
        [str(name) for name in columns],
        unit,
        title,
        "layer %{y}, %{x}",
        spec="+z.2f" if signed else ".2g",
        unsure=unsure,
        said=_said(tables),
        note="; ".join(notes),
    )
    figure.update_xaxes(title_text="Part")
    figure.update_yaxes(title_text="Layer")
    return figure


def _labels(mine: pd.DataFrame) -> pd.Series:
    """What the column of each row is called."""
    kinds = mine["kind"].map(_PARTS)
    if "name" in mine:
        kinds = kinds.where(mine["name"] == mine["kind"], mine["name"])
    return ("head " + mine["head"].astype(str)).where(mine["kind"] == "head", kinds)


def _check_apart(mine: pd.DataFrame) -> None:
    if "component" not in mine:
        return
    for (layer, part), found in mine.groupby(["layer", "part"])["component"].unique().items():
        if len(found) > 1:
            raise ValueError(
                f"components {found[0]} and {found[1]} are both {part!r} at layer {layer}, and "
                "would share a cell: give each a name, Component(..., name=…), or draw one of them"
            )


def _means(mine: pd.DataFrame) -> dict[str, pd.Series]:
    """Of each cell (layer, part) the mean over prompts, its interval, and of how many: with a
    value, and in all. The prompts of a resample are the same in all cells."""
    unit = next((each for each in ("prompt_index", "pair") if each in mine), None)
    if unit is None:
        mine, unit = mine.assign(one=mine.groupby(["layer", "part"]).cumcount()), "one"
    cells = ["layer", "part"]
    wide = mine.groupby([unit, *cells])["value"].mean().unstack(cells)
    values = wide.to_numpy(dtype=float)  # (N, C)
    known = np.isfinite(values)
    weights = resamples(len(values), _RESAMPLES, np.random.default_rng(0))
    drawn = ratio(np.stack([weights @ np.where(known, values, 0), weights @ known], axis=1))
    # Of one prompt nothing is known of others.
    several = known.sum(axis=0) > 1
    ends = np.full((2, values.shape[1]), np.nan)
    ends[:, several] = np.nanquantile(drawn[:, several], [0.025, 0.975], axis=0)
    low, high = ends
    size = mine.groupby(cells)[unit].nunique().reindex(wide.columns)
    found = {"mean": wide.mean(), "low": low, "high": high, "count": known.sum(axis=0)}
    table = pd.DataFrame({**found, "size": size}, index=wide.columns)
    return {str(name): table[name] for name in table}


def _said(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The interval and the count of each cell, in words."""

    def words(low: float, high: float, count: float, size: float) -> str:
        if size != size:
            return ""
        ends = f" [{low:.3g}, {high:.3g}]" if low == low else ""
        of = f" of {size:.0f}" if count != size else ""
        return f"{ends}, n = {count:.0f}{of}"

    names = ("low", "high", "count", "size")
    cells = zip(*(tables[name].to_numpy(dtype=float).ravel() for name in names), strict=True)
    wide = tables["mean"]
    made = np.array([words(*each) for each in cells], dtype=object).reshape(wide.shape)
    return pd.DataFrame(made, index=wide.index, columns=wide.columns)
