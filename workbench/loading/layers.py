"""Which modules of a model are its decoder layers, told by structure and a real forward.

Knows nothing of files, tokenizers, or nnsight.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def find_layers(model: "PreTrainedModel") -> str:
    """The dotted name of the model's layer list, verified by a forward of 2 x 4 tokens.

    Candidates are the ModuleLists as long as the text config says the model is deep; the
    layer list is the one whose blocks run exactly once each, in order, and return hidden
    states of shape (2, 4, D). The two rows differ in the last token only, so that a model
    which looks ahead is recognised as not causal.

    Raises:
        ValueError: no candidate or several pass, naming all; or the model is not causal.
    """
    config = text_config(model)
    depth, width = config.num_hidden_layers, config.hidden_size
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    candidates = {name: blocks for name, blocks in lists.items() if len(blocks) == depth}
    ids = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]], device=model.device) % config.vocab_size
    runs: dict[str, list[tuple[int, tuple[int, ...]]]] = {name: [] for name in candidates}
    first_outputs: dict[str, Tensor] = {}

    def note(name: str, index: int, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        runs[name].append((index, tuple(getattr(hidden, "shape", ()))))
        if index == 0 and isinstance(hidden, Tensor):
            first_outputs[name] = hidden

    handles = [
        block.register_forward_hook(
            lambda _module, _inputs, output, name=name, index=index: note(name, index, output)
        )
        for name, blocks in candidates.items()
        for index, block in enumerate(blocks)
    ]
    try:
        with torch.no_grad(), evaluating(model):
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()

    expected = [(index, (*ids.shape, width)) for index in range(depth)]
    passed = [name for name, seen in runs.items() if seen == expected]
    if len(passed) != 1:
        found = ", ".join(f"{name} ({len(blocks)})" for name, blocks in lists.items()) or "none"
        raise ValueError(
            f"cannot tell the layers of {type(model).__name__}: expected one ModuleList of "
            f"{depth} blocks that run once each, in order, with outputs of width {width}; "
            f"{', '.join(map(repr, passed)) or 'none'} passed. ModuleLists and lengths: {found}"
        )
    if _looks_ahead(first_outputs[passed[0]]):
        raise ValueError(
            f"{type(model).__name__} is not causal: a token changes the hidden states before it. "
            "Only decoder language models can be steered here"
        )
    return passed[0]


def text_config(model: "PreTrainedModel") -> "PreTrainedConfig":
    """The configuration of the part that reads and writes text."""
    return model.config.get_text_config(decoder=True)


def _looks_ahead(hidden: Tensor) -> bool:
    """Whether rows (2, 4, D) that share all but the last token differ before it."""
    if hidden.is_meta:
        return False
    one, other = hidden[:, :-1].double()
    tolerance = torch.finfo(hidden.dtype).eps ** 0.5
    return bool(((one - other).norm(dim=-1) > tolerance * one.norm(dim=-1)).any())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, each module's own mode again after."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter of the model takes a gradient inside; after, those do that did."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
