"""What the study of ceilings found (benchmarks/study_ceilings.py and detector.py), in words and
tables, and one of its sweeps once more.

Reads saved tables; knows nothing of how rules work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench import judges
from workbench.contrast import pairs
from workbench.extraction.extract import extract
from workbench.judges import HOLDS
from workbench.statistics.crossings import Bools, crossing, limits, reentry, settled
from workbench.statistics.intervals import Floats, Interval
from workbench.support import tables
from workbench.support.wording import FIND_CEILING, interval, number
from workbench.sweeps.marks import Estimate
from workbench.sweeps.sweep import sweep
from workbench.text import positions

if TYPE_CHECKING:
    from workbench.loading.models import LM

_KINDS = {
    "other traits": "threshold of other traits",
    "other models": "threshold of other models",
    "published": "authors' threshold",
    "other prompts": "other traits, seen on other prompts",
}
#: What the study calls the rule of `find_ceiling`, and what readers know it by.
_NAMED = {"share intact": FIND_CEILING}


def names(directory: str | Path) -> list[str]:
    """The study's tables of texts that are in a report's folder."""
    return [name for name in tables.table_names(directory) if name.startswith("study_ceilings_")]


def studied(directory: str | Path) -> str:
    """In words, the models of the study and how many seeds of each."""
    said = []
    for name in names(directory):
        seeds = tables.load_table(name, directory=directory)["seed"].nunique()
        model = name.removeprefix("study_ceilings_")
        said.append(f"{model}: {seeds} seed{'s' if seeds > 1 else ''}")
    return "; ".join(said) or "no model"


def findings(errors: pd.DataFrame) -> dict[str, Any]:
    """The figures that benchmarks/detector.py left beside its table of errors, by name."""
    return {
        key: value
        for key, value in errors.attrs.items()
        if isinstance(value, int | float | str) and key not in ("sha256", "rows")
    }


def named(table: pd.DataFrame) -> pd.DataFrame:
    """A table of the study's rules (column `rule`) with the names that readers know."""
    return table.assign(rule=table["rule"].replace(_NAMED))


def shown_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean |log(predicted / true)| of every rule with its interval in words, the best first, and
    of how many sides of sweeps: a rule that needs a study of its own was asked about fewer.
    *Sees none*: the share where a rule sees no ceiling, and is held to say the range's end."""
    ordered = named(errors).sort_values("other traits")
    shown = pd.DataFrame({"rule": ordered["rule"]})
    for kind, words in _KINDS.items():
        if kind in ordered:
            ends = zip(*(ordered[c] for c in (kind, f"{kind}, low", f"{kind}, high")), strict=True)
            shown[words] = [
                "–" if pd.isna(value) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
                for value, low, high in ends
            ]
    shown["sees none"] = [f"{value:.0%}" for value in ordered["sees none"]]
    shown["sides"] = ordered["sides"].to_numpy()
    shown["in residual norms"] = [f"{value:.3f}" for value in ordered["in norms"]]
    return shown.reset_index(drop=True)


def error_of(errors: pd.DataFrame, rule: str = FIND_CEILING) -> Interval:
    """Mean |log(predicted / true)| of one rule at the threshold of the other traits, with its 95 %
    interval over traits. Raises KeyError for a rule that is not in the table."""
    row = named(errors).set_index("rule").loc[_NAMED.get(rule, rule)]
    value, low, high = (float(row[f"other traits{end}"]) for end in ("", ", low", ", high"))
    return Interval(value, low, high, int(row["sides"]))


def errors_verdict(errors: pd.DataFrame) -> str:
    """How far off `find_ceiling` and its best rival are, how far apart, whether the aim (half of
    the rival's error) is met, and how much could be won at all; `errors` is the table of
    benchmarks/detector.py."""
    found = findings(errors)
    ratio = found["error_of_best_rival"]
    clear = found["difference_low"] > 0 or found["difference_high"] < 0
    difference, low, high = (
        number(found[f"difference{end}"], "+.3f") for end in ("", "_low", "_high")
    )
    ours, rival = (interval(error_of(errors, found[who]), ".3f") for who in ("ours", "rival"))
    return (
        f"On {found['sides'] - found['without_ceiling']} sides of sweeps of {found['models']} "
        f"model{'s' if found['models'] > 1 else ''}, `find_ceiling` is off by "
        f"{ours}; its best rival, {found['rival']}, its threshold chosen in the same way, by "
        f"{rival}. The rival's error less that of `find_ceiling`, side by side: "
        f"{difference} [{low}, {high}], {'' if clear else 'not '}clear of zero. The aim was "
        f"at most half of the rival's error; it is {ratio:.2f} times the rival's error, so the aim "
        f"is {'met' if ratio <= 0.5 else 'missed'}. Intervals are 95 %, over traits. Resampling "
        f"the prompts moves the true ceiling itself by {found['noise_floor']:.3f}. Rule and truth "
        "read the same texts, so this limits what an error means for other prompts, not how small "
        "it can be."
    )


def gains_verdict(found: Mapping[str, Any]) -> str:
    """What recommended coefficients capture, where the rest is lost, and whether chasing the
    greatest gain would do better. Empty where that was not measured."""
    if "captured_more" not in found:
        return ""

    def part(name: str, spec: str = ".0%") -> str:
        value, low, high = (
            number(found[f"captured{name}{end}"], spec) for end in ("", "_low", "_high")
        )
        return f"{value} [{low}, {high}]"

    reached = found["captured"] >= 0.9
    clear = found["captured_more_low"] > 0 or found["captured_more_high"] < 0
    return (
        f"Recommended coefficients capture {part('')} of the greatest gain on the sweep (at least "
        f"90 % was the aim, {'met' if reached else 'missed'}): {part('_said')} where one is given, "
        "and nothing where none is. The greatest gain flatters whoever chases it: where half of "
        "the prompts show the greatest gain in intact texts they see "
        f"{part('_apart_own')} of their own, and the other half {part('_apart_seen')} of theirs. "
        f"At the last coefficient that keeps nine tenths of the texts intact, trait or not, it is "
        f"{part('_apart_safe')}: {part('_more', '+.0%')} more, {'' if clear else 'not '}clear of "
        "zero."
    )


#: What is claimed: name of the figure, in words, the aim, and which way is better (1 up, -1 down).
CLAIMS: tuple[tuple[str, str, float | None, int], ...] = (
    ("covered", "the ceiling's 90 % interval holds the true one of other prompts", 0.9, 1),
    ("agreed", "… the true one of the same texts", None, 1),
    (
        "no_collapse_short",
        "no collapse in range, said of ranges that end at .3 to .9 of it",
        0.95,
        1,
    ),
    ("no_collapse_far", "… of those, to .3 to .75", None, 1),
    ("no_collapse_middle", "… of those, to .75 to .9", None, 1),
    ("no_collapse_near", "… ranges to .9 to 1 of it", None, 1),
    ("collapse", "collapse seen, in ranges that end well beyond", 0.95, 1),
    ("no_effect", "no effect, of random and shuffled-label directions", 0.95, 1),
    ("effect", "an effect, of directions made with the trait", None, 1),
    ("recommended", "signs that get a recommended coefficient", None, 1),
    ("captured", "gain in trait there (0 where there is none), by the greatest", 0.9, 1),
    ("captured_said", "… where there is one", None, 1),
    ("captured_safe", "… were one given wherever most texts stay intact, effect or not", None, 1),
    ("captured_seen", "… where the sweep itself shows the greatest gain in intact texts", None, 1),
    ("captured_apart", "… of half of the prompts, seen on the others (0 where none)", None, 1),
    ("captured_apart_safe", "… the same, wherever most of their texts stay intact", None, 1),
    ("captured_apart_seen", "… the same, where they show the greatest gain", None, 1),
    ("captured_apart_exact", "… the same, with exact coherence known", None, 1),
    ("apart_hold", "texts that hold where half of the prompts recommend, of the others", None, 1),
    ("apart_below_half", "… fewer than half of them hold", 0.1, -1),
    ("apart_below_nine_tenths", "… fewer than nine tenths", None, -1),
    ("breaks_told", "texts rightly told to break or not, where in doubt", None, 1),
    ("breaks_guessed", "… by saying what is more frequent at the coefficient", None, 1),
)


def claims(found: Mapping[str, Any]) -> pd.DataFrame:
    """What else is claimed, with 95 % intervals over traits, and whether the aim is met:
    "yes" by the whole interval, "perhaps" by the value alone. Claims that were not measured are
    left out."""
    rows = []
    for name, words, aim, way in CLAIMS:
        if name not in found:
            continue
        value, low, high = (found[f"{name}{end}"] for end in ("", "_low", "_high"))
        row = {"claim": words, "seen": f"{value:.0%} [{low:.0%}, {high:.0%}]"}
        if aim is None:
            row |= {"aim": "–", "met": "–"}
        else:
            worst = low if way > 0 else high
            met = "yes" if way * (worst - aim) >= 0 else "perhaps"
            row["aim"] = f"at {'least' if way > 0 else 'most'} {aim:.0%}"
            row["met"] = met if way * (value - aim) >= 0 else "no"
        row |= {"sides": found[f"{name}_of"], "traits": found[f"{name}_clusters"]}
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True, eq=False)
class Again:
    """A sweep of the study and the same one made now: the share of texts that hold by coefficient,
    and in words where both put the true ceiling."""

    table: pd.DataFrame
    said: str


def rerun(lm: LM, directory: str | Path, trait: str = "mood", seed: int = 0) -> Again | None:
    """One sweep of the study once more: difference of means, middle layer. None where the study is
    of other weights."""
    table = tables.load_table("study_ceilings_wren", directory=directory)
    if table.attrs["weights"] != lm.fingerprint:
        return None
    settings, layer = table.attrs["settings"], lm.layers // 2
    before = table[
        (table["trait"] == trait)
        & (table["layer"] == layer)
        & (table["method"] == "mean_difference")
        & (table["seed"] == seed)
    ]
    splits = pairs.load(f"wren-{trait}").split(seed=seed)
    vector = extract(
        lm, splits.extract, positions=positions.generated, held_out=0, layer=layer, quiet=True
    )
    now = sweep(
        lm,
        vector,
        splits.select.prompts[: settings["prompts"]],
        sorted(before["coefficient_norm"].astype(float).unique()),
        new_tokens=settings["new_tokens"],
        temperature=1.0,
        seed=seed,
        trait=trait,
        judges=[judges.exact],
        kl=False,
        progress=False,
    )
    shares = {"study": _holding(before), "now": _holding(now)}
    ceilings = {
        name: {sign: ceiling_of(frame, sign) for sign in (1, -1)}
        for name, frame in (("study", before), ("now", now))
    }
    said = "; ".join(
        f"{'+' if sign > 0 else '−'}: {ceilings['study'][sign]:.3f} in the study, "
        f"{ceilings['now'][sign]:.3f} now"
        for sign in (1, -1)
    )
    return Again(
        pd.DataFrame(shares).round(2).reset_index(),
        f"True ceiling (by the exact judge) of {trait} at layer {layer}, in residual norms: "
        f"{said}.",
    )


def _holding(frame: pd.DataFrame) -> pd.Series:
    size = frame["coefficient_norm"].astype(float).round(2)
    holds = frame.assign(holds=frame["coherence"] >= HOLDS, coefficient=size)
    return holds.groupby("coefficient")["holds"].mean()


def ceiling_of(frame: pd.DataFrame, sign: int) -> float:
    """The true ceiling of one sign of a sweep with exact coherence; see `true_ceiling`."""
    return true_ceiling(*_side(frame, sign))


def ceiling_estimate(frame: pd.DataFrame, sign: int, level: float = 0.9) -> Estimate:
    """The same with its sign and an interval over prompts by exact binomial tests (crossings.py),
    as `find_ceiling` has it; NaN ends where prompts are too few."""
    grid, holds = _side(frame, sign)
    kept = holds[holds[:, 0]]
    if not len(kept):
        return Estimate(math.nan, math.nan, math.nan)
    back = reentry(kept.mean(axis=0), 0.5)
    ends = limits(grid, kept, 0.5, back or len(grid), level)
    return Estimate(sign * true_ceiling(grid, holds), *(sign * end for end in ends))


def _side(frame: pd.DataFrame, sign: int) -> tuple[Floats, Bools]:
    """The sizes of one sign's coefficients (K,), and whether each text holds (P, K)."""
    side = frame.assign(
        size=(sign * frame["coefficient_norm"]).astype(float).round(6),
        holds=frame["coherence"] >= HOLDS,
    )
    wide = side[side["size"] >= 0].pivot(index="prompt_index", columns="size", values="holds")
    return np.asarray(wide.columns, dtype=float), wide.to_numpy(dtype=bool)


def true_ceiling(grid: Floats, holds: Bools) -> float:
    """Where the share of texts that hold, among the prompts whose unsteered text holds, falls below
    a half (isotonic, interpolated); infinite beyond the range, NaN where no unsteered text holds.

    grid   (K,) sizes of the coefficients, from 0 outwards
    holds  (P, K) whether the exact coherence of each text is at least `HOLDS`
    """
    kept = holds[holds[:, 0]].astype(float)
    return crossing(grid, settled(kept, 0.5), 0.5) if len(kept) else math.nan
