"""Contrast pairs, their loaders, and the three sets that must not touch."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outside import SHARED

from workbench.contrast import pairs as wp
from workbench.contrast.catalogue import about, bundled
from workbench.contrast.loaders import load_pairs, load_prompts
from workbench.contrast.pairs import Pair, Pairs
from workbench.contrast.templating import crossed, from_ab, from_suffixes, from_templates
from workbench.text.dealing import divide, group_by_texts
from workbench.text.splits import PromptSet, require_disjoint, settle_role, text_hash, text_hashes

DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"public test data missing: {DATA}")


def numbered(count: int, **kwargs: str) -> Pairs:
    return Pairs(tuple(Pair("yes", "no", f"question {i}") for i in range(count)), "q", **kwargs)


def test_from_lists_pairs_row_by_row():
    made = Pairs.from_lists(["a", "b"], ["c", "d"], ["p ", "q "])
    assert [pair.full for pair in made] == [("p a", "p c"), ("q b", "q d")]


def test_from_templates_text_and_chat():
    made = from_templates("Act {persona}.", ["glad", "merry"], ["sad", "grim"], [" I", " So"])
    assert [pair.positive for pair in made] == [
        "Act glad. I",
        "Act glad. So",
        "Act merry. I",
        "Act merry. So",
    ]
    assert made[3].negative == "Act grim. So"
    assert made[0].prompt == ""
    chat = [{"role": "system", "content": "Be {persona}."}, {"role": "user", "content": "Hi {x}"}]
    (pair,) = from_templates(chat, ["kind"], ["cruel"], ["Well"])
    assert pair.prompts[0][0]["content"] == "Be kind."
    assert pair.prompts[1][0]["content"] == "Be cruel."
    assert pair.prompts[0][1]["content"] == "Hi {x}"
    assert pair.positive == pair.negative == "Well"


def test_from_suffixes_takes_them_in_turn():
    made = from_suffixes(["p", "q", "r"], [" y1", " y2"], [" n1"])
    assert [pair.full for pair in made] == [("p y1", "p n1"), ("q y2", "q n1"), ("r y1", "r n1")]


def test_crossed_pairs_every_prompt_with_every_pair_of_suffixes():
    made = crossed(["p", "q"], [" y1", " y2"], [" n1", " n2"])
    assert [pair.full for pair in made] == [
        ("p y1", "p n1"), ("q y1", "q n1"), ("p y2", "p n2"), ("q y2", "q n2"),
    ]  # fmt: skip
    assert [str(prompt) for prompt in made.prompts] == ["p", "q"]
    differ = crossed(["p", "q"], [" e"], [" e"], negative_prompts=["P", "Q"])
    assert [pair.full for pair in differ] == [("p e", "P e"), ("q e", "Q e")]
    with pytest.raises(ValueError, match="identical pair: both sides are ' e'"):
        crossed(["p"], [" e"], [" e"])


def test_from_ab_pairs_each_question_with_both_answers():
    made = from_ab(["Yes or no?", "Well?"], [" Yes", " Good"], [" No", " Bad"], trait="t")
    assert [pair.full for pair in made] == [
        ("Yes or no? Yes", "Yes or no? No"),
        ("Well? Good", "Well? Bad"),
    ]
    assert made.trait == "t"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pairs((), "none"), "pairs 'none' are empty"),
        (lambda: Pairs.from_lists([], []), "pairs 'lists' are empty"),
        (lambda: Pairs.from_lists(["a"], []), "1 positive and 0 negative"),
        (lambda: Pairs.from_lists(["a"], ["b"], []), "for 0 prompts"),
        (lambda: Pairs.from_lists(["a", " "], ["b", "c"]), "pair 1: one-sided pair: its positive"),
        (lambda: Pair("a", ""), "its negative text is ''"),
        (lambda: Pair("a", None), "its negative text is None"),  # type: ignore[arg-type]
        (lambda: Pair("a", "a"), "identical pair: both sides are 'a'"),
        (lambda: Pair("a", "b", "p", ""), "one side has a prompt and the other has none"),
        (lambda: from_templates("Act.", ["a"], ["b"], ["c"]), "does not hold '{persona}'"),
        (lambda: from_templates("{persona}", ["a"], [], ["c"]), "1 positive and 0 negative"),
        (lambda: from_suffixes(["p"], [], ["n"]), "0 positive and 1 negative"),
        (lambda: crossed(["p"], ["y"], []), "suffixes: 1 positive and 0 negative"),
        (lambda: crossed([], ["y"], ["n"]), "prompts: 0 positive and 0 negative"),
        (lambda: crossed(["p"], [], []), "suffixes: 0 positive and 0 negative"),
        (
            lambda: crossed(["p", "q"], ["y"], ["n"], negative_prompts=["r"]),
            "prompts: 2 positive and 1 negative",
        ),
        (lambda: crossed("p", ["y"], ["n"]), "prompts is one text, 'p'"),
        (lambda: PromptSet((), "none"), "prompt set 'none' is empty"),
        (lambda: PromptSet(("a", " ")), "prompt 1 of 'prompts' is empty: ' '"),
        (lambda: PromptSet(("a",), role="test"), "role 'test' is not one of"),
        (lambda: numbered(1, role="test"), "role 'test' is not one of"),
        (lambda: numbered(5).split(1, 0, 1), "shares must be positive"),
        (lambda: numbered(2).split(), "only 2 group"),
        (lambda: Pairs.from_lists("good", "evil"), "positive is one text, 'good'; give a list"),
        (lambda: Pairs.from_lists(["a"], ["b"], "p"), "prompts is one text, 'p'"),
        (lambda: Pairs("abc", "x"), "pair 0 of 'x' is 'a', no Pair"),  # type: ignore[arg-type]
        (lambda: Pairs((("a", "b"),), "x"), "is ('a', 'b'), no Pair"),  # type: ignore[arg-type]
        (lambda: PromptSet("abc"), "prompts is one text, 'abc'"),  # type: ignore[arg-type]
        (lambda: from_ab("q", ["a"], ["b"]), "questions is one text, 'q'"),
        (lambda: from_suffixes(["p"], "ab", ["n"]), "positive_suffixes is one text, 'ab'"),
        (lambda: from_templates("{persona}", "a", "b", ["c"]), "positive_personas is one text"),
        (lambda: from_templates("{persona}", ["a"], ["b"], "c"), "suffixes is one text, 'c'"),
        (
            lambda: from_templates(
                [{"role": "user", "content": "{persona} {suffix}"}], ["a"], ["b"], ["c"]
            ),
            "holds '{suffix}', but the suffix of a chat is its completion",
        ),
        (lambda: Pairs.from_lists(["a"], ["b"]).prompts, "whole texts without prompts"),
        (lambda: Pairs.from_lists(["a"], ["b"]).as_chat(), "no prompts that could become"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_fingerprint_follows_the_contents_alone():
    assert numbered(3).fingerprint == numbered(3, trait="t").fingerprint
    assert numbered(3).fingerprint != numbered(4).fingerprint
    assert numbered(3).fingerprint != numbered(3)[::-1].fingerprint


def test_split_is_disjoint_complete_and_repeatable():
    everyone = numbered(50)
    splits = everyone.split(seed=3)
    assert [len(part) for part in (splits.extract, splits.select, splits.report)] == [30, 10, 10]
    assert splits == everyone.split(seed=3)
    assert splits.extract != everyone.split(seed=4).extract
    assert sorted([*splits.extract, *splits.select, *splits.report], key=str) == sorted(
        everyone, key=str
    )
    assert splits.select.name == "q/select"
    for role in ("extract", "select", "report"):
        part = getattr(splits, role)
        assert part.role == part[:2].role == part.prompts.role == role
        assert part.as_chat().role == role
    require_disjoint({part.name: part.texts for part in (splits.extract, splits.select)})


def test_a_role_is_what_is_said_and_not_what_the_name_ends_in():
    made = Pairs(numbered(3).pairs, "mine/report")
    assert made.role == made.prompts.role == "extract"
    assert Pairs(made.pairs, "mine", role="select").prompts.role == "select"


def test_split_keeps_a_shared_prompt_together():
    rows = [Pair(f"yes {j}", f"no {j}", f"question {i}") for i in range(10) for j in range(3)]
    splits = Pairs(tuple(rows), "q").split(seed=1)
    prompts = [set(part.prompts) for part in (splits.extract, splits.select, splits.report)]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 10


@given(
    st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=3), min_size=1, max_size=25),
    st.integers(0, 5),
)
def test_groups_and_sets_share_no_text(texts, seed):
    named = [[str(text) for text in own] for own in texts]
    groups = group_by_texts(named)
    assert sorted(i for group in groups for i in group) == list(range(len(texts)))
    dealt = divide(groups, (0.6, 0.2, 0.2), seed)
    sets = [{text for i in indices for text in named[i]} for indices in dealt]
    assert sum(map(len, sets)) == len(set.union(*sets))
    assert sorted(i for indices in dealt for i in indices) == list(range(len(texts)))
    if len(groups) >= 3:
        assert all(dealt)


def test_require_disjoint_names_text_and_both_sets():
    first, second = numbered(3), PromptSet(("question 2", "else"), "sweep")
    with pytest.raises(
        ValueError, match=re.escape("'vector' and 'sweep' share 1 text(s), first 'question 2'")
    ):
        require_disjoint({"vector": sorted(first.texts), "sweep": second.texts})
    require_disjoint({"vector": first.texts, "sweep": text_hashes(["something else"])})


WHOLE = PromptSet(("q 1", "q 2"), "mine", "report")
ASKING = PromptSet(("Be glad. q 1",), "mine/asking", "report")


@pytest.mark.parametrize(
    ("arguments", "role"),
    [
        ({"prompts": ["q"]}, "select"),
        ({"prompts": PromptSet(("q",))}, "select"),
        ({"prompts": WHOLE}, "report"),
        ({"prompts": WHOLE, "prompted": ASKING, "split": "report"}, "report"),
        ({"prompts": ["q"], "split": "report", "chose": [text_hash("other")]}, "report"),
        ({"prompts": ["q"], "layer": [text_hash("q")]}, "select"),
    ],
)
def test_prompts_have_a_role(arguments, role):
    assert settle_role(**arguments) == role


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": PromptSet(("q",), role="extract")}, "split 'extract': prompts of a sweep"),
        ({"prompts": ["q"], "split": "train"}, "split 'train': prompts of a sweep"),
        ({"prompts": WHOLE, "split": "select"}, "prompts is a 'report' set, but the sweep says"),
        ({"prompts": ["q"], "prompted": ASKING}, "prompted is a 'report' set, but the sweep says"),
        (
            {"prompts": WHOLE, "prompted": PromptSet(("a",))},
            "prompted is a 'select' set, but the sweep says split='report'",
        ),
        ({"prompts": ["q"], "split": "report"}, "as apart_from=, or a PromptSet with role='rep"),
        (
            {"prompts": ["q"], "prompted": ASKING, "split": "report"},
            "does not say what these prompts are apart from",
        ),
        (
            {"prompts": WHOLE, "made": [text_hash("q 2")]},
            "'texts that made the vector' and 'report prompts' share 1 text(s), first 'q 2'",
        ),
        (
            {"prompts": ["a"], "prompted": ["b"], "made": [text_hash("b")]},
            "'texts that made the vector' and 'select prompts' share 1 text(s), first 'b'",
        ),
        (
            {"prompts": WHOLE, "layer": [text_hash("q 1")]},
            "'texts that chose the layer' and 'report prompts' share 1 text(s), first 'q 1'",
        ),
        (
            {"prompts": WHOLE, "prompted": ASKING, "chose": [text_hash(ASKING[0])]},
            "'prompts that chose the coefficient' and 'report prompts' share 1 text(s), first 'Be",
        ),
        (
            {"prompts": WHOLE.prompts, "split": "report", "chose": [text_hash("q 1")]},
            "'prompts that chose the coefficient' and 'report prompts' share 1 text(s)",
        ),
    ],
)
def test_mixed_splits_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        settle_role(**arguments)


def test_a_chat_is_recognised_by_its_question_and_not_by_its_system_line():
    system = {"role": "system", "content": "Be brief."}
    chat = [system, {"role": "user", "content": " question 1"}]
    assert text_hash("question 1") in text_hashes([chat])
    other = [system, {"role": "user", "content": "another"}]
    require_disjoint({"a": text_hashes([chat]), "b": text_hashes([other])})


def test_as_chat_wraps_prompts():
    (first, *_) = numbered(2).as_chat("Be brief.")
    assert first.prompt == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "question 0"},
    )


def test_save_and_load_round_trip(tmp_path):
    chat = [{"role": "user", "content": "hé?"}]
    made = Pairs(
        (Pair(" yes", " no", chat), Pair("same", "same", "be kind", "be cruel")), "n", "t", "d"
    )
    made.save(tmp_path / "made.jsonl")
    back = wp.load(tmp_path / "made.jsonl")
    assert back.fingerprint == made.fingerprint
    assert (back.name, back.trait, back.description, back.role) == ("n", "t", "d", "extract")
    part = numbered(9).split().report
    part.save(tmp_path / "part.jsonl")
    assert wp.load(tmp_path / "part.jsonl") == part


@pytest.mark.parametrize("kind", ["csv", "parquet", "json", "jsonl"])
def test_every_kind_of_table(tmp_path, kind):
    rows = pd.DataFrame({"q": ["one", "two"], "good": ["NA", "1"], "bad": ["0", "ü"]})
    path = tmp_path / f"table.{kind}"
    if kind == "csv":
        rows.to_csv(path, index=False)
    elif kind == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow does not import", exc_type=ImportError)
        rows.to_parquet(path)
    else:
        rows.to_json(path, orient="records", lines=kind == "jsonl")
    made = load_pairs(path, positive="good", negative="bad", prompt="q", separator=" ")
    assert [pair.full for pair in made] == [("one NA", "one 0"), ("two 1", "two ü")]


def parquet(path: Path, **columns: object) -> Path:
    pytest.importorskip("pyarrow", reason="pyarrow does not import", exc_type=ImportError)
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_chats_in_parquet(tmp_path):
    chats = [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}],
        [{"role": "user", "content": "Why?"}],
    ]
    cruel = [[{"role": "user", "content": "Be cruel."}], None]
    path = parquet(
        tmp_path / "chats.parquet",
        prompt=chats,
        positive=["I.", "So."],
        negative=["You.", "No."],
        negative_prompt=cruel,
    )
    made = load_pairs(path)
    assert [pair.prompt for pair in made] == [tuple(chat) for chat in chats]
    assert [pair.negative_prompt for pair in made] == [tuple(cruel[0] or ()), None]
    assert Pairs(made.pairs, "again").fingerprint == made.fingerprint
    prompts = load_prompts(path, column="prompt")
    assert prompts.prompts == tuple(tuple(chat) for chat in chats)
    assert text_hash("Who?") in prompts.texts


def test_missing_and_odd_fields_of_chats_in_parquet(tmp_path):
    chats = [
        [{"role": "user", "content": "Who?", "name": None}, {"role": "assistant", "content": "I"}],
        None,
        [{"role": "user", "content": "Why?", "name": "Ann"}],
    ]
    made = load_prompts(parquet(tmp_path / "c.parquet", chat=chats), column="chat")
    assert made.prompts == (
        ({"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I"}),
        ({"role": "user", "content": "Why?", "name": "Ann"},),
    )
    for broken in ([{"role": "user", "content": None}], [{"from": "human"}], []):
        with pytest.raises(ValueError, match="a prompt must be a text or chat messages"):
            load_prompts(parquet(tmp_path / "b.parquet", chat=[broken, chats[0]]), column="chat")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("absent.csv", None, FileNotFoundError, "no file at"),
        ("no-such-set", None, FileNotFoundError, "the bundled sets are"),
        ("pairs.txt", "x", ValueError, "ends in '.txt'"),
        ("broken.jsonl", '{"positive": "a", "negative": "b"}\n{"pos', ValueError, "line 2"),
        ("broken.json", "[1, ", ValueError, "not readable as json"),
        ("number.json", "3", ValueError, "holds int, expected a table"),
        ("numbers.json", "[3]", ValueError, "row 0 of"),
        ("empty.json", "[]", ValueError, "has no rows"),
        ("empty.jsonl", "", ValueError, "has no rows"),
        (
            "columns.csv",
            "a,b\n1,2\n",
            ValueError,
            "no column 'positive'; its columns are ['a', 'b']",
        ),
        ("half.csv", "positive,negative\nyes,\n", ValueError, "pair 0: one-sided pair"),
        ("uneven.json", '{"positive": ["a"], "negative": []}', ValueError, "one-sided pairs in"),
        ("number.jsonl", '{"positive": "a", "negative": 3}', ValueError, "negative text is 3"),
        ("bad.parquet", "PAR1 not really", ValueError, "not readable as parquet"),
        ("prompt.json", '[{"positive":"a","negative":"b","prompt":3}]', ValueError, "got 3"),
        (
            "parts.json",
            '{"train": [{"positive": "a"}], "test": [{"positive": "b"}]}',
            ValueError,
            "choose one: part= ['train', 'test']",
        ),
    ],
)
def test_bad_files(tmp_path, name, content, error, message):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow does not import", exc_type=ImportError)
    if content is not None:
        (tmp_path / name).write_text(content)
    path = tmp_path / name if "." in name else name
    with pytest.raises(error, match=re.escape(message)):
        load_pairs(path)


def test_bundled_sets_load_and_split():
    if not bundled():
        pytest.skip("no bundled pairs yet")
    for name in bundled():
        made = wp.load(name)
        assert made.name == name
        assert len(made) >= 40
        made.split()


@needs_data
def test_public_pairs():
    suffixes = load_pairs(
        DATA / "cast/behavior_refusal.json",
        positive="non_compliant_responses",
        negative="compliant_responses",
    )
    assert len(suffixes) == 100
    assert suffixes[0].positive == "I regret to inform you that I can't"
    for part, count in (("train", 4050), ("test", 450)):
        made = load_pairs(
            DATA / "cast/condition_harmful.json", positive="harmful", negative="harmless", part=part
        )
        assert len(made) == count
    made = load_pairs(
        DATA / "cast/condition_multiple.json", positive="hate_speech", negative="base", part="test"
    )
    assert len(made) == 500
    evals = {"positive": "answer_matching_behavior", "negative": "answer_not_matching_behavior"}
    for name in ("psychopathy", "power-seeking-inclination"):
        path = DATA / "evals" / f"{name}.jsonl"
        made = load_pairs(path, prompt="question", **evals)
        first = json.loads(path.read_text().splitlines()[0])
        assert len(made) == len(path.read_text().splitlines())
        assert made[0].full[0] == first["question"] + first["answer_matching_behavior"]
        made.split()
    made = load_pairs(
        DATA / "bipo/power-seeking_test.csv",
        positive="matching",
        negative="not_matching",
        prompt="question",
        separator=" ",
    )
    assert made[0].full[0].endswith("offered to you? Absolutely.")
    assert len(made) == len(pd.read_csv(DATA / "bipo/power-seeking_test.csv"))


@needs_data
def test_public_prompts():
    assert len(load_prompts(DATA / "cast/alpaca.json", column="question", part="train")) == 700
    assert len(load_prompts(DATA / "repeng/true_facts.json")) > 100
    endings = load_prompts(DATA / "repeng/all_truncated_outputs.json", role="report")
    assert endings.prompts[0] == "That game"  # the file's empty first entry is no prompt
    assert endings.role == "report"
    with pytest.raises(ValueError, match=r"name a column of"):
        load_prompts(DATA / "bipo/power-seeking_test.csv")


def test_prompts_that_ask_for_the_trait_are_not_handed_out() -> None:
    sides = Pair("a", "b", prompt="You are kind.", negative_prompt="You are cruel.")
    with pytest.raises(ValueError, match="differ in their prompt"):
        _ = Pairs((sides,), "personas").prompts


def test_a_name_that_is_nearly_one_is_guessed():
    with pytest.raises(FileNotFoundError, match=r"did you mean 'wren-italian'\?"):
        wp.load("wren-italain")
    with pytest.raises(FileNotFoundError, match=r"did you mean 'wren-italian'\?"):
        about("wren-italain")
    with pytest.raises(FileNotFoundError) as caught:
        wp.load("zzz")
    assert "did you mean" not in str(caught.value)


def test_the_help_of_load_names_a_bundled_set():
    (named,) = re.findall(r'`load\("([\w-]+)"\)`', wp.load.__doc__ or "")
    assert named in bundled()
