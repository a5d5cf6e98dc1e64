"""The parts of the page on manifolds that quote a study: a verdict, a table, the figures' frames.

Reads the tables that the studies left in a report's folder; a model that was not studied has none,
and its page says so. Runs no model, draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from workbench.geometry import manifold_checks
from workbench.studies import distance_laws, equal_trait, geometry_findings, mediation
from workbench.studies import manifold_findings as findings
from workbench.support import tables
from workbench.support.tables import markdown_table
from workbench.support.wording import number

NOT_STUDIED = "Not studied with this model."
COLLAPSE = (
    "A line is one side of a sweep of wren's middle layer. Thick: one law fitted to the lines that "
    "are shown, controls among them, with its R²; not the laws that are judged below. Distance: "
    "how many times what it is unsteered."
)
LAWS = (
    "R² of laws on traits left out, of middle layers, per method, with 95 % intervals over traits "
    "and models. At 0 a law is worth no more than the mean of the other traits."
)
ACROSS = (
    "Rank correlations with the true ceiling within the layer of a model, with 95 % intervals over "
    "traits and models; controls, which are of middle layers, among the vectors. Filled: alone; "
    "open: given what needs no distance. To the left of 0, a vector of which more is seen breaks "
    "earlier."
)
#: KLs in nats a token near which forms of steering are compared, and how near is near: a factor.
NEAR, WITHIN = (0.035, 0.3), 1.4


@dataclass(frozen=True, eq=False)
class Part:
    """One part of the page; shows its verdict and its table in a notebook.

    page     the whole part in Markdown, as the report has it
    verdict  in words
    shown    its table; None where nothing was studied
    short    the verdict in a few words, for the top of the page
    drawn    name of a figure -> the frame that it draws
    """

    page: str = NOT_STUDIED
    verdict: str = NOT_STUDIED
    shown: pd.DataFrame | None = None
    short: str = ""
    drawn: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def _repr_markdown_(self) -> str:
        if self.shown is None:
            return self.verdict
        return f"{self.verdict}\n\n{markdown_table(self.shown, '.2f')}"


def laws(folder: str | Path) -> Part:
    """Whether one law serves all vectors (distance_laws.py)."""
    known, points = _read(folder, "manifold_laws"), _read(folder, "manifold_points")
    if known is None or points is None:
        return Part()
    shown, verdict = distance_laws.shown(known, "coherence"), distance_laws.verdict(known)
    pictures = [findings.picture("05_collapse", COLLAPSE), findings.picture("05_laws", LAWS)]
    middle = (points["model"] == "wren") & (points["depth"] == "middle")
    return Part(
        "\n\n".join([*pictures, verdict, "Of coherence:", markdown_table(shown)]),
        verdict,
        shown,
        distance_laws.in_short(known),
        {"05_collapse": points[middle], "05_laws": known[known["depth"] != "all"]},
    )


def across(folder: str | Path) -> Part:
    """Whether distance tells, of two vectors, which breaks first (manifold_findings.py)."""
    known, sides = _read(folder, "manifold_across"), _read(folder, "manifold_sides")
    if known is None or sides is None:
        return Part(short="Across vectors nothing was studied.")
    shown, short = findings.shown(known), findings.in_short(known)
    said = [findings.verdict(known, outcome=outcome) for outcome in findings.OUTCOMES]
    picture = findings.picture("05_across", ACROSS)
    return Part(
        "\n\n".join([picture, markdown_table(shown), *said]),
        "\n\n".join([short, *said]),
        shown,
        short,
        {"05_across": sides},
    )


def parts(folder: str | Path) -> Part:
    """A vector's parts along the tangent of the manifold and off it (mediation.py)."""
    known = _read(folder, "manifold_parts")
    if known is None:
        return Part()
    shown, verdict = mediation.shown(known), mediation.verdict(known)
    page = "\n\n".join([mediation.ABOUT, markdown_table(shown), verdict])
    return Part(page, verdict, shown)


def ceilings(folder: str | Path, here: pd.DataFrame) -> Part:
    """How far off ceilings by geometry are (geometry_findings.py), below those found `here`."""
    known = _read(folder, "detector_sides")
    found = markdown_table(here)
    if known is None:
        return Part(found)
    errors = geometry_findings.geometry_errors(known)
    verdict = geometry_findings.verdict(errors)
    shown = pd.DataFrame(
        {
            "rule": errors["rule"],
            "off by [95 %]": [
                f"{error:.2f} [{low:.2f}, {high:.2f}]"
                for error, low, high in errors[["error", "low", "high"]].to_numpy()
            ],
            "sees no ceiling": [f"{share:.0%}" for share in errors["sees_none"]],
            "sides": errors["sides"],
        }
    )
    return Part(f"{found}\n\n{verdict}\n\n{markdown_table(shown)}", verdict, shown)


def equal(folder: str | Path) -> Part:
    """Steering that keeps to the manifold, at equal trait (equal_trait.py)."""
    known = _read(folder, "manifold_equal")
    if known is None:
        return Part()
    over = equal_trait.over_traits(known)
    shown, verdict = equal_trait.shown(over), equal_trait.verdict(over)
    return Part(f"{markdown_table(shown)}\n\n{verdict}", verdict, shown)


def checked(
    alarms: pd.DataFrame, centre: pd.DataFrame, sensed: pd.DataFrame
) -> dict[str, float | str]:
    """What the checks of the distance found, by the name under which the page asks for it: rows of
    `false_alarms`, `towards_centre` and `sensitivity` (geometry/manifold_checks.py)."""
    tokens = alarms["tokens"]
    return {
        "checked": int(alarms["documents_count"].iloc[0]),
        "alarms_low": tokens.min(),
        "alarms_high": tokens.max(),
        "alarms_least": alarms["tokens_low"].min(),
        "alarms_most": alarms["tokens_high"].max(),
        "alarms_met": int(tokens.between(0.04, 0.06).sum()),
        "alarms_of": len(tokens),
        "documents_low": alarms["documents"].min(),
        "documents_high": alarms["documents"].max(),
        "documents_least": alarms["documents_low"].min(),
        "documents_most": alarms["documents_high"].max(),
        "centre": manifold_checks.centre_in_words(centre),
        "blind": manifold_checks.blind_in_words(sensed),
    }


def forms(seen: pd.DataFrame) -> str:
    """In words, how far forms of steering lie off and what they cost in utility where they move the
    next token about as far; `seen` as `manifold_views.by_form` gives it. No values in between are
    made up: only coefficients that were read count."""
    here, said = seen[seen["steered"] & (seen["m"] != 0)], []
    for level in NEAR:
        near = here[here["kl"].between(level / WITHIN, level * WITHIN)]
        if near["way"].nunique() > 1:
            said.append(
                f"at a KL of {_range(near['kl'], '.2f')} nats the steered layer lies at a distance "
                f"of {_range(near['distance'], '.2f')}, and utility has fallen by "
                f"{_range(near['fall'], '.1f')} nats ({near['way'].nunique()} forms, "
                f"{len(near)} coefficients)"
            )
    if not said:
        return "At none of the KLs that are looked at were two forms read."
    return f"Of what was read, {'; '.join(said)}."


def _range(values: pd.Series, spec: str) -> str:
    return f"{number(values.min(), spec)} to {number(values.max(), spec)}"


def _read(folder: str | Path, name: str) -> pd.DataFrame | None:
    """A study's table, without what pandas would copy at every step; None where there is none."""
    if name not in tables.table_names(folder):
        return None
    table = tables.load_table(name, directory=folder)
    table.attrs = {}
    return table
