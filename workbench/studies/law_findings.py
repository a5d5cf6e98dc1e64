"""What the study of laws found, in words: every number comes from the tables of law_tables.py."""

from __future__ import annotations

import pandas as pd

from workbench.preference.law_shapes import KINDS
from workbench.statistics.intervals import Interval
from workbench.studies.law_study_curves import shapes
from workbench.studies.law_tables import (
    AIMS,
    CASE,
    FORMS,
    fewest,
    over_traits,
    paired,
    reaching,
    spreads,
)
from workbench.support.wording import interval, number


def said(
    cases: pd.DataFrame,
    relative: pd.DataFrame,
    hidden: pd.DataFrame,
    laws: pd.DataFrame,
    pairs: pd.DataFrame,
) -> dict[str, str]:
    """The sentences of the report, by the name under which its template asks for them."""
    return {
        "ceilings": ceilings(cases),
        "trained": trained(cases),
        "seen": seen(relative),
        "hides": hides(hidden),
        "limit": limit(laws, pairs),
        "needed": needed(laws),
        "short": short(laws),
    }


def ceilings(cases: pd.DataFrame) -> str:
    """Where the true ceilings of the forms lie."""
    long = cases.melt([*CASE], ["ceiling_plus", "ceiling_minus"], "side", "ceiling")
    each = [
        f"{FORMS[str(form)]} {part['ceiling'].median():.2f} ({part['ceiling'].min():.2f} to "
        f"{part['ceiling'].max():.2f})"
        for form, part in long.groupby("form", sort=False)
    ]
    beyond = int((cases["beyond_plus"].astype(int) + cases["beyond_minus"].astype(int)).sum())
    return (
        "The true ceilings lie, in residual norms (the length of what is added to the stream by "
        f"that of the stream), at: {'; '.join(each)} (median and range over traits, layers and "
        "both sides). "
        + (
            f"On {beyond} of {2 * len(cases)} sides the texts held to the end of the sweep, which "
            "stands for the ceiling there."
            if beyond
            else "All were found within the sweep."
        )
    )


def trained(cases: pd.DataFrame) -> str:
    """How far training lowered its objective."""
    own = cases[cases["loss_last"].notna()]
    each = []
    for form, part in own.groupby("form", sort=False):
        change = part["loss_last"] - part["loss_first"]
        each.append(
            f"{FORMS[str(form)]} by {number(change.median(), '.2f')} "
            f"({number(change.min(), '.2f')} to {number(change.max(), '.2f')})"
        )
    return (
        "From its first to its last steps training changed the objective of "
        f"{'; '.join(each)} (nats, median and range over traits and layers)."
    )


def seen(relative: pd.DataFrame) -> str:
    """What the curves look like, beside what the laws lead to expect."""
    found = shapes(relative)
    likes, used = (found[found["kind"] == kind] for kind in KINDS)
    wrong = int((~likes["rightly"]).sum())
    tops = used.drop_duplicates(CASE)["top"].abs() <= 0.25
    return (
        f"Preference: at half of the way to the true ceiling it has done {_middle(likes['half'])} "
        "of its change there (median and middle half over sides; a straight line would have a "
        f"half); out to one and a half ceilings it turned back by a fifth or more on "
        f"{int((likes['turned'] >= 0.2).sum())} of {len(likes)} sides, and it went the wrong way "
        f"on {wrong}. Utility: {_middle(used['half'])} of its change at half of the way; its top "
        f"lies within a quarter of a ceiling of no steering in {int(tops.sum())} of {len(tops)} "
        "cases."
    )


def _middle(values: pd.Series) -> str:
    low, middle, high = (number(values.quantile(share), ".2f") for share in (0.25, 0.5, 0.75))
    return f"{middle} ({low} to {high})"


def hides(hidden: pd.DataFrame) -> str:
    """How much of "utility falls" is left, by what stands beside it."""
    return (
        f"Utility falls on {hidden['utility falls (share)'].mean():.0%} of the sides. The answers "
        f"become less likely by {_range(-hidden['likelihood of both'])} nats (medians of the "
        f"forms), of which the preference for one of them gives back "
        f"{_range(100 * hidden['given back (share)'], '.0f')} % (median over sides of a form): the "
        "fall is more than what arithmetic ties to preference. Per token the answers lose "
        f"{_range(-hidden['per token'])} nats, and texts that have nothing to do with the trait "
        f"{_range(-hidden['unrelated text'])}."
    )


def _range(values: pd.Series, spec: str = ".2f") -> str:
    return f"{number(values.min(), spec)} to {number(values.max(), spec)}"


def short(laws: pd.DataFrame) -> str:
    """The whole in three sentences."""
    own = laws[laws["law"] == "paper"]
    parts = []
    for score, words, aim, bound in AIMS:
        both = " and ".join(
            f"{own.loc[own['kind'] == kind, score].median():.3f} of {kind}" for kind in KINDS
        )
        against = ""
        if bound:
            known = (f"{own.loc[own['kind'] == kind, bound].median():.3f}" for kind in KINDS)
            against = f" where no law at all has {' and '.join(known)}"
        parts.append(f"{words} {both}{against} (aim {aim:.2f})")
    beyond = " and ".join(
        interval(over_traits(own[own["kind"] == kind], "extrapolated"), ".2f") for kind in KINDS
    )
    less = {
        law: " and ".join(interval(paired(laws, kind, law)) for kind in KINDS)
        for law in ("cubic", "polynomial")
    }
    rises = " and ".join(
        f"{int(own.loc[own['kind'] == kind, 'rises'].sum())} of {int((own['kind'] == kind).sum())}"
        for kind in KINDS
    )
    random = " and ".join(
        f"{own.loc[own['kind'] == kind, 'random'].median():.3f}" for kind in KINDS
    )
    return (
        f"Median R² of the paper's law over {len(own) // 2} cases: {'; '.join(parts)}. Fitted in "
        f"place to random curves that are as smooth it has {random}, and in {rises} fits "
        "(preference and utility) its D rises away from 0: the formula fits, its reading as a "
        f"validity that falls off does not. Fitted within the true ceilings and read beyond them "
        f"it has {beyond}; case by case that is {less['cubic']} more than a cubic, and "
        f"{less['polynomial']} more than a polynomial with as many free numbers (95 % intervals "
        "over traits, of which there are few)."
    )


#: Of `law_quantities.intervals`, in words.
QUANTITIES = {
    "slope": "the law's slope at 0 (nats per norm)",
    "peak": "highest at m",
    "trough": "lowest at m",
    "height": "height of the top above 0 (nats)",
    "half_life_plus": "half-life, m above 0",
    "half_life_minus": "half-life, m below 0",
}


def marks(found: pd.DataFrame, slope: Interval, reach: float) -> pd.DataFrame:
    """Rows of `law_quantities.intervals` with a column `kind`, in words, below the slope of the
    curve itself (`law_quantities.slope_at_0`). A dash: no such place within the range, or not in
    nine tenths of the resamples; what lies at an end of the range, or at one place in every
    resample, is said to."""
    seen = {"curve": "preference", "what": "slope at 0, of the curve itself (nats per norm)"}
    rows = [{**seen, "value [95 %]": interval(slope)}]
    for row in found.to_dict("records"):
        told = "–"
        if row["found"] >= 0.9 and pd.notna(row["value"]):
            told = f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}]"
            if row["quantity"] in ("peak", "trough") and abs(row["value"]) >= reach - 1e-9:
                told = "at the end of the range"
            elif row["alike"] == 1:
                place = number(row["value"] + 0.0, ".2g")  # never −0
                told = f"{place} in every resample"
                if row["quantity"] == "peak":
                    told = f"every resample has its top at {place}"
        rows.append(
            {"curve": row["kind"], "what": QUANTITIES[row["quantity"]], "value [95 %]": told}
        )
    return pd.DataFrame(rows)


def slope_missed(found: pd.DataFrame, slope: Interval) -> str:
    """In words, the slope of preference at no steering beside that of the law fitted to it."""
    law = found[(found["kind"] == "preference") & (found["quantity"] == "slope")].iloc[0]
    both = (
        f"Between the points of the grid on either side of 0 preference rises by {interval(slope)} "
        f"nats per norm; the paper's law, fitted to the whole range, by {number(law['value'])} "
        f"[{number(law['low'])}, {number(law['high'])}]"
    )
    if law["high"] < slope.low or law["low"] > slope.high:
        return f"{both}: it misses the slope at 0."
    return f"{both}: the two are not told apart."


def limit(laws: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """What limits R^2 on held-out pairs, in words."""
    own, known = laws[laws["law"] == "paper"], spreads(pairs)
    said = []
    for kind in KINDS:
        mine, here = own[own["kind"] == kind], known[known["kind"] == kind]
        short = (mine["no_law"] - mine["held_out"]).median()
        said.append(
            f"{kind.capitalize()}: carried from one half of the pairs to the other, the law has a "
            f"median R² of {mine['held_out'].median():.3f}, and one half's own mean curve, without "
            f"any law, {mine['no_law'].median():.3f}: case by case the law loses "
            f"{max(short, 0):.3f} (median). Of the variance between pairs "
            f"{here['level'].median():.0%} is level, {here['size'].median():.0%} size of the "
            f"effect, {here['other'].median():.0%} shape (medians over cases); a line in the "
            f"length of the answers explains {here['length'].median():.0%}. Without a law the "
            "median over cases reaches 0.97 at "
            f"{fewest(reaching(pairs, kind, 'random'))} on a side dealt at random, and at "
            f"{fewest(reaching(pairs, kind, 'matched'))} matched in length, of the numbers tried."
        )
    return " ".join(said)


def needed(laws: pd.DataFrame, rival: str = "cubic") -> str:
    """Is the paper's law needed? Beyond the range, beside a simpler one and random curves."""
    said = []
    for kind in KINDS:
        part = laws[laws["kind"] == kind].set_index([*CASE, "law"])["extrapolated"].unstack()
        own = laws[(laws["kind"] == kind) & (laws["law"] == "paper")]
        beyond = {law: number(part[law].median(), ".2f") for law in ("paper", rival)}
        bounded = own["at_bound"] != ""
        said.append(
            f"{kind.capitalize()}: beyond the range that was fitted, the paper's law has a median "
            f"R² of {beyond['paper']}, the {rival} {beyond[rival]}; case by case the paper's has "
            f"{interval(paired(laws, kind, rival))} more, and is ahead in "
            f"{int((part['paper'] > part[rival]).sum())} of {len(part)} cases. In place it has "
            f"{own['in_place'].median():.4f} on these curves and {own['random'].median():.4f} on "
            f"random curves as smooth. In {int(own['rises'].sum())} of {len(own)} fits its "
            f"validity D rises away from 0, and in {int(bounded.sum())} a number ended at a bound "
            "or a top outside of the range."
        )
    return " ".join(said)
