"""Any endpoint that speaks OpenAI's chat completions: one request a text, several at a time.

An answer that is lost on the way (a timeout, a dropped connection) is asked for again, and both
are counted as paid: the protocol has no way to fetch it.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from workbench.judges.answers import Answer
from workbench.judges.budget import OverBudget
from workbench.judges.patience import Failed, Unreadable, may_have_arrived
from workbench.judges.service import Desk, Endpoint, Failure, Request


@dataclass(frozen=True)
class OpenAIChat(Endpoint):
    """Chat completions of one model, `concurrent` requests at a time."""

    base_url: str = "https://api.openai.com/v1"
    key_variable: str = "OPENAI_API_KEY"
    concurrent: int = 8

    @property
    def label(self) -> str:
        return f"{self.model} by chat completions"

    def connect(self) -> Any:
        """An `openai.OpenAI`. Raises ImportError or ValueError for what is missing here."""
        return self.client("openai", "OpenAI")

    def collect(
        self, client: Any, requests: Mapping[str, Request], desk: Desk
    ) -> dict[str, Failure]:
        """Nothing: the protocol cannot fetch an answer later."""
        return {}

    def ask(self, client: Any, requests: Mapping[str, Request], desk: Desk) -> dict[str, Failure]:
        """One answer to each request into `desk.keep`; why those without one have none."""
        failures: dict[str, Failure] = {}
        with ThreadPoolExecutor(self.concurrent) as pool:
            # A thread keeps its answer itself: what is on its way when we are interrupted is kept.
            jobs = {
                pool.submit(self._one, client, key, request, desk): key
                for key, request in requests.items()
            }
            try:
                for job in as_completed(jobs):
                    failure = job.result()
                    if failure is not None:
                        failures[jobs[job]] = failure
            except BaseException:
                desk.patience.give_up("judging was interrupted")
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return failures

    def _one(self, client: Any, key: str, request: Request, desk: Desk) -> Failure | None:
        try:
            answer = desk.patience.send(lambda: self._send(client, request, desk))
        except Failed as error:
            return Failure("error", str(error))
        except OverBudget as error:
            return Failure("unpaid", str(error))
        desk.keep(key, answer)
        return None

    def _send(self, client: Any, request: Request, desk: Desk) -> Answer:
        most = request.input_tokens, self.max_tokens
        desk.budget.reserve(*most)
        try:
            return _read(
                client.chat.completions.create(
                    model=self.model,
                    messages=[
                        {"role": "system", "content": request.system},
                        {"role": "user", "content": request.user},
                    ],
                    max_completion_tokens=self.max_tokens,
                    extra_body=dict(self.options),
                ),
                most,
            )
        except Exception as error:
            if may_have_arrived(error):
                desk.budget.pay(*most)
            raise
        finally:
            desk.budget.release(*most)


def _read(completion: Any, most: tuple[int, int]) -> Answer:
    """The first choice. A server that does not count tokens is taken to have used the most."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices or getattr(choices[0], "message", None) is None:
        raise Unreadable(f"a response without choices: {str(completion)[:80]!r}")
    usage = completion.usage
    used = most
    if usage is not None and usage.prompt_tokens is not None:
        used = usage.prompt_tokens, usage.completion_tokens or 0
    return Answer(choices[0].message.content or "", str(choices[0].finish_reason), *used)
