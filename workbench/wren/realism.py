"""How like a real model: the shape of the residual stream, of the tokens, and of plain text."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from workbench.forward.tracing import activations
from workbench.generation.generate import generate
from workbench.loading.models import LM
from workbench.text.positions import content
from workbench.text.tokens import encode
from workbench.wren.grammar import write
from workbench.wren.measure import loops

DOCUMENTS = 20_000


@dataclass(frozen=True)
class Summary:
    """A model's realism figures; ``by_layer`` are median residual norms."""

    name: str
    by_layer: tuple[float, ...]
    first: float
    dimensions: float
    tokens_per_word: float
    loops: float

    def row(self) -> dict[str, object]:
        """One row of the card's table."""
        middle = self.by_layer[len(self.by_layer) // 2]
        return {
            "model": self.name,
            "first position's norm over the median (middle layer)": self.first / middle,
            "directions per width (participation ratio, middle layer)": self.dimensions,
            "tokens per word": self.tokens_per_word,
            "sampled texts that loop": self.loops,
        }

    def norms(self) -> dict[str, object]:
        """Residual norm after each layer."""
        columns = {f"layer {layer}": norm for layer, norm in enumerate(self.by_layer)}
        return {"model": self.name, **columns}


def own_texts(lm: LM, count: int, seed: int) -> tuple[list[str], float]:
    """Texts of 128 tokens sampled from nothing but the start token, and the share that loops.

    Raises ValueError for a model without a start token.
    """
    start = lm.tokenizer.bos_token
    if not isinstance(start, str):
        raise ValueError(f"{lm.name!r} has no start token to sample from")
    batch = encode(lm, [start] * count)
    if batch.width > 1:  # the tokenizer puts a start token in front by itself
        batch = replace(batch, ids=batch.ids[:, -1:], attention=batch.attention[:, -1:])
        batch = replace(batch, starts=torch.ones_like(batch.starts))
    made = generate(lm, batch, new_tokens=128, temperature=1.0, seed=seed, score=False)
    return made.texts, float(loops(made).mean())


def summary(lm: LM, *, count: int = 200, seed: int = 0) -> Summary:
    """Realism figures from the model's own samples."""
    texts, loops = own_texts(lm, count, seed)
    texts = [text for text in texts if len(text.split()) > 3]
    layers = range(lm.layers)
    found = activations(lm, encode(lm, texts), layers, content, norms=True)
    norms = found.norms
    assert norms is not None
    middle = lm.layers // 2
    batch = encode(lm, texts)
    first = norms[torch.arange(len(texts)), batch.attention.int().argmax(1), middle]
    rest = norms.clone()
    rest[torch.arange(len(texts)), batch.attention.int().argmax(1)] = torch.nan
    values = found.values[:, middle].double()
    spectrum = torch.linalg.eigvalsh(torch.cov(values.T)).clamp(min=0)
    words = sum(len(text.split()) for text in texts)
    tokens = int(batch.attention.sum())
    return Summary(
        name=lm.name,
        by_layer=tuple(float(rest[..., layer].nanmedian()) for layer in layers),
        first=float(first.median()),
        dimensions=float(spectrum.sum() ** 2 / (spectrum**2).sum() / lm.width),
        tokens_per_word=tokens / words,
        loops=loops,
    )


def correlations(seed: int = 0) -> pd.DataFrame:
    """Phi coefficients between traits over documents that ask for nothing."""
    rng = random.Random(seed)
    labels = pd.DataFrame([dict(write(rng, asked={}).labels) for _ in range(DOCUMENTS)])
    firsts = {
        "formal": labels["formality"] == "formal",
        "verbose": labels["verbosity"] == "verbose",
        "positive": labels["mood"].map({"positive": 1.0, "negative": 0.0}),
        "power": labels["power"].map({"high": 1.0, "low": 0.0}),
        "callous": labels["callous"].map({"high": 1.0, "low": 0.0}),
        "refuse": labels["refusal"].map({"refuse": 1.0, "comply": 0.0}),
    }
    table = pd.DataFrame({name: series.astype(float) for name, series in firsts.items()}).corr()
    table = table.map(lambda value: "" if np.isnan(value) else f"{value:+.3f}")
    return table.reset_index(names="")


def ambiguity(count: int = 4000, seed: int = 1) -> str:
    """What the derivation's probability misses, in words."""
    rng = random.Random(seed)
    documents = [write(rng) for _ in range(count)]
    unseen = np.mean([bool(document.unseen) for document in documents])
    nats = np.mean([document.ambiguity for document in documents])
    entropy = -np.mean([document.log_probability for document in documents])
    return (
        f"{unseen:.2%} of {count} documents leave a sampled trait unseen. On average that adds "
        f"{nats:.4f} nats to a document's {entropy:.2f}, {nats / entropy:.4%} of its entropy; the "
        "loss is compared with log P(text), this amount included."
    )
