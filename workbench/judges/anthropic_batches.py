"""Anthropic's message batches: many texts in one request, at half the price, answered within a day.

What makes it safe to interrupt: a note on disk before a batch is created, its id in the note right
after, and the note removed when all results are kept. A run that finds a note collects that batch
first. Where the response with the id was lost, the batch is looked for among those that the
service has made since, so that a lost response does not pay for the texts a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from workbench.judges.answers import Answer
from workbench.judges.budget import OverBudget
from workbench.judges.notes import Note, read_notes
from workbench.judges.patience import Failed, Unreadable, is_refused
from workbench.judges.service import Desk, Endpoint, Failure, Request

# Requests of one batch; the service takes ten times as many.
SIZE = 10_000
# Seconds between looks at a batch: the first, how they grow, and the longest.
FIRST_LOOK, GROWTH, LAST_LOOK = 5.0, 1.5, 60.0
# How often a text may be sent when the results say that the service failed, or ran out of time.
ROUNDS = 3

_PASSING = ("api_error", "overloaded_error", "rate_limit_error", "timeout_error")


@dataclass(frozen=True)
class AnthropicBatches(Endpoint):
    """Message batches of one model."""

    base_url: str = "https://api.anthropic.com"
    key_variable: str = "ANTHROPIC_API_KEY"

    @property
    def label(self) -> str:
        return f"{self.model} by message batches"

    def connect(self) -> Any:
        """An `anthropic.Anthropic`. Raises ImportError or ValueError for what is missing here."""
        return self.client("anthropic", "Anthropic")

    def collect(
        self, client: Any, requests: Mapping[str, Request], desk: Desk
    ) -> dict[str, Failure]:
        """Fetch the batches of earlier runs that hold any of the requests."""
        run = _Run(client.messages.batches, self, requests, desk)
        try:
            run.resume()
        except Failed as error:
            run.fail(str(error))
        return run.failures

    def ask(self, client: Any, requests: Mapping[str, Request], desk: Desk) -> dict[str, Failure]:
        """One answer to each request into `desk.keep`; why those without one have none."""
        run = _Run(client.messages.batches, self, requests, desk)
        try:
            for _ in range(ROUNDS):
                waiting = run.waiting()
                for start in range(0, len(waiting), SIZE):
                    run.send(waiting[start : start + SIZE])
        except (Failed, OSError) as error:  # OSError: no note can be kept, so nothing is sent
            run.fail(str(error))
        run.fail(f"the service failed on it in {ROUNDS} batches; judge again later")
        return run.failures

    def body(self, key: str, request: Request) -> dict[str, Any]:
        """One request of a batch."""
        params = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "system": request.system,
            "messages": [{"role": "user", "content": request.user}],
            **self.options,
        }
        return {"custom_id": key, "params": params}


class _Run:
    """One call of `ask` or `collect`: which requests still wait, and why others failed.

    api  the SDK's `client.messages.batches`
    """

    def __init__(
        self, api: Any, service: AnthropicBatches, requests: Mapping[str, Request], desk: Desk
    ) -> None:
        self._api, self._service, self._requests, self._desk = api, service, requests, desk
        self._notes = desk.directory / "batches"
        self._before = {key: len(desk.answers.of(key)) for key in requests}
        self.failures: dict[str, Failure] = {}

    def waiting(self) -> list[str]:
        """The requests without a new answer that may still get one."""
        return [
            key
            for key, count in self._before.items()
            if key not in self.failures and len(self._desk.answers.of(key)) == count
        ]

    def fail(self, reason: str) -> None:
        """Give up all that still wait."""
        self.failures |= {key: Failure("error", reason) for key in self.waiting()}

    def resume(self) -> None:
        """Collect the batches of earlier runs that hold any of the requests."""
        for note in list(read_notes(self._notes)):
            if set(note.keys).isdisjoint(self._requests):
                continue
            self._fetch(note, [note.batch] if note.batch else self._made(note))

    def send(self, keys: Sequence[str]) -> None:
        """Make a batch of these requests and collect it."""
        requests = [self._requests[key] for key in keys]
        most = sum(r.input_tokens for r in requests), len(keys) * self._service.max_tokens
        try:
            self._desk.budget.reserve(*most)
        except OverBudget as error:
            self.failures |= {key: Failure("unpaid", str(error)) for key in keys}
            return
        try:
            newest = self._desk.patience.send(lambda: next(self._newest(1), None))
            note = Note(tuple(keys), newest and newest.id)
            note.write(self._notes)
            self._fetch(note, self._create(note))
        finally:
            self._desk.budget.release(*most)

    def _create(self, note: Note) -> list[str]:
        """The id of a new batch, made once even if the response that says so is lost: then the ids
        of all that it may be.

        Raises Failed; the note stays if the batch may have been made.
        """
        doubtful = False
        bodies = [self._service.body(key, self._requests[key]) for key in note.keys]

        def create() -> list[str]:
            nonlocal doubtful
            if doubtful and (made := self._made(note)):
                return made
            try:
                batch = _checked(self._api.create(requests=bodies)).id
                replace(note, batch=batch).write(self._notes)
                return [batch]
            except Exception as error:
                doubtful = doubtful or not is_refused(error)
                raise

        try:
            return self._desk.patience.send(create)
        except Failed:
            if not doubtful:
                note.remove(self._notes)
            raise

    def _made(self, note: Note) -> list[str]:
        """The batches that may be the note's, first to last: newer than the newest before it, of
        its size, and not another note's."""
        others = {other.batch for other in read_notes(self._notes)}

        def find() -> list[str]:
            newer = takewhile(lambda batch: batch.id != note.newest, self._newest(100))
            own = [b.id for b in newer if _size(b) == len(note.keys) and b.id not in others]
            return own[::-1]

        return self._desk.patience.send(find)

    def _newest(self, page: int) -> Iterator[Any]:
        """All batches of the service, newest first."""
        return iter(_checked(self._api.list(limit=page), "data"))

    def _fetch(self, note: Note, batches: Sequence[str]) -> None:
        """Collect the first of these that is the note's, if any is, and be done with the note."""
        for batch in batches:
            if self._collect(note, batch):
                break
        note.remove(self._notes)

    def _collect(self, note: Note, batch: str) -> bool:
        """Wait for a batch and keep its answers; whether it holds any of the note's requests."""
        pause = FIRST_LOOK
        while (state := self._desk.patience.send(lambda: self._state(batch))) is not None:
            if state.processing_status == "ended":
                break
            self._desk.patience.sleep(pause)
            pause = min(LAST_LOOK, GROWTH * pause)
        if state is None or state.results_url is None:
            return False  # deleted, or archived: its results are gone
        return self._desk.patience.send(lambda: self._read(note, batch, _size(state)))

    def _state(self, batch: str) -> Any:
        """The batch, or None if the service knows it no more."""
        try:
            return _checked(self._api.retrieve(batch))
        except Exception as error:
            if getattr(error, "status_code", None) == 404:
                return None
            raise

    def _read(self, note: Note, batch: str, size: int) -> bool:
        """Keep what the results say of the note's requests; reading twice keeps it once.

        Raises Unreadable if there are fewer results than requests.
        """
        own, count, ours = set(note.keys), 0, False
        with closing(self._api.results(batch)) as lines:
            for line in lines:
                count += 1
                if line.custom_id in own:
                    ours = True
                    self._keep(line.custom_id, line.result, batch)
        if count < size:
            raise Unreadable(f"{count} results of {size} in the batch {batch}")
        return ours

    def _keep(self, key: str, result: Any, batch: str) -> None:
        if result.type == "succeeded":
            said = result.message
            text = "".join(block.text for block in said.content if block.type == "text")
            used = said.usage.input_tokens, said.usage.output_tokens
            self._desk.keep(key, Answer(text, str(said.stop_reason), *used, source=batch))
        elif key in self._requests and result.type == "canceled":
            self.failures[key] = Failure("error", f"the batch {batch} was canceled")
        elif key in self._requests and result.type == "errored":
            error = result.error.error
            if error.type not in _PASSING:
                self.failures[key] = Failure("error", f"{error.type}: {error.message}")


def _size(batch: Any) -> int:
    counts = batch.request_counts
    return sum(
        (counts.processing, counts.succeeded, counts.errored, counts.canceled, counts.expired)
    )


def _checked(response: Any, attribute: str = "id") -> Any:
    """A response of the SDK, which passes on what it cannot read. Raises Unreadable."""
    if getattr(response, attribute, None) is None:
        raise Unreadable(f"not the response expected: {str(response)[:80]!r}")
    return response
