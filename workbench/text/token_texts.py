"""What single tokens say, so that any two of a table can be told apart.

A token's text is what it adds behind other words: alone, SentencePiece would take its space off.
A token that is no whole character is named by its bytes, such as "\\xe2\\x80". Knows nothing of
models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from workbench.text.completions import decode_completions

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Bytes that a byte-level BPE writes as the character of the same code; it writes the others, in
# order, as those from 256 on (Radford et al. 2019, the encoder of GPT-2).
_SHOWN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(0x100) if byte not in _SHOWN]
_BYTES = {chr(b): b for b in _SHOWN} | {chr(0x100 + i): b for i, b in enumerate(_HIDDEN)}


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text of each token; "[51234]" for an id that the tokenizer does not use.

    Spaces and line breaks are as they are: `look.visible` makes them seen in a picture.
    """
    pieces = [str(piece or "") for piece in tokenizer.convert_ids_to_tokens(list(ids))]
    known = [[token] if piece else [] for token, piece in zip(ids, pieces, strict=True)]
    said = decode_completions(tokenizer, known, skip_special_tokens=False)
    return [
        f"[{token}]" if not piece else _by_bytes(piece) if "\N{REPLACEMENT CHARACTER}" in text
        else text
        for token, piece, text in zip(ids, pieces, said, strict=True)
    ]  # fmt: skip


def _by_bytes(piece: str) -> str:
    """A piece of no whole characters; as it is where it is not written in bytes."""
    whole = _BYTE.fullmatch(piece)
    if whole:
        held = bytes([int(whole[1], 16)])
    elif all(letter in _BYTES for letter in piece):
        held = bytes(_BYTES[letter] for letter in piece)
    else:
        return piece
    return held.decode("utf-8", errors="backslashreplace")
