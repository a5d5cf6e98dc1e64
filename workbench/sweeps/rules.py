"""Rules that choose a ceiling without knowing the coherence, checked against exact coherence.

Every rule faces two questions: how far from the truth where texts do fall apart, and how often it
calls an end where there is none. The truth is a mean over few prompts, so it comes with an interval
and with its own noise. ALERT has its authors' bound and, as a fairer rival, the one that does best
on the other traits. A constant guess, tuned on the
other traits, is the least that a rule must beat. ALERT as meant stops a grid point early;
interpolated to where its score has fallen by as much, it shows what its score is worth without that
step. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.judges import HOLDS
from workbench.statistics.crossings import CEILING_SHARE, RECOMMENDED_SHARE, crossing, settled
from workbench.statistics.curves import Floats
from workbench.statistics.intervals import percentiles
from workbench.support.tables import markdown_table
from workbench.support.wording import FIND_CEILING, signed
from workbench.sweeps.alert import alert_as_coded, alert_as_meant
from workbench.sweeps.breakage import intact
from workbench.sweeps.frames import coefficient_axis
from workbench.sweeps.marks import UNITS, Ceiling, Estimate

EXACT = "coherence halved (exact)"
CONSTANT = "constant (other traits)"
INTERPOLATED = "ALERT as meant, interpolated"
TUNED = "ALERT as meant, interpolated, fall of other traits"
RULES = (FIND_CEILING, "ALERT as meant", INTERPOLATED, TUNED, "ALERT as coded", CONSTANT)
# A safe end instead: where coherence falls to nine tenths, beside what stops short of the ceiling.
SAFE = "coherence at nine tenths (exact)"
# Of the prompts, for the interval (at this level) and the noise of the exact column.
RESAMPLES, LEVEL = 200, 0.9
# ALERT stops where its score has fallen by this share of its value at 0; others it might have.
ALERT_FALL, FALLS = 0.2, np.arange(0.05, 0.96, 0.05)


def rules_table(
    frames: Mapping[str, pd.DataFrame], ceilings: Mapping[str, Ceiling]
) -> pd.DataFrame:
    """The ceiling that `find_ceiling` gives, of the reference rule as meant (with its step back to
    the last grid point, and interpolated) and as coded, and of the facts.

    One row per trait and sign, NaN where a rule finds no end in the range. Where coherence is
    known more follow: where its mean over prompts halves (`exact_ceiling`) with the ends of its
    90 % interval, `exact_noise` of it, and the constant guess, the median size of that column over
    the other traits; and `end`, that of the swept range. `attrs["units"]` names the units of the
    coefficients: "residual norms", "raw units", or both.
    """
    rows, tunable = [], []
    for trait, ceiling in ceilings.items():
        frame = frames[trait]
        coded = alert_as_coded(frame, threshold=ALERT_FALL)
        for sign, side in ceiling.sides.items():
            meant = alert_as_meant(frame, sign=sign, threshold=ALERT_FALL)
            sizes = np.abs(meant.coefficients)
            fallen = crossing(sizes, meant.normalised, 1 - ALERT_FALL)
            tunable.append([crossing(sizes, meant.normalised, 1 - fall) for fall in FALLS])
            row = {
                "trait": trait,
                "sign": signed(sign),
                FIND_CEILING: side.ceiling.value,
                "ALERT as meant": math.nan if meant.index is None else meant.upper_bound,
                INTERPOLATED: _with_sign(sign, fallen),
                "ALERT as coded": math.nan if coded.index is None else sign * coded.upper_bound,
                "recommended": side.recommended.value,
            }
            if "coherence" in frame.columns:
                row |= _truth(frame, sign)
            rows.append(row)
    rules = pd.DataFrame(rows)
    if EXACT in rules.columns:
        rules[CONSTANT] = _constants(rules)
        rules[TUNED] = _tuned(rules, np.array(tunable))
    units = dict.fromkeys(f"{UNITS[ceiling.unit]}s" for ceiling in ceilings.values())
    rules.attrs["units"] = " and ".join(units)
    return rules


def _constants(rules: pd.DataFrame) -> pd.Series:
    """With each row's sign, the median exact size over rows of other traits; NaN if none."""
    sizes = rules[EXACT].abs()
    others = [sizes[rules["trait"] != trait].dropna() for trait in rules["trait"]]
    sign = np.where(rules["sign"] == "+", 1.0, -1.0)
    medians = [part.median() if len(part) else math.nan for part in others]
    return pd.Series(sign * np.array(medians, dtype=float), index=rules.index)


def _tuned(rules: pd.DataFrame, said: Floats) -> pd.Series:
    """What ALERT says (rows, FALLS) with the fall that comes nearest to the exact column over the
    rows of other traits, silence counting as the end of the range; NaN if there are none."""
    sizes = np.minimum(said, rules["end"].abs().to_numpy()[:, None])
    distance = np.abs(sizes - rules[EXACT].abs().to_numpy()[:, None])
    sign = np.where(rules["sign"] == "+", 1.0, -1.0)
    found = np.full(len(rules), np.nan)
    for row, trait in enumerate(rules["trait"]):
        others = distance[(rules["trait"] != trait) & rules[EXACT].notna()]
        if len(others):
            found[row] = _with_sign(sign[row], said[row, int(others.mean(axis=0).argmin())])
    return pd.Series(found, index=rules.index)


def exact_ceiling(frame: pd.DataFrame, sign: int, share: float = CEILING_SHARE) -> float:
    """Where mean coherence first falls below a share of its value at 0; NaN if it never does.

    The mean is over prompts, made to fall along the coefficient; the first break that lasts
    counts, as in `find_ceiling`. Raises ValueError where the coherence of unsteered texts is 0.
    """
    return _with_sign(sign, _falls(*_coherence(frame, sign), share))


def _truth(frame: pd.DataFrame, sign: int) -> dict[str, float]:
    """The exact columns of one row."""
    grid, values = _coherence(frame, sign)
    rng = np.random.default_rng(0)
    count, half = len(values), len(values) // 2
    drawn = [_falls(grid, values[rng.integers(0, count, count)]) for _ in range(RESAMPLES)]
    low, high = percentiles(drawn, LEVEL)
    apart = []
    for _ in range(RESAMPLES):
        order = rng.permutation(count)
        one, other = (_falls(grid, values[part]) for part in (order[:half], order[half:]))
        apart.append(abs(one - other) if math.isfinite(one + other) else math.nan)
    # A half errs by root 2 of what the whole does, and the distance of two by root 2 of that.
    known = [distance / 2 for distance in apart if math.isfinite(distance)]
    return {
        EXACT: _with_sign(sign, _falls(grid, values)),
        SAFE: _with_sign(sign, _falls(grid, values, RECOMMENDED_SHARE)),
        "exact_low": sign * low,
        "exact_high": sign * high,
        "exact_noise": float(np.mean(known)) if known else math.nan,
        "end": sign * float(grid[-1]),
    }


def _coherence(frame: pd.DataFrame, sign: int) -> tuple[Floats, Floats]:
    """The coefficients of one side from 0 outwards (K,), and coherence there (P, K)."""
    axis, _ = coefficient_axis(frame)
    side = frame[(frame["vector"] == "vector") & (sign * frame[axis] >= 0)]
    table = side.assign(size=side[axis].abs()).pivot_table(
        index="prompt_index", columns="size", values="coherence"
    )
    return table.columns.to_numpy(dtype=float), table.to_numpy(dtype=float)


def _falls(grid: Floats, values: Floats, share: float = CEILING_SHARE) -> float:
    """Where the mean of values (P, K) falls below a share of its start; infinite if it does not."""
    return crossing(grid, settled(values, share), share)


def _with_sign(sign: float, size: float) -> float:
    """A coefficient from its size, NaN for one that is beyond the range."""
    return sign * size if math.isfinite(size) else math.nan


def rules_verdict(rules: pd.DataFrame) -> str:
    """How far each rule of `rules_table` lies from the exact column, and its false alarms: a
    sentence and a table, as Markdown."""
    if EXACT not in rules.columns:
        return "No judge knows the coherence of these texts, so the rules cannot be checked here."
    traits, ends = rules["trait"].nunique(), int(rules[EXACT].notna().sum())
    alarms = ends < len(rules)  # without a curve that holds there is nothing to be wrong about
    table = distances_table(rules)
    if not alarms:
        table = table.drop(columns="false alarms")
    return (
        f"Exact coherence halves on {ends} of {len(rules)} curves, of {_counted(traits, 'trait')}. "
        f"Distance from there, in {rules.attrs['units']}: the mean, the least and the greatest "
        "over curves, which share traits and prompts, so that no interval is given for so few; on "
        "how many curves a rule finds no end where there is one (*silent*), and the mean distance "
        "if it is then taken to say the end of the range"
        + ("; and on how many an end where there is none (*false alarms*)" if alarms else "")
        + ". The exact column itself errs, as it is a mean over these prompts: by "
        f"{rules['exact_noise'].mean():.2f} on average (half the mean distance between what two "
        "halves of the prompts give), beside what lies between grid points.\n\n"
        + markdown_table(table, ".2f")
        + f"\n\n{_safe(rules)}"
    )


def _safe(rules: pd.DataFrame) -> str:
    """How far the two stops short of the ceiling lie from where coherence is still nine tenths."""
    away = [(rules[rule] - rules[SAFE]).abs().mean() for rule in ("recommended", "ALERT as meant")]
    return (
        "ALERT's fall of a fifth is meant as a safe stop, as *recommended* is: from where mean "
        f"coherence falls to nine tenths of its start, *recommended* lies {away[0]:.2f} away on "
        f"average and ALERT as meant {away[1]:.2f}."
    )


def distances_table(rules: pd.DataFrame) -> pd.DataFrame:
    """One row per rule of `rules_table`: on how many `curves` both it and the facts see an end, the
    mean `distance` between the two, the `least` and the `greatest`, `silent`, the distance `with
    silence as the range's end`, and `false alarms`, as `rules_verdict` words them. Raises KeyError
    for a table without the exact column."""
    exact = rules[EXACT]
    ends = exact.notna()
    rows = []
    for rule in RULES:
        distance = (rules[rule] - exact).abs()
        silent, alarms = rules[rule].isna() & ends, rules[rule].notna() & ~ends
        rows.append(
            {
                "rule": rule,
                "distance": distance.mean(),
                "least": distance.min(),
                "greatest": distance.max(),
                "curves": int(distance.notna().sum()),
                "silent": f"{int(silent.sum())} of {int(ends.sum())}",
                "with silence as the range's end": (
                    (rules[rule].fillna(rules["end"]) - exact).abs().mean()
                ),
                "false alarms": f"{int(alarms.sum())} of {int((~ends).sum())}",
            }
        )
    return pd.DataFrame(rows)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def shown_rules(rules: pd.DataFrame) -> pd.DataFrame:
    """`rules_table` as a reader sees it: the exact column with its interval in one cell."""
    if EXACT not in rules.columns:
        return rules
    cells = [
        str(Estimate(*ends))
        for ends in rules[[EXACT, "exact_low", "exact_high"]].itertuples(index=False)
    ]
    table = rules.drop(columns=["exact_low", "exact_high", "exact_noise", "end", SAFE])
    return table.assign(**{EXACT: cells})


def flags_table(frame: pd.DataFrame, *, doubtful: bool = False) -> pd.DataFrame:
    """How many of the vector's texts are called intact or broken, against their exact coherence.

    frame     a sweep; unsteered texts count too, texts of unknown coherence do not
    doubtful  only those coefficients at which a tenth to nine tenths of the texts are coherent:
              elsewhere it is easy to be right

    Rows "intact" and "broken" (gibberish, loops or empty, see `breakage.intact`), columns
    "coherent" and "incoherent". Raises ValueError for a frame without coherence.
    """
    if "coherence" not in frame.columns:
        raise ValueError(f"the frame has no column 'coherence'; it has {list(frame.columns)}")
    judged = intact(frame)
    known = judged[(judged["vector"] == "vector") & judged["coherence"].notna()]
    if doubtful:
        share = (known["coherence"] >= HOLDS).groupby(known["coefficient"]).transform("mean")
        known = known[share.between(0.1, 0.9)]
    kept, good = known["intact"], known["coherence"] >= HOLDS
    return pd.DataFrame(
        {
            name: [int((whole & right).sum()) for whole in (kept, ~kept)]
            for name, right in (("coherent", good), ("incoherent", ~good))
        },
        index=["intact", "broken"],
    )
