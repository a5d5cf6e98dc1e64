"""Figures with the layer along the horizontal axis: what a direction sees, and what it does."""

import html
from collections.abc import Iterator

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import (
    BLUE,
    COLORS,
    GREY,
    INK,
    LEGEND_ROW,
    SYMBOLS,
    align_legend,
    band,
    error_bars,
    legend_rows,
    redrawable,
    stack,
)
from workbench.support.checks import require_columns

# What the methods of `extract` are called in words.
_METHODS = {
    "mean_difference": "difference of means",
    "pca_diff": "PCA of differences",
    "pca_center": "centred PCA",
    "pca_global": "PCA of all texts",
    "logistic": "logistic probe",
    "lda": "discriminant (LDA)",
}
SPREAD = 0.5  # of the room between two layers, over which the lines of one layer are set apart


@redrawable
def separation(
    frame: pd.DataFrame, *, layer: int | None = None, by: str | None = None, title: str = ""
) -> go.Figure:
    """How well each layer tells held-out pairs apart: share of pairs above, d′ below.

    Args:
        frame: one row per layer (and per `by`), with `layer`, `pair_accuracy` in [0, 1] and
            `d_prime` in standard deviations; of either, the ends of its interval in columns of
            that name with "_low" and "_high", drawn as error bars where they are there.
        layer: the chosen layer, marked by a vertical line.
        by: a column, such as "method" or "trait", whose values get a line each, methods of
            `extract` named in words. The lines are set apart a little within a layer, so that
            their error bars do not hide each other.
        title: above the figure.

    Raises ValueError for what is no such frame.
    """
    require_columns(
        frame,
        ("layer", "pair_accuracy", "d_prime"),
        "the frame that a vector holds: separation(vector.separation)",
    )
    values = [] if by is None else [str(name) for name in frame[by].unique()]
    groups = [frame] if by is None else [frame[frame[by].astype(str) == name] for name in values]
    names = [_METHODS.get(name, name) for name in values]
    figure = stack(2, above=8 + LEGEND_ROW * legend_rows(names), title=title, panel=170)
    align_legend(figure, 1, names)
    for index, (group, offset) in enumerate(zip(groups, _offsets(len(groups)), strict=True)):
        group = group.sort_values("layer")
        name = html.escape(names[index]) if names else ""
        color = COLORS[index % len(COLORS)]
        for row, column, unit in ((1, "pair_accuracy", ".1%"), (2, "d_prime", ".2f")):
            figure.add_scatter(
                x=group["layer"] + offset,
                y=group[column],
                error_y=_bars(group, column, color),
                customdata=group["layer"],
                mode="lines+markers",
                name=name,
                legendgroup=name,
                line={"color": color, "width": 1.6},
                marker={"size": 6, "symbol": SYMBOLS[index % len(SYMBOLS)]},
                showlegend=by is not None and row == 1,
                hovertemplate=f"layer %{{customdata}}: %{{y:{unit}}}<extra>{name}</extra>",
                row=row,
                col=1,
            )
    figure.add_hline(y=0.5, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col=1)  # type: ignore[arg-type]
    figure.add_hline(y=0, line={"color": GREY, "width": 1, "dash": "dot"}, row=2, col=1)  # type: ignore[arg-type]
    figure.update_yaxes(title_text="Held-out pairs<br>told apart", tickformat=".0%", row=1, col=1)
    figure.update_yaxes(title_text="Separation d′<br>(standard deviations)", row=2, col=1)
    return _layer_axis(
        figure, frame["layer"], "Layer (output of the block", layer, "separation", rows=2
    )


@redrawable
def slopes_by_layer(frame: pd.DataFrame, *, layer: int | None = None, title: str = "") -> go.Figure:
    """How fast the log-odds of held-out completions move with the coefficient at each layer.

    Args:
        frame: the table of `steerability.steerability`: one row per layer, with `layer`, `slope`
            (nats per residual norm) and the ends of its interval, `low` and `high`.
        layer: the chosen layer, marked by a vertical line.
        title: above the figure.
    """
    figure = stack(1, above=14, title=title, panel=220)
    line = frame.rename(columns={"layer": "x", "slope": "mean"}).sort_values("x")
    band(figure, 1, line, "slope", BLUE, named=False)
    figure.add_scatter(
        x=line["x"],
        y=line["mean"],
        mode="markers",
        marker={"size": 7, "color": BLUE},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_hline(y=0, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_yaxes(title_text="Slope of the log-odds<br>(nats per residual norm)")
    return _layer_axis(
        figure, frame["layer"], "Steered layer (output of the block", layer, "steering", rows=1
    )


def _offsets(count: int) -> Iterator[float]:
    """Where in a layer's room each of `count` lines stands, around its middle."""
    return ((index - (count - 1) / 2) * SPREAD / max(count, 1) for index in range(count))


def _bars(group: pd.DataFrame, column: str, color: str) -> dict[str, object] | None:
    """Error bars where the frame has the ends of an interval."""
    known = {f"{column}_low", f"{column}_high"} <= set(group.columns)
    return error_bars(group, column, color) if known else None


def _layer_axis(
    figure: go.Figure, layers: pd.Series, words: str, layer: int | None, by: str, *, rows: int
) -> go.Figure:
    """Name the horizontal axis, mark the layer that was chosen by what the figure shows, and let
    few layers have a tick each."""
    if layer is not None:
        figure.add_vline(x=layer, line={"color": INK, "width": 1.2, "dash": "dash"})
        words += f"; dashed: chosen by {by}, {layer}"
    figure.update_xaxes(title_text=f"{words})", row=rows, col=1)
    if layers.nunique() <= 16:
        figure.update_xaxes(dtick=1)
    return figure
