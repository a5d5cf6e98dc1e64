"""Ordinary text, of which a manifold is made: written by the grammar, cut from a file, or sampled
from the model itself. Documents are plain texts, one a document, that fit the model's context.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.generation.generate import generate
from workbench.support.checks import check_whole
from workbench.text.splits import as_text
from workbench.text.tokens import Prompt
from workbench.wren.batches import documents

if TYPE_CHECKING:
    from workbench.loading.models import LM


def own_language(lm: LM, prompts: Sequence[Prompt], count: int, part: str) -> list[str]:
    """Documents of a model's own language: wren's grammar, else what it writes after prompts.

    part  a word, another one for texts that shall have nothing in common
    """
    if lm.name == "wren":
        return from_grammar(count, part)
    begun = [prompts[index % len(prompts)] for index in range(count)]
    return from_model(lm, begun, seed=zlib.crc32(part.encode()))


def from_grammar(count: int, seed: int | str = 0) -> list[str]:
    """Documents of wren's language, as the model reads them: stories, chats and questionnaires.

    Raises ValueError for a count below 1.
    """
    check_whole("count", count, 1)
    # The tokenizer sets the token that begins a text.
    return [document.text.removeprefix("<s>") for document in documents(seed, count)]


def from_file(lm: LM, path: str | os.PathLike[str], *, tokens: int = 128) -> Iterator[str]:
    """Paragraphs of a text file, read as they are asked for; long ones in pieces of so many tokens.

    Paragraphs are set apart by empty lines. Pieces of fewer than eight tokens are left out. Raises
    FileNotFoundError, and ValueError for pieces that are longer than the model's context.
    """
    check_whole("tokens", tokens, 8, lm.context)
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"no text file at {str(source)!r}")
    return _pieces(lm, source, tokens)


def _pieces(lm: LM, source: Path, tokens: int) -> Iterator[str]:
    # Room for the tokens that begin a text.
    room = tokens - len(lm.tokenizer("")["input_ids"])  # type: ignore[arg-type]
    for paragraph in _paragraphs(source):
        ids = lm.tokenizer(paragraph, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(0, len(ids), room):
            piece = str(lm.tokenizer.decode(ids[start : start + room])).strip()
            if len(ids) - start >= 8 and piece:
                yield piece


def _paragraphs(source: Path) -> Iterator[str]:
    lines: list[str] = []
    with source.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                lines.append(line.strip())
            elif lines:
                yield " ".join(lines)
                lines = []
    if lines:
        yield " ".join(lines)


def from_model(
    lm: LM, prompts: Sequence[Prompt], *, tokens: int = 64, seed: int = 0, memory: float = 1 << 28
) -> list[str]:
    """What the unsteered model writes after each prompt at temperature 1, the prompt included.

    Equal prompts are continued differently. Texts that end at once are left out, and
    such as are tokenized anew into more than the context.
    Raises ValueError as `generate`, and where no text is left.
    """
    batch = max(1, int(memory / (8 * lm.vocabulary)) // 8)
    texts = []
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        made = generate(
            lm,
            some,
            new_tokens=tokens,
            temperature=1.0,
            seed=seed,
            streams=list(range(start, start + len(some))),
            score=False,
        )
        pairs = zip(made.batch.texts, made.texts, strict=True)
        texts += [whole + text for whole, text in pairs if text.strip()]
    texts = [text for text in texts if _fits(lm, text)]
    if not texts:
        raise ValueError(f"{lm.name!r} wrote nothing after any of {list(map(as_text, prompts))!r}")
    return texts


def _fits(lm: LM, text: str) -> bool:
    return lm.context is None or len(lm.tokenizer(text, verbose=False)["input_ids"]) <= lm.context
