"""What a hosted judge and the service behind it say to each other. Knows no service."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from workbench.judges.answers import Answer, Answers
from workbench.judges.budget import Budget
from workbench.judges.patience import Patience


@dataclass(frozen=True)
class Request:
    """One question: the instructions, the text to rate, and about how many tokens both have."""

    system: str
    user: str
    input_tokens: int


@dataclass(frozen=True)
class Failure:
    """Why a text has no answer: "error" or "unpaid", and the same in words."""

    status: str
    reason: str


@dataclass(frozen=True, eq=False)
class Desk:
    """What a service works with.

    arrived    called with each answer's question: key
    directory  where a service may keep notes of its own
    """

    answers: Answers
    budget: Budget
    patience: Patience
    arrived: Callable[[str], None]
    directory: Path

    def keep(self, key: str, answer: Answer) -> None:
        """An answer has come: on disk, and paid for."""
        if self.answers.add(key, answer):
            self.budget.pay(answer.input_tokens, answer.output_tokens)
            self.arrived(key)


@dataclass(frozen=True)
class Endpoint:
    """Where a model is hosted and how it is asked.

    base_url      the endpoint, such as "http://localhost:8000/v1"
    key_variable  the environment variable that holds the key; a server that asks for none takes any
    max_tokens    the longest answer, thinking included: a model that thinks first needs more
    options       what else to send with each request, such as {"temperature": 0}
    timeout       seconds until a response counts as lost
    """

    model: str
    base_url: str
    key_variable: str
    max_tokens: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 60.0

    def identity(self) -> dict[str, Any]:
        """All that decides an answer beside the question, as JSON values."""
        return {
            "service": self.base_url,
            "model": self.model,
            "max_tokens": self.max_tokens,
            "options": dict(self.options),
        }

    def client(self, package: str, name: str) -> Any:
        """The SDK's client, which does not try again by itself.

        Raises ImportError that says how to get the SDK, ValueError that names a missing key.
        """
        make = getattr(_sdk(package), name)
        return make(
            api_key=_key_from(self.key_variable),
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=0,
        )


class Service(Protocol):
    """A way to ask a hosted model."""

    @property
    def max_tokens(self) -> int:
        """The longest answer."""
        ...

    @property
    def label(self) -> str:
        """Service and model, for people."""
        ...

    def identity(self) -> dict[str, Any]:
        """All that decides an answer beside the question, as JSON values."""
        ...

    def connect(self) -> Any:
        """A client, closed by `with`. Raises ImportError or ValueError for what is missing here."""
        ...

    def collect(
        self, client: Any, requests: Mapping[str, Request], desk: Desk
    ) -> dict[str, Failure]:
        """Into `desk.keep` what earlier runs asked for and did not fetch, at no new cost; why
        requests whose answers may be there cannot be asked about now."""
        ...

    def ask(self, client: Any, requests: Mapping[str, Request], desk: Desk) -> dict[str, Failure]:
        """One answer to each request into `desk.keep`; why those without one have none."""
        ...


def _sdk(name: str) -> Any:
    """The SDK of a service. Raises ImportError that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'this judge needs the {name!r} package: pip install -e ".[judges]", or '
            f"pip install {name}"
        ) from error


def _key_from(variable: str) -> str:
    """The key in an environment variable. Raises ValueError that names it."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"no key in the environment variable {variable}; set it before judging")
    return key
