"""Room for the keys and values of a whole decoding, made once.

transformers' own cache grows by concatenation: it copies all it holds at every step of every layer,
which took nearly half the time of a sweep of wren on two cores.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values (batch, head, token, width) with room for `columns` tokens; what does not fit
    is concatenated. For decoding without gradients, as tokens are written in place."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.room: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens so far, the given ones the last."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self.columns:
            return super().update(key_states, value_states, *args, **kwargs)
        if self.room is None:
            self.lazy_initialization(key_states, value_states)
            self.room = (self._empty(key_states), self._empty(value_states))
        keys, values = self.room
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the chosen rows, which may stand twice."""
        super().batch_select_indices(indices)
        if self.room is not None:
            keys, values = self.room
            self.room = (keys[indices], values[indices])

    def _empty(self, states: Tensor) -> Tensor:
        batch, heads, _, width = states.shape
        return states.new_empty(batch, heads, self.columns, width)


def roomy_cache(model: Any, columns: int) -> DynamicCache | None:
    """The cache that transformers would make for a model, its plain layers with room for so many
    tokens; None where it has none of these (sliding windows alone, states instead of keys)."""
    if not model._supports_default_dynamic_cache():
        return None
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    plain = [type(layer) is DynamicLayer for layer in cache.layers]
    cache.layers = [
        RoomyLayer(columns) if is_plain else layer
        for is_plain, layer in zip(plain, cache.layers, strict=True)
    ]
    return cache if any(plain) else None


def decoding_cache(model: Any, columns: int) -> DynamicCache:
    """As `roomy_cache`, else the plain cache of a model all of whose layers slide. Raises
    ValueError for a model that keeps states instead of keys and values."""
    if not model._supports_default_dynamic_cache():
        raise ValueError(
            f"{type(model).__name__} keeps no keys and values of tokens: a text cannot be gone on "
            "with step by step here"
        )
    roomy = roomy_cache(model, columns)
    if roomy is not None:
        return roomy
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def select_rows(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """Another cache with the chosen rows of this one, which may stand twice."""
    chosen = copy.deepcopy(cache)
    chosen.batch_select_indices(rows)
    return chosen
