"""How likely tokens are next, before and after steering, as bars."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BELOW,
    BLUE,
    GREY,
    TEMPLATE,
    WIDTH,
    printable,
    redrawable,
    visible,
)
from workbench.support.wording import number

# Height of a token's two bars, and of what stands over a panel of them, in pixels.
_PAIR, _HEADED = 30, 34
_LETTERS = 50  # of a prompt that the title shows


@redrawable
def next_token_bars(
    frame: pd.DataFrame,
    *,
    prompt: int | None = None,
    coefficients: Sequence[float] | None = None,
    title: str = "",
) -> go.Figure:
    """How likely tokens are next, before and after steering: a panel for each coefficient.

    Over each panel stands KL(steered || unsteered) over the whole vocabulary, not of these tokens
    alone, and how much probability changes hands (total variation).

    Args:
        frame: rows of `next_token.next_tokens`, tokens in the order in which they are drawn.
        prompt: the `prompt_index` that is drawn; needed where there are several. Prompts are
            averaged only by `next_tokens(..., pool="mean")`, and the figure says so.
        coefficients: those that are drawn (default: all).
        title: above the figure (default: the end of the prompt, or how many prompts are averaged).
    """
    if frame.empty:
        raise ValueError("no token to draw: the frame has no rows")
    there = frame["prompt_index"].unique().tolist()
    if prompt is None and len(there) > 1:
        raise ValueError(
            f"the frame has {len(there)} prompts; draw one (prompt={there[0]!r}), or their mean: "
            "next_tokens(..., pool='mean')"
        )
    mine = frame[frame["prompt_index"] == (there[0] if prompt is None else prompt)]
    if mine.empty:
        raise ValueError(f"no rows of prompt {prompt!r}; the frame has {there}")
    # Interventions with coefficients of their own have none to be told apart by.
    values = mine["coefficient"].fillna(math.inf)
    wanted = values.unique().tolist() if coefficients is None else list(coefficients)
    missing = [value for value in wanted if not (values == value).any()]
    if missing or not wanted:
        raise ValueError(
            f"coefficients {coefficients!r}: the frame has {mine['coefficient'].unique().tolist()}"
        )
    panels = [mine[values == value] for value in wanted]
    rows = sum(map(len, panels))
    plot = _PAIR * rows + _HEADED * (len(panels) - 1)
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        row_heights=[len(panel) / rows for panel in panels],
        vertical_spacing=_HEADED / plot if len(panels) > 1 else 0,
        subplot_titles=[_measured(panel) for panel in panels],
    )
    for row, panel in enumerate(panels, 1):
        names = [html.escape(visible(token)) for token in panel["token"]]
        for column, name, color in (("before", "unsteered", GREY), ("after", "steered", BLUE)):
            figure.add_bar(
                x=panel[column],
                y=list(range(len(panel))),
                orientation="h",
                marker={"color": color},
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                hovertext=[
                    f"{token}, {name}: {p:.3g} ({number(nats, '.2f')} nats)"
                    for token, p, nats in zip(
                        names, panel[column], panel[f"logprob_{column}"], strict=True
                    )
                ],
                hoverinfo="text",
                row=row,
                col=1,
            )
        figure.update_yaxes(
            tickmode="array",
            tickvals=list(range(len(panel))),
            ticktext=names,
            range=[len(panel) - 0.5, -0.5],
            showgrid=False,
            ticks="",
            row=row,
            col=1,
        )
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    above = 34 + 24 + 24  # of the title, the legend and the first panel's heading
    height = above + plot + BELOW
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=height,
        margin={"t": above},
        title={"text": html.escape(title) or _read(mine), "y": 1 - 20 / height},
        bargap=0.25,
        bargroupgap=0,
        legend={
            "orientation": "h", "x": 1, "xanchor": "right", "traceorder": "normal",
            "y": 1 + 24 / plot, "yanchor": "bottom",
        },
    )  # fmt: skip
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title_text="Probability of the next token", row=len(panels), col=1)
    return figure


def _measured(panel: pd.DataFrame) -> str:
    """What a panel is of, and the divergence of its distributions."""
    first = panel.iloc[0]
    mean = "mean " if first["prompt_index"] < 0 else ""
    said = f"{mean}KL(steered ‖ unsteered) {number(first['kl'], '.2f')} nats, "
    said += f"{mean}total variation {number(first['total_variation'], '.2f')}"
    if pd.isna(first["coefficient"]):
        return said[0].upper() + said[1:]
    return f"Coefficient {number(first['coefficient'], '+.3g')}: {said}"


def _read(frame: pd.DataFrame) -> str:
    """The end of the prompt that is drawn, or what stands for several."""
    first = frame.iloc[0]
    if first["prompt_index"] < 0:
        return f"Mean over {first['prompts']} prompts"
    text = "".join(printable(letter) for letter in str(first["prompt"]).replace("\n", "↵"))
    return "After “" + html.escape(_end(text)) + "”"


def _end(text: str) -> str:
    """The last fifty letters or fewer of a text, cut at a blank where it has one."""
    if len(text) <= _LETTERS:
        return text
    kept = text[-_LETTERS:]
    whole = kept if text[-_LETTERS - 1].isspace() else kept.partition(" ")[2]
    return "… " + (whole.lstrip() or kept)
