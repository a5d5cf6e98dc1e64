"""How much lower the ceiling of longer texts is, as a table and a sentence.

That it is not higher follows from the definition: a text without a break by token 48 has none by
token 12. Only the size of the step is a finding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.statistics.crossings import crossing, settled
from workbench.statistics.intervals import percentiles
from workbench.support.wording import listed, signed
from workbench.sweeps.marks import Estimate
from workbench.sweeps.survival import (
    SHARES,
    break_tokens,
    by_prompt,
    ceilings_by_length,
    exact_break_tokens,
)

RESAMPLES, LEVEL = 1000, 0.9


class Step(NamedTuple):
    """The ceiling of the longest texts over that of the shortest, half of the texts each: with the
    interval (`LEVEL`) of the ratio, prompts resampled. NaN where either lies beyond the range."""

    value: float
    low: float
    high: float


def lengths_table(frame: pd.DataFrame, tokens: Sequence[int]) -> pd.DataFrame:
    """One row per sign and length: the ceilings with 90 % intervals, as `ceilings_by_length` has
    them, of the share of texts *intact* by the model's own measure and, where an exact judge says
    where texts break (`breaks_at`), that *hold*."""
    columns = {}
    for words, breaks in _breaks(frame).items():
        found = ceilings_by_length(frame, tokens, breaks, level=LEVEL)
        for share in SHARES:
            mine = found[found["share"] == share]
            columns[f"{share:.0%} {words}"] = [
                "beyond" if math.isinf(value) else str(Estimate(value, low, high))
                for value, low, high in mine[["value", "low", "high"]].itertuples(index=False)
            ]
            columns |= {"sign": [*map(signed, mine["sign"])], "tokens": mine["tokens"].to_list()}
    table = pd.DataFrame(columns)
    return table[["sign", "tokens", *table.columns.drop(["sign", "tokens"])]]


def step(frame: pd.DataFrame, tokens: Sequence[int], breaks: pd.Series, sign: int) -> Step:
    """See `Step`; `breaks` as for `survival`."""
    wide, _ = by_prompt(frame, breaks)
    side = wide.loc[:, sign * wide.columns.to_numpy(dtype=float) >= 0]
    side = side[sorted(side.columns, key=abs)]
    grid = np.abs(side.columns.to_numpy(dtype=float))
    ends = side.to_numpy()

    def ratio(rows: np.ndarray) -> float:
        short, long = (
            crossing(grid, settled((ends[rows] >= length).astype(float), 0.5), 0.5)
            for length in (min(tokens), max(tokens))
        )
        return long / short if math.isfinite(short) and math.isfinite(long) else math.nan

    rng, count = np.random.default_rng(0), len(ends)
    drawn = [ratio(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    return Step(ratio(np.arange(count)), *percentiles(drawn, LEVEL))


def lengths_said(frame: pd.DataFrame, tokens: Sequence[int]) -> str:
    """The step from the shortest to the longest texts in words, for each sign and measure."""
    said = []
    for words, breaks in _breaks(frame).items():
        steps = {sign: step(frame, tokens, breaks, sign) for sign in (1, -1)}
        each = listed([f"{_words(found)} on side {signed(s)}" for s, found in steps.items()])
        said.append(f"{each} ({words})")
    return (
        f"The ceiling of texts of {max(tokens)} tokens, over that of {min(tokens)} (half of the "
        f"texts each, 90 % intervals over prompts): {'; '.join(said)}. This is one vector. That a "
        "longer text has no higher ceiling follows from the definition, for a text without a break "
        f"by token {max(tokens)} has none by token {min(tokens)}: only the size of the step is a "
        "finding."
    )


def _words(found: Step) -> str:
    if not math.isfinite(found.value):
        return "not known (beyond the range)"
    ends = f"[{found.low:.2f}, {found.high:.2f}]" if math.isfinite(found.low) else "[no interval]"
    return f"{found.value:.2f} {ends}"


def _breaks(frame: pd.DataFrame) -> Mapping[str, pd.Series]:
    """Where each text breaks, by what tells it."""
    own = {"intact": break_tokens(frame)}
    exact = {"hold": exact_break_tokens(frame)} if "breaks_at" in frame.columns else {}
    return own | exact
