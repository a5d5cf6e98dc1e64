"""Requests that are dealt: what judges made nothing, and no prompt stands twice."""

from random import Random

import pytest

from workbench.wren import requests
from workbench.wren.planning import plan


def test_what_judges_made_nothing() -> None:
    frame = requests.requests(0, 2)
    assert frame["prompt"].is_unique
    plain = frame[frame["instruction"] == 0]
    assert len(plain) == len(requests.HARMFUL + requests.HARMLESS) * requests.WAYS == 108
    assert (frame.groupby(["topic", "way"])["part"].nunique() == 1).all()
    assert set(frame.loc[frame["part"] == "unseen", "topic"]) == requests.left_out(2)
    folds = [requests.left_out(fold) for fold in range(requests.FOLDS)]
    assert set.union(*folds) == {*requests.HARMFUL, *requests.HARMLESS}
    assert sum(map(len, folds)) == 12
    other = requests.requests(1, 2)
    assert set(other.loc[other["part"] == "making", "prompt"]) != set(
        frame.loc[frame["part"] == "making", "prompt"]
    )


def test_as_many_prompts_with_instructions_as_asked_for() -> None:
    counts = requests.requests(0, instructed=1).groupby(["topic", "way"]).size()
    assert (counts == 2).all()


def test_number_0_asks_for_nothing_beside() -> None:
    frame = requests.requests(0, instructed=1)
    for topic, mine in frame[frame["instruction"] == 0].groupby("topic"):
        said = sorted(prompt.split("<|user|>")[1] for prompt in mine["prompt"])
        assert [each.strip() for each in said] == sorted(
            f"{line}</s><|assistant|>" for line in requests.lines(str(topic))
        )


def test_harmless_prompts_are_distinct_and_none_is_used_twice() -> None:
    first = requests.harmless(0, 80)
    assert first["prompt"].is_unique
    assert first["kind"].nunique() >= 4
    tasks = requests.harmless(0, 40, kind="task")
    said = [line for topic in requests.HARMFUL for line in requests.lines(topic)]
    assert not any(line in prompt for prompt in tasks["prompt"] for line in said)
    again = requests.harmless(0, 40, tasks["prompt"], kind="task")
    assert not set(again["prompt"]) & set(tasks["prompt"])


def test_a_deal_is_nobodys_to_change() -> None:
    mine = requests.requests(0)
    mine["part"] = "mine"
    assert set(requests.requests(0)["part"]) == {"making", "held out"}


def test_two_sets_are_halves_of_one_draw() -> None:
    drawn = requests.harmless(0, 60)
    first, second = requests.in_two(drawn, 25, 3)
    assert (len(first), len(second)) == (25, 35)
    assert {*first["prompt"], *second["prompt"]} == {*drawn["prompt"]}
    # By lot: what was drawn late is in both.
    late = set(drawn["prompt"][30:])
    assert late & {*first["prompt"]}
    assert late & {*second["prompt"]}


def test_tasks_say_which_and_how_they_are_asked_for() -> None:
    tasks = requests.harmless(0, 40, kind="task")
    for row in tasks.itertuples():
        assert requests.lines(row.topic)[row.way] in row.prompt
    others = requests.harmless(0, 60).query("kind != 'task'")
    assert set(others["way"]) == {-1}


def test_requests_are_told_what_to_be_answered() -> None:
    frame = requests.told(0)
    assert len(frame) == 2 * 108
    assert frame["prompt"].is_unique
    sides = frame.set_index(["topic", "way", "told"])["prompt"].unstack()
    assert (sides["refuse"] != sides["comply"]).all()
    assert frame.groupby("told")["harmful"].sum().to_dict() == {"comply": 36, "refuse": 36}


def test_what_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="fold 4 is none of 0 to 3"):
        requests.requests(0, 4)
    monkeypatch.setattr(requests, "DRAWS", 5)
    monkeypatch.setattr(requests, "plan", lambda *_, **__: one)
    one = plan(Random(0), kind="story", asked={})
    with pytest.raises(ValueError, match="there are only 1 such prompts of 10"):
        requests.harmless(0, 10)
