"""Texts of two classes and the groups that they come in, as probes take them. Knows no streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.contrast.pairs import Pairs
from workbench.forward.reading import encode_pairs
from workbench.probing.linear_probes import Bools, Ints
from workbench.text.dealing import group_by_texts
from workbench.text.splits import prompt_texts, text_hash
from workbench.text.tokens import Batch, Prompt, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """B texts with their labels (B,), whether positive, the number of each one's group (B,), and
    the hashes of all texts and prompts."""

    batch: Batch
    labels: Bools
    groups: Ints
    hashes: frozenset[str]


def label_texts(
    lm: LM,
    texts: Pairs | Sequence[Prompt] | Batch,
    labels: Sequence[Any] | None,
    groups: Sequence[Any] | None,
) -> LabelledTexts:
    """Pairs, whose sides are in turn positive and negative, or texts with labels.

    groups  one per pair or per text; None: what shares a prompt or a text is one group

    Raises ValueError for labels beside pairs, for labels or groups of another number, for a label
    that is neither True nor False, for texts of one class, and as `tokens.encode`.
    """
    if isinstance(texts, Pairs):
        if labels is not None:
            raise ValueError("pairs say themselves which side is positive: leave out `labels`")
        hashes = [list(pair.texts) for pair in texts]
        own = _groups(groups, hashes, "pair")
        batch, wanted, own = encode_pairs(lm, texts), [True, False] * len(texts), np.repeat(own, 2)
    else:
        batch = to_batch(lm, texts)
        wanted = labels
        hashes = [[text_hash(each) for each in known] for known in _known_by(texts)]
        own = _groups(groups, hashes, "text")
    everything = frozenset(each for some in hashes for each in some)
    return LabelledTexts(batch, _labels(wanted, len(batch)), own, everything)


def _known_by(texts: Sequence[Prompt] | Batch) -> list[list[str]]:
    """Of each text, what another is recognised by that shares its prompt or all of it."""
    if not isinstance(texts, Batch):
        return [list(prompt_texts(each)) for each in texts]
    both = zip(texts.prompts, texts.texts, strict=True)
    return [[each for each in (row.text, text) if each.strip()] for row, text in both]


def _labels(labels: Sequence[Any] | None, count: int) -> Bools:
    if labels is None:
        raise ValueError("texts need labels, True or False for each; contrast pairs need none")
    found = np.asarray(labels)
    if found.shape != (count,):
        raise ValueError(f"labels have the shape {found.shape}; give one per text, ({count},)")
    for place, each in enumerate(found.tolist()):
        if each not in (0, 1):
            raise ValueError(
                f"the label of text {place} is {each!r}; give True (1) or False (0). Of several "
                "classes probe one against the others: [label == 'this' for label in labels]"
            )
    found = found.astype(bool)
    if found.all() or not found.any():
        raise ValueError(
            f"all {count} texts are labelled {bool(found.all())}; a probe needs texts of both "
            "classes"
        )
    return found


def _groups(groups: Sequence[Any] | None, hashes: list[list[str]], what: str) -> Ints:
    """The number of each one's group."""
    found = np.empty(len(hashes), dtype=np.intp)
    if groups is None:
        for number, members in enumerate(group_by_texts(hashes)):
            found[members] = number
        return found
    given = list(groups)
    if len(given) != len(hashes):
        raise ValueError(f"{len(given)} groups for {len(hashes)} {what}s: give one for each")
    numbers: dict[Any, int] = {}
    for place, each in enumerate(given):
        if each is None or each != each:  # NaN
            raise ValueError(f"{what} {place} is of the group {each!r}: name one")
        found[place] = numbers.setdefault(each, len(numbers))
    return found
