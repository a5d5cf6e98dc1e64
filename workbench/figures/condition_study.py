"""What conditional steering refuses, beside steering always and never."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import BLUE, GREY, TEMPLATE, VERMILLION, WIDTH, error_bars, redrawable

_PARTS = {"held out": (BLUE, "circle", -0.14), "unseen": (VERMILLION, "diamond-open", 0.14)}
_WORDS = {"held out": "known tasks", "unseen": "unseen tasks"}
# Ways of steering without a gate.
_UNGATED = {"unsteered", "always on"}
_ROW, _ABOVE, _BELOW = 40, 62, 52  # pixels


@redrawable
def refusals(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """The share refused of harmful and of harmless requests, a row a way of steering.

    Args:
        frame: one row per `steering`, `part` ("held out" or "unseen") and class (`harmful`), with
            the shares `refused`, `low` and `high`, and `aim` (NaN: none).
        title: above the figure.

    Known tasks made the condition, in other words. With 95 % intervals. Dotted: the aim.
    """
    names = list(dict.fromkeys(frame["steering"]))
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.08,
        subplot_titles=["Harmful requests", "Harmless requests"],
    )
    for column, harmful in ((1, True), (2, False)):
        mine = frame[frame["harmful"].astype(bool) == harmful]
        for part, (color, symbol, beside) in _PARTS.items():
            own = mine[mine["part"] == part]
            percent = own.assign(**{name: 100 * own[name] for name in ("refused", "low", "high")})
            places = [names.index(name) + beside for name in own["steering"]]
            figure.add_scatter(
                x=percent["refused"],
                y=places,
                error_x=error_bars(percent, "refused", color, low="low", high="high"),
                mode="markers",
                marker={"color": color, "symbol": symbol, "size": 9},
                name=_WORDS[part],
                legendgroup=part,
                showlegend=column == 1,
                customdata=[html.escape(name) for name in own["steering"]],
                hovertemplate=f"%{{customdata}}: %{{x:.1f}} %<extra>{part}</extra>",
                row=1,
                col=column,
            )
        aim = mine["aim"].dropna()
        if len(aim):
            figure.add_vline(
                x=100 * float(aim.iloc[0]),
                line={"color": GREY, "width": 1.2, "dash": "dot"},  # type: ignore[arg-type]
                row=1,  # type: ignore[arg-type]
                col=column,  # type: ignore[arg-type]
            )
    if frame["aim"].notna().any():
        line = {"color": GREY, "width": 1.2, "dash": "dot"}
        figure.add_scatter(x=[None], y=[None], mode="lines", name="aim", line=line)
    plot = _ROW * len(names)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 20,
        height=_ABOVE + plot + _BELOW + (30 if title else 0),
        margin={"t": _ABOVE + (30 if title else 0), "b": _BELOW},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": 1 + 30 / plot, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(title_text="Refused (percent)", range=[-3, 103], dtick=25)
    figure.update_yaxes(
        tickvals=[*range(len(names))],
        ticktext=[html.escape(name if name in _UNGATED else f"gate: {name}") for name in names],
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    return figure
