"""What the sweep is measured against: repeng's loop, and a hook written by hand.

All of them get prompts, coefficients and one vector at one layer, write greedy texts of at most
`new_tokens` tokens, and score them under the unsteered model: mean log-probability of the new
tokens. None of them uses this project's package.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Below this gap between the two largest logits, rounding may choose the other token.
MARGIN = 1e-3


@dataclass(frozen=True)
class Task:
    """Texts to write: one per prompt and coefficient, prompts outermost. The stream after `layer`
    gets coefficient times `direction` (D,)."""

    prompts: tuple[str, ...]
    coefficients: tuple[float, ...]
    layer: int
    direction: Tensor
    new_tokens: int

    @property
    def cells(self) -> list[tuple[str, float]]:
        return [(prompt, c) for prompt in self.prompts for c in self.coefficients]


@dataclass(frozen=True)
class Written:
    """New ids of each text, its end token included, and its mean log-probability, unsteered."""

    ids: list[list[int]]
    scores: list[float]
    texts: list[str]


def ends_of(model: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends} - {None}


def cut(ids: Sequence[int], ends: set[int]) -> list[int]:
    """New ids up to and with the first end token."""
    stop = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:stop])


# ---- repeng: one text at a time -----------------------------------------------------------------


def repeng_loop(
    model: Any, tokenizer: Any, task: Task, chosen: Sequence[int], *, every_prefix: bool = False
) -> Written:
    """repeng's ControlModel over some cells of the task: write one text, then score it.

    In one pass; or, as the reference notebook does, with one pass for every prefix of the text.
    """
    from repeng import ControlModel, ControlVector

    ends = ends_of(model)
    vector = ControlVector(model.config.model_type, {task.layer: task.direction.numpy()})
    control = ControlModel(model, [task.layer])
    made: list[list[int]] = []
    scores, texts = [], []
    try:
        with torch.inference_mode():
            for prompt, coefficient in (task.cells[i] for i in chosen):
                inputs = tokenizer(prompt, return_tensors="pt")
                start = inputs["input_ids"].shape[1]
                control.set_control(vector, coefficient)
                out = control.generate(
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    do_sample=False,
                    max_new_tokens=task.new_tokens,
                    pad_token_id=tokenizer.pad_token_id,
                )
                control.reset()
                if every_prefix:
                    values = [_mean_logprob(control, out[:, :n], start) for n in _prefixes(out)]
                    scores.append(values[-1])
                else:
                    scores.append(_mean_logprob(control, out, start))
                made.append(cut(out[0, start:].tolist(), ends))
                texts.append(tokenizer.decode(made[-1], skip_special_tokens=True))
    finally:
        control.unwrap()
    return Written(made, scores, texts)


def _prefixes(ids: Tensor) -> range:
    return range(1, ids.shape[1] + 1)


def _mean_logprob(model: Any, ids: Tensor, start: int) -> float:
    """Mean log-probability of a text's tokens from `start` on; NaN where there are none."""
    table = model(ids).logits.log_softmax(dim=-1)[0, :-1]
    return float(table.gather(-1, ids[0, 1:, None])[start - 1 :].mean())


# ---- by hand: one hook, one batch ---------------------------------------------------------------


def layer_list(model: Any) -> nn.ModuleList:
    return model.model.layers if hasattr(model, "model") else model.transformer.h


@contextmanager
def hooked(model: Any, layer: int, addition: Tensor) -> Iterator[None]:
    """Adds a (B, 1, D) tensor to the stream after a layer."""

    def add(module: nn.Module, given: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + addition, *output[1:])
        return output + addition

    handle = layer_list(model)[layer].register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def by_hand(model: Any, tokenizer: Any, task: Task) -> Written:
    """All cells as one batch: plain transformers generate under a hook, then one scoring forward
    over the logits of the new tokens alone."""
    tokenizer.padding_side = "left"
    prompts = [prompt for prompt, _ in task.cells]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    attention = inputs["attention_mask"]
    ends = ends_of(model)
    with torch.inference_mode():
        with hooked(model, task.layer, additions(task)):
            out = plain_generate(model, inputs["input_ids"], attention, task.new_tokens)
        new = out[:, attention.shape[1] :]
        is_end = torch.isin(new, torch.tensor(sorted(ends)))
        real = (is_end.cumsum(1) - is_end.long()) == 0
        mask = torch.cat([attention, real.long()], dim=1)
        logits = plain_forward(model, out, mask, keep=new.shape[1] + 1)[:, :-1]
        found = logits.gather(-1, new[..., None])[..., 0] - logits.logsumexp(dim=-1)
        scores = (found * real).sum(1) / real.sum(1)
    ids = [row[:n] for row, n in zip(new.tolist(), real.sum(1).tolist(), strict=True)]
    return Written(ids, scores.tolist(), tokenizer.batch_decode(ids, skip_special_tokens=True))


def additions(task: Task) -> Tensor:
    """What each cell adds, (B, 1, D)."""
    values = torch.tensor([c for _, c in task.cells])
    return values[:, None, None] * task.direction


@torch.inference_mode()
def plain_generate(model: Any, ids: Tensor, attention: Tensor, new_tokens: int) -> Tensor:
    return model.generate(
        input_ids=ids,
        attention_mask=attention,
        do_sample=False,
        max_new_tokens=new_tokens,
        pad_token_id=model.config.pad_token_id or 0,
    )


@torch.inference_mode()
def plain_forward(model: Any, ids: Tensor, attention: Tensor, keep: int = 0) -> Tensor:
    """Logits of the last `keep` columns (0: all), in one forward with position ids."""
    positions = (attention.cumsum(1) - 1).clamp_min(0)
    return model(
        input_ids=ids,
        attention_mask=attention,
        position_ids=positions,
        use_cache=False,
        logits_to_keep=keep,
    ).logits


# ---- are they the same texts? -------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How many texts two contestants share: the same throughout; parted where the two largest
    logits are closer than MARGIN; parted elsewhere, which is an error."""

    same: int
    close_calls: int
    different: int

    def __str__(self) -> str:
        return f"{self.same} same, {self.close_calls} close calls, {self.different} different"


def agreement(
    ours: Sequence[Sequence[int]],
    theirs: Sequence[Sequence[int]],
    margins: Callable[[int, Sequence[int]], Sequence[float]],
) -> Agreement:
    """Compare texts up to the first step whose margin is below MARGIN.

    margins  (which text, its ids) -> the margin at each step, asked only where texts part
    """
    same = close = different = 0
    for index, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        if list(own) == list(other):
            same += 1
            continue
        pairs = zip(own, other, strict=False)
        parted = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(own), len(other)))
        if min(margins(index, own)[: parted + 1], default=np.inf) < MARGIN:
            close += 1
        else:
            different += 1
    return Agreement(same, close, different)


def margin_of(
    model: Any, tokenizer: Any, task: Task, chosen: Sequence[int]
) -> Callable[[int, Sequence[int]], list[float]]:
    """The gap between the two largest logits at each step of a text, by one hooked forward."""

    def margins(index: int, new: Sequence[int]) -> list[float]:
        prompt, coefficient = task.cells[chosen[index]]
        start = tokenizer(prompt)["input_ids"]
        ids = torch.tensor([[*start, *new]])
        with hooked(model, task.layer, coefficient * task.direction[None, None]):
            logits = plain_forward(model, ids, torch.ones_like(ids), keep=len(new) + 1)[0, :-1]
        top = logits.topk(2, dim=-1).values
        return (top[:, 0] - top[:, 1]).tolist()

    return margins


def quietly() -> None:
    """Nothing printed between the tables."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
