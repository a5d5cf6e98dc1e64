"""What was found on one side of a sweep, in words with numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from workbench.statistics.crossings import FEWEST, RECOMMENDED_SHARE, bounded_from_below
from workbench.statistics.effects import Effect


def about_effect(
    reached: pd.DataFrame,
    signal: str | None,
    effect: Effect,
    p: float,
    prompts: int,
    able: int | None,
    draws: int,
) -> list[str]:
    """Why the effect is called as it is.

    reached  the side's curve up to the ceiling, see `marks.Side`
    able     how many prompts are not at the end of the trait's scale already, None without one
    draws    how many random vectors it was compared with
    """
    if signal is None:
        return [
            "no judge measured the trait and no random control was swept, so nothing says whether "
            "the vector does more than any other: sweep with judges, or controls=('random',)"
        ]
    moved = reached["moved"].dropna()
    strongest = float(moved[moved.abs().idxmax()]) if len(moved) else 0.0
    there = int(reached["moved_prompts"][moved.abs().idxmax()]) if len(moved) else 0
    end = abs(reached["coefficient"].iloc[-1])
    random = "one random vector" if draws == 1 else f"the mean of {draws} random vectors"
    what, than = _measure(signal), f" and than under {random}" if draws else ""
    tested = f"(p = {p:.2g}, {prompts} prompts)"
    if effect == "unknown" and able is not None and able < prompts:
        return [
            f"{prompts - able} of {prompts} unsteered texts are at this end of the trait's scale "
            "already, too many to tell an effect from chance: give prompts that are not"
        ]
    if effect == "unknown":
        return [
            f"{prompts} prompts are too few to tell an effect from chance: give {FEWEST} or more"
        ]
    if effect == "no effect":
        return [f"{what} does not move by more than chance{than} up to {end:.3g} {tested}"]
    if effect == "wrong way":
        return [f"{what} moves the wrong way, by up to {strongest:+.2f} in intact texts {tested}"]
    said = [
        f"{what} moves more than chance{than}, over all coefficients up to {end:.3g} {tested}; "
        f"the largest mean of them is {strongest:+.2f}, of {there} intact texts"
    ]
    if signal == "kl":
        said.append("no judge measured the trait: which way it moves is not known")
    elif not draws:
        said.append("no random control was swept: another vector might do the same")
    return said


def about_controls(furthest: Mapping[str, tuple[float, int]]) -> list[str]:
    """How far other controls move the trait up to the ceiling, and of how many intact texts that
    is the mean: what they do is not the trait's."""
    return [
        f"under the control {name!r} it moves by up to {value:+.2f} ({count} intact texts)"
        for name, (value, count) in furthest.items()
        if not math.isnan(value)
    ]


def about_order(onset: float, recommended: float, signal: str | None) -> list[str]:
    """That the recommended coefficient lies nearer to 0 than the onset, where it does; either may
    be NaN."""
    if not abs(recommended) < abs(onset):
        return []
    what = "an effect" if signal is None or signal == "kl" else _measure(signal)
    return [f"recommended lies below the onset: at it {what} is not yet seen"]


def about_breaking(
    curve: pd.DataFrame,
    collapses: bool,
    back: int | None,
    left_out: int,
    prompts: int,
    level: float,
) -> list[str]:
    """How the texts of one side break, and what the intervals cannot say.

    back      place in the curve from which on texts are intact again, None if none
    left_out  prompts whose unsteered text is broken
    """
    last = curve.iloc[-1]
    end = abs(last["coefficient"])
    said = []
    if collapses:
        worst = curve.loc[curve["intact"].idxmin()]
        kinds = {"gibberish": "gibberish", "loop": "loops", "empty": "empty"}
        for place in {worst.name: worst, last.name: last}.values():
            shares = ", ".join(f"{place[kind]:.0%} {word}" for kind, word in kinds.items())
            said.append(
                f"at {abs(place['coefficient']):.3g}, {1 - place['intact']:.0%} of the texts are "
                f"broken ({shares})"
            )
    else:
        said.append(f"{last['intact']:.0%} of the texts are intact at {end:.3g}")
    if back is not None:
        said.append(
            f"from {abs(curve['coefficient'].iloc[back]):.3g} on texts are intact again, up to "
            f"{curve['intact'].iloc[back:].max():.0%} of them: only the first break counts"
        )
    if left_out:
        said.append(
            f"left out: {left_out} of {prompts + left_out} prompts, whose unsteered text is broken"
        )
    if prompts < FEWEST:
        said.append(f"no intervals from {prompts} prompts: give {FEWEST} or more")
    elif not bounded_from_below(prompts, RECOMMENDED_SHARE, level):
        said.append(f"{prompts} prompts cannot bound the recommended coefficient from below")
    return said


def _measure(signal: str) -> str:
    return "KL beyond the random control's" if signal == "kl" else f"the {signal}"
