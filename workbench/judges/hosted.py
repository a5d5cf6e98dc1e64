"""A hosted model as judge: what it is asked, what it costs, what it answered.

How requests travel is the service's affair (anthropic_batches.py, openai_chat.py). A judge that was
interrupted, or whose process was killed, picks up where it was: answers are kept as they come
(answers.py), and nothing is paid for twice.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.judges.answers import Answer, Answers
from workbench.judges.budget import Budget, Estimate, OverBudget, Prices, Spent, count_tokens
from workbench.judges.interface import Finish, Written, as_written
from workbench.judges.patience import Patience
from workbench.judges.rubric import (
    SYSTEM,
    VERSION,
    Malformed,
    description,
    distinct,
    message,
    read_answer,
)
from workbench.judges.service import Desk, Failure, Request, Service
from workbench.support.store import cache_directory

# How often a text is asked about: once more if the answer is malformed.
ASKED = 2
# Tokens that a service adds around the words of a request.
_AROUND = 20


@dataclass(frozen=True, eq=False)
class HostedJudge:
    """A judge behind an API: `AnthropicBatches(model)` or `OpenAIChat(model, base_url=...)`.

    service    where to ask
    traits     what a trait's name means, such as {"mood": "glad rather than gloomy"}; a name that
               is not there stands for itself
    prices     of the model, for estimates and the limit
    limit      the most dollars that this object may spend. If rating all texts could cost more
               than what is left, none is asked about. The count is the service's own, and errs on
               the safe side where an answer was lost on the way.
    directory  where answers are kept; by default in the cache of this package. What was answered
               before this object was made costs it nothing.
    sleep      waits so many seconds

    Its columns:

        trait      -1 to 1, from 1 to 10 on the rater's scale
        coherence  0 to 1, from 1 to 10 on the rater's scale
        status     "ok"; "malformed": two answers without ratings; "unpaid": the limit forbade it;
                   "error": the service refused or could not be reached
        reason     the same in words, "" where the status is "ok"

    Once there are texts it raises for no failure of the service: every text has its row, and a
    warning counts those without a rating. Judging again asks only for what is missing.
    """

    service: Service
    traits: Mapping[str, str] = field(default_factory=dict)
    prices: Prices | None = None
    limit: float | None = None
    directory: str | Path | None = None
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    _budget: Budget = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_budget", Budget(self.prices, self.limit))

    @property
    def label(self) -> str:
        return f"{self.service.label}, rubric {VERSION}"

    @property
    def spent(self) -> Spent:
        """What this object has used so far."""
        return self._budget.spent

    def estimate(
        self,
        texts: Sequence[str],
        prompts: Sequence[str],
        trait: str,
        *,
        finish: Finish | Sequence[str] = "length",
    ) -> Estimate:
        """What rating these texts would cost now; asks nobody, and needs neither SDK nor key.

        Arguments and errors as for `score`.
        """
        requests = self._requests(as_written(texts, prompts, finish), trait)
        sent = _missing(requests, Answers(self._folder()), {}).values()
        tokens = sum(request.input_tokens for request in sent)
        longest = len(sent) * self.service.max_tokens
        dollars = self._budget.dollars(tokens, longest)
        return Estimate(len(texts), len(sent), tokens, longest, dollars)

    def __call__(self, written: Sequence[Written], trait: str) -> pd.DataFrame:
        """Rate texts for a trait.

        Raises ValueError for an empty trait or a missing key, ImportError for a missing SDK.
        """
        requests = self._requests(written, trait)
        answers = Answers(self._folder())
        with self.service.connect() as client:
            failures = self._ask_all(client, requests, answers)
        rows = {
            key: _verdict(answers.of(key), failures.get(key), self.service.max_tokens)
            for key in requests
        }
        columns = ["trait", "coherence", "status", "reason"]
        frame = pd.DataFrame([rows[self._key(one, trait)] for one in written], columns=columns)
        frame = frame.astype({"trait": float, "coherence": float})
        _report(frame)
        return frame

    # ---- questions ------------------------------------------------------------------------------

    def _requests(self, written: Sequence[Written], trait: str) -> dict[str, Request]:
        """Key -> request, of each different text."""
        look_for = description(trait, self.traits)
        found = {}
        for one in distinct(written):
            user = message(one, look_for)
            tokens = count_tokens(SYSTEM) + count_tokens(user) + _AROUND
            found[self._key(one, trait)] = Request(SYSTEM, user, tokens)
        return found

    def _key(self, one: Written, trait: str) -> str:
        """sha256 of all that decides an answer: 64 hexadecimal digits."""
        content = {
            **self.service.identity(),
            "system": SYSTEM,
            "user": message(one, description(trait, self.traits)),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _folder(self) -> Path:
        return Path(self.directory) if self.directory else cache_directory() / "judges"

    # ---- answers --------------------------------------------------------------------------------

    def _ask_all(
        self, client: Any, requests: Mapping[str, Request], answers: Answers
    ) -> dict[str, Failure]:
        """Ask until each request has an answer with ratings, or a reason why not."""
        waiting = _missing(requests, answers, {})
        if not waiting:
            return {}
        lock = threading.Lock()
        with tqdm(total=len(waiting), desc="judging", unit="text", delay=2, leave=False) as bar:

            def arrived(key: str) -> None:
                with lock:
                    bar.update(int(key in waiting and _is_done(answers.of(key))))

            patience = Patience(self.sleep)
            desk = Desk(answers, self._budget, patience, arrived, self._folder())
            failures = self.service.collect(client, waiting, desk)
            for _ in range(ASKED):
                failures |= self._ask(client, _missing(requests, answers, failures), desk)
        return failures

    def _ask(self, client: Any, waiting: Mapping[str, Request], desk: Desk) -> dict[str, Failure]:
        """Ask once about all that wait, or about none if that could go beyond the limit."""
        if not waiting:
            return {}
        tokens = sum(request.input_tokens for request in waiting.values())
        try:
            self._budget.check(tokens, len(waiting) * self.service.max_tokens)
        except OverBudget as error:
            return {key: Failure("unpaid", str(error)) for key in waiting}
        return self.service.ask(client, waiting, desk)


def _missing(
    requests: Mapping[str, Request], answers: Answers, failures: Mapping[str, Failure]
) -> dict[str, Request]:
    """The requests that are still worth asking."""
    return {
        key: request
        for key, request in requests.items()
        if key not in failures and not _is_done(answers.of(key))
    }


def _is_done(answers: Sequence[Answer]) -> bool:
    return len(answers) >= ASKED or any(_is_well_formed(answer) for answer in answers)


def _is_well_formed(answer: Answer) -> bool:
    try:
        read_answer(answer.text)
    except Malformed:
        return False
    return True


def _verdict(
    answers: Sequence[Answer], failure: Failure | None, max_tokens: int
) -> tuple[float, float, str, str]:
    """Trait, coherence, status and reason of one text."""
    reason = ""
    for answer in answers:
        try:
            return *read_answer(answer.text), "ok", ""
        except Malformed as error:
            reason = f"{error} (stopped by {answer.stop!r}, at most {max_tokens} tokens)"
    if failure is not None:
        before = f"; before that, {reason}" if reason else ""
        return np.nan, np.nan, failure.status, failure.reason + before
    return np.nan, np.nan, "malformed", reason


def _report(frame: pd.DataFrame) -> None:
    """Warn of texts without a rating, how many and why."""
    bad = frame[frame["status"] != "ok"]
    if len(bad):
        counts = Counter(bad["status"])
        kinds = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        warnings.warn(
            f"{len(bad)} of {len(frame)} texts are not rated ({kinds}), such as: "
            f"{bad['reason'].iloc[0]}",
            stacklevel=3,
        )
