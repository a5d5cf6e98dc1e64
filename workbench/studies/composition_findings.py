"""What the study of composed properties found, in numbers and sentences (benchmarks/
study_composition.py); as tables for people: composition_tables.py.

Seeds are the units of all intervals, which are Student's: each has its own queries and its own
deltas. Where all seeds agree at an end of the scale it is Wilson's, of queries. Where one strength
of a family has to be taken, it is the one that did best on the other seeds. Knows nothing of
models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from workbench.statistics.intervals import Interval
from workbench.statistics.over_seeds import of_seeds, over_seeds, percent_over_seeds
from workbench.support.wording import listed, points

# Undivided: by the KL of the paper. Divided: by that KL over the number of likely tokens, as in the
# published code (`schedules.Dynamic.divided`). No family has both.
WORDS = {
    "none": "unsteered",
    "instructions": "asked by an instruction",
    "examples": "in-context examples",
    "start": "start",
    "fixed": "fixed",
    "fixed pair": "fixed, a pair",
    "diminishing": "diminishing",
    "dynamic, undivided": "dynamic, undivided",
    "dynamic, divided": "dynamic, divided",
    "capped": "dynamic, low cap",
    "capped, by p": "dynamic, low cap, by p",
    "capped, divided": "dynamic, low cap, divided",
    "bounded": "dynamic, divided, bounded",
    "budget": "KL budget",
}
LANGUAGES = {"en": "English", "it": "Italian", "fr": "French"}
# Families whose strength is chosen as one.
FIXED = ("fixed", "fixed pair")
DYNAMIC = ("dynamic, undivided", "dynamic, divided")  # each at the published cap and probe
FAMILIES = {
    "start": ("start",),
    "fixed, best pair": FIXED,
    "diminishing": ("diminishing",),
    **{name: (name,) for name in DYNAMIC},
    "dynamic, low cap": ("capped", "capped, by p"),
    "dynamic, low cap, divided": ("capped, divided",),
    "dynamic, divided, bounded": ("bounded",),
    "KL budget": ("budget",),
}
PROMPTS = ("none", "instructions", "examples")
# Whose verdict is told, and in which words.
JUDGED = {
    "dynamic, undivided": "by the paper's KL",
    "dynamic, divided": "by the published code's (divided by the number of likely tokens)",
    "dynamic, low cap": "with a lower cap, chosen on wren",
}
AIM = (
    "The aim: a dynamic schedule shows both properties at least as often as the best pair of fixed "
    "strengths and is at least as coherent, by value."
)
# The fixed strengths besides which schedules are set at equal KL.
STEADY = ("none", "fixed")
SETTING = ["form", "schedule", "level", "label"]
_SHARES = ("both", "good", "language", "property", "coherence", "whole")


def marked(texts: pd.DataFrame) -> pd.DataFrame:
    """With `good`, whether a text shows both properties and is coherent from end to end, and
    `perplexity`, how much more perplexed the unsteered model is behind an instruction that asks for
    both by a token of this text than by one of what it writes there itself."""
    if "good" in texts:
        return texts
    keys = ["second", "seed", "language_of", "value", "prompt"]
    own = texts[texts["schedule"] == "instructions"].set_index(keys)["surprise"]
    index = pd.MultiIndex.from_frame(texts[keys])
    less = np.exp(own.astype(float).reindex(index).to_numpy())
    more = np.exp(texts["surprise"].astype(float).to_numpy())
    return texts.assign(good=texts["both"] & texts["whole"], perplexity=more - less)


def curves(texts: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Means of every setting, by `second` and `by` (such as "language_of"): `both`, `good`,
    `language`, `property`, `coherence`, `whole` with `… low` and `… high`, 95 % over seeds; `kl`
    (nats a token), `perplexity` (median), `texts`."""
    rows = []
    keys = ["second", *by, *SETTING]
    for key, table in marked(texts).groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True))
        for name in _SHARES:
            found = over_seeds(table, name)
            row |= {name: found.value, f"{name} low": found.low, f"{name} high": found.high}
        row |= {"kl": table["kl"].mean(), "perplexity": table["perplexity"].median(),
                "texts": len(table)}  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def equal_kl(texts: pd.DataFrame) -> pd.DataFrame:
    """Every setting beside fixed coefficients that spend as much: a row per second property and
    setting, with `kl` and, for `both` and `coherence`, how much more there is of it than fixed
    coefficients have at that KL (linear between their strengths, seed by seed), with ends over
    seeds. NaN where no fixed coefficient spends as much."""
    rows = []
    mine = marked(texts)
    mine = mine[mine["form"] == "per step"]
    measures = ["both", "good", "coherence", "kl"]
    means = mine.groupby(["second", "seed", *SETTING], sort=False)[measures].mean().reset_index()
    for (second, schedule, level, label), own in means.groupby(
        ["second", "schedule", "level", "label"], sort=False
    ):
        if schedule in STEADY or schedule == "fixed pair":
            continue
        row = {"second": second, "schedule": schedule, "level": level, "label": label,
               "kl": own["kl"].mean()}  # fmt: skip
        for name in measures[:-1]:
            more = []
            for _, one in own.iterrows():
                steady = means[
                    (means["second"] == second)
                    & (means["seed"] == one["seed"])
                    & means["schedule"].isin(STEADY)
                ].sort_values("kl")
                level_there = np.interp(one["kl"], steady["kl"], steady[name], right=np.nan)
                more.append(one[name] - level_there)
            found = _shares_apart(more)
            full = not np.isnan(more).any()
            row |= {
                name: found.value if full else np.nan,
                f"{name} low": found.low if full else np.nan,
                f"{name} high": found.high if full else np.nan,
                f"{name} least": min(more) if full else np.nan,
                f"{name} most": max(more) if full else np.nan,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _shares_apart(more: ArrayLike) -> Interval:
    """`of_seeds` of differences of shares, whose interval ends where such differences do."""
    found = of_seeds(more)
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def chosen(texts: pd.DataFrame, names: Sequence[str], by: str = "both") -> pd.DataFrame:
    """The texts of a family, each seed's at the setting that had the most of `by` on the other
    seeds (of equals the most coherent); one seed alone chooses its own. `texts` as `marked` gives
    them. Raises ValueError for a family without texts."""
    mine = texts[texts["schedule"].isin(names)]
    if not len(mine):
        raise ValueError(
            f"no text of the schedules {list(names)}; the table has those of "
            f"{list(dict.fromkeys(texts['schedule']))}: run the study again"
        )
    parts = []
    for _, own in mine.groupby(["second", "form"]):
        for seed in sorted(set(own["seed"])):
            others = own[(own["seed"] != seed) | (own["seed"].nunique() == 1)]
            means = others.groupby(SETTING)[[by, "coherence"]].mean().round(9)
            best = means.sort_values([by, "coherence"], ascending=False).index[0]
            at = own[own["seed"] == seed].set_index(SETTING)
            parts.append(at.loc[[best]].reset_index())
    return pd.concat(parts, ignore_index=True)


def against(texts: pd.DataFrame, one: str, other: str, what: str, by: str = "both") -> pd.DataFrame:
    """How much more of `what` the first family has than the second, each at its best strength: a
    row per second property with `value`, `low`, `high` over seeds, and in how many `seeds` of `of`
    there is as much or more."""
    texts = marked(texts)
    per_step = texts[texts["form"] == "per step"]
    sides = [
        chosen(per_step, FAMILIES[name], by).groupby(["second", "seed"])[what].mean()
        for name in (one, other)
    ]
    rows = []
    for second, more in (sides[0] - sides[1]).groupby("second", sort=False):
        found = _shares_apart(more)
        held = int((more > -1e-9).sum())
        rows.append((second, found.value, found.low, found.high, held, len(more)))
    return pd.DataFrame(rows, columns=["second", "value", "low", "high", "seeds", "of"])


def verdict(texts: pd.DataFrame) -> str:
    """Which dynamic schedules meet the aim, what the aim is, and then every difference."""
    judged, said = [], []
    for name, words in JUDGED.items():
        gain, cost = (against(texts, name, "fixed, best pair", what) for what in
                      ("both", "coherence"))  # fmt: skip
        held: dict[bool, list[str]] = {True: [], False: []}
        parts = []
        for (_, one), (_, two) in zip(gain.iterrows(), cost.iterrows(), strict=True):
            held[one["value"] >= 0 and two["value"] >= 0].append(one["second"])
            parts.append(
                f"language × {one['second']} {_outcome(one, two)} (both "
                f"{points(_interval(one))}, coherence {points(_interval(two))}; at least as much "
                f"in {one['seeds']} and {two['seeds']} of {one['of']} seeds)"
            )
        judged.append(f"{_aimed(held)} {words}")
        said.append(f"{words[0].upper()}{words[1:]}: {'; '.join(parts)}.")
    return (
        f"The dynamic schedule {listed(judged).replace(' it ', ' the aim ', 1)}. {AIM} What it has "
        f"more than that pair, in points. {' '.join(said)}"
    )


def _aimed(held: Mapping[bool, Sequence[str]]) -> str:
    """Where it is met, and where it is missed."""
    if held[True] and held[False]:
        return f"meets it with {listed(held[True])} and misses it with {listed(held[False])}"
    return "meets it" if held[True] else "misses it"


def simplest(texts: pd.DataFrame) -> str:
    """Start, the simplest schedule, and asking, beside the dynamic schedule with a lower cap; each
    schedule at its best strength, chosen on the other seeds."""
    texts, rival = marked(texts), "dynamic, low cap"
    gain, cost = (against(texts, "start", rival, what) for what in ("both", "coherence"))
    start = chosen(texts[texts["form"] == "per step"], FAMILIES["start"])
    asked = texts[texts["schedule"] == "instructions"]
    parts, better = [], True  # in conditioning by value, in coherence by the interval
    for (_, one), (_, two) in zip(gain.iterrows(), cost.iterrows(), strict=True):
        second = one["second"]
        mine, prompted = (each[each["second"] == second] for each in (start, asked))
        better &= one["value"] >= 0 and two["low"] > 0
        parts.append(
            f"with {second} start shows both in {percent_over_seeds(mine, 'both')} of texts, "
            f"{points(_interval(one))} points more than the lower cap, at a coherence of "
            f"{percent_over_seeds(mine, 'coherence')}, {points(_interval(two))}; asked by an "
            f"instruction wren shows both in {percent_over_seeds(prompted, 'both')}, at "
            f"{percent_over_seeds(prompted, 'coherence')}"
        )
    does = "does better" if better else "does not do better"
    return (
        f"Start, which steers the last token of the prompt alone, {does} than the dynamic schedule "
        f"with a lower cap (shows both at least as often, by value, and is more coherent, clear of "
        f"zero): {'; '.join(parts)}."
    )


def equal_verdict(texts: pd.DataFrame) -> str:
    """In how many settings every family shows both more often than fixed strengths at equal KL."""
    found = equal_kl(texts)
    more, less, beyond = [], [], []
    for name, names in FAMILIES.items():
        own = found[found["schedule"].isin(names)]
        if not len(own):
            continue
        known = own.dropna(subset=["both"])
        more.append(f"{name} {int((known['both least'] > 0).sum())} of {len(own)}")
        if fewer := int((known["both most"] < 0).sum()):
            less.append(f"{name} {fewer} of {len(own)}")
        if strong := len(own) - len(known):
            beyond.append(f"{name} {strong} of {len(own)}")
    return (
        "In how many settings a schedule shows both properties more often, in every seed, than "
        f"fixed strengths at the same KL: {'; '.join(more)}. Less often in every seed: "
        f"{'; '.join(less) or 'none'}. Settings that spend more than any fixed strength, and have "
        f"nothing to stand beside: {'; '.join(beyond) or 'none'}."
    )


def strengths_said(strengths: pd.DataFrame) -> str:
    """In words, how strongly each schedule steered one text (`composition.examples.over_text`)."""
    parts = []
    for name, own in strengths.groupby("schedule", sort=False):
        most = own["coefficient"].max()
        high = own[own["coefficient"] >= 0.95 * most]
        parts.append(
            f"{name} {own['coefficient'].min():.2f} to {most:.2f}, at its most (within a "
            f"twentieth) at {high['step'].nunique()} of {own['step'].nunique()} tokens, the last "
            f"of them the {_ordinal(int(high['step'].max()) + 1)}"
        )
    return f"One text: a picture, not a test. The strength, of either property: {'; '.join(parts)}."


def _ordinal(number: int) -> str:
    """ "1st", "22nd", "13th" """
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = "th" if number % 100 in (11, 12, 13) else ends.get(number % 10, "th")
    return f"{number}{end}"


def _outcome(gain: pd.Series, cost: pd.Series) -> str:
    """How it compares in conditioning and in coherence, as far as intervals tell."""
    parts = []
    for word, row in (("shows both", gain), ("is coherent", cost)):
        how = "more" if row["low"] > 0 else "less" if row["high"] < 0 else "as much as can be told"
        parts.append(f"{word} {how}")
    return " and ".join(parts)


def _interval(row: pd.Series) -> Interval:
    return Interval(row["value"], row["low"], row["high"], 0)
