"""A search for the strength that each layer should be steered with, at a bound on what it costs.

Wanted is the profile a, a strength for each layer, that moves the preference of contrast pairs most
while KL(unsteered || steered) over other texts stays at a budget. Near no steering the preference
rises by g·a and the divergence is a' F a / 2, so the best small profile is along F⁻¹ g (the natural
gradient; Amari 1998), where the profile along g alone (the first order) takes no heed of layers
that cost the same text twice. F is made safe by adding a multiple of its mean diagonal, as in ridge
regression. All of these, every single layer and equal strengths are brought to the budget; from the
best of them the search goes on along the budget's surface:

    a + t F⁻¹ (g - λ q)     g, q the slopes of preference and divergence there, λ such that the
                            divergence stays to first order; then back to the budget by its scale

The best single layer is among the starts, so on the pairs of the search no profile is worse: what
counts is `compare`, on other pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.anatomy.layer_strengths import Strengths
from workbench.anatomy.profile_task import ProfileTask, by_layer
from workbench.contrast.pairs import Pairs
from workbench.forward.tracing import Remote
from workbench.interventions.updates import Intervention
from workbench.statistics.intervals import bootstrap_mean
from workbench.support.checks import check_whole, number, require_lists
from workbench.text.positions import Positions, everything
from workbench.text.splits import require_disjoint, text_hashes
from workbench.text.tokens import Prompt, encode
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

# What is added to the Fisher information, in multiples of its mean diagonal.
RIDGES = (0.01, 0.1, 1.0)
# How far a round goes along the budget's surface, in multiples of the profile's length.
_TURNS = (0.05, 0.15, 0.4)

PROFILE, SINGLE, EQUAL = "profile", "best single layer", "equal strengths"


@dataclass(frozen=True)
class LayerProfile:
    """What the search found: `found.at(vector)` steers by it, as it was searched.

    strengths  layer -> residual norms
    single     the best single layer, at the same divergence; equal: all layers alike
    kl         the budget, nats per token of the search's texts
    gain       mean rise of the preference of the search's pairs, nats
    tried      one row per profile that was measured: `profile`, `kl`, `gain`, and a column for the
               strength of each layer
    texts      hashes of what the search saw, for `splits.require_disjoint`
    positions  the tokens that were steered
    """

    strengths: Mapping[int, float]
    single: Mapping[int, float]
    equal: Mapping[int, float]
    kl: float
    gain: float
    tried: pd.DataFrame
    texts: frozenset[str]
    positions: Positions = everything

    def at(self, vector: SteeringVector, coefficient: float = 1.0) -> tuple[Intervention, ...]:
        """The interventions that steer by a multiple of the profile, at the positions of the
        search. Raises ValueError for a layer that the vector has no direction at."""
        own = {layer: coefficient * strength for layer, strength in self.strengths.items()}
        return vector.at(own, positions=self.positions)


def find(
    lm: LM,
    vector: SteeringVector,
    pairs: Pairs,
    texts: Sequence[Prompt],
    *,
    kl: float = 0.1,
    layers: Sequence[int] | None = None,
    rounds: int = 4,
    positions: Positions = everything,
    memory: float = 1 << 28,
    remote: Remote = False,
) -> LayerProfile:
    """The profile that moves these pairs most at a divergence of `kl` nats per token of the texts.

    pairs      pairs with prompts, other than those that made the vector
    texts      ordinary texts, of nothing to do with the trait
    layers     which may be steered; default: all that the vector has
    rounds     steps along the budget's surface, fewer where none helps
    positions  the tokens that are steered, which the profile keeps
    memory     bytes that the logits of one forward may take (`Strengths`)

    The table `tried` says the positions in its `attrs`. Takes some (20 + 6 rounds) L readings of
    the pairs for L layers. Raises ValueError for a budget that is not positive or not reached,
    rounds that are no whole number of at least 0, texts that made the vector, and as `Strengths`.
    """
    rounds = check_whole("rounds", rounds, 0)
    require_lists(layers=layers)
    if not 0 < number(kl) < math.inf:
        raise ValueError(f"kl {kl!r}: give a positive number, in nats per token")
    sides = {"the search's pairs": pairs.texts, "the search's texts": text_hashes(texts)}
    for side, hashes in sides.items():
        require_disjoint({"the vector's": vector.texts, side: hashes})
    own = tuple(vector.layers if layers is None else layers)
    strengths = Strengths(lm, vector, own, positions, memory, remote)
    task = ProfileTask(strengths, pairs, encode(lm, texts), float(kl))
    start, fisher = torch.zeros(len(own), dtype=torch.float64), strengths.fisher(task.texts)
    slope, _ = task.slopes(start, costs=False)
    shapes: dict[str, Tensor] = {"first order": slope, EQUAL: torch.ones_like(slope)}
    for ridge in RIDGES:
        shapes[f"natural gradient, ridge {ridge:g}"] = _solve(fisher, ridge, slope)
    singles = [f"layer {layer}" for layer in own]
    signs = torch.where(slope < 0, -1.0, 1.0).double()
    shapes |= dict(zip(singles, torch.diag(signs), strict=True))
    names, table = list(shapes), torch.stack(list(shapes.values()))
    table = task.at_budget(table, fisher)
    gains = task.gains(table)
    rows = list(zip(names, table, gains.tolist(), strict=True))
    best, most = table[int(gains.argmax())], float(gains.max())
    ridge = RIDGES[int(torch.stack([gains[2 + i] for i in range(len(RIDGES))]).argmax())]
    for turn in range(rounds):
        slope, cost = task.slopes(best)
        step, back = _solve(fisher, ridge, slope), _solve(fisher, ridge, cost)
        step = step - (step @ cost) / (back @ cost) * back
        step = step * best.norm() / step.norm().clamp_min(1e-12)
        some = task.at_budget(torch.stack([best + by * step for by in _TURNS]), fisher)
        gains = task.gains(some)
        rows += [(f"round {turn + 1}", one, float(g)) for one, g in zip(some, gains, strict=True)]
        if float(gains.max()) <= most:
            break
        best, most = some[int(gains.argmax())], float(gains.max())
    known = {name: one for name, one, _ in rows}
    single = max((row for row in rows if row[0] in singles), key=lambda row: row[2])[1]
    tried = pd.DataFrame(
        [
            {"profile": name, "kl": float(kl), "gain": gain}
            | dict(zip(own, one.tolist(), strict=True))
            for name, one, gain in rows
        ]
    )
    tried.attrs = {"model": lm.name, "positions": repr(positions)}
    return LayerProfile(
        strengths=by_layer(own, best),
        single=by_layer(own, single),
        equal=by_layer(own, known[EQUAL]),
        kl=float(kl),
        gain=most,
        tried=tried,
        texts=frozenset(pairs.texts) | frozenset(text_hashes(texts)),
        positions=positions,
    )


def compare(
    lm: LM,
    vector: SteeringVector,
    found: LayerProfile,
    pairs: Pairs,
    texts: Sequence[Prompt],
    *,
    others: Mapping[str, Mapping[int, float]] | None = None,
    positions: Positions | None = None,
    level: float = 0.95,
    seed: int = 0,
    memory: float = 1 << 28,
    remote: Remote = False,
) -> pd.DataFrame:
    """The profile, the best single layer and equal strengths on pairs and texts that are new.

    others     further profiles by name, layer -> strength, such as one chosen by hand
    positions  the tokens that are steered; None: those of the search

    Each keeps its shape and is scaled to the search's divergence on these texts, so that all cost
    the same. One row each: `profile`, `scale` (what its strengths were multiplied by), `kl`,
    `gain` (mean rise of the preference, nats) and `more` (its gain beyond that of the best single
    layer, on the same pairs), both with the ends of a bootstrap interval over pairs (`…_low`,
    `…_high`), `ahead` (the share of pairs it moves more than the single layer does), and `pairs`.
    The interval speaks for the pairs, not for another draw of the texts or of the search. The
    table says the positions in its `attrs`.

    Raises ValueError for pairs or texts that the search or the vector has seen, a level that is not
    between 0 and 1, other profiles that have one of our names, no strength or one that is no
    number, and as `find`.
    """
    if not 0 < number(level) < 1:
        raise ValueError(f"level {level!r}: give a number between 0 and 1, such as 0.95")
    check_whole("seed", seed, 0)
    profiles = {PROFILE: found.strengths, SINGLE: found.single, EQUAL: found.equal}
    for name, one in (others or {}).items():
        if name in profiles:
            raise ValueError(f"others has a profile {name!r}: that is ours, choose another name")
        sizes = [number(each) for each in one.values()]
        if not any(sizes) or not all(map(math.isfinite, sizes)):
            raise ValueError(
                f"the profile {name!r} of others is {dict(one)}: give finite strengths by layer, "
                "one at least that is not 0"
            )
    seen = {"the search's": found.texts, "the vector's": vector.texts}
    for name, own in (("pairs", pairs.texts), ("texts", text_hashes(texts))):
        for before, hashes in seen.items():
            require_disjoint({before: hashes, f"the comparison's {name}": own})
    profiles |= dict(others or {})
    layers = tuple(sorted({layer for one in profiles.values() for layer in one}))
    where = found.positions if positions is None else positions
    strengths = Strengths(lm, vector, layers, where, memory, remote)
    task = ProfileTask(strengths, pairs, encode(lm, texts), found.kl)
    shapes = torch.tensor([[one.get(layer, 0.0) for layer in layers] for one in profiles.values()])
    scaled = task.at_budget(shapes.double(), None)
    with_none = torch.cat([torch.zeros(1, len(layers), dtype=torch.float64), scaled])
    preference = strengths.preferences(pairs, with_none).numpy()
    gains = preference[1:] - preference[0]
    costs = strengths.divergences(task.texts, scaled).tolist()
    rows = []
    for index, name in enumerate(profiles):
        more = gains[index] - gains[1]
        row: dict[str, object] = {
            "profile": name,
            "scale": float(scaled[index].norm() / shapes[index].double().norm()),
            "kl": costs[index],
        }
        for column, values in (("gain", gains[index]), ("more", more)):
            mean = bootstrap_mean(values, level=level, seed=seed)
            row |= {column: mean.value, f"{column}_low": mean.low, f"{column}_high": mean.high}
        rows.append(row | {"ahead": float(np.mean(more > 0)), "pairs": len(pairs)})
    table = pd.DataFrame(rows)
    table.attrs = {"model": lm.name, "positions": repr(where)}
    return table


def strengths_by_layer(found: LayerProfile, compared: pd.DataFrame) -> pd.DataFrame:
    """The three profiles as they were compared: one row per profile and layer.

    compared  of `compare`, whose scale and gains these are

    Columns `profile`, `layer`, `strength` (residual norms), `gain`, `gain_low`, `gain_high` (nats);
    `attrs`, which an export writes, are those of `compared`: the positions are in them.
    """
    own = {PROFILE: found.strengths, SINGLE: found.single, EQUAL: found.equal}
    layers = sorted({layer for each in own.values() for layer in each})
    rows = compared.set_index("profile")
    frame = pd.DataFrame(
        [
            {
                "profile": name,
                "layer": layer,
                "strength": each.get(layer, 0.0) * float(rows.at[name, "scale"]),
                **{key: float(rows.at[name, key]) for key in ("gain", "gain_low", "gain_high")},
            }
            for name, each in own.items()
            for layer in layers
        ]
    )
    frame.attrs = dict(compared.attrs)
    return frame


def _solve(fisher: Tensor, ridge: float, slope: Tensor) -> Tensor:
    """(F + ridge mean(diag F) I)⁻¹ slope."""
    safe = fisher + ridge * fisher.diagonal().mean() * torch.eye(len(fisher), dtype=fisher.dtype)
    return torch.linalg.solve(safe, slope)
