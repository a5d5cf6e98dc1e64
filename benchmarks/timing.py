"""What the benchmarks share: interleaved runs, ratios, peak memory, the last line of JSON.

Contestants take turns within a round, so that a machine that slows down slows all of them, and a
ratio is taken within each round before the median. Knows nothing of what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# So that the scripts also run in a checkout that is not installed.
sys.path.insert(0, str(ROOT))

MIB = 1 << 20


@dataclass(frozen=True)
class Contestant:
    """Something to time. One run does 1 / `scale` of the whole work, so its time counts `scale`
    times."""

    run: Callable[[], Any]
    scale: float = 1.0


@dataclass(frozen=True)
class Target:
    """A bound on a figure: at least, or at most, `limit`. A figure that is None misses it; with an
    infinite limit it only has to be measured."""

    limit: float
    at_least: bool

    def met(self, value: float | None) -> bool:
        if value is None:
            return False
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        if math.isinf(self.limit):
            return "measured"
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}"


def at_least(limit: float) -> Target:
    return Target(limit, True)


def at_most(limit: float) -> Target:
    return Target(limit, False)


@dataclass(frozen=True)
class Times:
    """Wall-clock and processor seconds of each round, scaled to the whole work; and what the last
    run returned."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    result: Any = None

    @property
    def median(self) -> float:
        return statistics.median(self.wall)


def interleave(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, Times]:
    """Every contestant once a round; every other round in reverse order, so that none always runs
    after the same one."""
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    results: dict[str, Any] = {}
    for number in range(rounds):
        names = list(contestants)
        for name in reversed(names) if number % 2 else names:
            contestant = contestants[name]
            gc.collect()
            before, spent = time.perf_counter(), time.process_time()
            results[name] = contestant.run()
            cpu[name].append((time.process_time() - spent) * contestant.scale)
            wall[name].append((time.perf_counter() - before) * contestant.scale)
    return {n: Times(tuple(wall[n]), tuple(cpu[n]), results[n]) for n in contestants}


def ratio(times: Mapping[str, Times], over: str, under: str, *, cpu: bool = False) -> float | None:
    """Median over the rounds of one contestant's time by another's; None where one did not run."""
    found = _ratios(times, over, under, cpu)
    return statistics.median(found) if found else None


def show_ratios(times: Mapping[str, Times], rows: Sequence[tuple[str, str, str]]) -> None:
    """A table of ratios (figure, over, under): median, least and greatest over the rounds."""
    table = []
    for key, over, under in rows:
        wall = _ratios(times, over, under, cpu=False)
        ends = f"{min(wall):.3g} to {max(wall):.3g}" if wall else "-"
        found = (ratio(times, over, under, cpu=cpu) for cpu in (False, True))
        table.append((key, next(found), ends, next(found)))
    head = ("figure", "wall clock, median", "over the rounds", "processor time, median")
    show("ratios", head, table)


def _ratios(times: Mapping[str, Times], over: str, under: str, cpu: bool) -> list[float]:
    if over not in times or under not in times:
        return []
    upper, lower = times[over], times[under]
    rounds = (upper.cpu, lower.cpu) if cpu else (upper.wall, lower.wall)
    return [a / b for a, b in zip(*rounds, strict=True)]


def peak_growth(run: Callable[[], Any]) -> float | None:
    """MiB by which this process's peak memory rises above where it stood before `run`; None where
    the system does not tell (it takes Linux)."""
    _give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts over from here
        before = _status("VmRSS")
        run()
        return (_status("VmHWM") - before) / 1024
    except OSError:
        run()
        return None


def _give_back() -> None:
    """Return freed memory to the system, so that a run cannot hide its own in what an earlier one
    left behind."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every benchmark takes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="under 50 s on two cores; says how")
    made.add_argument("--model", default="wren", help="a name or a path (default: wren)")
    made.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    return made


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "|".join("---" for _ in header) + "|")
    for row in rows:
        print("| " + " | ".join(_cell(value) for value in row) + " |")
    sys.stdout.flush()


def show_times(title: str, times: Mapping[str, Times], notes: Mapping[str, str]) -> None:
    rows = [
        (
            name,
            each.median,
            min(each.wall),
            max(each.wall),
            statistics.median(each.cpu),
            notes.get(name, ""),
        )
        for name, each in times.items()
    ]
    show(title, ("contestant", "median", "least", "most", "processor time", "note"), rows)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "not measured" if value is None else str(value)


def finish(
    name: str,
    figures: Mapping[str, float | str | bool | None],
    targets: Mapping[str, Target],
    settings: Mapping[str, Any],
) -> int:
    """Print the targets and, as the last line, the JSON. Returns the exit status.

    `ok` is true only if every target's figure was measured and meets it.
    """
    figures = {key: _known(value) for key, value in figures.items()}
    met = {key: target.met(_number(figures.get(key))) for key, target in targets.items()}
    show(
        "targets",
        ("figure", "measured", "target", "met"),
        [(k, figures.get(k), targets[k], "yes" if met[k] else "NO") for k in targets],
    )
    line = {
        "benchmark": name,
        **settings,
        **{k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()},
        **{key: None for key in targets if key not in figures},
        "targets": {key: {"target": str(targets[key]), "met": met[key]} for key in targets},
        "ok": all(met.values()),
    }
    print()
    print(json.dumps(line))
    return 0 if line["ok"] else 1


def _known(value: float | str | bool | None) -> float | str | bool | None:
    """The value, None for a number that is not finite: JSON has no word for those."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | str | bool | None) -> float | None:
    return None if value is None or isinstance(value, str) else float(value)
