"""What every piece of work of a run shares: the model, the data, the places, and how to stop."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.contrast.pairs import Pairs
from workbench.runs.data import Data
from workbench.runs.hyperparameters import Hyperparameters, Missing
from workbench.runs.layouts import Layout
from workbench.runs.options import Combination, Options
from workbench.runs.records import key_of
from workbench.support.store import open_chunks
from workbench.text.splits import as_text

if TYPE_CHECKING:
    from workbench.loading.models import LM


_UNFINISHED = "unfinished-"


class Stopped(Exception):
    """The run was asked to stop; what was unfinished is kept apart, to be picked up."""


@dataclass
class Stop:
    """Whether to stop, and by which signal."""

    event: threading.Event = field(default_factory=threading.Event)
    number: int = 0

    def check(self) -> None:
        """Raise Stopped if it was asked for."""
        if self.event.is_set():
            raise Stopped


@contextmanager
def on_signals() -> Iterator[Stop]:
    """A stop that SIGTERM and Ctrl-C ask for. A second one of the same ends at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    former: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _: Any) -> None:
        signal.signal(number, former[number])
        if stop.event.is_set():
            signal.raise_signal(number)
        stop.number = number
        stop.event.set()

    for number in numbers:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number in numbers:
            signal.signal(number, former[number])


@dataclass
class Work:
    """What all jobs share.

    model      loads the model, once, when it is first asked for
    unsteered  texts without steering, by what decides them: they are the same for all
    """

    options: Options
    layout: Layout
    data: Data
    hyper: Hyperparameters
    stop: Stop
    say: Callable[[str], None]
    model: Callable[[], LM]
    unsteered: dict[str, list[str]] = field(default_factory=dict)

    @property
    def lm(self) -> LM:
        return self.model()

    @property
    def asked(self) -> dict[str, Any]:
        """What a run is asked for, whoever does it: where it lies, on which device it runs and
        which part it is do not count."""
        options, values = self.options, {}
        for combination in options.combinations:
            if combination.impossible:
                continue
            own = {"apply": self.hyper.applying(combination)}
            with suppress(Missing):
                own["generate"] = self.hyper.making(combination)
            values[str(combination)] = own
        return {
            "dataset": options.dataset,
            "data": [concept.pairs.fingerprint for concept in self.data.train],
            "prompts": key_of({"of": [as_text(item.prompt) for item in self.data.test]}),
            "model": options.model_folder,
            "dtype": self.hyper.dtype,
            "mode": options.mode,
            "multipliers": list(options.multipliers),
            "layout": options.layout,
            "split": options.split,
            "export": list(options.export),
            "bad_pairs": options.bad_pairs,
            "hyper_parameters": values,
        }

    def pairs(self, combination: Combination, split: str, chat: bool, system: str) -> Pairs:
        """The pairs of a concept, as chats if asked."""
        pairs = self.data.pairs(combination.concept, split)
        return pairs.as_chat(system or None) if chat else pairs


def in_parts(
    folder: Path,
    decides: dict[str, Any],
    count: int,
    compute: Callable[[int], pd.DataFrame],
    stop: Stop,
) -> pd.DataFrame:
    """A table that is made in `count` parts, each kept when it is finished; a run that was cut
    picks up there. Raises Stopped between two parts."""
    disk = open_chunks(parts_folder(folder, decides), decides, count)
    frames = []
    for index in range(count):
        frame = disk.load(index)
        if frame is None:
            stop.check()
            disk.save(index, compute(index))
            frame = disk.load(index)
            assert frame is not None
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def parts_folder(folder: Path, decides: dict[str, Any]) -> Path:
    """Where unfinished work with these causes is kept."""
    return folder / f"{_UNFINISHED}{key_of(decides)}"


def clear_parts(folder: Path, decides: dict[str, Any] | None = None) -> None:
    """Remove unfinished work that is finished now: that with these causes, or all."""
    gone = folder.glob(f"{_UNFINISHED}*") if decides is None else [parts_folder(folder, decides)]
    for each in gone:
        shutil.rmtree(each, ignore_errors=True)
