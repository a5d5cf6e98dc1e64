"""Contrast pairs: two texts that differ in one trait.

A pair is a prompt with two completions, a positive one that shows the trait and a negative one
that does not. This module knows nothing of models or tokens; files are read in loaders.py, pairs
are written out of templates in templating.py.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from workbench.support.store import write_atomically
from workbench.text.dealing import divide, group_by_texts
from workbench.text.splits import (
    ROLES,
    PromptSet,
    as_text,
    check_role,
    prompt_texts,
    require_disjoint,
    require_lists,
    text_hash,
)
from workbench.text.tokens import Prompt


@dataclass(frozen=True)
class Pair:
    """Two completions of one prompt; the full texts are prompt + completion.

    `prompt` may be empty: then positive and negative are whole texts. `negative_prompt` is for
    pairs whose difference lies in the prompt (a persona in the system line, say); None means the
    same prompt on both sides.
    Raises ValueError for a side that is empty, for a side that is no text, or for equal sides.
    """

    positive: str
    negative: str
    prompt: Prompt = ""
    negative_prompt: Prompt | None = None

    def __post_init__(self) -> None:
        for side in ("positive", "negative"):
            text = getattr(self, side)
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"one-sided pair: its {side} text is {text!r}; both sides need text"
                )
        if self.positive == self.negative and self.prompts[0] == self.prompts[1]:
            raise ValueError(f"identical pair: both sides are {self.positive[:200]!r}")
        if bool(self.prompts[0]) != bool(self.prompts[1]):
            raise ValueError(
                f"one side has a prompt and the other has none: {self.prompt!r}, "
                f"{self.negative_prompt!r}"
            )

    @property
    def prompts(self) -> tuple[Prompt, Prompt]:
        """The prompt of the positive and of the negative side."""
        other = self.prompt if self.negative_prompt is None else self.negative_prompt
        return self.prompt, other

    @property
    def full(self) -> tuple[str, str]:
        """The whole positive and the whole negative text (chat messages written as JSON)."""
        positive, negative = self.prompts
        return as_text(positive) + self.positive, as_text(negative) + self.negative

    @property
    def texts(self) -> dict[str, str]:
        """Hash -> text of all by which this pair is recognised: its prompts and both full texts."""
        own = [*prompt_texts(self.prompts[0]), *prompt_texts(self.prompts[1]), *self.full]
        return {text_hash(text): text for text in own}


@dataclass(frozen=True)
class Splits:
    """The same trait three times, without a text in common."""

    extract: Pairs
    select: Pairs
    report: Pairs


@dataclass(frozen=True)
class Pairs(Sequence[Pair]):
    """A named set of contrast pairs, and what it is for: "extract", "select" or "report".

    Raises ValueError when it is empty, when it holds anything but a `Pair`, and for another role.
    """

    pairs: tuple[Pair, ...]
    name: str
    trait: str = ""
    description: str = ""
    role: str = "extract"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple(self.pairs))
        if not self.pairs:
            raise ValueError(f"pairs {self.name!r} are empty; give at least one pair")
        for index, pair in enumerate(self.pairs):
            if not isinstance(pair, Pair):
                raise ValueError(
                    f"pair {index} of {self.name!r} is {pair!r}, no Pair; make it with "
                    "Pair(positive, negative), or all of them with Pairs.from_lists"
                )
        check_role(self.role, ROLES)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Pairs: ...
    def __getitem__(self, index: int | slice) -> Pair | Pairs:
        if isinstance(index, slice):
            return replace(self, pairs=self.pairs[index])
        return self.pairs[index]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __repr__(self) -> str:
        about = f", trait {self.trait!r}" if self.trait else ""
        return f"Pairs({self.name!r}, {len(self)} pairs{about}, {self.fingerprint[:12]})"

    @property
    def fingerprint(self) -> str:
        """sha256 of the pairs in their order; names, descriptions and roles do not count."""
        rows = [
            [pair.positive, pair.negative, *(as_text(prompt) for prompt in pair.prompts)]
            for pair in self.pairs
        ]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def texts(self) -> dict[str, str]:
        """Hash -> text of every prompt and every full text, for `require_disjoint`."""
        return {key: text for pair in self.pairs for key, text in pair.texts.items()}

    @property
    def prompts(self) -> PromptSet:
        """The different prompts, in order, with the role of the pairs.

        Raises ValueError when the pairs have none, or when the two sides of a pair have different
        ones: those ask for the trait already.
        """
        for pair in self.pairs:
            if as_text(pair.prompts[0]) != as_text(pair.prompts[1]):
                raise ValueError(
                    f"the sides of a pair in {self.name!r} differ in their prompt: "
                    f"{pair.prompts[0]!r}, {pair.prompts[1]!r}; give neutral prompts separately"
                )
        unique = {as_text(pair.prompt): pair.prompt for pair in self.pairs if pair.prompt}
        if not unique:
            raise ValueError(
                f"pairs {self.name!r} are whole texts without prompts; "
                "give the prompts to steer on separately"
            )
        return PromptSet(tuple(unique.values()), self.name, self.role)

    def split(
        self, extract: float = 0.6, select: float = 0.2, report: float = 0.2, *, seed: int = 0
    ) -> Splits:
        """Three named sets that share neither a prompt nor a text; equal seeds, equal sets.

        Pairs with a prompt or a text in common stay together. Shares are relative.
        Raises ValueError when a share is not positive or the groups are too few for three sets.
        """
        shares = (extract, select, report)
        if not all(share > 0 for share in shares):
            raise ValueError(f"shares must be positive, got {shares!r}")
        groups = group_by_texts([pair.texts for pair in self.pairs])
        if len(groups) < 3:
            raise ValueError(
                f"pairs {self.name!r} cannot be split in three: with shared prompts and texts "
                f"kept together there are only {len(groups)} group(s) among {len(self)} pairs"
            )
        parts = [
            replace(
                self,
                pairs=tuple(self.pairs[i] for i in indices),
                name=f"{self.name}/{role}",
                role=role,
            )
            for role, indices in zip(ROLES, divide(groups, shares, seed), strict=True)
        ]
        require_disjoint({part.name: part.texts for part in parts})
        return Splits(*parts)

    def as_chat(self, system: str | None = None) -> Pairs:
        """The same pairs with each text prompt as the user's message of a chat.

        Raises ValueError where a pair has no prompt.
        """
        head = [{"role": "system", "content": system}] if system else []

        def chat(prompt: Prompt) -> Prompt:
            if not isinstance(prompt, str):
                return prompt
            return (*head, {"role": "user", "content": prompt})

        if not all(pair.prompt for pair in self.pairs):
            raise ValueError(f"pairs {self.name!r} have no prompts that could become user messages")
        return replace(
            self,
            pairs=tuple(
                Pair(
                    pair.positive,
                    pair.negative,
                    chat(pair.prompt),
                    None if pair.negative_prompt is None else chat(pair.negative_prompt),
                )
                for pair in self.pairs
            ),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON lines that `load` reads back, first a line of metadata."""
        about = {
            "name": self.name,
            "trait": self.trait,
            "description": self.description,
            "role": self.role,
        }
        rows = [about, *(_as_row(pair) for pair in self.pairs)]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(Path(path), text.encode())

    @classmethod
    def from_lists(
        cls,
        positive: Sequence[str],
        negative: Sequence[str],
        prompts: Sequence[Prompt] | None = None,
        *,
        name: str = "lists",
        trait: str = "",
    ) -> Pairs:
        """Pair the i-th positive text with the i-th negative one (and the i-th prompt).

        Raises ValueError for lists of different lengths and for one text in place of a list.
        """
        require_lists(positive=positive, negative=negative, prompts=prompts)
        counts = [len(positive), len(negative), *([len(prompts)] if prompts is not None else [])]
        if len(set(counts)) != 1:
            raise ValueError(
                f"one-sided pairs: {len(positive)} positive and {len(negative)} negative texts"
                + (f" for {len(prompts)} prompts" if prompts is not None else "")
            )
        rows = zip(
            positive,
            negative,
            prompts if prompts is not None else [""] * len(positive),
            strict=True,
        )
        return cls(_numbered(rows), name, trait)


def check_pairs(pairs: object) -> None:
    """Raise ValueError for anything but `Pairs`, such as their name or all three sets at once."""
    if isinstance(pairs, Pairs):
        return
    if isinstance(pairs, str | os.PathLike):
        raise ValueError(f"pairs is {str(pairs)!r}; give pairs.load({str(pairs)!r})")
    if isinstance(pairs, Splits):
        raise ValueError(
            "pairs is Splits, three sets; give one of them: splits.extract, splits.select or "
            "splits.report"
        )
    raise ValueError(
        f"pairs is {repr(pairs)[:200]}; give Pairs, as pairs.load(name) or "
        "Pairs.from_lists(positive, negative) makes them"
    )


def _numbered(rows: Iterable[tuple[str, str, Prompt]]) -> tuple[Pair, ...]:
    """Pairs out of rows; an error says which row it is about."""
    pairs = []
    for index, (positive, negative, prompt) in enumerate(rows):
        try:
            pairs.append(Pair(positive, negative, prompt))
        except ValueError as error:
            raise ValueError(f"pair {index}: {error}") from None
    return tuple(pairs)


def _as_row(pair: Pair) -> dict[str, object]:
    row: dict[str, object] = {"prompt": pair.prompt, "positive": pair.positive}
    row["negative"] = pair.negative
    if pair.negative_prompt is not None:
        row["negative_prompt"] = pair.negative_prompt
    return row


def load(name_or_path: str | os.PathLike[str], **columns: str) -> Pairs:
    """Pairs that ship with the package (`load("wren-mood")`) or from a file.

    A table (.csv, .json, .jsonl, .parquet) needs the columns "positive" and "negative", and may
    have "prompt"; `load("mine.csv", positive="glad", negative="sad", prompt="question")` names
    others. Every argument and error is that of loaders.load_pairs.
    """
    from workbench.contrast.loaders import (
        load_pairs,  # loaders makes Pairs, so it lies above this line
    )

    return load_pairs(name_or_path, **columns)
