"""Activations that go by, of which a bounded part is kept: moments, a sample, lengths by position.

Knows nothing of models or texts. What is kept does not grow with what goes by.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.statistics.moments import Moments
from workbench.support.checks import check_whole

# From this position on the tokens of a text are taken together.
_POSITIONS = 64


def as_stream(values: Tensor, unit: bool) -> Tensor:
    """Streams (…, D) as they are looked at: float64 or float32, at length √D if `unit`."""
    if not unit:
        return values
    length = values.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    return values / length * values.shape[-1] ** 0.5


class Streaming:
    """Takes activations block by block; see `Reference` for what is kept.

    Memory: 8 D² bytes per layer and part, 4 D per layer and sampled token, and those of one block.
    """

    def __init__(
        self, width: int, layers: Sequence[int], *, folds: int, sample: int, seed: int, unit: bool
    ) -> None:
        check_whole("folds", folds, 2)
        check_whole("sample", sample, 1)
        self.width, self.layers, self.unit = width, tuple(layers), unit
        self.folds = {layer: [Moments(width) for _ in range(folds)] for layer in layers}
        self._size, self._seed = sample, check_whole("seed", seed, 0)
        self._keys = np.empty(0)
        self._values = {layer: np.empty((0, width), np.float32) for layer in layers}
        self._about = np.empty((0, 2), np.int64)

    def add(self, values: Tensor, documents: np.ndarray, positions: np.ndarray) -> None:
        """Add tokens: values (n, L, D), the document (n,) of each and its place (n,) in it."""
        whole = as_stream(values, self.unit).numpy()
        parts = documents % len(self.folds[self.layers[0]])
        for part in np.unique(parts):
            for index, layer in enumerate(self.layers):
                self.folds[layer][part].add(whole[parts == part, index])
        self._sample(whole, documents, positions)

    def _sample(self, whole: np.ndarray, documents: np.ndarray, positions: np.ndarray) -> None:
        """Keep the tokens with the smallest keys: a draw without replacement from all so far, and
        the same one however the stream is cut, as a token's key depends on where it stands."""
        keys = np.empty(len(documents))
        for document in np.unique(documents):
            mine = documents == document
            drawn = np.random.default_rng([self._seed, int(document)])
            keys[mine] = drawn.random(int(positions[mine].max()) + 1)[positions[mine]]
        new = keys < self._bound
        both = np.concatenate([self._keys, keys[new]])
        kept = np.argsort(both, kind="stable")[: self._size]
        self._keys = both[kept]
        about = np.stack([documents, positions], axis=1)[new]
        self._about = np.concatenate([self._about, about])[kept]
        for index, layer in enumerate(self.layers):
            more = whole[new, index].astype(np.float32)
            self._values[layer] = np.concatenate([self._values[layer], more])[kept]

    @property
    def _bound(self) -> float:
        return float(self._keys[-1]) if len(self._keys) == self._size else np.inf

    def sample(self) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
        """The sample of each layer, in the order of the text: values, documents, positions."""
        order = np.lexsort(self._about.T[::-1])
        chosen = {layer: values[order] for layer, values in self._values.items()}
        return chosen, self._about[order, 0], self._about[order, 1]


class Lengths:
    """Logarithms of the streams' lengths by position, summed up."""

    def __init__(self, layers: int) -> None:
        # Left out and kept, by position; count, sum, sum of squares.
        self._sums = np.zeros((2 * _POSITIONS, 3, layers))

    def add(self, norms: Tensor, positions: Tensor, kept: Tensor) -> None:
        """Add tokens: their lengths (n, L), places (n,), and whether they are read (n,)."""
        flat = kept.long() * _POSITIONS + positions.clamp_max(_POSITIONS - 1)
        logs = norms.double().clamp_min(1e-30).log().numpy()
        for power in range(3):
            np.add.at(self._sums[:, power], flat.numpy(), logs**power)

    def table(self, layers: Sequence[int]) -> pd.DataFrame:
        """One row per (layer, position, whether it is left out) that occurs: `tokens`, `norm` (the
        geometric mean), `spread` (of the logarithm), and `ratio` of the norm to that of all tokens
        that are read. The last position stands for all from there on."""
        rows = []
        for index, layer in enumerate(layers):
            sums = self._sums[..., index].reshape(2, _POSITIONS, 3)
            usual = sums[1, :, 1].sum() / max(sums[1, :, 0].sum(), 1)
            for kept in (0, 1):
                for place in np.flatnonzero(sums[kept, :, 0]):
                    count, total, squares = sums[kept, place]
                    mean = total / count
                    spread = np.sqrt(max(squares / count - mean**2, 0))
                    row = (layer, place, not kept, count, np.exp(mean), spread)
                    rows.append((*row, np.exp(mean - usual)))
        names = ["layer", "position", "left_out", "tokens", "norm", "spread", "ratio"]
        return pd.DataFrame(rows, columns=names).astype(
            {"position": int, "left_out": bool, "tokens": int}
        )
