"""Where in a block a constant reaches the residual stream unchanged.

    h' = h + v at every token   is the same model with   b' = b + v / s

for a bias b of the block whose own value arrives in the stream after it as s b, whatever the token
(s is 1 nearly everywhere; Granite scales what a block adds). Which bias does is not told by its
name: one is moved, and the block run again on the same streams. Where a norm follows the MLP, or
the attention's bias is read by the MLP after it, the change is another at every token.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.loading.layers import evaluating, text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of the largest entry of a change, how far it may be off at any token: block and probe are float32.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Room:
    """A bias of a model, by its dotted name, whose value b is added to the stream as `scale` b."""

    name: str
    scale: float


def find_room(model: PreTrainedModel, layer_path: str, layer: int) -> Room | None:
    """The bias through which a constant is added to the stream after block `layer`; None if none.

    Candidates are the block's parameters called a bias whose last dimension is the stream's width
    (with one row for each expert, all are moved alike), the last first.
    """
    block = model.get_submodule(f"{layer_path}.{layer}")
    candidates = _candidates(block, text_config(model).hidden_size)
    if not candidates:
        return None
    probe = copy.deepcopy(block).float()
    given, named = _float(_given(model, block))
    with torch.no_grad(), evaluating(probe):
        before = _stream(probe(*given, **named))
        for name in candidates:
            bias = probe.get_parameter(name)
            drawn = torch.randn(bias.shape[-1:], generator=torch.Generator().manual_seed(0))
            push = (drawn * before.std().cpu()).to(bias.device)
            kept = bias.clone()
            bias += push
            change = _stream(probe(*given, **named)) - before
            bias.copy_(kept)
            scale = float((change @ push / push.square().sum()).median())
            off = float((change - scale * push).abs().max())
            if off <= _TOLERANCE * abs(scale) * float(push.abs().max()):
                # Exactly 1 where rounding alone made it something else.
                exact = 1.0 if abs(scale - 1) < _TOLERANCE else scale
                return Room(f"{layer_path}.{layer}.{name}", exact)
    return None


def _candidates(block: nn.Module, width: int) -> list[str]:
    """Names within the block, the last parameter first."""
    named = [(name, each) for name, each in block.named_parameters() if each.is_floating_point()]
    return [
        name
        for name, each in reversed(named)
        if "bias" in name.rpartition(".")[2] and each.shape[-1] == width
    ]


def _given(model: PreTrainedModel, block: nn.Module) -> Any:
    """What a block is called with in a forward of 2 x 8 tokens: positional and named arguments."""
    seen: list[Any] = []
    handle = block.register_forward_pre_hook(
        lambda _, given, named: seen.append((given, named)), with_kwargs=True
    )
    ids = torch.randint(
        text_config(model).vocab_size, (2, 8), generator=torch.Generator().manual_seed(0)
    ).to(model.device)
    try:
        with torch.no_grad(), evaluating(model):
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        handle.remove()
    return seen[0]


def _float(value: Any) -> Any:
    """The same arguments in float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: _float(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_float(each) for each in value)
    return value


def _stream(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
