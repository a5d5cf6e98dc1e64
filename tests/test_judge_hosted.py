"""Hosted judges against a server on this machine that fails in every way a network can."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import KEY, USED, JudgeServer, bad_json, drop, hang, instead, status

from workbench.judges import (
    AnthropicBatches,
    HostedJudge,
    OpenAIChat,
    Prices,
    Written,
    name,
    score,
)
from workbench.judges.patience import IN_A_ROW, TRIES

TEXTS = [f"text {i}" for i in range(5)]
PROMPTS = ["say something"] * 5
PRICES = Prices(input=1.0, output=5.0)


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is missing: pip install -e '.[judges]'")


CHAT = pytest.param("chat", marks=needs("openai"))
BATCHES = pytest.param("batches", marks=needs("anthropic"))
both = pytest.mark.parametrize("protocol", [CHAT, BATCHES])


def rate(message: dict[str, Any]) -> str:
    """The last figure of the text, as far as it goes."""
    return json.dumps({"trait": 1 + int(message["text"][-1]), "coherence": 10})


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(rate) as server:
        yield server


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(variable, KEY)


class Clock:
    """Sleeps that take no time, and are remembered."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def service(protocol: str, server: JudgeServer, **options: Any) -> Any:
    if protocol == "chat":
        return OpenAIChat("rater", base_url=f"{server.url}/v1", **{"concurrent": 1, **options})
    return AnthropicBatches("rater", base_url=server.url, **options)


def judge(protocol: str, server: JudgeServer, folder: Path, **options: Any) -> HostedJudge:
    own = {k: options.pop(k) for k in ("timeout", "concurrent", "options") if k in options}
    options = {"sleep": Clock(), **options}
    return HostedJudge(service(protocol, server, **own), directory=folder, **options)


@both
def test_texts_are_rated_on_our_scales(protocol: str, server: JudgeServer, tmp_path: Path) -> None:
    rater = judge(protocol, server, tmp_path, traits={"mood": "glad rather than gloomy"})
    texts = [*TEXTS, TEXTS[0]]
    frame = score(texts, [*PROMPTS, PROMPTS[0]], "mood", by=rater)
    assert frame.columns.tolist() == ["trait", "coherence", "status", "reason"]
    np.testing.assert_allclose(frame["trait"], [2 * i / 9 - 1 for i in (0, 1, 2, 3, 4, 0)])
    assert (frame["coherence"] == 1).all()
    assert (frame["status"] == "ok").all()
    assert (frame["reason"] == "").all()
    assert set(server.paid.values()) == {1}  # the same text twice costs once
    assert rater.spent.requests == 5
    assert rater.spent.input_tokens == 5 * USED["input"]
    sent = json.dumps(server.bodies)
    assert "glad rather than gloomy" in sent
    assert "loses nothing for the end that is missing" in sent
    assert name(rater).startswith("rater by ")


@both
def test_what_is_rated_is_not_paid_for_again(
    protocol: str, server: JudgeServer, tmp_path: Path
) -> None:
    first = score(TEXTS[:3], PROMPTS[:3], "mood", by=judge(protocol, server, tmp_path))
    again = judge(protocol, server, tmp_path)
    frame = score(TEXTS, PROMPTS, "mood", by=again)
    assert frame["trait"][:3].tolist() == first["trait"].tolist()
    assert set(server.paid.values()) == {1}
    assert again.spent.requests == 2
    others = [(TEXTS[0], "rude", "length"), (TEXTS[0], "mood", "end")]
    for text, trait, finish in others:  # other questions, which are asked
        score([text], PROMPTS[:1], trait, by=judge(protocol, server, tmp_path), finish=[finish])
    assert server.paid[TEXTS[0]] == 3
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert KEY not in kept + repr(again)
    assert TEXTS[0] not in kept


FAULTS = {
    "429": status(429, {"retry-after": "7"}),
    "500": status(500),
    "529": status(529),
    "timeout": hang,
    "bad JSON": bad_json,
    "drop": drop,
}
ROUTES = {"chat": ["chat"], "batches": ["list", "create", "retrieve", "results"]}
CASES = [
    pytest.param(protocol, route, fault, marks=needs(package), id=f"{route} {fault}")
    for protocol, package in (("chat", "openai"), ("batches", "anthropic"))
    for route in ROUTES[protocol]
    for fault in FAULTS
]


@pytest.mark.parametrize(("protocol", "route", "fault"), CASES)
def test_a_failure_on_the_way_is_tried_again(
    protocol: str, route: str, fault: str, server: JudgeServer, tmp_path: Path
) -> None:
    clock = Clock()
    server.faults[route] = [FAULTS[fault]]
    timeout = 0.25 if fault == "timeout" else 30
    rater = judge(protocol, server, tmp_path, sleep=clock, timeout=timeout)
    frame = score(TEXTS, PROMPTS, "mood", by=rater)
    assert (frame["status"] == "ok").all(), frame["reason"].tolist()
    assert frame["trait"].tolist() == [2 * i / 9 - 1 for i in range(5)]
    assert server.faults[route] == []
    if fault == "429":
        assert 7.0 in clock.slept
    if protocol == "batches":
        assert set(server.paid.values()) == {1}  # a lost response does not pay twice
        assert len(server.batches) == 1
    else:
        lost = fault in ("timeout", "bad JSON", "drop")
        assert sum(server.paid.values()) == 5 + lost
        assert rater.spent.requests == 5 + lost


@both
def test_a_malformed_answer_is_asked_for_once_more(
    protocol: str, server: JudgeServer, tmp_path: Path
) -> None:
    answers = {"text 1": ["I like it!"], "text 2": ["{]", '{"trait": 11, "coherence": 3}']}

    def moody(message: dict[str, Any]) -> str:
        waiting = answers.get(message["text"])
        return waiting.pop(0) if waiting else rate(message)

    server.rate = moody
    rater = judge(protocol, server, tmp_path)
    with pytest.warns(UserWarning, match=r"1 of 5 texts are not rated \(1 malformed\)"):
        frame = score(TEXTS, PROMPTS, "mood", by=rater)
    assert frame["status"].tolist() == ["ok", "ok", "malformed", "ok", "ok"]
    assert frame["trait"][1] == pytest.approx(2 / 9 - 1)
    assert np.isnan(frame["trait"][2])
    assert np.isnan(frame["coherence"][2])
    assert "trait is not a number from 1 to 10" in frame["reason"][2]
    assert server.paid == {"text 0": 1, "text 1": 2, "text 2": 2, "text 3": 1, "text 4": 1}
    with pytest.warns(UserWarning, match="1 malformed"):
        again = score(TEXTS, PROMPTS, "mood", by=judge(protocol, server, tmp_path))
    assert again.equals(frame)
    assert sum(server.paid.values()) == 7  # a malformed answer was paid for, too


@both
def test_a_service_that_is_down_is_left_alone(
    protocol: str, server: JudgeServer, tmp_path: Path
) -> None:
    server.faults["chat"] = server.faults["list"] = [status(503)] * 99
    with pytest.warns(UserWarning, match="5 of 5 texts are not rated"):
        frame = score(TEXTS, PROMPTS, "mood", by=judge(protocol, server, tmp_path))
    assert (frame["status"] == "error").all()
    assert frame["reason"].str.contains("503").all()
    assert len(server.routes) == (IN_A_ROW * TRIES if protocol == "chat" else TRIES)
    server.faults.clear()
    frame = score(TEXTS, PROMPTS, "mood", by=judge(protocol, server, tmp_path))
    assert (frame["status"] == "ok").all()


@both
def test_a_wrong_key_is_tried_once(
    protocol: str, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(variable, "another")
    rater = judge(protocol, server, tmp_path)
    with pytest.warns(UserWarning, match="5 of 5"):
        frame = score(TEXTS, PROMPTS, "mood", by=rater)
    assert frame["reason"].str.contains("AuthenticationError").all()
    assert len(server.routes) == 1
    assert rater.spent.requests == 0


@needs("openai")
def test_a_text_that_is_refused_fails_alone(server: JudgeServer, tmp_path: Path) -> None:
    server.faults["chat"] = [status(400)]
    with pytest.warns(UserWarning, match=r"1 of 5 .* \(1 error\)"):
        frame = score(TEXTS, PROMPTS, "mood", by=judge("chat", server, tmp_path))
    assert (frame["status"] == "ok").sum() == 4
    assert len(server.routes) == 5


@needs("anthropic")
def test_results_without_an_answer(server: JudgeServer, tmp_path: Path) -> None:
    answers = {
        "text 0": ["!overloaded_error"],
        "text 1": ["!expired"],
        "text 2": ["!invalid_request_error"],
        "text 3": ["!canceled"],
        "text 4": ["!api_error"] * 9,
    }

    def failing(message: dict[str, Any]) -> str:
        waiting = answers[message["text"]]
        return waiting.pop(0) if waiting else rate(message)

    server.rate = failing
    with pytest.warns(UserWarning, match="3 of 5"):
        frame = score(TEXTS, PROMPTS, "mood", by=judge("batches", server, tmp_path))
    assert frame["status"].tolist() == ["ok", "ok", "error", "error", "error"]
    assert "invalid_request_error" in frame["reason"][2]
    assert "canceled" in frame["reason"][3]
    assert "3 batches" in frame["reason"][4]
    assert len(server.batches) == 3


# ---- money --------------------------------------------------------------------------------------


@both
def test_an_estimate_asks_nobody_and_is_no_less_than_the_bill(
    protocol: str, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    rater = judge(protocol, server, tmp_path, prices=PRICES)
    before = rater.estimate([*TEXTS, TEXTS[0]], [*PROMPTS, PROMPTS[0]], "mood")
    assert (before.texts, before.requests) == (6, 5)
    assert before.output_tokens == 5 * rater.service.max_tokens
    assert before.dollars == pytest.approx((before.input_tokens + 5 * before.output_tokens) / 1e6)
    assert judge(protocol, server, tmp_path).estimate(TEXTS, PROMPTS, "mood").dollars is None
    assert server.routes == []
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    score(TEXTS[:2], PROMPTS[:2], "mood", by=rater)
    after = rater.estimate(TEXTS, PROMPTS, "mood")
    assert (after.texts, after.requests) == (5, 3)
    assert rater.spent.dollars == pytest.approx(2 * (400 + 5 * 20) / 1e6)
    assert before.input_tokens >= 5 * USED["input"]


@both
def test_a_limit_refuses_all_before_it_spends_anything(
    protocol: str, server: JudgeServer, tmp_path: Path
) -> None:
    free = judge(protocol, server, tmp_path, prices=PRICES)
    whole = free.estimate(TEXTS, PROMPTS, "mood").dollars
    assert whole is not None
    poor = judge(protocol, server, tmp_path, prices=PRICES, limit=whole * 0.99)
    with pytest.warns(UserWarning, match=r"5 of 5 .* \(5 unpaid\).*raise limit="):
        frame = score(TEXTS, PROMPTS, "mood", by=poor)
    assert frame[["trait", "coherence"]].isna().all(axis=None)
    assert server.routes == []
    rich = judge(protocol, server, tmp_path, prices=PRICES, limit=whole * 1.01)
    assert (score(TEXTS, PROMPTS, "mood", by=rich)["status"] == "ok").all()
    assert server.bodies != []


@needs("openai")
def test_a_limit_holds_when_texts_cost_more_than_expected(
    server: JudgeServer, tmp_path: Path
) -> None:
    server.used["output"] = 2000  # reasoning that was not asked for
    free = judge("chat", server, tmp_path, prices=PRICES)
    whole = free.estimate(TEXTS, PROMPTS, "mood").dollars
    assert whole is not None
    rater = judge("chat", server, tmp_path, prices=PRICES, limit=whole)
    with pytest.warns(UserWarning, match=r"4 of 5 .* \(4 unpaid\)"):
        frame = score(TEXTS, PROMPTS, "mood", by=rater)
    assert frame["status"].tolist() == ["ok", *["unpaid"] * 4]
    assert len(server.routes) == 1


def test_a_limit_needs_prices() -> None:
    with pytest.raises(ValueError, match=r"limit=2.0 dollars without prices"):
        HostedJudge(OpenAIChat("rater"), limit=2.0)
    with pytest.raises(ValueError, match="limit=-1"):
        HostedJudge(OpenAIChat("rater"), prices=PRICES, limit=-1)
    with pytest.raises(ValueError, match="the output price is -5"):
        Prices(1.0, -5.0)


# ---- what is missing is said before any work ----------------------------------------------------


@both
def test_a_missing_key_is_named(
    protocol: str, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    own = service(protocol, server, key_variable="MY_KEY")
    asked = score(TEXTS[:1], PROMPTS[:1], "mood", by=HostedJudge(own, directory=tmp_path))
    assert asked["status"].tolist() == ["ok"]
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ValueError, match="no key in the environment variable MY_KEY"):
        HostedJudge(own, directory=tmp_path)([], "mood")
    with pytest.raises(ValueError, match="trait is empty"):
        judge(protocol, server, tmp_path)([], "")


@pytest.mark.parametrize(
    ("package", "service"), [("openai", OpenAIChat("m")), ("anthropic", AnthropicBatches("m"))]
)
def test_a_missing_sdk_is_named_with_the_remedy(
    package: str, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[judges\]"'):
        HostedJudge(service)([], "mood")


# ---- interrupted and killed ---------------------------------------------------------------------


@needs("anthropic")
def test_an_interrupted_wait_is_resumed(server: JudgeServer, tmp_path: Path) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(TEXTS, PROMPTS, "mood", by=judge("batches", server, tmp_path, sleep=interrupt))
    # A limit of nothing does not keep from fetching what is paid for.
    poor = judge("batches", server, tmp_path, prices=PRICES, limit=0.0)
    frame = score(TEXTS, PROMPTS, "mood", by=poor)
    assert (frame["status"] == "ok").all()
    assert set(server.paid.values()) == {1}
    assert list((tmp_path / "batches").iterdir()) == []


def run_until_killed(
    protocol: str, server: JudgeServer, folder: Path, route: str, nth: int
) -> None:
    """Judge in another process, which the server kills in the n-th request of a route."""

    def work() -> None:
        signal.alarm(60)
        score(TEXTS, PROMPTS, "mood", by=judge(protocol, server, folder))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork beside the server's thread
        process = multiprocessing.get_context("fork").Process(target=work)
        passing = [lambda handler, respond: handler.send(respond())] * (nth - 1)
        kill = instead(lambda: os.kill(process.pid or 0, signal.SIGKILL))
        server.faults[route] = [*passing, kill]
        process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("protocol", "route"),
    [
        pytest.param("chat", "chat", marks=needs("openai")),
        *(pytest.param("batches", r, marks=needs("anthropic")) for r in ROUTES["batches"]),
    ],
)
def test_a_killed_process_pays_nothing_twice(
    protocol: str, route: str, server: JudgeServer, tmp_path: Path
) -> None:
    nth = 3 if route == "chat" else 1
    run_until_killed(protocol, server, tmp_path, route, nth)
    frame = score(TEXTS, PROMPTS, "mood", by=judge(protocol, server, tmp_path))
    assert (frame["status"] == "ok").all()
    # Of chat, the one answer that was on its way is lost: nobody can fetch it.
    lost = {"text 2": 2} if protocol == "chat" else {}
    assert server.paid == {**dict.fromkeys(TEXTS, 1), **lost}


@needs("anthropic")
@pytest.mark.parametrize("made", [True, False])
def test_another_batch_of_the_same_size_is_not_taken_for_ours(
    made: bool, server: JudgeServer, tmp_path: Path
) -> None:
    content = json.dumps({"text": "strange 0"})
    params = {"model": "rater", "messages": [{"role": "user", "content": content}]}
    strange = [{"custom_id": f"s{i}", "params": params} for i in range(5)]

    def other(handler: Any, respond: Any) -> None:
        server.make_batch(strange)
        if made:
            respond()
        handler.connection.close()

    server.faults["create"] = [other]
    frame = score(TEXTS, PROMPTS, "mood", by=judge("batches", server, tmp_path))
    assert (frame["status"] == "ok").all()
    assert {text: server.paid[text] for text in TEXTS} == dict.fromkeys(TEXTS, 1)
    assert len(server.batches) == 2


@both
def test_a_damaged_answer_is_asked_for_again(
    protocol: str, server: JudgeServer, tmp_path: Path
) -> None:
    first = score(TEXTS, PROMPTS, "mood", by=judge(protocol, server, tmp_path))
    path = next(path for path in tmp_path.rglob("*.json") if path.parent.name != "batches")
    path.write_bytes(path.read_bytes()[:-5])
    again = judge(protocol, server, tmp_path)
    assert score(TEXTS, PROMPTS, "mood", by=again).equals(first)
    assert again.spent.requests == 1


@needs("openai")
def test_a_full_disk_costs_a_warning_not_the_answer(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workbench.judges.answers.write_atomically", full)
    with pytest.warns(UserWarning, match="a paid answer is not cached"):
        frame = score(TEXTS, PROMPTS, "mood", by=judge("chat", server, tmp_path))
    assert (frame["status"] == "ok").all()


@needs("openai")
def test_many_requests_at_a_time_give_the_same(server: JudgeServer, tmp_path: Path) -> None:
    texts = [f"text {i:03d}" for i in range(40)]
    rater = judge("chat", server, tmp_path, concurrent=8, options={"temperature": 0})
    frame = rater([Written(text) for text in texts], "mood")
    assert frame["trait"].tolist() == [2 * (i % 10) / 9 - 1 for i in range(40)]
    assert rater.spent.requests == 40
    assert all(body["temperature"] == 0 for body in server.bodies)
