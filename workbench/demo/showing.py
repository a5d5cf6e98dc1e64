"""What of a session is shown, as values and as plain output of a cell, which shows without widgets.

Both faces, the page's widgets and a notebook that is only read, take it from here.
"""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
from IPython.display import HTML, display

from workbench import figures
from workbench.demo import page, work, zones
from workbench.demo.cell import watched
from workbench.demo.session import Session
from workbench.demo.state import State
from workbench.generation.live import Text
from workbench.reporting import report
from workbench.sweeps.marks import Ceiling

Column = tuple[Text, str, zones.Color | None]


def columns(session: Session) -> tuple[Column, Column]:
    """Both texts, each with a note and the colour of its zone: of the state that it is of."""
    shown = session.made.shown
    if shown.state is None:
        return (shown.written.baseline, "", None), (shown.written.steered, "", None)
    coefficient = shown.state.coefficient
    said = f"{coefficient:+.3f}".replace("-", "−")
    if shown.whole and not session.current():
        said += ", chosen earlier"
    zone = zones.color(session.ceiling_for(shown.state), coefficient)
    return (shown.written.baseline, "", None), (shown.written.steered, said, zone)


def zones_of(session: Session, state: State) -> tuple[Ceiling | None, str]:
    """The ceiling by which a state's coefficient is judged, and why there is none although there
    was a sweep ("" otherwise)."""
    ceiling = session.ceiling_for(state)
    if work.has_second(state):
        return ceiling, zones.UNSWEPT
    unlike = ceiling is None and session.made.ceiling is not None
    return ceiling, zones.OTHER_STYLE if unlike else ""


def figure(session: Session) -> go.Figure:
    """The sweep so far. Raises ValueError before there is one."""
    made = session.made
    if made.frame is None:
        raise ValueError("there is no sweep yet: press 'Train and sweep' first")
    marks = None if made.ceiling is None else made.ceiling.marks()
    trait = page.visible(str(session.vector().provenance.get("trait") or "trait"), 60)
    return figures.sweep_curves(made.frame, ceiling=marks, trait=trait)


def snapshot(session: Session, folder: str | Path) -> None:
    """Put both texts and the sweep below a cell.

    Where nobody watches (see `cell.watched`) this trains first if nothing is trained, and waits; a
    reader's page it must not freeze, so there it shows what there is. The figure is also written to
    the `folder` of a report, as "03_demo_sweep". Raises RuntimeError for what went wrong in
    training or in the sweep.
    """
    made = session.made
    if not watched():
        if made.trained is None and not session.busy:
            session.train()
        session.wait()
        if not made.swept:
            raise RuntimeError(session.message or "the sweep was stopped")
    if made.frame is None:
        display(HTML(page.say("Nothing to show yet. Press 'Train and sweep', then run this.")))
        return
    state = made.shown.state or session.state
    ceiling, words = zones_of(session, state)
    told = (
        zones.words(ceiling, state.coefficient, made.conditions),
        zones.reasons(ceiling, state.coefficient),
    )
    words = words or "\n".join(told)
    unsteered, steered = (
        page.column(title, note, text, mark=mark)
        for title, (text, note, mark) in zip(
            ("Unsteered", "Steered"), columns(session), strict=True
        )
    )
    display(HTML(page.side_by_side((unsteered, steered)) + page.say(words) + page.legend()))
    display(report.export(figure(session), "03_demo_sweep", data=made.frame, directory=folder))
