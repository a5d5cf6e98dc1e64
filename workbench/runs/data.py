"""Which tables belong to a data set: the pairs to train on, and the prompts to write on.

In this order: what a dataset format (YAML) says; `data/<name>/train` and `test` below the base
directory; the pairs that ship with the package (wren-power and wren-callous stand in for
power-seeking and psychopathy). A dataset format is as the reference's:

    train:
      psychopathy:
        file_path: ./data/psychopathy/train.jsonl
        field_names: {question: question, matching: answer_matching_behavior,
                      not_matching: answer_not_matching_behavior}
    generation:
      psychopathy:
        file_path: ./data/psychopathy/test.jsonl
        field_names: {input: question, reference_response: answer_matching_behavior}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from workbench.contrast import catalogue
from workbench.contrast.datasets import Bad, Concept, Item, Table, read_concepts, read_items
from workbench.contrast.loaders import load_pairs, read_about
from workbench.contrast.pairs import Pairs
from workbench.runs.options import Options, WrongOption
from workbench.text.splits import as_text
from workbench.wren.judge import SCORES

#: Where the reference keeps its dataset format, below its base directory.
REFERENCE_FORMAT = Path("hparams/Steer/dataset_format.yaml")
_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_KEYS = ("file_path", "hf_path", "field_names", "separator", "n_shots", "icl_exmaple")
# The bundled pairs are dealt once and for all: another deal would test on what was trained on.
_DEAL = 0


class UnknownDataSet(WrongOption, FileNotFoundError):
    """There is no data set of the name that is asked for."""


@dataclass(frozen=True)
class Data:
    """What a data set has.

    train  the concepts to train on; none where texts are only written
    test   the prompts to write on, of all concepts
    trait  the trait that the exact judge of wren's language can tell in these texts, or None
    said   sentences about where it comes from and what was left out
    """

    train: tuple[Concept, ...]
    test: tuple[Item, ...]
    trait: str | None
    said: tuple[str, ...]

    @property
    def concepts(self) -> list[int | None]:
        """The numbers of the concepts, those of the prompts where there are no pairs."""
        if self.train:
            return [one.number for one in self.train]
        numbers = dict.fromkeys(item.concept for item in self.test)
        return [number for number in numbers if number is not None] or [None]

    def title(self, concept: int | None) -> str:
        """What a concept is called."""
        return next((one.name for one in self.train if one.number == concept), "")

    def prompts(self, concept: int | None) -> tuple[Item, ...]:
        """The prompts to write on for one concept: its own, and those that are of every one."""
        return tuple(item for item in self.test if item.concept in (None, concept))

    def pairs(self, concept: int | None, split: str) -> Pairs:
        """The pairs of one concept in "train", or those of the prompts in "test".

        Raises ValueError where the prompts have no pairs.
        """
        own = next(one.pairs for one in self.train if one.number == concept)
        if split == "train":
            return own
        found = tuple(item.pair for item in self.prompts(concept) if item.pair is not None)
        if not found:
            raise ValueError(
                f"the test prompts of {own.name!r} come without both sides, so there are no losses "
                "on them; use --split train"
            )
        return replace(own, pairs=found, name=f"{own.name}/test")


def load(options: Options) -> Data:
    """The data set that is asked for.

    Raises FileNotFoundError where there is none, naming where it was looked for, and ValueError
    for a dataset format, a table, or rows that cannot be used (datasets.py).
    """
    formats = _formats(options)
    train = _source(options, formats, "train", "train")
    test = _source(options, formats, "generation", "test")
    if train is None and test is None:
        return _bundled(options)
    if train is None and options.mode != "apply":
        raise UnknownDataSet(_nowhere(options, "train"))
    if test is None and options.mode == "apply":
        raise UnknownDataSet(_nowhere(options, "test"))
    table, said = Table(()), []
    if train is not None:
        table = _train_table(options, train, said)
    items: tuple[Item, ...] = ()
    if test is not None:
        items = tuple(read_items(test.path, test.fields, separator=test.separator))
        said.append(f"{len(items)} prompts from {str(test.path)!r}")
    trait = next((_exact_trait(one.path) for one in (train, test) if one is not None), None)
    return Data(table.concepts, items, trait, tuple(said))


def _train_table(options: Options, train: _Source, said: list[str]) -> Table:
    bad: Bad = "skip" if options.bad_pairs == "skip" else "refuse"
    table = read_concepts(
        train.path, train.fields, name=options.dataset, separator=train.separator, bad=bad
    )
    count = sum(len(concept.pairs) for concept in table.concepts)
    said += [f"{count} pairs from {str(train.path)!r}", *table.said]
    if not train.separator and any(_joined(concept.pairs) for concept in table.concepts):
        said.append(
            f"answers in {str(train.path)!r} follow their questions without a space, as in the "
            "reference; if the model has no chat template, say separator: ' ' in the dataset format"
        )
    return table


@dataclass(frozen=True)
class _Source:
    path: Path
    fields: Mapping[str, str] | None
    separator: str


def _formats(options: Options) -> Mapping[str, Any]:
    """What the dataset format says, by section; empty where there is none."""
    path = options.dataset_format
    if path is None:
        path = options.base_dir / REFERENCE_FORMAT
        if not path.is_file():
            return {}
    if not path.is_file():
        raise FileNotFoundError(f"no dataset format at {str(path)!r}")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is no YAML: {error}") from None
    if not isinstance(content, dict) or not {"train", "generation"} & set(content):
        raise ValueError(
            f"{str(path)!r} is no dataset format: it needs the sections train and generation"
        )
    return content


def _source(
    options: Options, formats: Mapping[str, Any], section: str, stem: str
) -> _Source | None:
    entry = (formats.get(section) or {}).get(options.dataset)
    if entry is None:
        folder = options.base_dir / "data" / options.dataset
        places = [folder / f"{stem}{suffix}" for suffix in _SUFFIXES]
        path = next((place for place in places if place.is_file()), None)
        return None if path is None else _Source(path, None, "")
    where = f"the dataset format's {section}, {options.dataset}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {entry!r}, expected file_path and field_names")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    if entry.get("hf_path"):
        raise ValueError(
            f"{where}: hf_path {entry['hf_path']!r} is not fetched from here; download it, and "
            "give the file as file_path"
        )
    fields, separator = entry.get("field_names"), entry.get("separator", "")
    if not entry.get("file_path") or not isinstance(fields, dict | None):
        raise ValueError(f"{where}: give file_path, and field_names as standard name: column")
    if not isinstance(separator, str):
        raise ValueError(f"{where}: the separator {separator!r} is no text")
    path = Path(str(entry["file_path"])).expanduser()
    return _Source(options.base_dir / path, fields, separator)


def _bundled(options: Options) -> Data:
    if options.dataset not in catalogue.bundled():
        raise UnknownDataSet(_nowhere(options, "train"))
    splits = load_pairs(options.dataset).split(seed=_DEAL)
    items = [Item(pair.prompt, pair.positive, pair) for pair in splits.report]
    made_for = catalogue.about(options.dataset).get("model")
    trait = splits.extract.trait if made_for == "wren" else None
    said = [
        f"{options.dataset!r} ships with the package: {len(splits.extract)} pairs to train on, "
        f"{len(items)} others to test on"
    ]
    if trait is not None:
        said.append(f"texts in wren's language are scored exactly for {trait!r}")
    concept = Concept(None, options.dataset, replace(splits.extract, name=options.dataset))
    return Data((concept,), tuple(items), trait, tuple(said))


def _exact_trait(path: Path) -> str | None:
    """The trait of a table of wren's language, as its first line says it; None of others."""
    about = read_about(path, ("prompt", "positive", "question", "matching"))
    trait = about.get("trait")
    return str(trait) if about.get("model") == "wren" and trait in SCORES else None


def _nowhere(options: Options, stem: str) -> str:
    folder = options.base_dir / "data" / options.dataset
    return (
        f"no data set {options.dataset!r}: there is no {stem}.jsonl (.json, .csv, .parquet) in "
        f"{str(folder)!r} and no entry in a dataset format; without files there are "
        f"{', '.join(catalogue.bundled())}"
    )


def _joined(pairs: Pairs) -> bool:
    """Whether most answers would stand right behind the last letter of their question."""
    count = sum(
        isinstance(pair.prompt, str)
        and bool(pair.prompt)
        and not as_text(pair.prompt)[-1].isspace()
        and pair.positive[0].isalnum()
        for pair in pairs
    )
    return count > len(pairs) / 2
