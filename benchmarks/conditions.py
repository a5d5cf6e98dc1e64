"""What conditional steering takes: the search for a condition's point, and an answer with a gate.

    python benchmarks/conditions.py [--quick] [--model wren] [--threads 2]

The search compares some 54,000 points (sets of up to two of nine layers, both directions, every
threshold that parts 600 made-up texts). Against it a loop that scores one point after another with
scikit-learn's f1_score, the points made beforehand. All of them would take it minutes: it is timed
on one point in 50, its time scaled up, none of which may score higher than the point found, whose
F1 is f1_score's; and run over all 6,000 points of 300 texts and four layers, which must have the
same best F1. Gated generation is `respond` for 16 prompts, half of which meet the condition,
against `generate` with the same interventions row by row. `--quick` times the loop on one point in
100, runs it over all points of 100 texts and three layers, and has fewer rounds; it says so.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import timing
import torch
from numpy.typing import NDArray
from timing import Contestant, Target, at_least, at_most

# Columns, whether it fires above, threshold.
Point: TypeAlias = tuple[list[int], bool, float]
Floats: TypeAlias = NDArray[np.float64]

TARGETS: dict[str, Target] = {
    "search_points": at_least(48_000),
    "loop_over_search": at_least(100),
    "same_f1": at_least(1),
    "respond_over_generate": at_most(1.05),
    "respond_over_generate_unscored": at_most(math.inf),
    "respond_over_always": at_most(math.inf),
    "judge_over_generate": at_most(math.inf),
    "same_ids": at_least(1),
}
MOST_LAYERS = 2


@dataclass(frozen=True)
class Size:
    """Texts and layers of the search; the loop is timed on one point in `share`, and run over all
    points of `checked` texts and layers; prompts and tokens of the answers."""

    texts: int
    layers: int
    share: int
    checked: tuple[int, int]
    searches: int
    rounds: int
    prompts: int = 16
    new_tokens: int = 32

    def __str__(self) -> str:
        texts, layers = self.checked
        return (
            f"{self.texts} texts, {self.layers} layers, {self.searches} rounds; the loop on one "
            f"point in {self.share}, its time scaled up, and on all points of {texts} texts and "
            f"{layers} layers; {self.prompts} prompts x {self.new_tokens} tokens, "
            f"{self.rounds} rounds"
        )


FULL = Size(600, 9, 50, (300, 4), 3, 25)
QUICK = Size(600, 9, 100, (100, 3), 2, 5)


def similarities(texts: int, layers: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Of made-up texts, half of the condition: better told apart by some layers than by others,
    some from above and some from below."""
    rng = np.random.default_rng(0)
    labels = np.arange(texts) % 2 == 0
    apart = np.linspace(-1, 2, layers)
    return 0.1 * (rng.normal(size=(texts, layers)) + apart * labels[:, None]), labels


def points(values: Floats) -> list[Point]:
    """All that the search compares: sets of up to two layers, directions, thresholds half way
    between neighbouring values and one that all pass."""
    found: list[Point] = []
    for size in range(1, MOST_LAYERS + 1):
        for columns in combinations(range(values.shape[1]), size):
            own = values[:, columns]
            for above in (True, False):
                scores = np.unique(own.max(axis=1) if above else own.min(axis=1))
                inner = (scores[:-1] + scores[1:]) / 2
                every = scores[0] - 1 if above else scores[-1] + 1
                found.extend((list(columns), above, float(edge)) for edge in (every, *inner))
    return found


def loop(values: Floats, labels: NDArray[np.bool_], compared: Sequence[Point]) -> float:
    """The best F1 of some points, one after another."""
    from sklearn.metrics import f1_score

    best = 0.0
    for columns, above, threshold in compared:
        own = values[:, columns]
        met = (own > threshold if above else own < threshold).any(axis=1)
        best = max(best, float(f1_score(labels, met)))
    return best


def same_f1(texts: int, layers: int) -> bool:
    """Whether the search compares as many points as the loop and finds the same best F1."""
    from workbench.conditions.search import find_condition_point

    values, labels = similarities(texts, layers)
    best = find_condition_point(values, labels, most_layers=MOST_LAYERS).best
    compared = points(values)
    return best.points == len(compared) and math.isclose(
        best.f1, loop(values, labels, compared), abs_tol=1e-12
    )


def search(size: Size) -> dict[str, Any]:
    from workbench.conditions.search import find_condition_point

    values, labels = similarities(size.texts, size.layers)
    compared = points(values)
    some = compared[:: size.share]

    def searched() -> Any:
        return find_condition_point(values, labels, most_layers=MOST_LAYERS).best

    loop(values, labels, some[:5])  # the first call imports
    searched()
    times = timing.interleave(
        {
            "search": Contestant(searched),
            "loop": Contestant(lambda: loop(values, labels, some), len(compared) / len(some)),
        },
        size.searches,
    )
    timing.show_times(
        f"seconds for {len(compared)} points",
        times,
        {"loop": f"{len(some)} of the points, its time scaled up"},
    )
    timing.show_ratios(times, [("loop_over_search", "loop", "search")])
    best = times["search"].result
    own: Point = (list(best.layers), best.fires == "above", best.threshold)
    best_of_all = times["loop"].result <= best.f1 + 1e-12
    scored = math.isclose(loop(values, labels, [own]), best.f1, abs_tol=1e-12)
    return {
        "search_points": best.points,
        "loop_over_search": timing.ratio(times, "loop", "search"),
        "same_f1": best_of_all and scored and same_f1(*size.checked),
    }


def answers(lm: Any, vector: Any, prompts: Sequence[str], size: Size) -> dict[str, Any]:
    """Gated generation of prompts half of which meet a condition in the first half of the model."""
    from workbench.conditions.condition import Condition, similarities
    from workbench.conditions.conditional import ConditionalSteering, respond
    from workbench.generation.generate import generate

    layer = (lm.layers - 1) // 2
    seen = similarities(lm, prompts, vector, layers=[layer])[:, 0]
    low, high = seen.sort().values[len(seen) // 2 - 1 : len(seen) // 2 + 1].tolist()
    condition = Condition.of(vector, threshold=(low + high) / 2, layers=[layer])
    always = vector.at(0.5)
    steering = ConditionalSteering({"half": condition}, {"steer": always}, "if half then steer")
    verdicts = steering.judge(lm, prompts)
    by_row = steering.at(verdicts)
    settings = {"new_tokens": size.new_tokens, "min_new_tokens": size.new_tokens}
    made = {
        "respond": Contestant(lambda: respond(lm, prompts, steering, **settings)),
        "generate": Contestant(lambda: generate(lm, prompts, by_row, **settings)),
        "always": Contestant(lambda: generate(lm, prompts, always, **settings)),
        "judge": Contestant(lambda: steering.judge(lm, prompts)),
        "respond, unscored": Contestant(
            lambda: respond(lm, prompts, steering, score=False, **settings)
        ),
        "generate, unscored": Contestant(
            lambda: generate(lm, prompts, by_row, score=False, **settings)
        ),
    }
    for each in made.values():  # the first calls make what they keep
        each.run()
    times = timing.interleave(made, size.rounds)
    timing.show_times(
        f"seconds for {len(prompts)} prompts x {size.new_tokens} tokens",
        times,
        {
            "respond": f"{int(verdicts.met['half'].sum())} of the prompts meet the condition",
            "generate": "the same interventions, row by row",
            "always": "generate, every row steered",
            "judge": "the verdicts alone",
            "respond, unscored": "without the forward that scores the texts",
        },
    )
    rows = [
        ("respond_over_generate", "respond", "generate"),
        ("respond_over_generate_unscored", "respond, unscored", "generate, unscored"),
        ("respond_over_always", "respond", "always"),
        ("judge_over_generate", "judge", "generate"),
    ]
    timing.show_ratios(times, rows)
    same = torch.equal(times["respond"].result.generation.ids, times["generate"].result.ids)
    return {key: timing.ratio(times, over, under) for key, over, under in rows} | {
        "open": int(verdicts.met["half"].sum()),
        "same_ids": same,
    }


def setting(name: str, size: Size) -> tuple[Any, Any, list[str]]:
    """The model, its mood vector at every layer, and prompts."""
    from workbench.contrast import pairs
    from workbench.extraction.extract import extract
    from workbench.loading import models
    from workbench.wren import open_prompts

    lm = models.load(name)
    mood = pairs.load("wren-mood")[:32]
    vector = extract(lm, mood, layer=lm.layers // 2, cache=False, quiet=True)
    return lm, vector, open_prompts("mood", size.prompts, seed=1)


def arguments() -> Any:
    return timing.parser("What conditional steering takes.")


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    torch.set_num_threads(args.threads)
    size = QUICK if args.quick else FULL
    print(f"## {size}", flush=True)
    figures = search(size) | answers(*setting(args.model, size), size)
    settings = {"quick": args.quick, "model": args.model, "threads": args.threads}
    return timing.finish("conditions", {**figures, "measured": str(size)}, TARGETS, settings)


if __name__ == "__main__":
    sys.exit(main())
