"""A run: its jobs in order, with one model, each kept when it is finished."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from workbench import models
from workbench.runs import data as tables
from workbench.runs import exporting, losing, making, writing
from workbench.runs.hyperparameters import Hyperparameters, Missing
from workbench.runs.jobs import Job, of_shard, plan, within
from workbench.runs.journal import (
    ALREADY,
    DONE,
    FAILED,
    IMPOSSIBLE,
    LEFT,
    MISSING,
    STOPPED,
    TO_DO,
    Journal,
    open_plan,
)
from workbench.runs.layouts import Layout
from workbench.runs.options import Options
from workbench.runs.records import Found, finish, look, start
from workbench.runs.work import Stopped, Work, clear_parts, on_signals
from workbench.trained import Trained

_DECIDES: dict[str, Callable[..., dict[str, Any]]] = {
    "apply": writing.decides,
    "loss": losing.decides,
    "export": exporting.decides,
}
# What may go wrong with one job and leave the others as they are.
_FAULTS = (ValueError, OSError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its journal, and the signal that stopped it (0: none)."""

    journal: Journal
    signal: int = 0
    idle: bool = False

    @property
    def exit_code(self) -> int:
        """0 where something was done, or was there already, and nothing failed; 128 + the signal
        where one stopped it; else 1. A part of a cluster without work of its own has not failed."""
        if self.signal:
            return 128 + self.signal
        if self.journal.count(FAILED):
            return 1
        useful = self.journal.count(TO_DO, DONE, ALREADY)
        return 0 if self.idle or useful else 1


def run(options: Options, say: Callable[[str], None] = print) -> Outcome:
    """Do all that is asked for; see the help of `workbench run`.

    say  is given each line about how it goes

    Raises FileNotFoundError and ValueError, before any work, for data, hyper-parameters and a
    model that are not there or cannot be used. What goes wrong with one job later is said, and the
    others are done.
    """
    data = tables.load(options)
    for line in data.said:
        say(line)
    hyper = Hyperparameters(options)
    say(hyper.said)
    layout = Layout(options.layout, options.base_dir, options.model_folder, options.dataset)

    @cache
    def model() -> models.LM:
        device = options.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        lm = models.load(options.model_source, device=device, dtype=hyper.dtype)
        say(f"model: {lm!r}")
        return lm

    concepts = data.concepts
    every = within(plan(options, layout, concepts), concepts, hyper.concepts)
    own = of_shard(every, options)
    with on_signals() as stop:
        work = Work(options, layout, data, hyper, stop, say, model)
        journal = Journal(options.base_dir, open_plan(work.asked, every), str(options.shard))
        runner = _Runner(work, journal, own)
        idle = not any(not job.impossible for job in own) and any(
            not job.impossible for job in every
        )
        try:
            stopped = runner.rehearse() if options.dry_run else runner.go()
        finally:
            for key, who in hyper.passed_over.items():
                say(f"passed over: {key}, {who}")
    say(f"{'dry run, nothing written: ' if options.dry_run else ''}{journal.summary}")
    if idle:
        say(f"part {options.shard} has no work: there are fewer units than parts")
    number = (stop.number or signal.SIGINT) if stopped else 0
    return Outcome(journal, int(number), idle)


class _Runner:
    """The jobs of one part, one after the other."""

    def __init__(self, work: Work, journal: Journal, jobs: list[Job]) -> None:
        self.work, self.journal, self.jobs = work, journal, jobs
        self.base = work.options.base_dir
        # The combinations that are about to be made, so that what needs them is not missing.
        self.coming = {
            job.combination for job in jobs if job.stage == "generate" and not self._hopeless(job)
        }

    # ---- what cannot be done --------------------------------------------------------------------

    def _hopeless(self, job: Job) -> tuple[str, str] | None:
        """How a job stands that cannot be done, and why; None where it may be."""
        if job.impossible:
            return IMPOSSIBLE, job.impossible
        if job.stage == "generate":
            try:
                self.work.hyper.making(job.combination)
            except Missing as error:
                return MISSING, str(error)
        elif job.combination not in self.coming and not self.work.layout.has(job.combination):
            return MISSING, f"nothing was made in {str(self.work.layout.made(job.combination))!r}"
        return None

    def _pass_over(self) -> list[Job]:
        """The jobs that may be done; the others are said."""
        hopeful = []
        for job in self.jobs:
            why = self._hopeless(job)
            if why is None:
                hopeful.append(job)
            else:
                self._note(job, why[0], why[1])
        return hopeful

    # ---- a dry run ------------------------------------------------------------------------------

    def rehearse(self) -> bool:
        """Say what would be done. Nothing is written, and no model is loaded."""
        for job in self._pass_over():
            try:
                found = self._standing(job, None)
            except _FAULTS as error:
                self._note(job, FAILED, str(error) or repr(error))
                continue
            if found.standing == "foreign":
                self._note(job, FAILED, _foreign(job))
            elif found.standing == "done":
                self._note(job, ALREADY, f"{job.folder} (weights not compared)")
            else:
                again = f", again since {', '.join(found.changed)} changed" if found.changed else ""
                self._note(job, TO_DO, f"in {job.folder}{again}")
        return False

    def _standing(self, job: Job, weights: str | None) -> Found:
        """How the work of a folder stands, as far as that is known without a model."""
        unknown = ("weights",) if weights is None else ()
        if job.stage == "generate":
            causes = making.decides(self.work, job, weights)
            return look(job.folder, causes, self.base, apart_from=unknown)
        made = None
        if self.work.layout.has(job.combination):
            made = self._load(job)
        causes = _DECIDES[job.stage](self.work, job, weights, made)
        return look(job.folder, causes, self.base, apart_from=unknown)

    # ---- the work -------------------------------------------------------------------------------

    def go(self) -> bool:
        """Do the jobs that may be done; whether a signal stopped it."""
        hopeful = self._pass_over()
        if not hopeful:
            return False
        weights = self.work.lm.fingerprint
        self.journal.weights = weights
        done: set[Job] = set()
        try:
            for place, job in enumerate(hopeful):
                if job in done:
                    continue
                try:
                    self.work.stop.check()
                    done |= self._do(job, hopeful[place:], weights)
                except Stopped:
                    self._leave([one for one in hopeful[place:] if one not in done])
                    return True
                except Missing as error:
                    self._note(job, MISSING, str(error))
                except _FAULTS as error:
                    self._note(job, FAILED, str(error) or repr(error))
                self.journal.write(soon=True)
        finally:
            self.journal.write()
        return False

    def _leave(self, jobs: list[Job]) -> None:
        """Say what a stop leaves undone: the first was under way."""
        self._note(jobs[0], STOPPED, "what is finished of it is kept: the same call goes on")
        for left in jobs[1:]:
            self.journal.note(left, LEFT)

    def _do(self, job: Job, rest: list[Job], weights: str) -> set[Job]:
        """Do a job, and those that are done together with it; which they were."""
        work = self.work
        if job.stage == "generate":
            causes = making.decides(work, job, weights)
            if self._begin(job, causes):
                made, said = making.make(work, job, causes)
                title = work.data.title(job.combination.concept)
                self._end(job, causes, work.layout.save(made, job.combination, title), said)
            return {job}
        if not work.layout.has(job.combination):
            raise Missing(f"nothing was made in {str(work.layout.made(job.combination))!r}")
        made = self._load(job)
        if job.stage == "loss":
            return self._losses(job, rest, weights, made)
        causes = _DECIDES[job.stage](work, job, weights, made)
        if self._begin(job, causes):
            if job.stage == "apply":
                files, said = writing.write(work, job, causes, made)
            else:
                files, said = exporting.export(work, job, made)
            self._end(job, causes, files, said)
        return {job}

    def _losses(self, job: Job, rest: list[Job], weights: str, made: Trained) -> set[Job]:
        """The losses of a combination at all coefficients that are wanted: one reading."""
        mates = [one for one in rest if one.stage == "loss" and one.combination == job.combination]
        causes = {one: losing.decides(self.work, one, weights, made) for one in mates}
        wanted = [one for one in mates if self._begin(one, causes[one])]
        if wanted:
            files, said = losing.measure(self.work, wanted, causes[wanted[0]], made)
            for one in wanted:
                self._end(one, causes[one], files[float(one.m or 0.0)], said)
                said = []
        return set(mates)

    def _load(self, job: Job) -> Trained:
        number = self.work.hyper.applying(job.combination)["concept_id"]
        made = self.work.layout.load(job.combination, number)
        return made

    def _begin(self, job: Job, causes: dict[str, Any]) -> bool:
        """Whether a job is still to be done: its folder then says that it was begun."""
        found = look(job.folder, causes, self.base)
        if found.standing == "done":
            self._note(job, ALREADY, str(job.folder), found.files)
            return False
        if found.standing == "foreign":
            raise ValueError(_foreign(job))
        if found.standing == "stale":
            self.work.say(f"{job}: again, since {', '.join(found.changed)} changed")
        start(job.folder, causes)
        return True

    def _end(self, job: Job, causes: dict[str, Any], files: list[Path], said: list[str]) -> None:
        names = finish(job.folder, causes, files, self.base, said)
        clear_parts(job.folder, causes)
        self._note(job, DONE, str(job.folder), names)
        for line in said:
            self.work.say(f"  {line}")

    def _note(self, job: Job, status: str, said: str, files: Any = ()) -> None:
        self.journal.note(job, status, said, files)
        self.work.say(f"{job}: {status}: {said}")


def _foreign(job: Job) -> str:
    return (
        f"{str(job.folder)!r} holds files that no run made, and nothing is written over them: move "
        "them away, or use what was made with --mode apply"
    )
