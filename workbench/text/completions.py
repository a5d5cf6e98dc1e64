"""Completions: between the text that follows a prompt and its token ids.

Tokenizers speak of whole texts. Alone, "time" may mean " time" (SentencePiece puts a space before
a text and takes one off when it decodes) or lose its first space (WordPiece); behind other words
it is what it is. So a completion is written and read behind something else. This module knows
nothing of prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Completion: TypeAlias = str | Sequence[int]
Ids: TypeAlias = tuple[int, ...]

# A line break joins no word that follows; where breaks are dropped or joined, an anchor may do.
_BREAK = "\n"


def encode_completions(tokenizer: Any, completions: Sequence[Completion]) -> list[tuple[Ids, str]]:
    """The token ids of each completion and its text; no special tokens are added.

    The ids are those that add exactly the text to what stands before them, so that decoding them
    gives it back: the text's own ids where these do, otherwise its ids behind a line break or a
    word. A text that the tokenizer cannot express (an unknown letter) gets the nearest.
    """
    ids_of = _ids_of(tokenizer, list({c: None for c in completions if c and isinstance(c, str)}))
    rows = [() if isinstance(c, str) else tuple(map(int, c)) for c in completions]
    return [
        (ids_of.get(c, ()), c) if isinstance(c, str) else (row, text)
        for c, row, text in zip(completions, rows, decode_completions(tokenizer, rows), strict=True)
    ]


def decode_completions(
    tokenizer: Any, rows: Sequence[Sequence[int]], *, skip_special_tokens: bool = True
) -> list[str]:
    """What each row of token ids adds to the text before it, its first space included."""
    if not any(rows):
        return [""] * len(rows)
    anchor = _anchor(tokenizer)
    before = tokenizer.decode(anchor, skip_special_tokens=skip_special_tokens)
    texts = tokenizer.batch_decode(
        [[*anchor, *row] for row in rows],
        skip_special_tokens=skip_special_tokens,
        clean_up_tokenization_spaces=False,
    )
    return [text.removeprefix(before) for text in texts]


def _ids_of(tokenizer: Any, texts: Sequence[str]) -> dict[str, Ids]:
    """The ids of each text, by the first way that adds exactly that text."""
    alone = dict(zip(texts, _tokenize(tokenizer, texts), strict=True))
    exact = _exact(tokenizer, alone)
    missing = [text for text in texts if text not in exact]
    if not missing:
        return exact
    after_break = _ids_behind(tokenizer, _BREAK, missing)
    after_word = _ids_behind(tokenizer, tokenizer.decode(_anchor(tokenizer)), missing)
    nearest = alone | after_word | after_break
    return nearest | _exact(tokenizer, after_word) | _exact(tokenizer, after_break) | exact


def _exact(tokenizer: Any, ids_of: Mapping[str, Ids]) -> dict[str, Ids]:
    """Those of the texts that their ids add, letter by letter."""
    added = decode_completions(tokenizer, list(ids_of.values()), skip_special_tokens=False)
    return {t: ids for (t, ids), said in zip(ids_of.items(), added, strict=True) if said == t}


def _ids_behind(tokenizer: Any, before: str, texts: Sequence[str]) -> dict[str, Ids]:
    """The ids of each text behind `before`, less those of `before`; without the texts that share
    a token with it, and without any where the tokenizer drops it."""
    first, *rows = _tokenize(tokenizer, [before, *(before + text for text in texts)])
    return {
        text: row[len(first) :]
        for text, row in zip(texts, rows, strict=True)
        if first and row[: len(first)] == first
    }


def _tokenize(tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
    found = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return [tuple(ids) for ids in found]


def _anchor(tokenizer: Any) -> list[int]:
    """An ordinary token, a word or part of one, for others to follow when they are decoded.

    Pieces that stand for a byte ("<0x30>") will not do: bytes that follow one another are decoded
    together.
    """
    special = set(tokenizer.all_special_ids)
    plain = (i for i in range(len(tokenizer)) if i not in special)
    return next(([i] for i in plain if _is_word(tokenizer, i)), [])


def _is_word(tokenizer: Any, token: int) -> bool:
    piece = str(tokenizer.convert_ids_to_tokens(token))
    if not (piece[-1:].isascii() and piece[-1:].isalnum()):
        return False
    said = tokenizer.decode([token]).strip()
    return said.isascii() and said.isalnum() and piece.endswith(said)
