"""What the study of methods found, in words: every number comes from method_comparison.py."""

from __future__ import annotations

import pandas as pd

from workbench.statistics.intervals import Interval
from workbench.studies.method_comparison import (
    FORMS,
    METHODS,
    at_the_end,
    cells,
    differences,
    ways_of,
)
from workbench.support.wording import interval, listed, number, p_value

_WORDS = {"score": "trait", "coherence": "coherence", "harmonic": "harmonic mean"}


def by_trait(texts: pd.DataFrame, rule: str = "recommended") -> pd.DataFrame:
    """The mean harmonic mean of each method and form on each trait, in words, without intervals:
    a trait has as many cells as seeds, too few for a claim of its own."""
    found = cells(texts, rule)
    wide = found.pivot_table(index=["method", "form"], columns="trait", values="harmonic")
    wide = wide[list(dict.fromkeys(found["trait"]))].loc[ways_of(found)]
    named = pd.DataFrame([_named(*way) for way in wide.index])
    return pd.concat([named, wide.map("{:.2f}".format).reset_index(drop=True)], axis=1)


def shown(results: pd.DataFrame) -> pd.DataFrame:
    """A `table` in words, for a page."""
    rows = []
    for row in results.to_dict("records"):
        values = {
            words: interval(
                Interval(row[name], row[f"{name}_low"], row[f"{name}_high"], row["cells"]), ".2f"
            )
            for name, words in _WORDS.items()
        }
        steered = "–"
        if pd.notna(row["m"]):
            unit = " norms" if row["unit"] == "norm" else ""
            steered = f"{row['m']:.3g} ({row['m_low']:.3g} to {row['m_high']:.3g}){unit}"
        idle = f"{row['idle']} of {row['cells']}" if row["form"] else "–"
        named = _named(row["method"], row["form"])
        ends = {"coefficient m, median (range)": steered, "left at 0": idle}
        rows.append({**named, **values, **ends})
    return pd.DataFrame(rows)


def shown_differences(found: pd.DataFrame, outcome: str = "harmonic") -> pd.DataFrame:
    """Rows of `differences` in words, of one outcome."""
    rows = [
        {
            "SPLIT as": FORMS[row["form"]],
            "less": METHODS[row["rival"]],
            _WORDS[outcome]: interval(
                Interval(row["difference"], row["low"], row["high"], row["cells"])
            ),
            "p (Holm)": p_value(row["p"]),
            "by trait": f"{number(row['least'])} to {number(row['most'])}",
            "alike, p (Holm)": p_value(row["by_trait"]),
            "verdict": row["verdict"],
        }
        for row in found[found["outcome"] == outcome].to_dict("records")
    ]
    return pd.DataFrame(rows)


def verdict(found: pd.DataFrame, outcome: str = "harmonic") -> str:
    """In words, where SPLIT wins and by how much, of `differences`."""
    own = found[found["outcome"] == outcome]
    if (own["verdict"] == "too few seeds").all():
        return (
            f"{own['fewest'].min()} seeds of a trait are too few for a claim: no difference could "
            "be told from chance."
        )
    lines = []
    for said in ("ahead", "behind", "differs by trait", "not told apart"):
        part = own[own["verdict"] == said]
        against = [
            f"{METHODS[row['rival']]} ({FORMS[row['form']]}: {number(row['difference'])} "
            f"[{number(row['low'])}, {number(row['high'])}])"
            for row in part.to_dict("records")
        ]
        lines.append(f"{said}: {', '.join(against) or 'none'}")
    return (
        f"SPLIT in {_WORDS[outcome]}, over {own['cells'].max()} cells of {own['traits'].max()} "
        f"traits, {len(own)} comparisons allowed for: {'; '.join(lines)}. The traits are these "
        "alone: nothing is said of others."
    )


def headline(found: pd.DataFrame, outcome: str = "harmonic") -> str:
    """Does SPLIT win? In a few sentences, of `differences`."""
    own = found[found["outcome"] == outcome]
    if (own["verdict"] == "too few seeds").all():
        return verdict(found, outcome)
    trained = own[own["rival"].isin(["sft", "reps"])]
    others = [f"{METHODS[r]} ({_by_verdict(own, r)})" for r in own["rival"].unique()]
    ahead, behind, mixed = (
        int((trained["verdict"] == said).sum()) for said in ("ahead", "behind", "differs by trait")
    )
    split = "" if not mixed else f", in {mixed} ahead on some traits and behind on others"
    return (
        f"{'SPLIT wins' if ahead > behind else 'SPLIT does not win'} against SFT and RePS in its "
        f"own form: in {_WORDS[outcome]} it is ahead in {ahead} of {len(trained)} comparisons and "
        f"behind in {behind}{split}. One by one: {', '.join(others)}."
    )


def sentences(texts: pd.DataFrame, trials: pd.DataFrame) -> dict[str, str]:
    """The sentences of the page, by the name under which it asks for them; rows of
    study_methods_texts and study_methods_trials."""
    return {
        "wins": headline(differences(texts)),
        "edges": edges(at_the_end(texts, trials)),
        "wins_best": headline(differences(texts, "best")),
        "edges_best": edges(at_the_end(texts, trials, "best")),
    }


def _by_verdict(own: pd.DataFrame, rival: str) -> str:
    parts = own[own["rival"] == rival].groupby("verdict", sort=False)
    return "; ".join(
        f"{said} as {listed([FORMS[f] for f in part['form']])}" for said, part in parts
    )


def edges(found: pd.DataFrame) -> str:
    """Where more of the coefficient might give more, of `at_the_end`."""
    told = [
        f"{METHODS[row['method']]} as {FORMS[row['form']]} {row['largest']} of {row['cells']}"
        for row in found[found["largest"] > 0].to_dict("records")
    ]
    if not told:
        return "In no cell is the coefficient the largest that was tried."
    return (
        "Cells in which the coefficient is the largest that was tried, so that more of it might "
        f"give more: {', '.join(told)}."
    )


def _named(method: str, form: str) -> dict[str, str]:
    return {"method": METHODS[method], "form": FORMS[form]}
