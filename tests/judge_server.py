"""A server on this machine that speaks Anthropic's message batches and OpenAI's chat completions,
and fails when told to.

    with JudgeServer(rate) as server:
        server.faults["chat"] = [status(429, {"retry-after": "7"}), drop]

`rate` is the rater: the message of a request (trait, prompt, text, cut_off) -> its answer. `paid`
counts how often each text was rated, whether or not the answer arrived. A fault is used up by one
request of its route: "chat"; "create", "retrieve", "results", "list" (of batches).
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "test-key"
USED = {"input": 400, "output": 20}

Rate = Callable[[dict[str, Any]], str]


class JudgeServer:
    """See the module. `open_for` is how many looks at a batch find it unfinished."""

    def __init__(self, rate: Rate, *, open_for: int = 1) -> None:
        self.rate = rate
        self.open_for = open_for
        self.used = dict(USED)
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.paid: Counter[str] = Counter()
        self.routes: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.batches: dict[str, dict[str, Any]] = {}
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.http.daemon_threads = True
        self.http.judge = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> JudgeServer:
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def make_batch(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        lines = [{"custom_id": r["custom_id"], "result": self._result(r)} for r in requests]
        name = f"msgbatch_{len(self.batches):03d}"
        self.batches[name] = {"lines": lines, "looks": 0}
        return self.describe(name)

    def describe(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        ended = batch["looks"] > self.open_for
        states = Counter(line["result"]["type"] for line in batch["lines"])
        kinds = ("succeeded", "errored", "canceled", "expired")
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {
                "processing": 0 if ended else len(batch["lines"]),
                **{kind: states[kind] if ended else 0 for kind in kinds},
            },
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-02T00:00:00Z",
            "results_url": f"{self.url}/v1/messages/batches/{name}/results" if ended else None,
        }

    def _result(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = self.answer(request["params"]["messages"][-1]["content"])
        if answer.startswith("!"):  # a result that is not an answer, such as "!overloaded_error"
            kind = answer[1:]
            if kind in ("expired", "canceled"):
                return {"type": kind}
            error = {"type": "error", "error": {"type": kind, "message": f"it is {kind}"}}
            return {"type": "errored", "error": error}
        usage = {"input_tokens": self.used["input"], "output_tokens": self.used["output"]}
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": request["params"]["model"],
            "content": [{"type": "text", "text": answer}],
            "stop_reason": "end_turn",
            "usage": usage,
        }
        return {"type": "succeeded", "message": message}

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.answer(body["messages"][-1]["content"])
        prompt, completion = self.used["input"], self.used["output"]
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": answer},
                }
            ],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
        }

    def answer(self, content: str) -> str:
        message = json.loads(content)
        answer = self.rate(message)
        self.paid[message["text"]] += not answer.startswith("!")
        return answer


# ---- what can go wrong --------------------------------------------------------------------------

#: Called in place of the ordinary response; `respond` does the work and gives that response.
Fault = Callable[["_Handler", Callable[[], Any]], None]


def status(code: int, headers: dict[str, str] | None = None) -> Fault:
    """Refuse with a status, nothing done."""

    def fault(handler: _Handler, respond: Callable[[], Any]) -> None:
        error = {"type": "error", "error": {"type": "some_error", "message": f"status {code}"}}
        handler.send(json.dumps(error).encode(), code, headers)

    return fault


def hang(handler: _Handler, respond: Callable[[], Any]) -> None:
    """Do the work, and say nothing until the server closes."""
    respond()
    handler.judge.closing.wait(30)


def bad_json(handler: _Handler, respond: Callable[[], Any]) -> None:
    """Do the work, and answer with half of the JSON as if it were all."""
    handler.send(half(respond()))


def drop(handler: _Handler, respond: Callable[[], Any]) -> None:
    """Do the work, and break the connection in the middle of the response."""
    whole = respond()
    handler.send(half(whole), length=len(whole))
    handler.connection.close()


def instead(action: Callable[[], object]) -> Fault:
    """Do the work, then do something else than answer."""

    def fault(handler: _Handler, respond: Callable[[], Any]) -> None:
        respond()
        action()

    return fault


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


class _Handler(BaseHTTPRequestHandler):
    @property
    def judge(self) -> JudgeServer:
        return self.server.judge  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/chat/completions":
            self._handle("chat", lambda: self.judge.complete(body), body)
        elif self.path == "/v1/messages/batches":
            self._handle("create", lambda: self.judge.make_batch(body["requests"]), body)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/v1/messages/batches").strip("/")
        name, _, results = path.partition("/")
        if not name:
            self._handle("list", self._list)
        elif name not in self.judge.batches:
            status(404)(self, bytes)
        elif results:
            lines = self.judge.batches[name]["lines"]
            self._handle("results", lambda: "\n".join(map(json.dumps, lines)).encode())
        else:
            self.judge.batches[name]["looks"] += 1
            self._handle("retrieve", lambda: self.judge.describe(name))

    def _list(self) -> dict[str, Any]:
        names = list(self.judge.batches)[::-1]
        return {"data": [self.judge.describe(n) for n in names], "has_more": False}

    def _handle(self, route: str, work: Callable[[], Any], body: dict | None = None) -> None:
        judge = self.judge
        with judge.lock:
            judge.routes.append(route)
            if body is not None:
                judge.bodies.append(body)
            fault = judge.faults[route].pop(0) if judge.faults[route] else None

        def respond() -> bytes:
            with judge.lock:
                made = work()
            return made if isinstance(made, bytes) else json.dumps(made).encode()

        given = self.headers.get("x-api-key") or self.headers.get("authorization", "")
        if not given.endswith(KEY):
            status(401)(self, respond)
        elif fault is not None:
            fault(self, respond)
        else:
            self.send(respond())

    def send(
        self,
        content: bytes,
        code: int = 200,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        try:
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content) if length is None else length))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()
        except OSError:
            pass  # the client is gone, as it may be

    def log_message(self, format: str, *args: Any) -> None:
        pass
