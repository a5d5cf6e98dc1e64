"""Layer profiles beside each other: the strength of each layer, and what each profile gains."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from workbench.anatomy.layer_profile import EQUAL, PROFILE, SINGLE
from workbench.figures.look import BLUE, GREY, TEMPLATE, VERMILLION, WIDTH, redrawable
from workbench.support.wording import number

_LOOKS = {PROFILE: VERMILLION, SINGLE: BLUE, EQUAL: GREY}


@redrawable
def layer_profiles(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """How strongly each profile steers each layer, all at one divergence; the legend has its gain.

    Args:
        frame: rows of `layer_profile.strengths_by_layer`.
        title: above the figure.
    """
    figure = go.Figure()
    for name, own in frame.groupby("profile", sort=False):
        first = own.iloc[0]
        gain, low, high = (
            number(float(first[key]), "+.2f") for key in ("gain", "gain_low", "gain_high")
        )
        colour = _LOOKS.get(str(name), GREY)
        figure.add_bar(
            x=own["layer"],
            y=own["strength"],
            name=f"{html.escape(str(name))}: {gain} [{low}, {high}] nats",
            marker={"color": colour},
            hovertemplate="layer %{x}: %{y:.3f} residual norms<extra></extra>",
        )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=360 + (30 if title else 0),
        margin={"t": 90 + (30 if title else 0), "b": 60},
        title={"text": html.escape(title)},
        legend={
            "orientation": "v",
            "y": 1.02,
            "x": 0,
            "yanchor": "bottom",
            "title": {"text": "Gain in log-odds at one divergence", "font": {"size": 13}},
        },
        bargap=0.3,
    )
    figure.update_xaxes(title_text="Layer", dtick=1, showgrid=False)
    figure.update_yaxes(title_text="Strength (residual norms)")
    return figure
