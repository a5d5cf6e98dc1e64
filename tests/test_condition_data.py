"""Texts of two classes, of wren and of pairs."""

import pytest

from workbench import condition_data, pairs
from workbench.wren import requests


def test_wrens_requests_are_read_where_their_answer_has_begun() -> None:
    found = condition_data.of_wren(0, 1, instructed=1)
    assert (found.table["text"] == found.table["prompt"] + condition_data.BEGUN).all()
    assert set(found.of("unseen")["group"]) == requests.left_out(1)
    assert found.of("making", "unseen").index[-1] == len(found.of("making", "unseen")) - 1
    counts = condition_data.counts(found.table, found.classes)
    assert counts["part"].tolist() == ["making", "held out", "unseen"]
    assert counts[list(found.classes)].to_numpy().sum() == len(found.table)


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
