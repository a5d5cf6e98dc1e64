"""The library's own reading of rules: its answers from ../shared/golden, and where ours differ."""

import itertools
import json

import pytest
import torch
from outside import SHARED

from workbench.conditions.logic import parse
from workbench.conditions.logic_reference import reference_value

GOLDEN = SHARED / "golden" / "2_cast" / "rules.json"
NAMES = ("C1", "C2", "C3")
ROWS = list(itertools.product([False, True], repeat=3))


def reference(rule: str) -> list[bool]:
    return [reference_value(rule, dict(zip(NAMES, row, strict=True))) for row in ROWS]


def ours(rule: str) -> list[bool]:
    columns = dict(zip(NAMES, torch.tensor(ROWS).unbind(1), strict=True))
    (found,) = parse(rule, NAMES, ["B1", "B2"]).strengths(columns).values()
    return found.bool().tolist()


@pytest.mark.skipif(not GOLDEN.is_file(), reason=f"golden numbers missing: {GOLDEN}")
def test_every_golden_rule():
    entries = json.loads(GOLDEN.read_text())
    assert len(entries) == 22
    for entry in entries:
        for met, expected in entry["met_C1C2C3_to_result"].items():
            verdicts = {name: letter == "1" for name, letter in zip(NAMES, met, strict=True)}
            assert reference_value(entry["rule"], verdicts) is expected, (entry["rule"], met)


@pytest.mark.parametrize(
    "rule",
    [
        "if C1 then B1",
        "if c1 then b1",
        "if C1 and C2 then B1",
        "if C1 And C2 then B1",
        "if C1 or C2 or C3 then B2",
        "if  C1   and   C2 then B1",
    ],
)
def test_rules_that_both_read_alike(rule):
    assert ours(rule) == reference(rule)


@pytest.mark.parametrize(
    ("rule", "differ"),
    [
        ("if C1 or C2 and C3 then B1", ["001", "010"]),  # its "or" swallows the "and"
        ("if C1 and C2 or C3 then B1", ["010", "100"]),
        ("if not C1 then B1", ["000", "001", "010", "011"]),
        ("if (C1 or C2) then B1", ["010", "011", "100", "101", "110", "111"]),
        ("IF C1 THEN B1", ["100", "101", "110", "111"]),
    ],
)
def test_rules_that_the_library_misreads(rule, differ):
    rows = ["".join("01"[value] for value in row) for row in ROWS]
    found = zip(rows, ours(rule), reference(rule), strict=True)
    assert [row for row, own, other in found if own != other] == differ


@pytest.mark.parametrize(
    "rule", ["if C1, C2 then B1", "C1 then B1", "if C1", "if C4 then B1", "if C1 then B1 then B2"]
)
def test_what_the_library_lets_pass_is_refused(rule):
    reference(rule)
    with pytest.raises(ValueError, match=r"\^"):
        ours(rule)


def test_numbers_follow_the_order_of_the_conditions():
    assert reference_value("if C2 then B1", {"harmful": False, "spam": True})
    assert not reference_value("if spam then B1", {"harmful": False, "spam": True})
