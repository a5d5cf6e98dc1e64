"""Words of reports: lists and p values."""

from __future__ import annotations

from workbench.support.wording import listed, p_value


def test_lists_in_words() -> None:
    assert [listed(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]


def test_a_p_value_is_never_0() -> None:
    assert [p_value(value) for value in (0.0, 0.0004, 0.0005, 0.05, 1.0)] == [
        "<0.001",
        "<0.001",
        "0.001",
        "0.050",
        "1.000",
    ]
