"""Of each block, the linear maps that end its attention and its MLP, and the norms that follow
them, told by a real forward.

Knows nothing of files, tokenizers, or nnsight.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from workbench.loading.layers import evaluating, text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _Run(NamedTuple):
    """A module that owns a matrix, as a block ran it: its name within the block, the width that it
    reads and writes, and how many tokens it took and gave (0 where these differ)."""

    name: str
    wide: int
    out: int
    tokens: int


def find_down_projections(
    model: "PreTrainedModel", layer_path: str
) -> tuple[tuple[str, int] | None, ...]:
    """Of each block, its MLP's down-projection: dotted name and input width; or None.

    Told by what a forward of 2 x 4 tokens runs: of the modules that own a matrix, the
    down-projection is the one that a block runs last. It must be a linear map on all tokens at
    once, from its own input to the width of the residual stream, and read no less than any other
    that ends in that width. Norms own no matrix, so those that follow the MLP (Gemma-2 and -3,
    OLMo-2) do not hide it. None is for a block without a single one: a mixture of experts runs maps
    on some of the tokens, keeps them as one tensor of three dimensions, or weighs them after.
    """
    width = text_config(model).hidden_size

    def judge(block: nn.Module, runs: list[_Run]) -> tuple[str, int] | None:
        # An expert that got no token has not run; a router or a gate may be all that did.
        parts = list(_owners(block).values())
        stacked = any(p.ndim > 2 for m in parts for p in m.parameters(recurse=False))
        if stacked or len(runs) != len(parts) or any(run.tokens != _IDS.numel() for run in runs):
            return None
        last, rivals = runs[-1], [run.wide for run in runs if run.out == width]
        return (last.name, last.wide) if last.out == width and last.wide == max(rivals) else None

    return tuple(judge(block, runs) for block, runs in _seen(model, layer_path))


def find_attention_outputs(
    model: "PreTrainedModel", layer_path: str
) -> tuple[tuple[str, int] | None, ...]:
    """Of each block, the output projection of its attention: dotted name and the width that it
    reads, all heads side by side; or None.

    Of a block's own parts the attention is the first that runs matrices; the projection is the last
    of them, which takes all tokens to the width of the residual stream. None is for a block whose
    first part is built otherwise.
    """
    width = text_config(model).hidden_size

    def judge(runs: list[_Run]) -> tuple[str, int] | None:
        first = runs[0].name.partition(".")[0] if runs else ""
        own = [run for run in runs if run.name.partition(".")[0] == first]
        last = own[-1] if len(own) > 1 else None
        if last is None or last.out != width or last.tokens != _IDS.numel():
            return None
        return last.name, last.wide

    return tuple(judge(runs) for _, runs in _seen(model, layer_path))


def find_writers(
    model: "PreTrainedModel", layer_path: str, names: Sequence[Sequence[str]]
) -> tuple[dict[str, str], ...]:
    """Of each block, which of the named modules (those that the two functions above find) have a
    norm between them and the stream: name -> dotted name of the norm.

    It is the module without a matrix that reads just what the named one wrote, and writes something
    else of that shape (Gemma-2 and -3, OLMo-2). A norm of the stream with the write added to it,
    as in BERT, is none.
    """
    blocks = list(model.get_submodule(layer_path).children())
    wrote: list[dict[str, Tensor]] = [{} for _ in blocks]
    found: list[dict[str, str]] = [{} for _ in blocks]

    def note(layer: int, name: str, given: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if name in names[layer]:
            wrote[layer][name] = output
        into = given[0] if given else None
        for own, written in wrote[layer].items():
            follows = _same(into, written) and not _same(output, written)
            if name != own and own not in found[layer] and follows:
                found[layer][own] = name

    handles = [
        module.register_forward_hook(
            lambda _module, given, output, layer=layer, name=name: note(layer, name, given, output)
        )
        for layer, block in enumerate(blocks)
        for name, module in block.named_modules()
        if name in names[layer] or (name and not any(p.ndim > 1 for p in module.parameters()))
    ]
    _run(model, handles)
    return tuple(found)


def _same(one: Any, other: Tensor) -> bool:
    """Whether two tensors are one: a dropout that is off hands on what it was given."""
    if not isinstance(one, Tensor) or one is other or one.is_meta:
        return one is other
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape


_IDS = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]])


def _owners(block: nn.Module) -> dict[str, nn.Module]:
    """The modules within a block that own a matrix, by name."""
    return {
        name: module
        for name, module in block.named_modules()
        if any(p.ndim > 1 for p in module.parameters(recurse=False))
    }


def _seen(model: "PreTrainedModel", layer_path: str) -> list[tuple[nn.Module, list[_Run]]]:
    """Each block with what it ran of its own, in order, in a forward of 2 x 4 tokens."""
    blocks = list(model.get_submodule(layer_path).children())
    seen: list[list[_Run]] = [[] for _ in blocks]

    def note(layer: int, name: str, given: Any, output: Any) -> None:
        into = given[0] if given else None
        sizes = [
            (t.shape[:-1].numel(), t.shape[-1]) if isinstance(t, Tensor) and t.ndim else (0, 0)
            for t in (into, output)
        ]
        (tokens, wide), (written, out) = sizes
        seen[layer].append(_Run(name, wide, out, tokens if tokens == written else 0))

    handles = [
        module.register_forward_hook(
            lambda _module, given, output, layer=layer, name=name: note(layer, name, given, output)
        )
        for layer, block in enumerate(blocks)
        for name, module in _owners(block).items()
    ]
    _run(model, handles)
    return list(zip(blocks, seen, strict=True))


def _run(model: "PreTrainedModel", handles: Sequence[RemovableHandle]) -> None:
    """A forward of 2 x 4 tokens, after which hooks are removed."""
    ids = _IDS.to(model.device) % text_config(model).vocab_size
    try:
        with torch.no_grad(), evaluating(model):
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
