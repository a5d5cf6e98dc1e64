"""Soft targets: for every token of a document the probabilities of what could stand in its place.

A document is one draw out of very many, and a model that learns from draws alone spends most of
its steps on averaging out their noise. The probabilities of the next token under one choice of the
writer, all else about the text held fixed, have the same mean as the token drawn and less variance
(the Rao-Blackwell theorem), so they are the better target of training. Two choices count here: what
fills a slot, and which frame of its group a sentence has.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from transformers import PreTrainedTokenizerFast

from .frames import Frame, frames
from .grammar import Document
from .pieces import Piece, pieces

#: Token ids of a document, and for each the probability of every token in its place.
Targets = tuple[list[int], list[dict[int, float]]]
Step = tuple[int, dict[int, float]]

_MARKERS = re.compile(r"(?:<[^<>]*>)*")


class SoftTargets:
    """Makes the targets of documents, for one tokenizer; it remembers what it has encoded."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}
        self._options: dict[tuple[object, ...], _Options | None] = {}

    def __call__(self, document: Document) -> Targets:
        """The document's tokens and their probabilities.

        Raises ValueError where the document does not hold what it says it is made of.
        """
        text, at = document.text, 0
        named: set[str] = set()
        used: set[Frame] = set()
        steps: list[Step] = []
        for said in document.derivations:
            markers = _MARKERS.match(text, at)
            assert markers is not None
            steps += map(_certain, self._encode(markers.group()))
            at, space = markers.end(), text[markers.end() : markers.end() + 1] == " "
            before = frozenset(named)
            own = list(pieces(said, named, space=space))
            body = "".join(piece.written(piece.text) for piece in own)
            if not text.startswith(body, at):
                raise ValueError(f"the document does not hold {body!r} at character {at}")
            at += len(body)
            used.add(said.frame)
            rivals = [
                pieces(said._replace(frame=frame), set(before), space=space)
                for frame in frames().get(said.frame.group, ())
                if frame not in used
            ]
            steps += _averaged(
                list(self._steps(own)), [self._steps(_begun_alike(rival, own)) for rival in rivals]
            )
        steps += map(_certain, self._encode(text[at:]))
        ids, probabilities = zip(*steps, strict=True)
        return list(ids), list(probabilities)

    def _encode(self, text: str) -> list[int]:
        ids = self._ids.get(text)
        if ids is None:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            self._ids[text] = ids
        return ids

    def _steps(self, sentence: Iterable[Piece]) -> Iterator[Step]:
        """Tokens of a sentence, each with the probabilities under what fills its slot."""
        for piece in sentence:
            ids, options = self._encode(piece.written(piece.text)), self._could_be(piece)
            for depth, token in enumerate(ids):
                yield _certain(token) if options is None else (token, options.after(ids[:depth]))

    def _could_be(self, piece: Piece) -> _Options | None:
        if not piece.options:
            return None
        key = (piece.options, piece.space, piece.capital)
        if key not in self._options:
            ways = [self._encode(piece.written(option)) for option in piece.options]
            self._options[key] = _Options(ways) if _tell_their_end(ways) else None
        return self._options[key]


class _Options:
    """The tokens of all that could stand in a place."""

    def __init__(self, ways: list[list[int]]) -> None:
        self._ways = ways
        self._after: dict[tuple[int, ...], dict[int, float]] = {}

    def after(self, beginning: list[int]) -> dict[int, float]:
        """Probabilities of the next token, all options that begin so being equally likely."""
        path = tuple(beginning)
        known = self._after.get(path)
        if known is None:
            depth = len(path)
            counts = Counter(way[depth] for way in self._ways if tuple(way[:depth]) == path)
            known = {token: count / counts.total() for token, count in counts.items()}
            self._after[path] = known
        return known


def _tell_their_end(ways: list[list[int]]) -> bool:
    """Whether no option is the beginning of another, so that what follows never stands for one."""
    ordered = sorted({tuple(way) for way in ways})
    return all(b[: len(a)] != a for a, b in pairwise(ordered))


def _certain(token: int) -> Step:
    return token, {token: 1.0}


def _begun_alike(rival: Iterable[Piece], own: list[Piece]) -> Iterator[Piece]:
    """The rival with the words of `own` in the slots that both begin with: drawn once for both."""
    alike = True
    for number, piece in enumerate(rival):
        if alike and piece.options and number < len(own) and piece.options == own[number].options:
            piece = piece._replace(text=own[number].text)
        alike = alike and number < len(own) and piece == own[number]
        yield piece


def _averaged(own: list[Step], rivals: list[Iterator[Step]]) -> list[Step]:
    """The mean of the probabilities over the sentences that have begun as `own` does so far."""
    result = list(own)
    for place, (token, probabilities) in enumerate(own):
        if not rivals:
            break
        still = [(step, rival) for rival in rivals if (step := next(rival, None)) is not None]
        total: defaultdict[int, float] = defaultdict(float)
        for each in (probabilities, *(step[1] for step, _ in still)):
            for other, probability in each.items():
                total[other] += probability / (1 + len(still))
        result[place] = token, dict(total)
        rivals = [rival for step, rival in still if step[0] == token]
    return result
