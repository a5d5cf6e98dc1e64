"""Every case of the study of laws in small multiples: forms, layers, traits."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import COLORS, GREY, INK, TEMPLATE, WIDTH, redrawable, shaded
from workbench.preference.law_shapes import Kind
from workbench.preference.laws import fit
from workbench.studies.law_tables import CASE, FORMS

_ROW = 170  # pixels of a row of panels


@redrawable
def law_curves(
    frame: pd.DataFrame,
    *,
    kind: Kind = "preference",
    law: str = "paper",
    forms: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    title: str = "",
) -> go.Figure:
    """Mean curves of all cases, small multiples: a row a form, a column a layer, a line a trait.

    Args:
        frame: rows of `law_study_curves.relative_curves`.
        kind: which of the two curves.
        law: what is fitted to each mean and drawn, thin and dashed.
        forms: of `law_tables.FORMS`, those that are drawn; all of the frame's by default.
        layers: likewise.
        title: above the figure.

    Curves are changes from m = 0 in shares of each case's largest, so that shapes can be compared;
    bands are 95 % intervals over pairs. Dashed: the law; dotted: the true ceilings.

    Raises ValueError for forms and layers of which the frame has nothing.
    """
    part = frame[frame["kind"] == kind]
    there = part["form"].unique(), part["layer"].unique()
    for chosen, own in zip((forms, layers), there, strict=True):
        if chosen is not None and not set(chosen) & set(own):
            raise ValueError(f"no curves of {list(chosen)}; there are {sorted(own)}")
    forms = [form for form in FORMS if form in there[0] and (forms is None or form in forms)]
    layers = [layer for layer in sorted(there[1]) if layers is None or layer in layers]
    part = part[part["form"].isin(forms) & part["layer"].isin(layers)]
    traits = list(part["trait"].unique())
    figure = make_subplots(
        rows=len(forms),
        cols=len(layers),
        shared_xaxes="all",
        shared_yaxes="all",
        column_titles=[f"after layer {layer}" for layer in layers],
        row_titles=[FORMS[form].replace(", ", ",<br>") for form in forms],
        horizontal_spacing=0.025,
        vertical_spacing=0.14 / len(forms),
    )
    for (trait, layer, form), own in part.groupby(CASE, sort=False):
        place = {"row": forms.index(str(form)) + 1, "col": layers.index(layer) + 1}
        color = COLORS[traits.index(trait) % len(COLORS)]
        _curve(figure, own.sort_values("ceilings"), str(trait), color, kind, law, place)
    above = 60 + (30 if title else 0)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=above + 58 + _ROW * len(forms),
        margin={"t": above, "l": 62 if len(forms) > 1 else 84, "r": 42, "b": 58},
        title={"text": html.escape(title)},
        legend={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1 + 26 / (_ROW * len(forms)),
            "yanchor": "bottom",
        },
    )
    figure.update_annotations(font={"size": 13})
    for end in (-1, 1):
        figure.add_vline(x=end, line={"color": GREY, "width": 1, "dash": "dot"})  # type: ignore[arg-type]
    span = [-1.25, 1.25] if kind == "preference" else [-1.25, 0.35]
    figure.update_yaxes(range=span, tickfont={"size": 11}, dtick=0.5)
    figure.update_xaxes(range=[-1.55, 1.55], dtick=1, tickfont={"size": 11})
    middle = (len(layers) + 1) // 2
    figure.update_xaxes(
        title_text="Coefficient (1 = true ceiling on that side)", row=len(forms), col=middle
    )
    words = f"Change of {kind}{' ' if len(forms) > 1 else '<br>'}(share of the largest)"
    figure.add_annotation(
        text=words,
        textangle=-90,
        x=0,
        xshift=-46 if len(forms) > 1 else -60,
        y=0.5,
        xref="paper",
        yref="paper",
        xanchor="center",
        yanchor="middle",
        showarrow=False,
        font={"size": 14},
    )
    return figure


def _curve(
    figure: go.Figure,
    own: pd.DataFrame,
    trait: str,
    color: str,
    kind: Kind,
    law: str,
    place: dict[str, int],
) -> None:
    name, first = html.escape(trait), place == {"row": 1, "col": 1}
    x = own["ceilings"].to_numpy()
    shaded(figure, own.assign(x=x), color, 0.22, legendgroup=name, **place)
    figure.add_scatter(
        x=x,
        y=own["mean"],
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=first,
        line={"color": color, "width": 2},
        hovertemplate=f"%{{y:.2f}} at %{{x:.2f}} ceilings<extra>{name}</extra>",
        **place,
    )
    found = fit(own["m"].to_numpy(), own["mean"].to_numpy(), kind, law, follow=6)
    figure.add_scatter(
        x=x,
        y=found(own["m"].to_numpy()),
        mode="lines",
        name="law",
        legendgroup="law",
        legendrank=2000,  # after every trait
        showlegend=first and not any(trace.name == "law" for trace in figure.data),
        line={"color": INK, "width": 1, "dash": "dash"},
        hoverinfo="skip",
        **place,
    )
