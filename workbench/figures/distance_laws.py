"""What one monotone law of distance is worth for vectors that it was not fitted to."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
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
_AXES = {"norm": "Norm of the push<br>(residual norms)", "kl": "KL of the next token<br>(nats)"}
_FOOT = -0.2  # what of R² lies below is drawn here


@redrawable
def distance_collapse(
    frame: pd.DataFrame,
    *,
    outcome: str = "coherence",
    predictors: Sequence[str] = ("norm", "kl", "principal steered"),
    title: str = "",
) -> go.Figure:
    """Damage of many sweeps over what each was pushed by, and the one monotone law of all of them.

    Args:
        frame: rows of `distance_laws.points` of one model and depth.
        outcome: a column of damage.
        predictors: what each was pushed by, a panel each: columns of the frame.
        title: above the figure.

    A line is one side of a sweep; blue, of a trait; grey, of a random or shuffled-label direction;
    the thick line the law of all, with its R² in place. Where lines fall together, what they are
    drawn over tells how far a vector may be pushed, whichever it is.
    """
    control = frame["method"].isin(["random", "shuffled"])
    groups = (
        ("trait's direction", BLUE, frame[~control]),
        ("random or shuffled direction", GREY, frame[control]),
    )
    known = frame[frame[outcome].notna()]
    laws = {
        name: IsotonicRegression(out_of_bounds="clip").fit(known[name], known[outcome])
        for name in predictors
    }
    scores = [law.score(known[name], known[outcome]) for name, law in laws.items()]
    figure = make_subplots(
        rows=1,
        cols=len(predictors),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[f"R² {score:.2f}" for score in scores],
    )
    for column, (predictor, law) in enumerate(laws.items(), start=1):
        where = {"row": 1, "col": column}
        for name, color, mine in groups:
            lines = [
                pd.concat([each[[predictor, outcome]], pd.DataFrame([{}])])
                for _, each in mine.groupby(["trait", "method", "sign"], sort=False)
            ]
            every = pd.concat(lines) if lines else mine
            figure.add_scatter(
                x=_pushed(every[predictor]),
                y=every[outcome],
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                line={"color": color, "width": 1},
                opacity=0.45,
                hoverinfo="skip",
                **where,
            )
        steps = known[predictor].sort_values()
        figure.add_scatter(
            x=_pushed(steps),
            y=law.predict(steps),
            mode="lines",
            name="one law for all",
            legendgroup="law",
            showlegend=column == 1,
            # A law is a staircase; of few norms, which all sweeps share, it is the line of means.
            line={
                "color": VERMILLION,
                "width": 3,
                "shape": "linear" if predictor == "norm" else "hv",
            },
            hovertemplate="%{y:.2f} at %{x:.2f}<extra></extra>",
            **where,
        )
        figure.update_xaxes(title_text=_axis(predictor), nticks=5, **where)
        if predictor == "kl":
            figure.update_xaxes(type="log", range=[-3, 1.5], dtick=1, **where)
    words = f"{html.escape(OUTCOMES[outcome].capitalize())} lost"
    figure.update_yaxes(title_text=words, row=1, col=1)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 75 * len(predictors),
        height=376 + (30 if title else 0),
        margin={"t": 70 + (30 if title else 0), "b": 82},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": 1.1, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(title_font={"size": 13})
    return figure


def _pushed(values: pd.Series) -> pd.Series:
    """What is drawn of a predictor: distances, which are logs, as how many times the first."""
    return np.exp(values) if " " in str(values.name) else values


def _axis(predictor: str) -> str:
    if predictor in _AXES:
        return _AXES[predictor]
    words = in_words(predictor).replace(", ", ",<br>")
    return f"{words[:1].upper()}{words[1:]} (unsteered = 1)"


@redrawable
def distance_laws(
    frame: pd.DataFrame, *, depths: Sequence[str] | None = None, title: str = ""
) -> go.Figure:
    """R² of monotone laws on the traits that they were not fitted to: a panel an outcome.

    Args:
        frame: rows of `distance_laws.held_out`, per layer and method.
        depths: of the layers that are drawn: "first", "middle", "last"; by default the middle one,
            or all where there is none.
        title: above the figure.

    Points are R² with 95 % intervals over traits and models; at 0 a law is worth no more than the
    mean of the other traits. What lies below an axis is drawn at its foot.

    Raises ValueError for depths of which the frame has nothing.
    """
    outcomes = [name for name in OUTCOMES if (frame["outcome"] == name).any()]
    methods = list(dict.fromkeys(frame["method"]))
    if depths is None:
        depths = ("middle",) if (frame["depth"] == "middle").any() else DEPTHS
    cells = [
        (depth, method)
        for depth in DEPTHS
        if depth in depths
        for method in methods
        if ((frame["depth"] == depth) & (frame["method"] == method)).any()
    ]
    if not cells:
        raise ValueError(f"no laws of the depths {list(depths)}: {sorted(set(frame['depth']))}")
    several = len({depth for depth, _ in cells}) > 1
    words = [f"{depth}, " * several + METHODS.get(method, method) for depth, method in cells]
    figure = make_subplots(
        rows=1,
        cols=len(outcomes),
        shared_yaxes=True,
        subplot_titles=[OUTCOMES[name].capitalize() for name in outcomes],
        horizontal_spacing=0.03,
    )
    for column, outcome in enumerate(outcomes, start=1):
        where = {"row": 1, "col": column}
        own = frame[frame["outcome"] == outcome].set_index(["depth", "method"])
        for index, (predictor, color) in enumerate(_SHOWN.items()):
            mine = own[own["predictor"] == predictor].reindex(cells).reset_index()
            heights = pd.Series(range(len(cells))) + 0.15 * (index - (len(_SHOWN) - 1) / 2)
            ends = ["r2", "r2_low", "r2_high"]
            mine[ends] = mine[ends].clip(lower=_FOOT)
            figure.add_scatter(
                x=mine["r2"],
                y=heights,
                mode="markers",
                name=html.escape(in_words(predictor).removesuffix(", steered layer")),
                legendgroup=predictor,
                showlegend=column == 1,
                marker={"color": color, "size": 7},
                error_x=error_bars(mine, "r2", color),
                hovertemplate="%{x:.2f}<extra></extra>",
                **where,
            )
        for height, cell in enumerate(cells):
            if not (own.index == cell).any():
                note = {"text": "not measured", "font": {"size": 12, "color": GREY}}
                figure.add_annotation(x=0.5, y=height, showarrow=False, **note, **where)
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"}, **where)  # type: ignore[arg-type]
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 240,
        height=170 + 62 * len(cells) + (30 if title else 0),
        margin={"t": 110 + (30 if title else 0)},
        title={"text": html.escape(title)},
        legend={
            "orientation": "h",
            "x": -0.2,
            "y": 1 + 36 / (62 * len(cells)),
            "yanchor": "bottom",
        },
    )
    figure.update_annotations(font_size=13)
    figure.update_xaxes(range=[-0.25, 1.05], dtick=0.5)
    middle = (len(outcomes) + 1) // 2
    figure.update_xaxes(title_text="R² on traits left out", row=1, col=middle)
    figure.update_yaxes(
        tickvals=list(range(len(cells))), ticktext=words, autorange="reversed", row=1, col=1
    )
    return figure
