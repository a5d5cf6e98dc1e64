"""Contrast pairs: two texts that differ in one trait.

A pair is a prompt with two completions, a positive one that shows the trait and a negative one
that does not. This module knows nothing of models or tokens; files are read in loaders.py.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from workbench.splits import (
    PromptSet,
    as_text,
    divide,
    group_by_texts,
    prompt_texts,
    require_disjoint,
    text_hash,
)
from workbench.store import write_atomically
from workbench.tokens import Prompt


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
    """A named set of contrast pairs. Raises ValueError when it is empty."""

    pairs: tuple[Pair, ...]
    name: str
    trait: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple(self.pairs))
        if not self.pairs:
            raise ValueError(f"pairs {self.name!r} are empty; give at least one pair")

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
        """sha256 of the pairs in their order; names and descriptions do not count."""
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
        """The different prompts, in order. Raises ValueError when the pairs have none, or when
        the two sides of a pair have different ones: those ask for the trait already."""
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
        role = self.name.rpartition("/")[2]
        named = role if role in ("extract", "select", "report") else "extract"
        return PromptSet(tuple(unique.values()), self.name, named)

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
            replace(self, pairs=tuple(self.pairs[i] for i in indices), name=f"{self.name}/{role}")
            for role, indices in zip(
                ("extract", "select", "report"), divide(groups, shares, seed), strict=True
            )
        ]
        require_disjoint({part.name: part.texts for part in parts})
        return Splits(*parts)

    def as_chat(self, system: str | None = None) -> Pairs:
        """The same pairs with each text prompt as the user's message of a chat."""
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
        about = {"name": self.name, "trait": self.trait, "description": self.description}
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
        """Pair the i-th positive text with the i-th negative one (and the i-th prompt)."""
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

    @classmethod
    def from_templates(
        cls,
        template: Prompt,
        positive_personas: Sequence[str],
        negative_personas: Sequence[str],
        suffixes: Sequence[str],
        *,
        name: str = "templates",
        trait: str = "",
    ) -> Pairs:
        """One pair for each (persona pair, suffix): "Act like a {persona} person." + suffix.

        `template` holds {persona}, and may hold {suffix} (otherwise the suffix follows it). As
        chat messages it becomes the prompt, with the persona on either side, and the suffix the
        completion. The two persona lists are read side by side.
        """
        if len(positive_personas) != len(negative_personas):
            raise ValueError(
                f"one-sided personas: {len(positive_personas)} positive and "
                f"{len(negative_personas)} negative"
            )
        if "{persona}" not in as_text(template):
            raise ValueError(f"the template {template!r} does not hold '{{persona}}'")
        sides = list(zip(positive_personas, negative_personas, strict=True))
        if isinstance(template, str):
            whole = template if "{suffix}" in template else template + "{suffix}"
            pairs = [
                Pair(_fill(whole, persona=good, suffix=end), _fill(whole, persona=bad, suffix=end))
                for good, bad in sides
                for end in suffixes
            ]
        else:
            pairs = [
                Pair(end, end, _fill_chat(template, good), _fill_chat(template, bad))
                for good, bad in sides
                for end in suffixes
            ]
        return cls(tuple(pairs), name, trait)

    @classmethod
    def from_ab(
        cls,
        questions: Sequence[Prompt],
        matching: Sequence[str],
        not_matching: Sequence[str],
        *,
        name: str = "questions",
        trait: str = "",
    ) -> Pairs:
        """Questions with the answer that matches the behaviour and the one that does not."""
        return cls.from_lists(matching, not_matching, questions, name=name, trait=trait)

    @classmethod
    def from_suffixes(
        cls,
        instructions: Sequence[Prompt],
        positive_suffixes: Sequence[str],
        negative_suffixes: Sequence[str],
        *,
        name: str = "suffixes",
        trait: str = "",
    ) -> Pairs:
        """Each instruction with one positive and one negative way to begin the answer.

        The i-th instruction takes the i-th suffix of each list, beginning again at their ends.
        """
        if not positive_suffixes or not negative_suffixes:
            raise ValueError(
                f"one-sided suffixes: {len(positive_suffixes)} positive and "
                f"{len(negative_suffixes)} negative"
            )
        rows = (
            (
                positive_suffixes[i % len(positive_suffixes)],
                negative_suffixes[i % len(negative_suffixes)],
                instruction,
            )
            for i, instruction in enumerate(instructions)
        )
        return cls(_numbered(rows), name, trait)


def _numbered(rows: Iterable[tuple[str, str, Prompt]]) -> tuple[Pair, ...]:
    """Pairs out of rows; an error says which row it is about."""
    pairs = []
    for index, (positive, negative, prompt) in enumerate(rows):
        try:
            pairs.append(Pair(positive, negative, prompt))
        except ValueError as error:
            raise ValueError(f"pair {index}: {error}") from None
    return tuple(pairs)


def _fill(template: str, **words: str) -> str:
    # Not str.format: the texts of others may hold braces of their own.
    for name, word in words.items():
        template = template.replace("{" + name + "}", word)
    return template


def _fill_chat(template: Sequence[Mapping[str, str]], persona: str) -> Prompt:
    return tuple({**m, "content": _fill(m["content"], persona=persona)} for m in template)


def _as_row(pair: Pair) -> dict[str, object]:
    row: dict[str, object] = {"prompt": pair.prompt, "positive": pair.positive}
    row["negative"] = pair.negative
    if pair.negative_prompt is not None:
        row["negative_prompt"] = pair.negative_prompt
    return row


def load(name_or_path: str | os.PathLike[str], **columns: str) -> Pairs:
    """Pairs that ship with the package (`load("mood")`) or from a file; see loaders.load_pairs."""
    from workbench.loaders import load_pairs  # loaders makes Pairs, so it lies above this line

    return load_pairs(name_or_path, **columns)
