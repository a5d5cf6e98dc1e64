"""Texts of two classes, of wren and of pairs."""

import pytest

from workbench.conditions import data as condition_data
from workbench.contrast import pairs
from workbench.wren import requests


def test_wrens_requests_are_read_where_their_answer_has_begun() -> None:
    found = condition_data.of_wren(0, 1, instructed=1, further=20)
    assert (found.table["text"] == found.table["prompt"] + condition_data.BEGUN).all()
    assert set(found.of("unseen")["topic"]) == requests.left_out(1)
    assert found.of("making", "unseen").index[-1] == len(found.of("making", "unseen")) - 1
    counts = condition_data.counts(found.table, found.classes)
    assert counts["part"].tolist() == ["making", "held out", "unseen"]
    assert counts[list(found.classes)].to_numpy().sum() == len(found.table)
    assert found.of("making").groupby("topic")["fold"].nunique().max() == 1
    assert set(found.of("making")["fold"]) == {0, 1, 2}
    assert len(found.setting) == len(found.fresh) == 20
    assert not {*found.setting} & ({*found.fresh} | {*found.table["text"]})


def test_of_pairs_both_sides_are_texts_and_no_pair_is_in_two_parts() -> None:
    data = pairs.load("formality")
    found = condition_data.of_pairs(data, 0)
    assert set(found.table["part"]) == {"making", "held out"}
    assert found.classes == ("formality +", "formality −")
    parts = [set(found.of(part)["prompt"]) for part in ("making", "held out")]
    assert not parts[0] & parts[1]
    some = found.of("making").iloc[:2]
    assert some["inside"].tolist() == [True, False]
    assert all(row["text"].startswith(row["prompt"]) for _, row in some.iterrows())


def test_chats_are_refused() -> None:
    chats = next(name for name in ("refusal", "sycophancy") if holds_chats(name))
    with pytest.raises(ValueError, match="holds chats"):
        condition_data.of_pairs(pairs.load(chats))


def holds_chats(name: str) -> bool:
    return not isinstance(pairs.load(name)[0].prompt, str)


def test_some_are_distinct_prompts_of_both_classes() -> None:
    found = condition_data.of_wren(0, 1, instructed=1, further=5)
    some = found.some(7, 3, "held out", "unseen")
    assert some["prompt"].is_unique
    assert some.groupby("inside").size().to_dict() == {False: 7, True: 7}
    assert set(some["part"]) <= {"held out", "unseen"}
    assert len(found.some(10_000, 3, "unseen")) == found.of("unseen")["prompt"].nunique()


def test_pairs_of_one_prompt_are_left_out_together() -> None:
    lists = [[f"{side} {i}" for i in range(60)] for side in ("yes", "no")]
    data = pairs.Pairs.from_lists(*lists, [f"prompt {i // 3}" for i in range(60)], trait="mood")
    making = condition_data.of_pairs(data).of("making")
    assert making.groupby("prompt")["fold"].nunique().max() == 1
    assert making["fold"].nunique() == condition_data.FOLDS
    both = making.groupby("fold")["inside"].nunique()
    assert (both == 2).all()


def test_a_side_is_answered_with_its_own_prompt() -> None:
    data = pairs.Pairs(
        [
            pairs.Pair(
                f"a {i}", f"b {i}", prompt=f"be kind {i}: ", negative_prompt=f"be rude {i}: "
            )
            for i in range(24)
        ],
        name="personas",
        trait="kind",
    )
    making = condition_data.of_pairs(data).of("making")
    assert making.loc[making["inside"], "prompt"].str.startswith("be kind").all()
    assert making.loc[~making["inside"], "prompt"].str.startswith("be rude").all()
    assert all(row.text.startswith(row.prompt) for row in making.itertuples())
