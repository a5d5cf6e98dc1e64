"""Rules that say from a sweep how far one may steer: this package's, and its rivals.

Each takes one side of one sweep (`Curves`) and a threshold, and returns the coefficient at which it
sees the ceiling, in residual norms: infinite where it sees none in the range. The rules know
nothing of coherence. What a paper or tool says of its threshold stands in `PUBLISHED`; what else
might have been chosen, in `CHOICES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from curves import BEYOND, Curves  # puts the checkout on the path
from numpy.typing import NDArray

from workbench.statistics.crossings import crossing, settled
from workbench.statistics.intervals import Floats
from workbench.sweeps.breakage import intact
from workbench.sweeps.seek import FIRST, next_sizes

Rule = Callable[[Curves, float], float]


def rises_to(grid: Floats, curve: Floats, bound: float) -> float:
    """Where a curve (K,) first exceeds a bound at two neighbouring points (or the last one), on the
    line from the point before."""
    above = curve > bound
    lasting = above & np.append(above[1:], True)
    if not lasting.any():
        return BEYOND
    at = int(np.argmax(lasting))
    if at == 0:
        return float(grid[0])
    part = (bound - curve[at - 1]) / (curve[at] - curve[at - 1])
    return float(grid[at - 1] + np.clip(part, 0, 1) * (grid[at] - grid[at - 1]))


def step_before(grid: Floats, fell: np.ndarray) -> float:
    """The grid point before the first True of (K,)."""
    return float(grid[max(int(np.argmax(fell)) - 1, 0)]) if fell.any() else BEYOND


# ---- this package -------------------------------------------------------------------------------


def share_intact(curves: Curves, rise: float) -> float:
    """Where half of the texts exceed the unsteered ones' excess by `rise`, or loop: as
    `workbench.find_ceiling` has it, with its bound as the threshold."""
    return half_way(curves.grid, kept_whole(curves, rise))


def kept_whole(curves: Curves, rise: float) -> NDArray[np.bool_]:
    """Whether each text is intact (P, K), of the prompts whose unsteered text is."""
    prompts, points = curves.texts["excess"].shape
    frame = pd.DataFrame(
        {
            "prompt_index": np.repeat(np.arange(prompts), points),
            "coefficient": np.tile(curves.grid, prompts),
            "vector": "vector",
            "text": np.where(curves.texts["empty"].ravel() > 0, "", "a text"),
            **{
                name: curves.texts[name].ravel()
                for name in ("tokens", "excess", "distinct_2", "longest_repeat")
            },
        }
    )
    whole = intact(frame, rise=rise)["intact"].to_numpy().reshape(prompts, points)
    return whole[whole[:, 0]]


def half_way(grid: Floats, whole: NDArray[np.bool_]) -> float:
    """Where half of the prompts (P, K) have broken."""
    if len(whole) == 0:
        return float(grid[0])
    return crossing(grid, settled(whole.astype(float), 0.5), 0.5)


def sought(curves: Curves, rise: float, tolerance: float) -> tuple[float, int]:
    """`share_intact` from the coefficients that `workbench.seek` asks for, each taken at the
    nearest one of the grid, and how many they were beside 0."""
    grid, whole = curves.grid, kept_whole(curves, rise)
    reach = float(grid[-1])

    def nearest(size: float) -> int:
        return 1 + int(np.abs(np.log(grid[1:] / size)).argmin())

    tried = {0, nearest(reach * FIRST)}
    while True:
        places = sorted(tried)
        asked = next_sizes(grid[places], whole[:, places], reach, tolerance)
        more = {nearest(size) for size in asked} - tried
        if not more:
            return half_way(grid[places], whole[:, places]), len(tried) - 1
        tried |= more


def mean_excess(curves: Curves, rise: float) -> float:
    """Where the mean excess has risen by `rise` nats a token."""
    mean = np.nanmean(curves.texts["excess"], axis=0)
    return rises_to(curves.grid, mean - mean[0], rise)


def off_manifold(which: str, *, rise: bool = False) -> Rule:
    """Where the mean distance of texts' tokens from ordinary text reaches so many times what 95 %
    of ordinary tokens keep within, or (`rise`) what it is unsteered: no text is written."""

    def rule(curves: Curves, times: float) -> float:
        found = curves.geometry.get(which)
        if found is None:
            return float("nan")
        return rises_to(curves.grid, found / found[0] if rise else found, times)

    return rule


def shipped(which: str) -> Rule:
    """`workbench.ceiling_from_geometry` as it is shipped: it reads prompts, whatever is swept."""

    def rule(curves: Curves, _: float) -> float:
        found = curves.shipped.get(which, float("nan"))
        return float(np.clip(found, 1e-3, BEYOND))

    return rule


# ---- rivals -------------------------------------------------------------------------------------


def alert_coded(curves: Curves, fall: float) -> float:
    """ALERT's code: the unshifted score over the one at 0 falls below 1 - fall; a step back."""
    score = np.nanmean(curves.texts["alert"], axis=0)
    return step_before(curves.grid, score / score[0] < 1 - fall)


def alert_coded_at(curves: Curves, fall: float) -> float:
    """The same without the step back."""
    score = np.nanmean(curves.texts["alert"], axis=0)
    fell = score / score[0] < 1 - fall
    return float(curves.grid[int(np.argmax(fell))]) if fell.any() else BEYOND


def alert_meant(curves: Curves, fall: float) -> float:
    """ALERT as described, two-sided: the probability per token leaves 1 -/+ fall of that at 0."""
    score = np.exp(np.nanmean(curves.texts["logprob_unsteered"], axis=0))
    return rises_to(curves.grid, np.abs(score / score[0] - 1), fall)


def likelihood(curves: Curves, rise: float) -> float:
    """The mean negative log-probability rises by so many nats a token."""
    mean = -np.nanmean(curves.texts["logprob_unsteered"], axis=0)
    return rises_to(curves.grid, mean - mean[0], rise)


def iso_kl(curves: Curves, nats: float) -> float:
    """The 95th percentile of a token's KL(steered || unsteered) exceeds so many nats
    (steering-lite), between grid points by the logarithms of both."""
    kl = np.maximum.accumulate(curves.rivals["kl_95"])
    with np.errstate(divide="ignore"):
        sizes, logs = np.log(curves.grid[1:]), np.log(np.maximum(kl[1:], 1e-9))
    return float(np.exp(rises_to(sizes, logs, np.log(nats))))


def first_token_kl(curves: Curves, nats: float) -> float:
    """The mean KL at the first token exceeds so many nats."""
    return rises_to(curves.grid, curves.rivals["kl_first"], nats)


def corpus_loss(curves: Curves, rise: float) -> float:
    """The loss of others' texts under the steered model rises by so many nats a token (SAE-TS,
    arXiv 2411.02193)."""
    loss = curves.rivals["corpus_loss"]
    return rises_to(curves.grid, loss - loss[0], rise)


def distinct_pairs(curves: Curves, fall: float) -> float:
    """The share of distinct pairs of tokens falls by this share of what it is at 0."""
    share = np.nanmean(curves.texts["distinct_2"], axis=0)
    return rises_to(curves.grid, 1 - share / share[0], fall)


def change_point(curves: Curves, _: float) -> float:
    """The split of the mean log-probability into two constant pieces with the least squares."""
    mean = np.nanmean(curves.texts["logprob_unsteered"], axis=0)
    costs = [
        sum(float(((part - part.mean()) ** 2).sum()) for part in (mean[:at], mean[at:]))
        for at in range(1, len(mean))
    ]
    at = 1 + int(np.argmin(costs))
    return float((curves.grid[at - 1] + curves.grid[at]) / 2)


def utility_half_life(curves: Curves, factor: float) -> float:
    """A factor of where half of the utility log-odds' fall within the range is done, by the fitted
    law of "Why Steering Works" (arXiv 2602.02343); so it hangs on how far the range goes."""
    return factor * curves.halves.get("utility", float("nan"))


def preference_half_life(curves: Curves, factor: float) -> float:
    """A factor of where the preference log-odds have fallen to half of what their slope at 0
    promised, by the same paper's law."""
    return factor * curves.halves.get("preference", float("nan"))


def constant(_: Curves, norms: float) -> float:
    """Always the same: half a norm is the rule of "Eiffel Tower Llama"."""
    return norms


# What 95 % of ordinary tokens keep within is 1.
_BY_DISTANCE: Mapping[str, Rule] = {
    "geometry, steered layer": off_manifold("principal steered"),
    "geometry, last layer": off_manifold("principal last"),
    "geometry, neighbours": off_manifold("neighbours steered"),
    "geometry, own length": off_manifold("raw steered"),
}
_BY_RISE: Mapping[str, Rule] = {
    "geometry, rise in own length": off_manifold("raw steered", rise=True),
}
_SHIPPED: Mapping[str, Rule] = {
    "geometry, shipped: Rise": shipped("rise"),
    "geometry, shipped: Beyond": shipped("beyond"),
}
OURS: Mapping[str, Rule] = {
    "share intact": share_intact,
    "mean excess": mean_excess,
    **_BY_DISTANCE,
    **_BY_RISE,
    **_SHIPPED,
}
RIVALS: Mapping[str, Rule] = {
    "ALERT as coded": alert_coded,
    "ALERT as coded, no step back": alert_coded_at,
    "ALERT as meant": alert_meant,
    "likelihood": likelihood,
    "iso-KL": iso_kl,
    "first-token KL": first_token_kl,
    "corpus loss": corpus_loss,
    "distinct-2": distinct_pairs,
    "change point": change_point,
    "utility half-life": utility_half_life,
    "preference half-life": preference_half_life,
    "constant": constant,
}
RULES: Mapping[str, Rule] = {**OURS, **RIVALS}

# What its authors use; None where they leave it open.
PUBLISHED: Mapping[str, float | None] = {
    "share intact": 0.5,
    **dict.fromkeys(_BY_DISTANCE, 1.0),
    "ALERT as coded": 0.2,
    "ALERT as coded, no step back": 0.2,
    "ALERT as meant": 0.2,
    "iso-KL": 1.0,
    "change point": 0.0,
    **dict.fromkeys(_SHIPPED, 0.0),
    "utility half-life": 1.0,
    "preference half-life": 1.0,
    "constant": 0.5,
}
CHOICES: Mapping[str, Floats] = {
    "share intact": np.geomspace(0.15, 2.0, 20),
    "mean excess": np.geomspace(0.1, 2.0, 30),
    **dict.fromkeys(_BY_DISTANCE, np.geomspace(0.5, 4, 80)),
    **dict.fromkeys(_BY_RISE, np.geomspace(1.003, 4, 80)),
    "ALERT as coded": np.linspace(0.02, 0.6, 30),
    "ALERT as coded, no step back": np.linspace(0.02, 0.6, 30),
    "ALERT as meant": np.linspace(0.05, 0.9, 35),
    "likelihood": np.geomspace(0.1, 2.0, 30),
    "iso-KL": np.geomspace(0.05, 20, 40),
    "first-token KL": np.geomspace(0.001, 10, 40),
    "corpus loss": np.geomspace(0.01, 5, 40),
    "distinct-2": np.geomspace(0.005, 0.6, 30),
    "change point": np.zeros(1),
    **dict.fromkeys(_SHIPPED, np.zeros(1)),
    "utility half-life": np.geomspace(0.05, 2, 60),
    "preference half-life": np.geomspace(0.05, 2, 60),
    "constant": np.geomspace(0.1, 1.6, 60),
}
