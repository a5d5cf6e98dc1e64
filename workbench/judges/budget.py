"""What judging costs: an estimate beforehand, a count while it runs, and a limit on both.

Knows nothing of services. Dollars are those of the prices that the user gives.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Prices:
    """Dollars per million tokens, as the service charges them (batches often cost half)."""

    input: float
    output: float

    def __post_init__(self) -> None:
        for name, value in (("input", self.input), ("output", self.output)):
            if not 0 <= value < math.inf:
                raise ValueError(f"the {name} price is {value!r}; give dollars per million tokens")

    def dollars(self, input_tokens: int, output_tokens: int) -> float:
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


@dataclass(frozen=True)
class Estimate:
    """What it would cost to rate texts now, if no answer is malformed (those are asked twice).

    texts          how many there are
    requests       how many would be sent: each different text once, without those that are cached
    input_tokens   at most about; see `count_tokens`
    output_tokens  at most: every answer as long as it may be
    dollars        None where no prices are given
    """

    texts: int
    requests: int
    input_tokens: int
    output_tokens: int
    dollars: float | None


@dataclass(frozen=True)
class Spent:
    """What a judge has used so far. A request whose answer was lost on the way counts in full."""

    requests: int
    input_tokens: int
    output_tokens: int
    dollars: float | None


class OverBudget(Exception):
    """A request that could cost more than is left."""


class Budget:
    """Counts what is used, and refuses what could go beyond the limit. Safe among threads."""

    def __init__(self, prices: Prices | None, limit: float | None) -> None:
        if limit is not None and prices is None:
            raise ValueError(f"limit={limit!r} dollars without prices; give prices=Prices(...) too")
        if limit is not None and not limit >= 0:
            raise ValueError(f"limit={limit!r}: give a number of dollars")
        self._prices, self._limit = prices, limit
        self._requests = self._input = self._output = 0
        self._reserved = [0, 0]
        self._lock = threading.Lock()

    @property
    def spent(self) -> Spent:
        with self._lock:
            return Spent(
                self._requests, self._input, self._output, self.dollars(self._input, self._output)
            )

    def dollars(self, input_tokens: int, output_tokens: int) -> float | None:
        return self._prices and self._prices.dollars(input_tokens, output_tokens)

    def check(self, input_tokens: int, output_tokens: int) -> None:
        """Raise OverBudget if so many more tokens could go beyond the limit."""
        with self._lock:
            self._check(input_tokens, output_tokens)

    def reserve(self, input_tokens: int, output_tokens: int) -> None:
        """Set the most that a request can cost aside. Raises OverBudget, setting nothing aside."""
        with self._lock:
            self._check(input_tokens, output_tokens)
            self._reserved[0] += input_tokens
            self._reserved[1] += output_tokens

    def release(self, input_tokens: int, output_tokens: int) -> None:
        """Give back what `reserve` set aside."""
        with self._lock:
            self._reserved[0] -= input_tokens
            self._reserved[1] -= output_tokens

    def pay(self, input_tokens: int, output_tokens: int) -> None:
        """Count one request that was answered, or may have been."""
        with self._lock:
            self._requests += 1
            self._input += input_tokens
            self._output += output_tokens

    def _check(self, input_tokens: int, output_tokens: int) -> None:
        total = self.dollars(
            self._input + self._reserved[0] + input_tokens,
            self._output + self._reserved[1] + output_tokens,
        )
        if self._limit is None or total is None or total <= self._limit:
            return
        used = self.dollars(self._input + self._reserved[0], self._output + self._reserved[1])
        more = self.dollars(input_tokens, output_tokens)
        raise OverBudget(
            f"up to ${more:.4f} more beside ${used:.4f} is over the limit of ${self._limit:.4f}: "
            "raise limit=, or judge fewer texts; what is rated is kept and not paid for again"
        )


def count_tokens(text: str) -> int:
    """About how many tokens a text has, rather too many: a third of its UTF-8 bytes.

    English prose has more than four bytes a token in today's vocabularies, word salad about three.
    """
    return math.ceil(len(text.encode("utf-8", errors="replace")) / 3)
