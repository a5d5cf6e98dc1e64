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
from workbench.statistics.crossings import Bools, crossing, settled
from workbench.statistics.intervals import Floats
from workbench.support import tables
from workbench.support.wording import number
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


def shown_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean |log(predicted / true)| of every rule with its interval in words, the best first, and
    of how many sides of sweeps: a rule that needs a study of its own was asked about fewer.
    *Sees none*: the share where a rule sees no ceiling, and is held to say the range's end."""
    ordered = errors.sort_values("other traits")
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


def errors_verdict(found: Mapping[str, Any]) -> str:
    """How far ahead of its best rival the shipped rule is, and how much could be won at all."""
    half = found["error_of_best_rival"] <= 0.5
    clear = found["difference_low"] > 0
    return (
        f"On {found['sides'] - found['without_ceiling']} sides of sweeps of {found['models']} "
        f"model{'s' if found['models'] > 1 else ''}, `find_ceiling` is off by "
        f"{found['error']:.3f} where its best rival, {found['rival']}, tuned in the same way, is "
        f"off by {found['error'] / found['error_of_best_rival']:.3f}: "
        f"{found['error_of_best_rival']:.2f} of its error "
        f"({'' if half else 'not '}at most a half, which was the aim). The difference is "
        f"{number(found['difference'], '+.3f')} [{number(found['difference_low'], '+.3f')}, "
        f"{number(found['difference_high'], '+.3f')}], "
        f"{'clear' if clear else 'not clear'} of zero. Resampling the prompts moves the true "
        f"ceiling itself by {found['noise_floor']:.3f}. Rule and truth read the same texts, so "
        "this limits what an error means for other prompts, not how small it can be."
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
        "the prompts show the greatest gain in whole texts they see "
        f"{part('_apart_own')} of their own, and the other half {part('_apart_seen')} of theirs. "
        f"At the last coefficient that keeps nine tenths of the texts whole, trait or not, it is "
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
    ("captured_safe", "… were one given wherever most texts stay whole, effect or not", None, 1),
    ("captured_seen", "… where the sweep itself shows the greatest gain in whole texts", None, 1),
    ("captured_apart", "… of half of the prompts, seen on the others (0 where none)", None, 1),
    ("captured_apart_safe", "… the same, wherever most of their texts stay whole", None, 1),
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
    parts = pairs.load(f"wren-{trait}").split(seed=seed)
    vector = extract(
        lm, parts.extract, positions=positions.generated, held_out=0, layer=layer, quiet=True
    )
    now = sweep(
        lm,
        vector,
        parts.select.prompts[: settings["prompts"]],
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
        f"True ceiling of {trait} at layer {layer}, in residual norms: {said}.",
    )


def _holding(frame: pd.DataFrame) -> pd.Series:
    size = frame["coefficient_norm"].astype(float).round(2)
    holds = frame.assign(holds=frame["coherence"] >= HOLDS, coefficient=size)
    return holds.groupby("coefficient")["holds"].mean()


def ceiling_of(frame: pd.DataFrame, sign: int) -> float:
    """The true ceiling of one sign of a sweep with exact coherence; see `true_ceiling`."""
    side = frame.assign(
        size=(sign * frame["coefficient_norm"]).astype(float).round(6),
        holds=frame["coherence"] >= HOLDS,
    )
    wide = side[side["size"] >= 0].pivot(index="prompt_index", columns="size", values="holds")
    return true_ceiling(np.asarray(wide.columns, dtype=float), wide.to_numpy(dtype=bool))


def true_ceiling(grid: Floats, holds: Bools) -> float:
    """Where the share of texts that hold, among the prompts whose unsteered text holds, falls below
    a half (isotonic, interpolated); infinite beyond the range, NaN where no unsteered text holds.

    grid   (K,) sizes of the coefficients, from 0 outwards
    holds  (P, K) whether the exact coherence of each text is at least `HOLDS`
    """
    kept = holds[holds[:, 0]].astype(float)
    return crossing(grid, settled(kept, 0.5), 0.5) if len(kept) else math.nan
