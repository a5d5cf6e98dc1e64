"""What one monotone law of distance is worth for vectors that it was not fitted to."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn.isotonic import IsotonicRegression

from workbench.figures.look import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    error_bars,
    redrawable,
)
from workbench.studies.distance_laws import DEPTHS, OUTCOMES
from workbench.studies.manifold_findings import in_words
from workbench.support.wording import METHODS

_SHOWN = {
    "norm": INK,
    "kl": ORANGE,
    "principal steered": BLUE,
    "neighbours steered": VERMILLION,
    "raw steered": PURPLE,
}
_AXES = {
    "norm": "Norm of the push<br>(residual norms)",
    "kl": "KL of the next token<br>(nats)",
    "principal steered": "Rise in distance, principal<br>(log)",
    "neighbours steered": "Rise in distance, neighbours<br>(log)",
    "raw steered": "Rise in distance, own length<br>(log)",
    "raw last": "Rise in distance, own length,<br>last layer (log)",
}


@redrawable
def distance_collapse(
    frame: pd.DataFrame, *, outcome: str = "coherence", title: str = ""
) -> go.Figure:
    """Damage of many sweeps over what each was pushed by, and the one monotone law of all of them.

    Args:
        frame: rows of `distance_laws.points` of one model and depth.
        outcome: a column of damage.
        title: above the figure.

    A line is one side of a sweep; blue, of a trait; grey, of a random or shuffled-label direction;
    the thick line the law of all. Where lines fall together, what they are drawn over tells how
    far a vector may be pushed, whichever it is.
    """
    figure = make_subplots(
        rows=2, cols=3, shared_yaxes="all", vertical_spacing=0.24, horizontal_spacing=0.03
    )
    control = frame["method"].isin(["random", "shuffled"])
    groups = (
        ("trait's direction", BLUE, frame[~control]),
        ("random or shuffled direction", GREY, frame[control]),
    )
    for index, predictor in enumerate(_AXES):
        row, column = divmod(index, 3)
        where = {"row": row + 1, "col": column + 1}
        for name, color, mine in groups:
            lines = [
                pd.concat([each[[predictor, outcome]], pd.DataFrame([{}])])
                for _, each in mine.groupby(["trait", "method", "sign"], sort=False)
            ]
            every = pd.concat(lines) if lines else mine
            figure.add_scatter(
                x=every[predictor],
                y=every[outcome],
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=index == 0,
                line={"color": color, "width": 1},
                opacity=0.45,
                hoverinfo="skip",
                **where,
            )
        known = frame[frame[outcome].notna()].sort_values(predictor)
        law = IsotonicRegression(out_of_bounds="clip").fit(known[predictor], known[outcome])
        figure.add_scatter(
            x=known[predictor],
            y=law.predict(known[predictor]),
            mode="lines",
            name="one law for all",
            legendgroup="law",
            showlegend=index == 0,
            line={"color": VERMILLION, "width": 3},
            hovertemplate="%{y:.2f} at %{x:.2f}<extra></extra>",
            **where,
        )
        figure.update_xaxes(title_text=_AXES[predictor], nticks=5, **where)
        if predictor == "kl":
            figure.update_xaxes(type="log", range=[-3, 1.5], dtick=1, **where)
    for row in (1, 2):
        words = f"{html.escape(OUTCOMES[outcome].capitalize())} lost"
        figure.update_yaxes(title_text=words, row=row, col=1)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 220,
        height=620 + (30 if title else 0),
        margin={"t": 52 + (30 if title else 0), "b": 76},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    return figure


@redrawable
def distance_laws(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """R² of monotone laws on the traits that they were not fitted to: a panel an outcome.

    Args:
        frame: rows of `distance_laws.held_out`, per layer and method.
        title: above the figure.

    Points are R² with 95 % intervals over traits and models; at 0 a law is worth no more than the
    mean of the other traits. What lies below an axis is drawn at its foot.
    """
    outcomes = [name for name in OUTCOMES if (frame["outcome"] == name).any()]
    methods = list(dict.fromkeys(frame["method"]))
    cells = [
        (depth, method)
        for depth in DEPTHS
        for method in methods
        if ((frame["depth"] == depth) & (frame["method"] == method)).any()
    ]
    words = [f"{depth}, {METHODS.get(method, method)}" for depth, method in cells]
    figure = make_subplots(
        rows=1,
        cols=len(outcomes),
        shared_yaxes=True,
        subplot_titles=[OUTCOMES[name].capitalize() for name in outcomes],
        horizontal_spacing=0.03,
    )
    for column, outcome in enumerate(outcomes, start=1):
        for index, (predictor, color) in enumerate(_SHOWN.items()):
            mine = (
                frame[(frame["outcome"] == outcome) & (frame["predictor"] == predictor)]
                .set_index(["depth", "method"])
                .reindex(cells)
                .reset_index()
            )
            heights = pd.Series(range(len(cells))) + 0.15 * (index - (len(_SHOWN) - 1) / 2)
            bars = error_bars(mine, "r2", color, low="r2_low", high="r2_high")
            figure.add_scatter(
                x=mine["r2"].clip(lower=-0.2),
                y=heights,
                mode="markers",
                name=html.escape(in_words(predictor).removesuffix(", steered layer")),
                legendgroup=predictor,
                showlegend=column == 1,
                marker={"color": color, "size": 7},
                error_x=bars,
                hovertemplate="%{x:.2f}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col=column)  # type: ignore[arg-type]
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 240,
        height=170 + 62 * len(cells) + (30 if title else 0),
        margin={"t": 110 + (30 if title else 0)},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": -0.2, "y": 1.08, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(range=[-0.25, 1.05], dtick=0.5)
    middle = (len(outcomes) + 1) // 2
    figure.update_xaxes(title_text="R² on traits left out", row=1, col=middle)
    figure.update_yaxes(
        tickvals=list(range(len(cells))), ticktext=words, autorange="reversed", row=1, col=1
    )
    return figure
