"""What it costs to decide how far one may steer: tokens and seconds of each rule, both signs.

    python benchmarks/passes.py [--quick] [--directory reports]

Each rule as its authors run it, on wren and one vector, everything batched as far as this package
can: so the seconds compare the rules, not their authors' code. `--quick`: a quarter of the prompts,
once; saves no table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timing  # puts the checkout on the path
import torch
from timing import Contestant, at_most

from workbench import extract, find_ceiling, generate, load, logprobs, seek, sweep
from workbench.contrast import pairs
from workbench.geometry import manifold, ordinary
from workbench.geometry.geometric_ceiling import ceiling_from_geometry
from workbench.geometry.manifold import Manifolds
from workbench.loading.models import LM
from workbench.support import tables
from workbench.text import positions
from workbench.text.tokens import encode
from workbench.vectors.steering_vector import SteeringVector

PROMPTS, NEW_TOKENS, REACH = 16, 48, 1.6
SIDE = np.geomspace(0.08, REACH, 16)
GRID = np.concatenate([-SIDE[::-1], [0.0], SIDE])
ROLLOUTS, ROLLED, CORPUS = 8, 16, 8
STEPS = 4  # of a bisection on log c over the same range: a factor of 1.2, as between grid points

TARGETS = {"seek_tokens_over_grid": at_most(0.5)}


@dataclass
class Spent:
    """Tokens that were generated, and that were read to be scored."""

    generated: int = 0
    read: int = 0


@dataclass(frozen=True, eq=False)
class Case:
    """One vector with what the rules need."""

    lm: LM
    vector: SteeringVector
    prompts: Sequence[Any]
    corpus: Sequence[str]
    manifolds: Manifolds

    def steer(self, coefficients: Sequence[float], rows: int) -> Any:
        each = torch.tensor(np.repeat(coefficients, rows)).float()
        return self.vector.at(each, unit="norm")


def grid(case: Case) -> Spent:
    """`sweep` over 33 coefficients and `find_ceiling`."""
    return _of_sweep(sweep(case.lm, case.vector, case.prompts, GRID, **_options()))


def sought(case: Case) -> Spent:
    """`seek` and `find_ceiling`."""
    return _of_sweep(seek(case.lm, case.vector, case.prompts, reach=REACH, **_options()))


def _options() -> dict[str, Any]:
    return {"new_tokens": NEW_TOKENS, "temperature": 1.0, "kl": False, "progress": False}


def _of_sweep(frame: pd.DataFrame) -> Spent:
    find_ceiling(frame)
    tokens = int(frame["tokens"].sum())
    return Spent(tokens, tokens)


def alert(case: Case) -> Spent:
    """ALERT: one greedy text of 32 tokens a coefficient, scored by the unsteered model."""
    made = generate(case.lm, list(case.prompts[:1]) * len(GRID), case.steer(GRID, 1), new_tokens=32)
    tokens = int(made.lengths.sum())
    return Spent(tokens, tokens)


def iso_kl(case: Case) -> Spent:
    """iso-KL: bisection on the 95th percentile of a token's KL in greedy rollouts, both signs in
    one batch; the divergence reads each text once steered and once not."""
    spent, some = Spent(), list(case.prompts[:ROLLOUTS])

    def too_far(sizes: Sequence[float]) -> list[bool]:
        made = generate(
            case.lm,
            some * len(sizes),
            case.steer(sizes, len(some)),
            new_tokens=ROLLED,
            score=False,
            kl=True,
        )
        spent.generated += int(made.lengths.sum())
        spent.read += 2 * int(made.lengths.sum())
        assert made.kl is not None
        parts = made.kl.chunk(len(sizes))
        return [float(torch.quantile(part[~part.isnan()], 0.95)) > 1.0 for part in parts]

    _bisect(too_far)
    return spent


def corpus_loss(case: Case) -> Spent:
    """Corpus loss: bisection on the loss of texts that others wrote; nothing is generated."""
    spent = Spent()

    def too_far(sizes: Sequence[float]) -> list[bool]:
        rows = list(case.corpus) * len(sizes)
        found = logprobs(case.lm, rows, case.steer(sizes, len(case.corpus)))
        spent.read += int((~found.isnan()).sum())
        return [-float(part.nanmean()) > 2.0 for part in found.chunk(len(sizes))]

    _bisect(too_far)
    return spent


def geometry(case: Case) -> Spent:
    """`ceiling_from_geometry` at the steered layer, its manifold ready: one pass over the prompts,
    each read once, tells both signs; nothing is generated."""
    found = ceiling_from_geometry(case.lm, case.vector, case.prompts, manifolds=case.manifolds)
    assert found.rows == len(case.prompts)
    return Spent(0, int(encode(case.lm, list(case.prompts)).attention.sum()))


def _bisect(too_far: Callable[[Sequence[float]], list[bool]]) -> None:
    """Both signs, halving their brackets on log c at the same time."""
    brackets = {1: (SIDE[0], SIDE[-1]), -1: (SIDE[0], SIDE[-1])}
    for _ in range(STEPS):
        tried = {sign: float(np.sqrt(low * high)) for sign, (low, high) in brackets.items()}
        verdicts = too_far([sign * size for sign, size in tried.items()])
        for (sign, size), beyond in zip(tried.items(), verdicts, strict=True):
            low, high = brackets[sign]
            brackets[sign] = (low, size) if beyond else (size, high)


RULES: dict[str, Callable[[Case], Spent]] = {
    "find_ceiling, grid of 33": grid,
    "find_ceiling, seek": sought,
    "ALERT": alert,
    "iso-KL": iso_kl,
    "corpus loss": corpus_loss,
    "geometry, its manifold ready": geometry,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What it costs to decide how far one may steer.")
    parser.add_argument("--quick", action="store_true", help="fewer prompts, once; saves nothing")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    lm = load("wren")
    splits = pairs.load("wren-mood").split()
    vector = extract(
        lm,
        splits.extract,
        positions=positions.generated,
        layer=lm.layers // 2,
        held_out=0,
        quiet=True,
    )
    corpus = [pair.full[index % 2] for index, pair in enumerate(splits.report[:CORPUS])]
    prompts = splits.select.prompts[: PROMPTS // 4 if args.quick else PROMPTS]
    texts = ordinary.from_grammar(400, "passes")
    ready = manifold.fit(lm, texts, [vector.layer], kinds=["principal"], unit=False, progress=False)
    case = Case(lm, vector, prompts, corpus, ready)
    contestants = {name: Contestant(lambda rule=rule: rule(case)) for name, rule in RULES.items()}
    times = timing.interleave(contestants, 1 if args.quick else 3)
    rows = [
        (name, times[name].result.generated, times[name].result.read, round(times[name].median, 2))
        for name in RULES
    ]
    table = pd.DataFrame(rows, columns=["rule", "tokens written", "tokens read", "seconds"])
    timing.show("both signs of one vector", list(table), table.values.tolist())
    if not args.quick:
        about = {"model": lm.name, "weights": lm.fingerprint, "prompts": len(prompts)}
        about["threads"] = args.threads
        tables.save_table(table, "detector_cost", directory=args.directory, provenance=about)
    by_name = table.set_index("rule")
    whole, search = by_name.loc["find_ceiling, grid of 33"], by_name.loc["find_ceiling, seek"]
    figures = {
        "seek_tokens_over_grid": float(search["tokens written"] / whole["tokens written"]),
        "seek_seconds_over_grid": float(search["seconds"] / whole["seconds"]),
        "grid_tokens": int(whole["tokens written"]),
        "iso_kl_tokens": int(by_name.loc["iso-KL", "tokens written"]),
    }
    return timing.finish("passes", figures, TARGETS, {"quick": args.quick})


if __name__ == "__main__":
    sys.exit(main())
