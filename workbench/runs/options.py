"""What a run is asked for: names, numbers and places, checked before anything is read.

The names are the reference's, with their aliases. Knows no file but by its path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.support.checks import check_whole, number

METHODS = ("caa", "reps", "sft", "split")
FORMS = ("vector", "lora", "local_weight")
MODES = ("generate", "apply", "both", "loss")
LAYOUTS = ("workbench", "easyedit")
EXPORTS = ("peft", "gguf")
SPLITS = ("train", "test")
BAD_PAIRS = ("refuse", "skip")
ALL = "all"
_ALIASES = {"spilt": "split"}  # as the published code spells it

_PLAIN = re.compile(r"[\w.+-]+(?:--[\w.+-]+)*")


class WrongOption(Exception):
    """An option that only a look at the files shows to be wrong."""


@dataclass(frozen=True)
class Combination:
    """A method and a form of one concept (None: of the whole data set)."""

    method: str
    form: str
    concept: int | None = None

    def __str__(self) -> str:
        of = "" if self.concept is None else f" of concept {self.concept}"
        return f"{self.method} {self.form}{of}"

    @property
    def impossible(self) -> str | None:
        """Why there is no such thing; None where there is."""
        if self.method == "caa" and self.form != "vector":
            return "caa is a difference of means, which is a vector: it has no weights to train"
        return None


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1."""

    index: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def takes(self, number: int) -> bool:
        """Whether unit `number`, counted from 0, is in this part."""
        return number % self.count == self.index - 1


@dataclass(frozen=True)
class Options:
    """All that a run is asked for; see the help of `workbench run`.

    Raises ValueError for a value that is unknown or out of range, naming it and what is known.
    """

    dataset: str
    method: str
    model_name: str
    intervention_method: str
    mode: str = "both"
    multipliers: Sequence[float] = (1.0,)
    device: str | None = None
    base_dir: Path = Path(".")
    hparams: Path | None = None
    dataset_format: Path | None = None
    settings: Sequence[str] = ()
    layout: str = "workbench"
    split: str = "train"
    export: Sequence[str] = ()
    bad_pairs: str = "refuse"
    seed: int | None = None
    shard: Shard = Shard()
    dry_run: bool = False

    def __post_init__(self) -> None:
        method = _ALIASES.get(self.method.lower(), self.method.lower())
        object.__setattr__(self, "method", method)
        for name, known in (
            ("method", (*METHODS, ALL)),
            ("intervention_method", (*FORMS, ALL)),
            ("mode", MODES),
            ("layout", LAYOUTS),
            ("split", SPLITS),
            ("bad_pairs", BAD_PAIRS),
        ):
            _one_of(name, getattr(self, name), known)
        for kind in self.export:
            _one_of("export", kind, EXPORTS)
        for name in ("dataset", "model_name"):
            if not str(getattr(self, name)).strip():
                raise ValueError(f"{name} {getattr(self, name)!r} is empty; give a name")
        if not _PLAIN.fullmatch(self.dataset) or set(self.dataset) <= {"."}:
            raise ValueError(
                f"dataset {self.dataset!r} is no name of a folder in data: give its last part "
                "alone, or say where its files lie in a dataset format"
            )
        if self.mode == "loss" and self.dataset == "axbench":
            raise ValueError(
                "mode 'loss' is not there for the dataset 'axbench' (as in the reference): its "
                "concepts have prompts of their own and no common losses; use mode 'both'"
            )
        values = tuple(float(number(value)) for value in self.multipliers)
        if not values or not all(map(math.isfinite, values)):
            raise ValueError(f"multipliers {list(self.multipliers)!r}: give finite numbers")
        # -0.0 is 0.0, and would have a folder of its own.
        object.__setattr__(self, "multipliers", tuple(dict.fromkeys(v + 0.0 for v in values)))
        if self.seed is not None:
            check_whole("seed", self.seed, 0)

    @property
    def methods(self) -> tuple[str, ...]:
        return METHODS if self.method == ALL else (self.method,)

    @property
    def forms(self) -> tuple[str, ...]:
        return FORMS if self.intervention_method == ALL else (self.intervention_method,)

    @property
    def combinations(self) -> list[Combination]:
        """Every method with every form, the impossible ones too."""
        return [Combination(method, form) for method in self.methods for form in self.forms]

    @property
    def model_folder(self) -> str:
        """The model's name as a folder: of a path its last part, of a hub id owner--name."""
        if "/" not in self.model_name and "\\" not in self.model_name:
            return self.model_name
        if Path(self.model_name).expanduser().exists():
            return Path(self.model_name).expanduser().resolve().name
        return self.model_name.strip("/").replace("/", "--")

    @property
    def model_source(self) -> str:
        """What is loaded: `models/<name>` below the base directory if it is there, else the name
        itself: a path, a bundled model or a hub id."""
        own = self.base_dir / "models" / self.model_name
        return str(own) if own.is_dir() else self.model_name


def as_shard(text: str) -> Shard:
    """The part that "2/8" means. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"shard {text!r}: give i/n with i from 1 to n, such as 2/8")
    return Shard(int(match[1]), int(match[2]))


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
