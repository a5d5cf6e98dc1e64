"""Several judges of the same texts side by side, and what came of it in words.

How good a judge must be is measured in faults.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from workbench import judges
from workbench.judges import HOLDS, Judge
from workbench.studies.ceiling_findings import ceiling_estimate
from workbench.studies.faults import own_bound
from workbench.support.wording import FIND_CEILING, number, signed
from workbench.sweeps.breakage import intact
from workbench.sweeps.frames import coefficient_axis

#: Beside the judges: whether `find_ceiling`, which asks none, calls a text intact.
UNJUDGED = FIND_CEILING
#: The least probability of rating tokens at which a local judge can be said to answer.
ANSWERS = 0.5
_SERVICES = {"anthropic": judges.AnthropicBatches, "openai": judges.OpenAIChat}
_SET = (
    "name a model in the environment, JUDGE_MODEL=openai:NAME (its key in OPENAI_API_KEY; another "
    "endpoint that speaks its protocol: JUDGE_URL) or JUDGE_MODEL=anthropic:NAME (its key in "
    "ANTHROPIC_API_KEY), and set its prices in the first cell"
)


def hosted(
    prices: tuple[float, float], limit: float, meanings: Mapping[str, str]
) -> judges.HostedJudge | None:
    """The hosted judge that the environment names, None where it names none: nothing is paid for
    that nobody asked for.

    JUDGE_MODEL  "openai:NAME" or "anthropic:NAME"
    JUDGE_URL    the endpoint, if it is not the service's own
    prices       dollars per million tokens, in and out; with them `limit` dollars are the most that
                 is spent

    Raises ValueError for a JUDGE_MODEL of another form.
    """
    named = os.environ.get("JUDGE_MODEL", "").strip()
    if not named:
        return None
    service, _, model = named.partition(":")
    if service not in _SERVICES or not model:
        raise ValueError(f"JUDGE_MODEL is {named!r}: {_SET}")
    url = os.environ.get("JUDGE_URL", "").strip()
    where = _SERVICES[service](model, **({"base_url": url} if url else {}))
    return judges.HostedJudge(where, meanings, judges.Prices(*prices), limit)


def price(
    frame: pd.DataFrame,
    trait: str,
    judge: judges.HostedJudge | None,
    prices: tuple[float, float],
    limit: float,
) -> str:
    """In words, what rating all texts of a sweep would cost at most, and how to ask for it. Asks
    nobody."""
    some = judge or judges.HostedJudge(judges.OpenAIChat("any"), prices=judges.Prices(*prices))
    cost = some.estimate(*_texts(frame), trait, finish=list(frame["finish"]))
    said = (
        f"{cost.texts} texts, {cost.requests} to be sent ({cost.texts - cost.requests} are copies "
        f"or rated already): at most {cost.input_tokens} tokens in and {cost.output_tokens} out, "
        f"${cost.dollars:.2f} at ${prices[0]:g} and ${prices[1]:g} a million."
    )
    if judge is None:
        return f"{said} No hosted judge is asked: {_SET}."
    return f"{said} {judge.label} is asked; it may spend ${limit:g}."


def paid(judge: judges.HostedJudge | None) -> str:
    """In words, what a hosted judge has used."""
    if judge is None:
        return "No hosted judge was asked."
    spent = judge.spent
    return (
        f"{judge.label} was asked: {spent.requests} requests, {spent.input_tokens} tokens in, "
        f"{spent.output_tokens} out, ${spent.dollars or 0:.4f} in this run; what was kept from "
        "former ones cost nothing."
    )


def grade(frame: pd.DataFrame, by: Mapping[str, Judge], trait: str) -> dict[str, pd.DataFrame]:
    """What each judge says of all texts of a sweep, rows in its order, and `UNJUDGED` beside them.

    A judge that cannot be asked here (no token for a rating, no key, no SDK) rates nothing: NaN,
    its status "refused" and why. Columns as of `judges.score`.
    """
    graded = {}
    for name, judge in by.items():
        try:
            graded[name] = judges.score(
                *_texts(frame), trait, by=judge, finish=list(frame["finish"])
            )
        except (ValueError, ImportError) as error:
            nothing = {"trait": np.nan, "coherence": np.nan, "status": "refused"}
            graded[name] = pd.DataFrame({**nothing, "reason": str(error)}, index=range(len(frame)))
    graded[UNJUDGED] = unjudged(frame)
    return graded


def unjudged(frame: pd.DataFrame) -> pd.DataFrame:
    """What the package reads off a sweep by itself, as a judge's frame: coherence 1 of intact texts
    and 0 of broken ones (breakage.py), no trait."""
    coherence = intact(frame)["intact"].astype(float).to_numpy()
    return pd.DataFrame({"trait": np.nan, "coherence": coherence, "status": "ok", "reason": ""})


def _texts(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    return list(frame["text"].fillna("").map(str)), list(frame["prompt"].map(str))


def summary(graded: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per judge: how many texts have each rating, their means, the median `mass` of rating
    tokens where it is known, and how many texts were not rated for what reason."""
    rows = []
    for name, own in graded.items():
        rows.append(
            {
                "judge": name,
                **{
                    f"{measure} rated": f"{int(own[measure].notna().sum())} of {len(own)}"
                    for measure in ("trait", "coherence")
                },
                "mean trait": own["trait"].mean(),
                "mean coherence": own["coherence"].mean(),
                "on rating tokens": f"{own['mass'].median():.2g}" if "mass" in own else "–",
                "failed": _failed(own),
            }
        )
    return pd.DataFrame(rows)


def _failed(own: pd.DataFrame) -> str:
    """How many texts have each status that is a failure, and the first reason."""
    bad = own[~own["status"].isin(["ok", "unrated"])]
    if bad.empty:
        return "–"
    counts = ", ".join(f"{n} {status}" for status, n in bad["status"].value_counts().items())
    return f"{counts}: {bad['reason'].iloc[0][:80]}"


def agreements(graded: Mapping[str, pd.DataFrame], prompts: pd.Series) -> pd.DataFrame:
    """One row per pair of judges and measure: `kappa`, `low`, `high` (95 %, over prompts), how many
    `texts` both rated, `prompts`, `left_out`; NaN where nothing can be compared."""
    rows = []
    for one, other in combinations(graded, 2):
        found = judges.agreement(graded[one], graded[other], groups=prompts.to_numpy())
        for measure, row in found.rename(columns={"groups": "prompts"}).iterrows():
            rows.append({"judge": one, "other": other, "measure": str(measure), **row})
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(("texts", "prompts", "left_out"), int))


def ceilings_by_judge(frame: pd.DataFrame, graded: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The ceiling of each sign that each judge's coherence gives: where fewer than half of the
    texts score a half, and where fewer than half score the judge's own bound (faults.py), in words
    with 90 % intervals over prompts; "none in range", and a dash where no unsteered text is
    coherent."""
    axis, _ = coefficient_axis(frame)
    size = frame[axis].astype(float).abs().to_numpy()
    rows = []
    for name, own in graded.items():
        score = own["coherence"].to_numpy(dtype=float)
        if np.isnan(score).all():
            continue
        row: dict[str, Any] = {"judge": name}
        for words, bound in (("", HOLDS), (", own bound", own_bound(score, size))):
            holds = pd.Series(np.where(score >= bound, 1.0, 0.0), index=frame.index)
            held = frame.assign(coherence=holds, coefficient_norm=frame[axis])
            row |= {f"{signed(sign)}{words}": _ceiling(held, sign) for sign in (1, -1)}
        rows.append(row)
    return pd.DataFrame(rows)


def _ceiling(held: pd.DataFrame, sign: int) -> str:
    found = ceiling_estimate(held, sign)
    return "none in range" if np.isinf(found.value) else str(found)


def agreement_said(graded: Mapping[str, pd.DataFrame], table: pd.DataFrame) -> str:
    """How the first judge agrees with every other, and whether local models answer at all."""
    first, said = next(iter(graded)), []
    for row in table[table["judge"] == first].to_dict("records"):
        if np.isfinite(row["kappa"]):
            said.append(
                f"{row['measure']} by *{row['other']}*: {_kappa(row)} ({row['texts']} texts)"
            )
    against = f"Agreement with *{first}*: {'; '.join(said)}." if said else ""
    notes = []
    for name, own in graded.items():
        if "mass" in own and own["mass"].notna().any():
            mass = own["mass"].median()
            notes.append(
                f"*{name}* puts {mass:.1g} of its probability (median) on rating tokens: "
                + (
                    "it answers what it is asked."
                    if mass >= ANSWERS
                    else "it does not answer what it is asked, and its scores are no evidence, "
                    "whatever they agree with."
                )
            )
    return " ".join([against, *notes]).strip() or "No two judges can be compared."


def _kappa(row: Mapping[str, Any]) -> str:
    return f"{number(row['kappa'])} [{number(row['low'])}, {number(row['high'])}]"
