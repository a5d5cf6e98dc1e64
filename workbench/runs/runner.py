"""A run: its jobs in order, with one model, each kept when it is finished."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch

from workbench.loading import models
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
    Outcome,
    open_plan,
)
from workbench.runs.layouts import Layout
from workbench.runs.locks import alone
from workbench.runs.options import Combination, Options
from workbench.runs.records import Found, finish, look, start
from workbench.runs.work import Stopped, Work, clear_parts, on_signals
from workbench.training.trained import Trained

_DECIDES: dict[str, Callable[..., dict[str, Any]]] = {
    "apply": writing.decides,
    "loss": losing.decides,
    "export": exporting.decides,
}
# What may go wrong with one job.
_FAULTS = (ValueError, OSError, RuntimeError, MemoryError)


def run(options: Options, say: Callable[[str], None] = print) -> Outcome:
    """Do all that is asked for; see the help of `workbench run`.

    say  is given each line about how it goes

    Raises FileNotFoundError and ValueError, before any work, for data, hyper-parameters and a
    model that are not there or cannot be used, and BlockingIOError where another process does the
    same. What goes wrong with one job later is said, and the others are done.
    """
    data = tables.load(options)
    for line in data.said:
        say(line)
    hyper = Hyperparameters(options)
    say(hyper.said)
    for line in _beyond_training(options, hyper):
        say(line)
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
            with nullcontext() if options.dry_run else alone(journal.path):
                stopped = runner.rehearse() if options.dry_run else runner.go()
        finally:
            for key, who in hyper.passed_over.items():
                say(f"passed over: {key}, {who}")
    say(f"{'dry run, nothing written: ' if options.dry_run else ''}{journal.summary}")
    if idle:
        say(f"part {options.shard} has no work: there are fewer units than parts")
    number = (stop.number or signal.SIGINT) if stopped else 0
    return Outcome(journal, int(number), idle)


def _beyond_training(options: Options, hyper: Hyperparameters) -> Iterator[str]:
    """Where every multiplier asked for is smaller than any that a combination is trained at, or
    larger, its texts show little of the training: said before anything is made."""
    asked = [abs(m) for m in options.multipliers if m]
    if not asked or options.mode == "generate":
        return
    for combination in options.combinations:
        if combination.impossible:
            continue
        try:
            factors = hyper.making(combination).get("steering_factors") or ()
        except (Missing, ValueError):
            continue  # said when its turn comes
        sizes = [abs(float(factor)) for factor in factors]
        if sizes and not any(min(sizes) <= m <= max(sizes) for m in asked):
            yield (
                f"{combination} is trained at coefficients from {min(sizes):g} to {max(sizes):g}, "
                f"and no multiplier lies there ({', '.join(f'{m:g}' for m in options.multipliers)})"
                f": give others, such as --multipliers 0 {min(sizes):g} {max(sizes):g}"
            )


class _Runner:
    """The jobs of one part, one after the other."""

    def __init__(self, work: Work, journal: Journal, jobs: list[Job]) -> None:
        self.work, self.journal, self.jobs = work, journal, jobs
        self.base = work.options.base_dir
        # The combinations that are about to be made, so that what needs them is not missing, and
        # those whose making failed, so that what was there before is not taken for them.
        self.coming = {
            job.combination for job in jobs if job.stage == "generate" and not self._hopeless(job)
        }
        self.lost: set[Combination] = set()
        self.held = ExitStack()  # the folders that the job under way fills

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
        elif job.combination in self.lost:
            return MISSING, "it was to be made anew, which failed"
        elif job.combination not in self.coming:
            lacking = self.work.layout.lacks(job.combination)
            return None if lacking is None else (MISSING, lacking)
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
            with self._told(job):
                found = self._standing(job)
                changed = ", ".join(found.changed)
                if found.standing == "done":
                    self._note(job, ALREADY, f"{job.folder} (weights not compared)")
                else:
                    again = f", again since {changed} changed" if changed else ""
                    self._note(job, TO_DO, f"in {job.folder}{again}")
        return False

    def _standing(self, job: Job) -> Found:
        """How a job stands, as far as that is known without a model."""
        if job.stage == "generate":
            causes = making.decides(self.work, job, None)
        else:
            made = None if job.combination in self.coming else self._load(job)
            causes = _DECIDES[job.stage](self.work, job, None, made)
        return self._look(job, causes, apart_from=("weights",))

    # ---- the work -------------------------------------------------------------------------------

    def go(self) -> bool:
        """Do the jobs that may be done; whether a signal stopped it."""
        hopeful = self._pass_over()
        if not hopeful:
            self.journal.write()
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
                    with self._told(job), self.held:
                        done |= self._do(job, hopeful[place:], weights)
                except Stopped:
                    self._leave([one for one in hopeful[place:] if one not in done])
                    return True
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
        wanted = []
        for one in mates:
            with self._told(one):
                if self._begin(one, causes[one]):
                    wanted.append(one)
        if wanted:
            files, said = losing.measure(self.work, wanted, causes[wanted[0]], made)
            for one in wanted:
                self._end(one, causes[one], files[float(one.m or 0.0)], said)
                said = []
        return set(mates)

    def _load(self, job: Job) -> Trained:
        """What was made of a job's combination. Raises Missing where there is nothing to use, and
        as `Layout.load`."""
        if why := self._hopeless(job):
            raise Missing(why[1])
        number = self.work.hyper.applying(job.combination)["concept_id"]
        return self.work.layout.load(job.combination, number)

    def _look(self, job: Job, causes: dict[str, Any], apart_from: Sequence[str] = ()) -> Found:
        """How a job stands. Raises ValueError where its place is taken by others' files."""
        found = look(job.folders, causes, self.base, apart_from=apart_from)
        if found.standing == "foreign":
            raise ValueError(
                f"{found.files[0]!r} holds files that no run made, and nothing is written over "
                "them: move them away, or use what was made with --mode apply"
            )
        return found

    def _begin(self, job: Job, causes: dict[str, Any]) -> bool:
        """Whether a job is still to be done: its folder then says that it was begun, and no other
        process may fill it before this job has ended, well or not."""
        self.held.enter_context(alone(job.folder))
        found = self._look(job, causes)
        if found.standing == "done":
            self._note(job, ALREADY, str(job.folder), found.files)
            return False
        if found.standing == "stale":
            self.work.say(f"{job}: again, since {', '.join(found.changed)} changed")
        start(job.folder, causes)
        return True

    def _end(self, job: Job, causes: dict[str, Any], files: list[Path], said: list[str]) -> None:
        names = finish(job.folder, causes, files, self.base, said)
        # A training with other settings may be picked up yet; texts and losses are soon made anew.
        clear_parts(job.folder, causes if job.stage == "generate" else None)
        self._note(job, DONE, str(job.folder), names)
        for line in said:
            self.work.say(f"  {line}")

    @contextmanager
    def _told(self, job: Job) -> Iterator[None]:
        """What goes wrong with one job is said, and leaves the others as they are."""
        try:
            yield
        except Missing as error:
            self._note(job, MISSING, str(error))
        except _FAULTS as error:
            self._note(job, FAILED, str(error) or repr(error))

    def _note(self, job: Job, status: str, said: str, files: Any = ()) -> None:
        self.journal.note(job, status, said, files)
        self.work.say(f"{job}: {status}: {said}")
        if job.stage == "generate" and status != TO_DO:
            self.coming.discard(job.combination)
            if status == FAILED:
                self.lost.add(job.combination)
