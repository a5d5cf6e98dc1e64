"""The cases of study_laws.py: what steers, how far it may go, and the log-odds of its pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench import extract, generate, judges, odds, train
from workbench.contrast import pairs
from workbench.contrast.pairs import Pairs, Splits
from workbench.judges import HOLDS
from workbench.loading.models import LM
from workbench.studies.ceiling_findings import true_ceiling
from workbench.text import positions
from workbench.text.splits import require_disjoint
from workbench.training.trained import Trained, loss_history
from workbench.vectors.relative_size import relative_size
from workbench.wren.contrast import trait_pairs

TRAITS = ("power", "mood", "formality", "verbosity")
FORMS = ("mean_difference", "vector", "lora", "local_weight")
# Coefficients of the sweep that finds the ceilings, in residual norms, of either sign.
SIDE = np.geomspace(0.1, 3.2, 11)
PROMPTS, NEW_TOKENS = 16, 48
# Shares of the true ceilings, on either side, at which log-odds are measured.
SHARES = np.linspace(-1.5, 1.5, 33)
UNRELATED = 4  # texts of another trait
MEMORY = 1 << 25  # bytes of logits at once: few enough for a processor's caches
# Of training by SPLIT, beside its defaults.
TRAINING: dict[str, dict[str, Any]] = {
    "vector": {"epochs": 1, "batch": 4, "learning_rate": 0.3},
    "lora": {"epochs": 1, "batch": 4, "learning_rate": 0.03},
    "local_weight": {"epochs": 1, "batch": 4, "learning_rate": 0.004},
}
MORE = 128  # further pairs of the cases of difference of means at the middle layer


# What computes the numbers; what checks, keeps and reports them may change.
MEASURED = (
    "extraction.extract", "extraction.methods", "forward.reading", "forward.steering",
    "forward.tracing", "generation.generate", "generation.sampling", "interventions.updates",
    "interventions.weight_updates", "judges.exact", "preference.logodds", "preference.multiples",
    "preference.odds", "statistics.distributions", "text.positions", "text.tokens",
    "training.examples", "training.fitting", "training.minibatch", "training.objectives",
    "training.train", "training.trainable", "vectors.relative_size", "wren.contrast",
    "wren.judge",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One thing that steers, at one layer."""

    trait: str
    layer: int
    form: str
    seed: int

    def __str__(self) -> str:
        return f"{self.trait}-{self.layer}-{self.form}-{self.seed}"


def cases(depth: int, seed: int) -> Iterator[Case]:
    """Every trait and form at the first, the middle and the last layer."""
    layers = sorted({0, depth // 2, depth - 1})
    for trait, form, layer in itertools.product(TRAITS, FORMS, layers):
        yield Case(trait, layer, form, seed)


def make(lm: LM, making: Pairs, case: Case) -> Trained:
    """What steers, from the pairs that make vectors."""
    if case.form == "mean_difference":
        return extract(
            lm,
            making,
            positions=positions.generated,
            held_out=0,
            layer=case.layer,
            quiet=True,
        )
    return train(
        lm,
        making,
        "split",
        case.form,
        layers=case.layer,
        held_out=0,
        seed=case.seed,
        progress=False,
        quiet=True,
        **TRAINING[case.form],
    )


def ceilings(
    lm: LM, made: Trained, unit: float, prompts: Sequence[Any], trait: str, seed: int
) -> dict[int, float]:
    """Sign -> the true ceiling, in residual norms; the end of the range where none lies within."""
    grid = np.concatenate([-SIDE[::-1], [0.0], SIDE])
    rows = torch.from_numpy(np.repeat(grid / unit, len(prompts))).float()
    written = generate(
        lm,
        list(prompts) * len(grid),
        made.at(rows, unit="raw"),
        new_tokens=NEW_TOKENS,
        temperature=1.0,
        seed=seed,
        streams=list(range(len(prompts))) * len(grid),
        score=False,
    )
    ends = np.where(written.lengths.numpy() < NEW_TOKENS, "end", "length")
    coherence = judges.score(
        written.texts, list(prompts) * len(grid), trait, by=judges.exact, finish=ends.tolist()
    )["coherence"]
    holds = (coherence.to_numpy() >= HOLDS).reshape(len(grid), len(prompts)).T
    middle = len(SIDE)
    sides = {1: holds[:, middle:], -1: holds[:, middle::-1]}
    steps = np.concatenate([[0.0], SIDE])
    return {sign: min(true_ceiling(steps, side), SIDE[-1]) for sign, side in sides.items()}


def measure(
    lm: LM, case: Case, parts: Splits, other: Pairs, depth: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The log-odds of a case, m in residual norms, and what is known of it besides."""
    made = make(lm, parts.extract, case)
    texts = [pair.full[index % 2] for index, pair in enumerate(parts.select[:8])]
    unit = relative_size(lm, made, texts)[case.layer]
    ends = ceilings(lm, made, unit, parts.select.prompts[:PROMPTS], case.trait, case.seed)
    steps = np.where(SHARES < 0, ends[-1], ends[1]) * SHARES
    frame = odds(
        lm,
        list(made.at(1.0, unit="raw")),
        measured(parts, case, depth),
        steps / unit,
        unrelated=[pair.full[0] for pair in other[:UNRELATED]],
        memory=MEMORY,
        quiet=True,
    )
    order = np.searchsorted(np.sort(steps / unit), frame["m"])
    frame = frame.assign(m=np.sort(steps)[order], ceilings=SHARES[order])
    losses = None if case.form == "mean_difference" else loss_history(made)["loss"]
    about = {
        "ceiling_plus": ends[1],
        "ceiling_minus": ends[-1],
        "beyond_plus": ends[1] >= SIDE[-1],
        "beyond_minus": ends[-1] >= SIDE[-1],
        "size": unit,
        "undefined": frame.attrs["undefined"],
        "loss_first": np.nan if losses is None else float(losses[:5].mean()),
        "loss_last": np.nan if losses is None else float(losses[-5:].mean()),
    }
    return frame, about


def measured(parts: Splits, case: Case, depth: int) -> Pairs:
    """The pairs of a case: all that made nothing and, of some cases, further ones out of the
    grammar."""
    given = (*parts.select, *parts.report)
    if further(case, depth):
        known = set(parts.extract.texts) | {key for pair in given for key in pair.texts}
        drawn = (
            pairs.Pair(positive, negative, prompt)
            for prompt, positive, negative in trait_pairs(case.trait, 4 * MORE, 10**6 + case.seed)
        )
        new = [pair for pair in drawn if not known & set(pair.texts)]
        given = (*given, *new[:MORE])
    found = replace(parts.report, pairs=given, name=f"wren-{case.trait}/measured")
    require_disjoint({"what made the vector": parts.extract.texts, found.name: found.texts})
    return found


def further(case: Case, depth: int) -> bool:
    """Whether a case has further pairs."""
    return case.form == "mean_difference" and case.layer == depth // 2


def settings(seed: int) -> dict[str, Any]:
    """What a rerun must share, of all cases."""
    return {
        "shares": SHARES.round(6).tolist(),
        "side": SIDE.round(6).tolist(),
        "prompts": PROMPTS,
        "new_tokens": NEW_TOKENS,
        "unrelated": UNRELATED,
        "training": TRAINING,
        "more": MORE,
        "seed": seed,
    }


def of_case(case: Case, depth: int) -> dict[str, Any]:
    """What a rerun of one case must share."""
    found = settings(case.seed)
    training = found.pop("training")
    if case.form in training:
        found["training"] = training[case.form]
    if not further(case, depth):
        del found["more"]
    return found
