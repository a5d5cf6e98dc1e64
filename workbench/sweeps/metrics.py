"""What could be watched in place of a judge while a coefficient grows, and how well each tells
texts that hold from texts that do not.

A *metric* is a number per text that needs no judge, each counted so that more means worse:

surprisal     -log P, mean over tokens. Cross-entropy is the same, perplexity its exponential: what
              ranks texts by one ranks them by all three
sequence      -log P of the whole text, the sum
entropy       of the next-token distribution, mean over tokens
repetition    1 - distinct 3-grams over all of them
+ entropy     surprisal plus entropy (the logarithm of perplexity, made worse by doubt)
+ repetition  surprisal plus repetition
echo          log P(next token = this token), mean over tokens: ALERT's score as its code has it,
              and as that reads it: the closer to 0, the worse

Repetition and echo are read off the text and the unsteered model, all others under the unsteered
model or under the steered one that wrote the text. These are the metrics that the reference report
compares (Steering Vector Coefficient Selection, 2025); studies/metric_comparison.py varies them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench import judges
from workbench.generation import scoring
from workbench.generation.generate import end_ids, generate
from workbench.generation.measures import distinct
from workbench.judges import HOLDS, Judge
from workbench.statistics.intervals import Floats, percentiles, resamples
from workbench.support.checks import check_whole
from workbench.text.tokens import Prompt
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

#: The metrics' columns, and in words; a word "steered" or "unsteered" says which model reads.
METRICS: Mapping[str, str] = MappingProxyType(
    {
        f"{metric}_{reader}": f"{words}, {reader} model"
        for metric, words in {
            "surprisal": "−log-probability per token",
            "sequence": "−log-probability of the text",
            "entropy": "entropy",
            "surprisal_entropy": "−log-probability + entropy",
            "surprisal_repetition": "−log-probability + repetition",
        }.items()
        for reader in ("unsteered", "steered")
    }
    | {"repetition": "repeated 3-grams", "echo": "ALERT as coded, unsteered model"}
)
TOGETHER = 128  # texts of one batch


def measured(
    lm: LM,
    vector: SteeringVector,
    prompts: Sequence[Prompt],
    coefficients: Sequence[float],
    *,
    judge: Judge,
    trait: str,
    new_tokens: int = 48,
    temperature: float = 1.0,
    repetition_penalty: float = 1.0,
    reads: Sequence[int] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Texts at every coefficient, with every metric and a judge's coherence.

    coefficients  in residual norms; those of one prompt share their sampling noise
    judge, trait  who says whether a text holds, see `judges`
    new_tokens    the most tokens of a text
    temperature, repetition_penalty, seed
                  of the writing, as for `generate`
    reads         numbers of first tokens that the metrics see, one set of rows for each; by
                  default all

    One row per text and read: `prompt_index`, `coefficient`, `text`, `read` (tokens), the columns
    of `METRICS` (nats, but for repetition), `coherence` and `holds` (coherence of at least a half).
    Texts whose coherence the judge does not know are left out.
    """
    check_whole("new_tokens", new_tokens, 1)
    reads = list(reads) or [new_tokens]
    places = [(p, float(c)) for c in coefficients for p in range(len(prompts))]
    frames = []
    for start in range(0, len(places), TOGETHER):
        some = places[start : start + TOGETHER]
        made = generate(
            lm,
            [prompts[p] for p, _ in some],
            vector.at(torch.tensor([c for _, c in some]), unit="norm"),
            new_tokens=new_tokens,
            temperature=temperature,
            repetition_penalty=repetition_penalty,
            seed=seed,
            streams=[p for p, _ in some],
            score=False,
        )
        longest = int(made.lengths.max())
        written = made.batch.extend(made.ids[:, :longest], made.lengths, made.texts)
        scores = scoring.score(lm, written)
        final = made.ids.gather(1, made.lengths[:, None] - 1)[:, 0]
        ended = torch.isin(final, torch.tensor(end_ids(lm), dtype=torch.long))
        verdict = judges.score(
            made.texts,
            [prompt.text for prompt in made.batch.prompts],
            trait,
            by=judge,
            finish=np.where(ended, "end", "length").tolist(),
        )
        for read in reads:
            seen = slice(0, read)
            columns = {
                **_read(scores.logprobs[:, seen], scores.entropy[:, seen], "unsteered"),
                **_read(made.logprobs_steered[:, seen], made.entropy[:, seen], "steered"),
            }
            lengths = made.lengths.clamp(max=read).numpy()
            again = 1 - np.nan_to_num(distinct(made.ids[:, seen].numpy(), lengths, 3), nan=1.0)
            frame = pd.DataFrame(
                {
                    "prompt_index": [p for p, _ in some],
                    "coefficient": [c for _, c in some],
                    "text": made.texts,
                    "read": read,
                    **columns,
                    **{
                        f"surprisal_repetition_{reader}": columns[f"surprisal_{reader}"] + again
                        for reader in ("unsteered", "steered")
                    },
                    "repetition": again,
                    "echo": scores.echoes[:, seen].double().nanmean(dim=1).numpy(),
                    "coherence": verdict["coherence"].to_numpy(),
                }
            )
            frames.append(frame)
    table = pd.concat(frames, ignore_index=True).dropna(subset=["coherence"])
    return table.assign(holds=table["coherence"] >= HOLDS).reset_index(drop=True)


def areas(frame: pd.DataFrame, *, seed: int = 0, size: int = 400) -> pd.DataFrame:
    """How often each metric calls a text that does not hold worse than one that holds *at the same
    coefficient*, ties counted half: the area under the curve, stratified. 0.5: no better than
    chance; below: the wrong way.

    Across coefficients nearly everything that grows with |coefficient| ranks texts well, the
    coefficient itself among them (`pooled`, `pooled_size`): that says little of the metric.

    frame  as `measured` gives it, of one `read`; with a column `stratum` where several traits are
           together, else the coefficient is the stratum

    One row per metric: `metric`, `area`, `low` and `high` (95 %, a bootstrap over prompts),
    `behind_low` (the lower end of the 95 % interval of how far it lies behind the best metric: not
    above 0 where that is not shown), `pairs` (of texts compared), `texts`, `prompts`, `pooled` (the
    area across coefficients), `pooled_size` (that of |coefficient| alone). Raises ValueError for
    texts that are there once for each of several reads.
    """
    if "read" in frame and frame["read"].nunique() > 1:
        raise ValueError(
            f"the frame holds reads of {sorted(frame['read'].unique())} tokens: give one of them, "
            "frame[frame['read'] == …]"
        )
    names, code = np.unique(frame["prompt_index"].astype(str), return_inverse=True)
    weights = resamples(len(names), size, np.random.default_rng(seed))[:, code]
    weights = np.vstack([np.ones(len(frame)), weights])  # the first row is the data as they are
    broken = ~frame["holds"].to_numpy(dtype=bool)
    column = "stratum" if "stratum" in frame else "coefficient"
    strata = list(frame.groupby(column).indices.values())
    drawn = {
        metric: _within(frame[metric].to_numpy(dtype=float), broken, weights, strata)
        for metric in METRICS
    }
    best = max(drawn, key=lambda metric: np.nan_to_num(drawn[metric][0], nan=-1))
    pairs = sum(int(broken[each].sum() * (~broken[each]).sum()) for each in strata)
    by_size = area(frame["coefficient"].abs().to_numpy(dtype=float), broken)
    rows = []
    for metric in METRICS:
        low, high = _percentiles(drawn[metric][1:])
        rows.append(
            {
                "metric": metric,
                "area": drawn[metric][0],
                "low": low,
                "high": high,
                "behind_low": _percentiles(drawn[best][1:] - drawn[metric][1:])[0],
                "pairs": pairs,
                "texts": len(frame),
                "prompts": len(names),
                "pooled": area(frame[metric].to_numpy(dtype=float), broken),
                "pooled_size": by_size,
            }
        )
    return pd.DataFrame(rows)


def area(values: Floats, broken: np.ndarray) -> float:
    """The share of pairs (broken, whole) of texts (N,) whose broken one has the larger value, ties
    counted half; NaN where all are of one kind. Mann & Whitney 1947."""
    right, pairs = _counts(values, broken, np.ones((1, len(values))))
    return float(right[0] / pairs[0]) if pairs[0] else float("nan")


def _within(
    values: Floats, broken: np.ndarray, weights: Floats, strata: Sequence[np.ndarray]
) -> Floats:
    """`area` over the pairs within strata, for weights (R, N), how often each text is drawn: (R,);
    NaN where there are none."""
    parts = [_counts(values[i], broken[i], weights[:, i]) for i in strata]
    right, pairs = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    return np.where(pairs > 0, right / np.where(pairs > 0, pairs, 1), np.nan)


def _counts(values: Floats, broken: np.ndarray, weights: Floats) -> tuple[Floats, Floats]:
    """Of weighted texts (R, N): pairs (broken, whole) in the right order, ties half, and all: (R,)
    each."""
    order = np.argsort(values, kind="stable")
    places = np.unique(values[order], return_inverse=True)[1]
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    bad = np.add.reduceat((weights * broken)[:, order], starts, axis=1)
    good = np.add.reduceat((weights * ~broken)[:, order], starts, axis=1)
    below = np.cumsum(good, axis=1) - good / 2
    return (bad * below).sum(axis=1), bad.sum(axis=1) * good.sum(axis=1)


def _percentiles(drawn: Floats) -> tuple[float, float]:
    known = drawn[np.isfinite(drawn)]
    return percentiles(known, 0.95) if len(known) else (np.nan, np.nan)


def _read(logprobs: Tensor, entropy: Tensor, reader: str) -> dict[str, Floats]:
    """Metrics of one reader from token scores (B, n), NaN after a text's end."""
    surprisal = -logprobs.double().nanmean(dim=1).numpy()
    doubt = entropy.double().nanmean(dim=1).numpy()
    return {
        f"surprisal_{reader}": surprisal,
        f"sequence_{reader}": -logprobs.double().nansum(dim=1).numpy(),
        f"entropy_{reader}": doubt,
        f"surprisal_entropy_{reader}": surprisal + doubt,
    }
