"""What every study shares: parts in the cache until all are done, tables that know their making."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from workbench.loading.models import LM
from workbench.support.store import cache_directory
from workbench.support.tables import (
    code_fingerprint,
    file_fingerprint,
    load_table,
    save_table,
    stale,
    table_names,
    to_json,
    write_parquet,
)

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Keeper:
    """A study of one model: where its parts are kept, and what its tables say of their making.

    study     its name
    lm        the model
    modules   of the package, whose code decides the numbers
    scripts   files besides, whose code does
    settings  JSON values that decide them
    seeds     those of the tables: parts of other seeds lie in the same folder
    """

    study: str
    lm: LM
    modules: tuple[str, ...]
    scripts: tuple[str, ...]
    settings: Mapping[str, Any]
    seeds: Sequence[int] = field(default=())

    @property
    def provenance(self) -> dict[str, Any]:
        """What a table was made from, beside the modules."""
        code = file_fingerprint(*self.scripts, root=ROOT)
        settings = {**self.settings, "seeds": self.seeds, "scripts_sha256": code}
        found = {"model": self.lm.name, "weights": self.lm.fingerprint, "settings": settings}
        return json.loads(to_json(found))

    @property
    def folder(self) -> Path:
        """Where parts are kept: other weights, code or settings have other folders."""
        code = file_fingerprint(*self.scripts, root=ROOT)
        made = [self.lm.fingerprint, code_fingerprint(*self.modules), code, dict(self.settings)]
        key = hashlib.sha256(to_json(made).encode()).hexdigest()[:24]
        return cache_directory() / self.study / key

    def parts(
        self,
        name: str,
        labels: Sequence[str],
        make: Callable[[], Sequence[pd.DataFrame]],
        *,
        place: str = "",
    ) -> list[pd.DataFrame]:
        """The frames of a part, made where one of them is missing, which is then said in print
        (`place`: such as "3/40")."""
        paths = [self.folder / f"{name}.{label}.parquet" for label in labels]
        if not all(path.is_file() for path in paths):
            began = time.time()
            for path, frame in zip(paths, make(), strict=True):
                write_parquet(frame, path)
            print(f"{self.study} {place} {name}: {time.time() - began:.0f} s", flush=True)
        return [pd.read_parquet(path) for path in paths]

    def stand(self, names: Sequence[str], directory: Path) -> bool:
        """Whether all these tables are there, as today's code, weights and settings would make
        them."""
        return set(names) <= set(table_names(directory)) and not any(
            stale(name, directory=directory, **self.provenance)
            or load_table(name, directory=directory).attrs["code"]["modules"] != [*self.modules]
            for name in names
        )

    def check(
        self,
        whole: Mapping[str, pd.DataFrame],
        directory: Path,
        cases: Sequence[Any],
        count: int,
        again: Callable[[Any], Iterable[Again]],
    ) -> None:
        """Measure so many of the cases again and, if they are what they were, stamp the tables as
        those of today's code. Raises ValueError for a case that differs.

        whole   the tables, as `published` gives them
        cases   others are drawn for other code, the same when asked again
        again   a case -> all that was measured of it anew
        """
        chosen = random.Random(code_fingerprint(*self.modules)).sample(list(cases), count)
        for case in chosen:
            for each in again(case):
                require_same(each.new, each.old, f"{each.table} {case}", **each.tolerance)
        self.save(whole, directory, checked=[str(case) for case in chosen])

    def save(self, tables: Mapping[str, pd.DataFrame], directory: Path, **more: Any) -> None:
        """Write the tables, with `more` in their provenance."""
        for name, table in tables.items():
            save_table(
                table,
                name,
                directory=directory,
                provenance={**self.provenance, **more},
                modules=self.modules,
                compact=True,
            )


@dataclass(frozen=True, eq=False)
class Again:
    """What a case has in a table, measured anew and as it was, and how far that may differ (of
    `pandas.testing.assert_frame_equal`)."""

    table: str
    new: pd.DataFrame
    old: pd.DataFrame
    tolerance: Mapping[str, float] = field(default_factory=dict)


def published(names: Sequence[str], directory: Path, lm: LM) -> dict[str, pd.DataFrame]:
    """The tables of a model by their names. Raises ValueError where one is missing, or of other
    weights."""
    lacking = set(names) - set(table_names(directory))
    if lacking:
        raise ValueError(f"no {min(lacking)} in {directory}: run the study of {lm.name!r} first")
    found = {name: load_table(name, directory=directory) for name in names}
    if any(table.attrs["weights"] != lm.fingerprint for table in found.values()):
        raise ValueError(
            f"the tables in {directory} are of other weights than {lm.name!r} has: run the study"
        )
    return found


def require_same(new: pd.DataFrame, old: pd.DataFrame, what: object, **tolerance: float) -> None:
    """Say that a case measured again is what it was. Raises ValueError where it is not."""
    try:
        pd.testing.assert_frame_equal(
            new.reset_index(drop=True), old.reset_index(drop=True)[list(new)], **tolerance
        )
    except AssertionError as error:
        raise ValueError(f"{what} differs: {error}") from None
    print(f"{what}: the same", flush=True)


def smaller(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with half the bytes: 7 digits are more than any of this is worth."""
    floats = frame.select_dtypes("float64").columns
    return frame.astype(dict.fromkeys(floats, "float32"))
