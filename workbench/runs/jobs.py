"""The pieces of work of a run, in order, and which part of a cluster does each.

Knows which there are, and not how any is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from workbench.runs.layouts import Layout
from workbench.runs.options import Combination, Options


@dataclass(frozen=True)
class Job:
    """One piece of work, which fills its folders.

    stage        "generate" (make a vector or weights), "apply" (write texts), "loss", "export"
    combination  of what
    folders      where its files lie; its record is in the first
    m            the coefficient, where it has one
    kind         of an export, "peft" or "gguf"
    """

    stage: str
    combination: Combination
    folders: tuple[Path, ...]
    m: float | None = None
    kind: str = ""

    @property
    def folder(self) -> Path:
        return self.folders[0]

    def __str__(self) -> str:
        parts = [self.stage, self.kind, str(self.combination)]
        parts += [] if self.m is None else [f"m{self.m}"]
        return " ".join(part for part in parts if part)

    @property
    def impossible(self) -> str | None:
        """Why it cannot be done, whatever is there; None where it can."""
        if self.combination.impossible:
            return self.combination.impossible
        form = self.combination.form
        if self.kind == "peft" and form != "lora":
            return f"peft has no adapter for a {form.replace('_', ' ')}: it is for lora"
        if self.kind == "gguf" and form != "vector":
            return f"a GGUF control vector cannot hold a {form.replace('_', ' ')}"
        return None


def once(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, of those that are impossible for one and the same reason only the first."""
    seen: set[tuple[Combination, str]] = set()
    kept = []
    for job in jobs:
        why = job.impossible
        if why is None or (job.combination, why) not in seen:
            kept.append(job)
        if why is not None:
            seen.add((job.combination, why))
    return kept


def plan(options: Options, layout: Layout, concepts: Sequence[int | None]) -> list[Job]:
    """Every job of a run, those of one combination one after the other; see `once`."""
    jobs = []
    for concept in concepts:
        for method, form in ((c.method, c.form) for c in options.combinations):
            jobs += _of(options, layout, Combination(method, form, concept))
    return once(jobs)


def _of(options: Options, layout: Layout, own: Combination) -> list[Job]:
    jobs: list[Job] = []
    if options.mode in ("generate", "both"):
        jobs.append(Job("generate", own, (layout.made(own),)))
    if options.mode in ("apply", "both"):
        jobs += [Job("apply", own, (layout.texts(own, m),), m) for m in options.multipliers]
    if options.mode == "loss":
        jobs += [Job("loss", own, layout.losses(own, m), m) for m in options.multipliers]
    for kind in options.export:
        # An adapter has no coefficient: each is one of its own.
        adapters = options.multipliers if kind == "peft" else (None,)
        for m in adapters:
            leaf = kind if m is None else f"{kind}_m{m}"
            jobs.append(Job("export", own, (layout.exports(own) / leaf,), m, kind))
    return jobs


def of_shard(jobs: Sequence[Job], options: Options) -> list[Job]:
    """The jobs of one part of a cluster.

    Where vectors are made a combination stays together, since its texts need its vector; else
    every coefficient is a unit of its own. Units are dealt out in turn, so that each part has some
    of every kind, and no two parts share one.
    """
    together = options.mode in ("generate", "both")
    possible = [job for job in jobs if not job.impossible]
    units = groupby(possible, key=lambda job: (job.combination, None if together else job.m))
    taken = {
        job for number, (_, unit) in enumerate(units) if options.shard.takes(number) for job in unit
    }
    return [job for job in jobs if job.impossible or job in taken]


def within(
    jobs: Sequence[Job], concepts: Sequence[int | None], most: Callable[[Combination], int | None]
) -> list[Job]:
    """The jobs of the first concepts: of every method and form as many as `most` says, None for
    all."""
    place = {number: index for index, number in enumerate(concepts)}
    limits: dict[tuple[str, str], int | None] = {}
    kept = []
    for job in jobs:
        own = job.combination
        kind = own.method, own.form
        if kind not in limits:
            limits[kind] = None if own.impossible else most(Combination(*kind))
        limit = limits[kind]
        if limit is None or place[own.concept] < limit:
            kept.append(job)
    return kept
