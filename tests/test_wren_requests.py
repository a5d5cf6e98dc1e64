"""Requests that are dealt: what judges made nothing, and no prompt stands twice."""

from workbench.wren import requests


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
