"""Rules: what they mean, how they are written back, and where an error points."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.conditions.expressions import Joined, Met, Not
from workbench.conditions.logic import Rule, Rules, parse

CONDITIONS = ("harmful", "medical advice", "spam")
BEHAVIOURS = ("refuse", "be brief")


def verdicts(**rows: str) -> dict[str, torch.Tensor]:
    """Condition -> (B,) bool out of text such as "101"."""
    return {name: torch.tensor([letter == "1" for letter in given]) for name, given in rows.items()}


def table(rule: str, count: int = 3) -> str:
    """What a rule about C1 … gives over all assignments, "000" first."""
    names = [f"C{i + 1}" for i in range(count)]
    rows = torch.tensor(list(itertools.product([False, True], repeat=count)))
    columns = dict(zip(names, rows.unbind(1), strict=True))
    (found,) = parse(rule, names, ["B1"]).strengths(columns).values()
    return "".join(str(int(value)) for value in found.tolist())


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("if C1 then B1", "00001111"),
        ("if not C1 then B1", "11110000"),
        ("if C1 and C2 or C3 then B1", "01010111"),
        ("if C1 or C2 and C3 then B1", "00011111"),
        ("if (C1 or C2) and C3 then B1", "00010101"),
        ("if not C1 and C2 then B1", "00110000"),
        ("if not (C1 and C2) then B1", "11111100"),
        ("if not not C1 then B1", "00001111"),
        ("IF c1 AND NOT c2 THEN b1", "00001100"),
        ("if\n  C1 or\n  C3\nthen B1;", "01011111"),
    ],
)
def test_what_a_rule_means(rule, expected):
    assert table(rule) == expected


def test_several_rules_add_up_row_by_row():
    rules = parse(
        ["if harmful then refuse * 1.5", "if harmful or spam then refuse, 'be brief' * -2e-1"],
        CONDITIONS,
        BEHAVIOURS,
    )
    found = rules.strengths(verdicts(harmful="1100", spam="1010"))
    assert found["refuse"].tolist() == [2.5, 2.5, 1.0, 0.0]
    assert found["be brief"].tolist() == [-0.2, -0.2, -0.2, 0.0]
    assert all(strength.dtype == torch.float64 for strength in found.values())
    assert rules.conditions == ("harmful", "spam")
    assert rules.behaviours == ("refuse", "be brief")
    one = "if harmful then refuse * 1.5; if harmful or spam then refuse and B2 * -.2"
    assert parse(one, CONDITIONS, BEHAVIOURS) == rules


def test_numbers_stand_for_names_unless_a_name_is_such_a_number():
    names = ("harmful", "C1", "spam")
    assert parse("if C1 then B1", names, BEHAVIOURS).conditions == ("C1",)
    assert parse("if c1 then B1", names, BEHAVIOURS).conditions == ("harmful",)
    assert parse("if C2 and C3 then B2", names, BEHAVIOURS).conditions == ("C1", "spam")
    assert parse("if C1 then B1", CONDITIONS, BEHAVIOURS).conditions == ("harmful",)
    assert parse("if C10 then B1", [f"n{i}" for i in range(10)], ["b"]).conditions == ("n9",)
    # In quotes it is a name, never a number.
    with pytest.raises(ValueError, match="unknown condition 'C3'"):
        parse("if 'C3' then B1", CONDITIONS, BEHAVIOURS)


def test_a_condition_and_a_behaviour_may_share_a_name():
    rules = parse("if spam then spam", ["spam"], ["spam"])
    assert (rules.conditions, rules.behaviours) == (("spam",), ("spam",))


@pytest.mark.parametrize(
    ("rule", "message", "pointed"),
    [
        ("if harmfull then refuse", "unknown condition 'harmfull', did you mean 'harmful'?"
         "; known are 'harmful' (C1), 'medical advice' (C2), 'spam' (C3)", "harmfull"),
        ("if Spam then refuse", "unknown condition 'Spam', did you mean 'spam'?", "Spam"),
        ("if zebra then refuse", "unknown condition 'zebra'; known are", "zebra"),
        ("if C4 then refuse", "unknown condition 'C4'", "C4"),
        ("if C0 then refuse", "unknown condition 'C0'", "C0"),
        ("if spam then refus", "unknown behaviour 'refus', did you mean 'refuse'?"
         "; known are 'refuse' (B1), 'be brief' (B2)", "refus"),
        ("if 'medical advise' then refuse", "did you mean 'medical advice'?", "'medical advise'"),
        ("if (spam then refuse", "expected 'and', 'or' or ')', found 'then'; "
         "the '(' at character 4 is not closed", "then"),
        ("if spam) then refuse", "expected 'and', 'or' or 'then', found ')'; "
         "no '(' is open here", ")"),
        ("if ((spam) or (C1) then refuse", "the '(' at character 4 is not closed", "then"),
        ("if () then refuse", "expected 'not', '(' or a condition, found ')'", ")"),
        ("if spam", "expected 'and', 'or' or 'then', found the end", ""),
        ("if spam then", "expected a behaviour, found the end", ""),
        ("if then refuse", "expected 'not', '(' or a condition, found 'then'", "then"),
        ("spam then refuse", "expected 'if', found 'spam'", "spam"),
        ("if spam & C1 then refuse", "expected 'and', 'or' or 'then', found '&'", "&"),
        ("if spam, C1 then refuse", "expected 'and', 'or' or 'then', found ','", ","),
        ("if spam then refuse then refuse", "found 'then'", "then"),
        ("if spam then refuse if C1 then B2", "';' or the end, found 'if'", "if"),
        ("if 'spam then refuse", "found \"'\"; this quote is not closed", "'"),
        ("if spam then refuse * nan", "expected a finite number, found 'nan'", "nan"),
        ("if spam then refuse * inf", "expected a finite number, found 'inf'", "inf"),
        ("if spam then refuse * 1e999", "the strength 1e999 is not finite", "1e999"),
        ("if spam then refuse *", "expected a finite number, found the end", ""),
        ("if spam then refuse, B1", "the behaviour 'refuse' stands twice in one rule", "B1"),
        (";", "expected 'if', found ';'", ";"),
        ("if " + "not " * 101 + "spam then refuse", "nested deeper than 100", "spam"),
        ("if " + "(C1 or " * 5000 + "C1" + ")" * 5000 + " then B1", "nested deeper", "C1"),
    ],
)  # fmt: skip
def test_an_error_quotes_the_rule_and_points_at_the_token(rule, message, pointed):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse(rule, CONDITIONS, BEHAVIOURS)
    said, line, carets = str(caught.value).split("\n")
    assert message in said
    assert line == "    " + rule.rstrip()
    start = len(carets) - len(carets.lstrip())
    assert carets.strip() == "^" * max(1, len(pointed))
    assert line[start : len(carets)] == pointed


def test_an_error_in_a_long_rule_shows_the_line_alone():
    with pytest.raises(ValueError, match="expected 'and'") as caught:
        parse("if spam\n\tand harmful ot\n C2 then refuse", CONDITIONS, BEHAVIOURS)
    assert str(caught.value).split("\n")[1:] == ["     and harmful ot", "                 ^^"]


def test_an_error_among_several_rules_names_the_rule():
    with pytest.raises(ValueError, match=r"^rule 2: unknown condition 'x'"):
        parse(["if spam then refuse", "if x then refuse"], CONDITIONS, BEHAVIOURS)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("", "the rule is ''; write it as 'if C1 then B1'"),
        ("  \n", "the rule is '  "),
        ([], "rules is empty"),
        (["if C1 then B1", ""], "rule 2 is ''"),
        ([None], "the rule is None"),
    ],
)
def test_no_rule(rules, message):
    with pytest.raises(ValueError, match=message):
        parse(rules, CONDITIONS, BEHAVIOURS)


@pytest.mark.parametrize(
    ("conditions", "behaviours", "message"),
    [
        (["a", "a"], ["b"], "two conditions are called 'a'"),
        (["a"], ["b", "c", "b"], "two behaviours are called 'b'"),
        (["a", " "], ["b"], "condition 2 is called ' '"),
        ([3], ["b"], "condition 1 is called 3"),
        ("a", ["b"], "conditions is one text, 'a'"),
        ([], ["b"], "unknown condition 'a'; known are none"),
    ],
)
def test_bad_names_are_told_first(conditions, behaviours, message):
    with pytest.raises(ValueError, match=message):
        parse("if a then b", conditions, behaviours)


def test_verdicts_must_be_there_and_alike():
    rules = parse("if harmful and spam then refuse", CONDITIONS, BEHAVIOURS)
    with pytest.raises(ValueError, match=r"no verdict on 'spam'; there are verdicts on"):
        rules.strengths(verdicts(harmful="10"))
    with pytest.raises(ValueError, match=r"2 rows for 'harmful' and on 3 for 'spam'"):
        rules.strengths(verdicts(harmful="10", spam="101"))
    with pytest.raises(ValueError, match=r"'harmful' is torch.float32 of shape \(2,\)"):
        rules.strengths({"harmful": torch.ones(2), "spam": torch.ones(2).bool()})
    with pytest.raises(ValueError, match=r"of shape \(\)"):
        rules.strengths({"harmful": torch.tensor(True), "spam": torch.tensor(True)})


# ---- invariants

awkward = [
    "if", "NOT", "two words", 'quo"te', "apo'strophe", "back\\slash", "c1", "C2", "hate-mail",
    "9lives", "naïve", "line\nbreak", ";",
]  # fmt: skip
any_name = st.sampled_from(awkward) | st.text(min_size=1).filter(str.strip)
names = st.lists(any_name, min_size=1, max_size=5, unique=True)


def expressions(conditions: list[str]) -> st.SearchStrategy:
    return st.recursive(
        st.sampled_from(conditions).map(Met),
        lambda inner: (
            inner.map(Not)
            | st.builds(
                Joined,
                st.sampled_from(["and", "or"]),
                st.lists(inner, min_size=2, max_size=3).map(tuple),
            )
        ),
        max_leaves=8,
    )


@st.composite
def any_rules(draw) -> tuple[Rules, list[str], list[str]]:
    conditions, behaviours = draw(names), draw(names)
    strength = st.floats(allow_nan=False, allow_infinity=False)
    effects = st.lists(
        st.tuples(st.sampled_from(behaviours), strength), min_size=1, unique_by=lambda e: e[0]
    )
    rule = st.builds(Rule, expressions(conditions), effects.map(tuple))
    rules = Rules(tuple(draw(st.lists(rule, min_size=1, max_size=3))))
    return rules, conditions, behaviours


@given(any_rules())
def test_what_is_written_is_read_back(made):
    rules, conditions, behaviours = made
    assert parse(str(rules), conditions, behaviours) == rules
    assert parse([str(rule) for rule in rules.rules], conditions, behaviours) == rules


words = st.recursive(
    st.sampled_from(["a", "b", "c", "d"]),
    lambda inner: (
        inner.map("not {}".format)
        | inner.map("({})".format)
        | st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join)
    ),
    max_leaves=10,
)


@given(words)
def test_precedence_is_pythons(text):
    conditions = ["a", "b", "c", "d"]
    rows = list(itertools.product([False, True], repeat=4))
    columns = dict(zip(conditions, torch.tensor(rows).unbind(1), strict=True))
    found = parse(f"if {text} then x", conditions, ["x"]).strengths(columns)["x"]
    expected = [eval(text, {}, dict(zip(conditions, row, strict=True))) for row in rows]
    assert found.tolist() == expected


@given(st.text() | st.text(alphabet="ifthenandor not()C12B*.;,'\"\n"))
def test_any_other_text_is_a_told_error(text):
    try:
        parse(text, CONDITIONS, BEHAVIOURS)
    except ValueError as error:
        said = str(error)
    else:
        return
    assert "\n" in said or "write it as" in said
