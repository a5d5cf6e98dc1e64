"""Which of the bundled pairs fit a model, and the prompts that ask for their trait outright.

A data set says in its first line for which model it was made, if for one in particular, and may
hold prompts that ask for the trait, the rival of steering, and prompts that leave it open, beside
those of its pairs, to steer on. Knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.text.splits import PromptSet

if TYPE_CHECKING:
    from workbench.contrast.pairs import Splits

FOLDER = Path(__file__).parents[1] / "data"


def bundled() -> list[str]:
    """Names of the pairs that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def guess(name: str) -> str:
    """Such as "; did you mean 'wren-mood'?" where a bundled name is like `name`, else ""."""
    near = get_close_matches(name, bundled(), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def about(name: str) -> dict[str, Any]:
    """The metadata of a bundled data set: `name`, `trait`, `description`, …

    Raises FileNotFoundError, naming those there are, for a name that is not bundled.
    """
    path = FOLDER / f"{name}.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"no bundled data set {name!r}{guess(name)}; there is {', '.join(bundled())}"
        )
    with path.open(encoding="utf-8") as lines:
        return json.loads(next(lines))


def fitting(model: str, wanted: Sequence[str], count: int = 3, *, chats: bool = True) -> list[str]:
    """The data sets among `wanted` that fit a model of this name.

    If none of them does, the first `count` that do, by name. Sets that name no model fit every
    model for which none was made, but sets of chats only one with a chat template (`chats`).
    Raises FileNotFoundError for a wanted name that is not bundled.
    """
    names = bundled()
    made_for = {name: about(name).get("model") for name in [*names, *wanted]}
    target = model if model in made_for.values() else None

    def fits(name: str) -> bool:
        return made_for[name] == target and (chats or not holds_chats(name))

    return [name for name in wanted if fits(name)] or [name for name in names if fits(name)][:count]


def holds_chats(name: str) -> bool:
    """Whether the prompts of a bundled data set are chat messages rather than texts."""
    with (FOLDER / f"{name}.jsonl").open(encoding="utf-8") as lines:
        next(lines)
        return not isinstance(json.loads(next(lines)).get("prompt", ""), str)


def asking(name: str, role: str) -> PromptSet | tuple[()]:
    """Prompts that ask for the trait of a data set, empty where it has none.

    Every other one belongs to the role "select", the rest to "report", so that those which choose
    a coefficient and those which report a result have none in common. Raises ValueError for another
    role.
    """
    return _dealt(name, "asking", role)


def open_prompts(name: str, role: str) -> PromptSet | tuple[()]:
    """Prompts that leave the trait of a data set open and are in none of its pairs, empty where it
    has none; dealt to the roles as those of `asking`. Raises ValueError for another role."""
    return _dealt(name, "open", role)


def prompts(name: str, splits: Splits, role: str) -> PromptSet:
    """What a role steers on: the open prompts of a data set or, where it has none, those of its
    pairs of that role.

    splits  of the pairs of that name
    role    "select" or "report"; ValueError for another
    """
    return open_prompts(name, role) or getattr(splits, role).prompts


def _dealt(name: str, kind: str, role: str) -> PromptSet | tuple[()]:
    places = {"select": 0, "report": 1}
    if role not in places:
        raise ValueError(f"role {role!r} is not one of {', '.join(places)}")
    prompts = tuple(dict.fromkeys(about(name).get(kind, ())))[places[role] :: 2]
    return PromptSet(prompts, f"{name}/{kind}", role) if prompts else ()
