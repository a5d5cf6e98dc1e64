"""In-context prompts exactly as the published code makes them, its oddities included.

https://github.com/DanielSc4/Dynamic-Activation-Composition (d5431bc): the beginning-of-text token
stands before every piece of the template, k examples asked for are k - 1 shown, consecutive items
make a prompt, prompts for extraction are drawn with repetition, and the first prompts evaluate, be
they drawn or not. To compare with its numbers; `in_context` is for everything else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from workbench.composition.in_context import Dealt, Examples
from workbench.support.checks import check_whole
from workbench.text.tokens import Batch, EncodedPrompt, pad_id

if TYPE_CHECKING:
    from workbench.loading.models import LM

SEED = 32


def reference_deal(
    size: int,
    *,
    icl_examples: int = 4,
    support: int = 30,
    evaluation_size: int = 50,
    seed: int = SEED,
) -> Dealt:
    """Its prompts out of `size` items: as many as there are where fewer than asked for.

    Raises ValueError for counts out of range, and for a size without room for one prompt.
    """
    check_whole("icl_examples", icl_examples, 1)
    check_whole("support", support, 1)
    check_whole("evaluation_size", evaluation_size, 0)
    each = icl_examples + 1
    held = size // each
    if not held:
        raise ValueError(f"{size} items make no prompt of {icl_examples} examples and a question")
    # The last example of a group is left out, as there.
    rows = [
        (*range(start, start + icl_examples - 1), start + icl_examples)
        for start in range(0, held * each, each)
    ]
    draw = random.Random(seed)
    drawn = [draw.randint(0, held - 1) for _ in range(min(held, support))]
    return Dealt(tuple(rows[index] for index in drawn), tuple(rows[:evaluation_size]))


def reference_in_context(lm: LM, rows: Sequence[Sequence[int]], examples: Examples) -> Batch:
    """Its prompts with instruction and examples. Raises as `reference_questions`."""
    head = [examples.instruction, "\n"] if examples.instruction else []
    return _batch(lm, [head + _pieces(row, examples) for row in rows])


def reference_questions(lm: LM, rows: Sequence[Sequence[int]], examples: Examples) -> Batch:
    """Its prompts without either. Raises ValueError for a tokenizer without a beginning-of-text
    token, and a prompt longer than the model's context."""
    return _batch(lm, [_pieces(row[-1:], examples) for row in rows])


def _pieces(row: Sequence[int], examples: Examples) -> list[str]:
    """Texts that are tokenized apart: answered questions, and the last without its answer."""
    pieces = []
    for index in row:
        item = examples.items[index]
        pieces += ["Q:", item.input, "\nA:", item.output, "\n\n"]
    return pieces[:-2]


def _batch(lm: LM, rows: Sequence[Sequence[str]]) -> Batch:
    tokenizer: Any = lm.tokenizer
    if tokenizer.bos_token_id is None:
        raise ValueError(
            f"{lm.name!r} has no beginning-of-text token, which the published template needs; "
            "leave compat out"
        )
    encoded = []
    for pieces in rows:
        tokens = [tokenizer.bos_token_id]
        for piece in pieces:
            tokens += tokenizer(piece)["input_ids"]
        text = "".join(pieces)
        # Which letters a token covers is not asked of these prompts.
        spans = ((0, len(text)),) * len(tokens)
        encoded.append(EncodedPrompt(text, tuple(tokens), spans, ()))
    width = max(len(prompt.ids) for prompt in encoded)
    if lm.context is not None and width > lm.context:
        raise ValueError(f"a prompt of {width} tokens is over the {lm.context} of {lm.name!r}")
    ids = torch.full((len(encoded), width), pad_id(lm), dtype=torch.long)
    attention = torch.zeros(len(encoded), width, dtype=torch.bool)
    for index, prompt in enumerate(encoded):
        ids[index, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
        attention[index, width - len(prompt.ids) :] = True
    return Batch(
        ids=ids,
        attention=attention,
        starts=torch.full((len(encoded),), width),
        prompts=tuple(encoded),
        texts=tuple(prompt.text for prompt in encoded),
        special_ids=frozenset(tokenizer.all_special_ids),
    )
