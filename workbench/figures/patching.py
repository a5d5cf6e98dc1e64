"""A map of what patching each layer and token of a prompt does."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import redrawable, visible
from workbench.figures.maps import heat
from workbench.interventions.updates import EMBEDDINGS

# As many tokens as leave room for a number in each cell.
_WRITTEN = 10
_ROUNDING = 0.005  # shares below 0 by less than it are drawn as 0


@redrawable
def patching_map(
    frame: pd.DataFrame,
    *,
    site: str | None = None,
    value: str = "recovered",
    unit: str = "share recovered",
    title: str = "",
) -> go.Figure:
    """What patching each place does: layers upwards, the target's tokens across.

    Args:
        frame: rows of `patching_effects`, with `site`, `layer`, `head`, `position`, `token` and the
            column `value`. At "heads" each head has a row of its own, "layer.head".
        site: which of the frame's, if it has several.
        value: "recovered", "logit_difference" or "logprob".
        unit: of the value, in words.
        title: above the figure.
    """
    known = list(frame["site"].unique())
    if site is None and len(known) != 1:
        raise ValueError(
            f"the frame has the sites {known}: say which, such as site={str(known[0])!r}"
        )
    mine = frame if site is None else frame[frame["site"] == site]
    if mine.empty:
        raise ValueError(f"the frame has no site {site!r}; it has {known}")
    wide = mine.pivot(index=["layer", "head"], columns="position", values=value).sort_index()
    heads = bool((mine["head"] >= 0).any())
    wide.index = [
        f"{layer}.{head}" if heads else "embeddings" if layer == EMBEDDINGS else str(layer)
        for layer, head in wide.index
    ]
    words = mine.groupby("position")["token"].first()
    names = [str(position) for position in wide.columns]
    figure = heat(wide, names, unit, title, "layer %{y}, position %{x}")
    if value == "recovered":
        # One scale for all maps, and no numbers where they would be nothing but rounding.
        size = max(1.0, float(wide.abs().max().max()))
        signed = bool((wide < -_ROUNDING).any(axis=None))
        figure.update_traces(
            zmin=-size if signed else 0.0, zmax=size, colorscale="RdBu_r" if signed else "Blues"
        )
    figure.update_traces(texttemplate="%{z:.2f}" if wide.shape[1] <= _WRITTEN else None)
    labels = [html.escape(visible(words[position])) for position in wide.columns]
    figure.update_xaxes(
        title_text="Token of the target", tickvals=names, ticktext=labels, tickangle=-60
    )
    figure.update_yaxes(title_text="Layer.head" if heads else "Layer", tickvals=list(wide.index))
    return figure
