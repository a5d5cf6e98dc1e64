"""Three named sets of texts that must not touch.

Texts that made a vector ("extract"), prompts that choose its coefficient ("select") and prompts
that report a result ("report") are kept apart by the hash of every text. This module knows
nothing of models or tensors.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import overload

from workbench.support.checks import require_lists
from workbench.text.tokens import Prompt

ROLES = ("extract", "select", "report")


def as_text(prompt: Prompt) -> str:
    """One canonical string for a prompt: the text itself, or the messages of a chat as JSON."""
    if isinstance(prompt, str):
        return prompt
    return json.dumps([dict(message) for message in prompt], ensure_ascii=False, sort_keys=True)


def text_hash(prompt: Prompt) -> str:
    """16 hexadecimal digits that name a text, blind to outer spaces and Unicode composition."""
    text = unicodedata.normalize("NFC", as_text(prompt)).strip()
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


def prompt_texts(prompt: Prompt) -> tuple[str, ...]:
    """The texts by which a prompt is recognised: itself and, of a chat, the last user message.

    System lines are left out on purpose: many prompts share one without being alike.
    """
    if isinstance(prompt, str):
        return (prompt,) if prompt.strip() else ()
    asked = [m["content"] for m in prompt if m.get("role") == "user" and "content" in m]
    return (as_text(prompt), *asked[-1:])


def text_hashes(prompts: Iterable[Prompt]) -> dict[str, str]:
    """Hash -> text for every text by which these prompts are recognised."""
    return {text_hash(text): text for prompt in prompts for text in prompt_texts(prompt)}


def check_role(role: str, roles: Sequence[str]) -> None:
    """Raise ValueError unless `role` is one of `roles`."""
    if role not in roles:
        raise ValueError(f"role {role!r} is not one of {tuple(roles)}")


@dataclass(frozen=True)
class PromptSet(Sequence[Prompt]):
    """Prompts with the name of their set and what they are for ("extract", "select", "report").

    Raises ValueError when there is no prompt, when a prompt is empty, for one text in place of a
    list, or for another role.
    """

    prompts: tuple[Prompt, ...]
    name: str = "prompts"
    role: str = "select"

    def __post_init__(self) -> None:
        require_lists(prompts=self.prompts)
        object.__setattr__(self, "prompts", tuple(self.prompts))
        if not self.prompts:
            raise ValueError(f"prompt set {self.name!r} is empty; give at least one prompt")
        check_role(self.role, ROLES)
        for index, prompt in enumerate(self.prompts):
            if not prompt_texts(prompt):
                raise ValueError(f"prompt {index} of {self.name!r} is empty: {prompt!r}")

    @property
    def texts(self) -> dict[str, str]:
        """Hash -> text of every prompt."""
        return text_hashes(self.prompts)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> PromptSet: ...
    def __getitem__(self, index: int | slice) -> Prompt | PromptSet:
        if isinstance(index, slice):
            return PromptSet(self.prompts[index], self.name, self.role)
        return self.prompts[index]

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)


def require_disjoint(sets: Mapping[str, Mapping[str, str] | Iterable[str]]) -> None:
    """Refuse sets of texts that share one.

    `sets`: the name of each set -> its hashes, either a mapping hash -> text (`Pairs.texts`,
    `PromptSet.texts`) or hashes alone (`SteeringVector.provenance["texts"]`).
    Raises ValueError that names the first shared text, how many there are, and both sets.
    """
    for (first, left), (second, right) in combinations(sets.items(), 2):
        shared = sorted(set(left) & set(right))
        if not shared:
            continue
        known = next((s[shared[0]] for s in (left, right) if isinstance(s, Mapping)), shared[0])
        raise ValueError(
            f"{first!r} and {second!r} share {len(shared)} text(s), first {known[:200]!r}: "
            "what makes a vector, chooses its coefficient and reports a result must be different "
            "texts; divide the data with Pairs.split()"
        )


def settle_role(
    prompts: Sequence[Prompt],
    prompted: Sequence[Prompt] = (),
    *,
    split: str | None = None,
    made: Iterable[str] = (),
    layer: Iterable[str] = (),
    chose: Iterable[str] | None = None,
) -> str:
    """What the prompts of a sweep are for, "select" or "report", once no split is mixed with them.

    prompts   what is steered; a `PromptSet` says itself what it is for
    prompted  prompts that ask for the trait instead, of the same role
    split     the role that the caller says, or None: that of `prompts`, or "select"
    made      hashes of the texts that made the vector
    layer     hashes of the texts that chose its layer: a report must not hold them
    chose     hashes of the prompts, asking ones too, that chose its coefficient; None: not known

    Raises ValueError for a role that is neither, for roles that differ, for a text in common with
    one of those sets, and for a report of which nobody says that it is one: neither `chose` nor a
    `PromptSet` with that role.
    """
    roles = {
        name: given.role
        for name, given in (("prompts", prompts), ("prompted", prompted))
        if isinstance(given, PromptSet)
    }
    role = split or roles.get("prompts") or "select"
    if role not in ("select", "report"):
        raise ValueError(
            f"split {role!r}: prompts of a sweep choose a coefficient ('select') or report a "
            "result ('report'); those that made a vector do neither"
        )
    for name, own in roles.items():
        if own != role:
            raise ValueError(f"{name} is a {own!r} set, but the sweep says split={role!r}")
    if role == "report" and chose is None and roles.get("prompts") != "report":
        raise ValueError(
            "split='report' does not say what these prompts are apart from: give the frame of the "
            "sweep that chose the coefficient as apart_from=, or a PromptSet with role='report'"
        )
    texts = text_hashes([*prompts, *prompted])
    require_disjoint({"texts that made the vector": made, f"{role} prompts": texts})
    if role == "report":
        require_disjoint({"texts that chose the layer": layer, "report prompts": texts})
    if chose is not None:
        require_disjoint({"prompts that chose the coefficient": chose, f"{role} prompts": texts})
    return role
