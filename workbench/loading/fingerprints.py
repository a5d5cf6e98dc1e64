"""What a model computes, as one hash: of its config and its weights.

Knows nothing of files, layers or tracing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What a config records about files and habits, not about the function that the model computes.
_NOT_ESSENTIAL = {
    "_name_or_path",
    "architectures",
    "chunk_size_feed_forward",
    "dtype",
    "id2label",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of what a model computes: its config and its weights.

    Of the config, its architecture's own settings and those of all architectures that are not at
    their defaults (`to_diff_dict`), so that a setting which a newer transformers gives to every
    config changes nothing; names, labels and output options are left out. Of each weight (and
    saved buffer), its name, dtype, shape and bytes. Not covered: the tokenizer, the generation
    settings, and the code that runs, such as the version of transformers or the attention kernel.

    Raises ValueError for weights that are not in memory (meta or offloaded to disk).
    """
    digest = hashlib.sha256(json.dumps(_essentials(model.config.to_diff_dict())).encode())
    for name, weight in sorted(model.state_dict().items()):
        if not isinstance(weight, Tensor):
            continue
        if weight.is_meta:
            raise ValueError(f"no fingerprint: the weight {name!r} is not in memory")
        digest.update(f"\n{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        for piece in weight.detach().contiguous().flatten().split(1 << 22):
            digest.update(memoryview(piece.cpu().view(torch.uint8).numpy()))  # type: ignore[arg-type]
    return digest.hexdigest()


def _essentials(config: Any) -> Any:
    """The parts of a config that change what is computed, in an order of their own."""
    if isinstance(config, Mapping):
        kept = ((str(key), value) for key, value in config.items() if key not in _NOT_ESSENTIAL)
        return {key: _essentials(value) for key, value in sorted(kept)}
    if isinstance(config, list | tuple):
        return [_essentials(value) for value in config]
    return config if isinstance(config, int | float | str | None) else repr(config)
