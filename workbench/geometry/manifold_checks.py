"""Whether manifolds hold what they promise: false alarms on ordinary text, and alarms on spoiled.

Both are measured on documents that neither fitted nor calibrated. Knows nothing of steering.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from workbench.forward.reference import read_tokens
from workbench.geometry.calibration import PER, document_means
from workbench.geometry.manifold import Manifolds, column, distances
from workbench.statistics.intervals import Floats, percentiles, resamples
from workbench.text.tokens import Prompt

if TYPE_CHECKING:
    from workbench.loading.models import LM

_RESAMPLES = 500


def false_alarms(
    lm: LM,
    manifolds: Manifolds,
    texts: Sequence[Prompt],
    *,
    level: float = 0.95,
    progress: bool = True,
) -> pd.DataFrame:
    """How much of ordinary text lies beyond the threshold: 1 - level where calibration holds.

    One row per layer and kind: `tokens` and `documents`, the shares beyond their thresholds, each
    with the ends of a 95 % interval over documents (`…_low`, `…_high`), and how many there are.
    Raises ValueError as `distances` and `Calibration.threshold`.
    """
    table = distances(lm, manifolds, texts, progress=progress)
    documents = table["document"].to_numpy()
    rows = []
    for (layer, kind), each in manifolds.found.items():
        values = table[column(layer, kind)].to_numpy()
        row: dict[str, object] = {"layer": layer, "kind": kind}
        for per in PER:
            found, name = each.calibrated.false_alarms(values, documents, level, per), f"{per}s"
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        row |= {"tokens_count": len(values), "documents_count": len(np.unique(documents))}
        rows.append(row)
    return pd.DataFrame(rows)


def sensitivity(
    lm: LM,
    manifolds: Manifolds,
    ordinary: Sequence[Prompt],
    spoiled: Mapping[str, Sequence[Prompt]],
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """How well distance tells spoiled texts from ordinary ones.

    spoiled  what was done to the texts, in a word -> what came of it

    One row per layer, kind and word: `auc`, the chance that the mean distance of a spoiled text
    lies above that of an ordinary one (0.5: it tells nothing; below: spoiled text looks the more
    ordinary), with the ends of a 95 % bootstrap interval over texts; `auc_tokens`, the same of
    single tokens. Raises ValueError as `distances`.
    """
    clean = distances(lm, manifolds, ordinary, progress=progress)
    rows = []
    for word, texts in spoiled.items():
        broken = distances(lm, manifolds, texts, progress=progress)
        for layer, kind in manifolds.found:
            name = column(layer, kind)
            sides = [
                document_means(table[name].to_numpy(), table["document"].to_numpy())
                for table in (clean, broken)
            ]
            value, low, high = auc(*sides)
            tokens = _auc(clean[name].to_numpy(), broken[name].to_numpy())
            rows.append((layer, kind, word, value, low, high, tokens))
    names = ["layer", "kind", "spoiled", "auc", "low", "high", "auc_tokens"]
    return pd.DataFrame(rows, columns=names)


def spoiled(lm: LM, texts: Sequence[str], *, seed: int = 0) -> dict[str, list[str]]:
    """The texts with their words shuffled; as many tokens of a loop of their first eight; and as
    many random ones (a third of the context at most, since they are read anew as text)."""
    rng = random.Random(f"spoiled {seed}")
    shuffled, looped, noise = [], [], []
    special = set(lm.tokenizer.all_special_ids)
    able = [token for token in range(lm.vocabulary) if token not in special]
    for text in texts:
        words = text.split(" ")
        shuffled.append(" ".join(rng.sample(words, len(words))))
        ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        count = min(len(ids), (lm.context or 3 * len(ids)) // 3)
        looped.append(str(lm.tokenizer.decode((ids[:8] * count)[:count])))
        noise.append(str(lm.tokenizer.decode(rng.choices(able, k=count))))
    return {"shuffled words": shuffled, "loops": looped, "random tokens": noise}


def towards_centre(
    lm: LM, manifolds: Manifolds, texts: Mapping[str, Sequence[Prompt]]
) -> pd.DataFrame:
    """How much streams look like the mean stream of ordinary text: one row per word and layer,
    with the mean `cosine` of tokens with that mean, and the ends of its 95 % interval over texts.

    texts  in a word what they are -> the texts

    Raises ValueError for manifolds without the kind "principal", which has that mean.
    """
    rows = []
    for word, each in texts.items():
        parts = [
            (read.documents, read.values)
            for read in read_tokens(
                lm, each, manifolds.layers, manifolds.positions, manifolds.skip, progress=False
            )
        ]
        documents = np.concatenate([part for part, _ in parts])
        for index, layer in enumerate(manifolds.layers):
            mean = manifolds.principal(layer).mean
            centre = mean / np.linalg.norm(mean)
            streams = np.concatenate([values[:, index].double().numpy() for _, values in parts])
            cosines = streams @ centre / np.linalg.norm(streams, axis=1)
            means = document_means(cosines, documents)
            drawn = resamples(len(means), _RESAMPLES, np.random.default_rng(0)) @ means / len(means)
            low, high = percentiles(drawn, 0.95)
            rows.append((word, layer, float(means.mean()), float(low), float(high)))
    return pd.DataFrame(rows, columns=["text", "layer", "cosine", "low", "high"])


def centre_in_words(found: pd.DataFrame) -> str:
    """Whether random tokens are nearer to that mean than ordinary text; rows of `towards_centre`,
    "ordinary" and "random tokens" among them."""
    means = found.groupby("text")["cosine"].mean()
    usual, noise = means["ordinary"], means["random tokens"]
    nearer = "nearer" if noise > usual else "no nearer"
    return (
        f"What the model makes of random tokens lies {nearer} to the mean stream than ordinary "
        f"text does (cosine {noise:.2f}, of ordinary text {usual:.2f}, means over layers)."
    )


def blind_in_words(found: pd.DataFrame) -> str:
    """What the distances see of spoiled texts, rows of `sensitivity`: so that a null result is
    taken for one about them."""
    said = []
    for word, own in found.groupby("spoiled"):
        less, more = int((own["low"] > 0.5).sum()), int((own["high"] < 0.5).sum())
        said.append(f"{word} clearly further off in {less}, clearly nearer in {more}")
    cases = len(found) // found["spoiled"].nunique()
    return (
        f"As witnesses these distances are weak: of {cases} layers and estimates they find, beside "
        f"ordinary text, {'; '.join(said)}. What they do not tell, another measure of the manifold "
        "might."
    )


def auc(low: Floats, high: Floats, *, seed: int = 0) -> tuple[float, float, float]:
    """The chance that a value of `high` (m,) lies above one of `low` (n,), ties counted half, with
    the ends of its 95 % percentile bootstrap interval; NaN where either is empty."""
    if not len(low) or not len(high):
        return np.nan, np.nan, np.nan
    # (n, m) whether the one lies above the other, ties half: its mean is the area.
    above = (np.sign(high[None, :] - low[:, None]) + 1) / 2
    rng = np.random.default_rng(seed)
    drawn = [resamples(len(each), _RESAMPLES, rng) for each in (low, high)]
    found = np.einsum("rn,nm,rm->r", drawn[0], above, drawn[1], optimize=True) / above.size
    return float(above.mean()), *percentiles(found, 0.95)


def _auc(low: Floats, high: Floats) -> float:
    labels = np.repeat([0, 1], [len(low), len(high)])
    return float(roc_auc_score(labels, np.concatenate([low, high])))
