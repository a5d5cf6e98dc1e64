"""judges: wren's exact judge, and what a sweep asks of any judge."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
import pandas as pd
import pytest

from workbench import judges, wren
from workbench.judges import Written
from workbench.sweeps.planning import check_judges


@pytest.fixture(scope="module")
def stories_of_wren() -> list[str]:
    return [text for _, text, _ in wren.trait_pairs("mood", 4, 3)]


def test_exact_agrees_with_the_grammar(stories_of_wren: list[str]) -> None:
    prompts = [prompt for prompt, _, _ in wren.trait_pairs("mood", 4, 3)]
    pairs = zip(stories_of_wren, prompts, strict=True)
    frame = judges.exact([Written(text, prompt) for text, prompt in pairs], "mood")
    assert list(frame.columns) == ["coherence", "breaks_at", "words", "trait", "fit"]
    assert frame["coherence"].tolist() == [wren.coherence(text) for text in stories_of_wren]
    assert frame["trait"].tolist() == [wren.trait(text, "mood") for text in stories_of_wren]
    expected = [wren.fit(p, t).share for p, t in zip(prompts, stories_of_wren, strict=True)]
    np.testing.assert_array_equal(frame["fit"], expected)
    assert (frame["trait"] == 1).all()  # the positive side of mood pairs


def test_exact_sees_collapse(stories_of_wren: list[str]) -> None:
    words = stories_of_wren[0].split() * 3
    random.Random(0).shuffle(words)
    frame = judges.exact([Written(stories_of_wren[0]), Written(" ".join(words))], "mood")
    assert frame["coherence"][0] == 1.0
    assert frame["coherence"][1] < 0.5
    assert math.isnan(frame["breaks_at"][0])
    assert frame["breaks_at"][1] < len(words)


def test_exact_of_nothing_has_its_columns() -> None:
    frame = judges.exact([], "mood")
    assert len(frame) == 0
    assert list(frame.columns) == ["coherence", "breaks_at", "words", "trait", "fit"]


def test_exact_refuses_an_unknown_trait_before_any_text() -> None:
    with pytest.raises(
        ValueError,
        match=r"trait 'charm' cannot be judged in wren's language; .*mood.* with trait=.*Local",
    ):
        judges.exact([], "charm")


def test_exact_without_a_trait_says_where_it_is_named() -> None:
    with pytest.raises(ValueError, match=r"give trait='mood', say.*wren's language only"):
        judges.exact([], "")


def test_exact_pardons_an_open_end_only_where_the_limit_cut_it(stories_of_wren: list[str]) -> None:
    story = stories_of_wren[0]
    open_end = story[: story.rindex(" ")]  # the last sentence has lost its last word and stop
    cut, ended = judges.exact(
        [Written(open_end, "", "length"), Written(open_end, "", "end")], "mood"
    )["coherence"]
    assert cut == 1.0
    assert ended < 1.0
    assert judges.exact([Written(story, "", "end")], "mood")["coherence"].tolist() == [1.0]


def test_exact_of_an_empty_text_is_no_praise() -> None:
    frame = judges.exact([Written("", "", "end"), Written("", "", "length")], "mood")
    assert frame["coherence"].tolist() == [0.0, 0.0]
    assert frame["trait"].isna().all()


def test_exact_says_nothing_of_what_shows_nothing() -> None:
    """The mere beginning of a sentence has no coherence yet; an answer without a story no mood."""
    begun, answer = judges.exact([Written("In"), Written("So no.", "", "end")], "mood").itertuples()
    assert math.isnan(begun.coherence)
    assert begun.words == 0
    assert answer.coherence == 1
    assert math.isnan(answer.trait)


def test_exact_takes_a_role_marker_within_for_an_error() -> None:
    texts = ["So no.<|user|> So no.", "So no.<|user|><|user|>", "So no.<pad> So no."]
    frame = judges.exact([Written(text, "", "end") for text in texts], "power")
    assert (frame["coherence"] < 0.7).all()


def texts(**columns) -> pd.DataFrame:
    return pd.DataFrame(
        {"text": ["one", np.nan], "prompt": ["a", "b"], "finish": ["end", "length"], **columns},
        index=[7, 3],
    )


def test_judging_a_frame_adds_columns_and_replaces_former_ones() -> None:
    seen: list[Written] = []

    def judge(written, trait) -> pd.DataFrame:
        seen.extend(written)
        return pd.DataFrame({"trait": [len(w.text) for w in written], "of": trait})

    frame = texts(trait=[9, 9])
    frame.attrs = {"seed": 1}
    judged = judges.judge(frame, [judge], "calm")
    assert seen == [Written("one", "a", "end"), Written("", "b", "length")]  # NaN is no text "nan"
    assert judged["trait"].tolist() == [3, 0]
    assert judged["of"].tolist() == ["calm", "calm"]
    assert judged.index.tolist() == [7, 3]
    assert judged.attrs == {"seed": 1}
    assert frame["trait"].tolist() == [9, 9]


def test_a_judge_must_answer_for_every_text() -> None:
    def lazy(written, trait) -> pd.DataFrame:
        return pd.DataFrame({"trait": [0.0]})

    with pytest.raises(
        ValueError, match=r"lazy' gave 1 rows for 2 texts; it must give one for each"
    ):
        judges.judge(texts(), [lazy], "")


def test_a_judge_that_is_not_in_a_list_is_refused() -> None:
    with pytest.raises(ValueError, match=r"give a list: judges=\[exact\]"):
        judges.judge(texts(), judges.exact, "mood")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"give a list: judges=\[judge\]"):
        check_judges(functools.partial(judges.exact), "mood")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the judge 'exact' is not a function"):
        judges.judge(texts(), ["exact"], "mood")  # type: ignore[list-item]


def test_names_of_judges() -> None:
    assert judges.name(judges.exact) == "workbench.judges.exact"
    assert judges.name(functools.partial(judges.exact)) == "functools.partial"


def test_judges_may_not_share_columns() -> None:
    def double(written, trait) -> pd.DataFrame:
        return pd.DataFrame({"coherence": [1.0] * len(written)})

    def own(written, trait) -> pd.DataFrame:
        return pd.DataFrame({"alert": [1.0] * len(written)})

    with pytest.raises(ValueError, match="'coherence', which is taken"):
        check_judges([judges.exact, double], "mood")
    with pytest.raises(ValueError, match="'alert', which is taken"):
        check_judges([own], "")
    check_judges([double], "")


# ---- one interface for all ----------------------------------------------------------------------


def test_score_gives_four_columns_for_every_text(stories_of_wren: list[str]) -> None:
    asked = ["", "", ""]
    broken = stories_of_wren[0][:-2]
    texts_ = [stories_of_wren[0], broken, ""]
    frame = judges.score(texts_, asked, "mood", by=judges.exact, finish=["end", "end", "length"])
    assert frame.columns.tolist() == [
        "trait",
        "coherence",
        "status",
        "reason",
        "breaks_at",
        "words",
        "fit",
    ]
    assert frame["coherence"][0] == 1
    assert frame["coherence"][1] < 1  # it ended so, and was not cut
    assert frame[["status", "reason"]].to_numpy().tolist() == [
        ["ok", ""],
        ["ok", ""],
        ["unrated", "the judge gave no number"],  # nothing shows no trait
    ]
    none = judges.score([], [], "mood", by=judges.exact)
    assert len(none) == 0
    assert none.columns.tolist() == frame.columns.tolist()


def test_score_says_what_a_judge_left_open() -> None:
    def unsure(written, trait) -> pd.DataFrame:
        return pd.DataFrame({"coherence": [1.0, np.nan], "trait": [0.5, 0.5]}, index=[4, 2])

    frame = judges.score(["a", "b"], ["", ""], "calm", by=unsure)
    assert frame["status"].tolist() == ["ok", "unrated"]
    assert frame["reason"].tolist() == ["", "the judge gave no number"]
    assert frame.index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        ({"trait": [1.0]}, "gives no column 'coherence'"),
        ({"trait": [1.5], "coherence": [1.0]}, r"gave trait 1.5: not -1.0 to 1.0"),
        ({"trait": [1.0], "coherence": [-0.1]}, r"gave coherence -0.1: not 0.0 to 1.0"),
        ({"trait": [1.0, 1.0], "coherence": [1.0, 1.0]}, "gave 2 rows for 1 texts"),
    ],
)
def test_score_refuses_a_judge_that_breaks_its_word(verdicts, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judges.score(["a"], [""], "calm", by=lambda written, trait: pd.DataFrame(verdicts))


def test_score_refuses_what_does_not_match() -> None:
    with pytest.raises(ValueError, match="2 texts, 1 prompts, 2 ways to finish"):
        judges.score(["a", "b"], [""], "mood", by=judges.exact)
    with pytest.raises(ValueError, match="wrap a single text"):
        judges.score("a", [""], "mood", by=judges.exact)
    with pytest.raises(ValueError, match="finish 'eos' is not one of end, length"):
        judges.score(["a"], [""], "mood", by=judges.exact, finish=["eos"])


def test_a_judge_may_say_its_own_name() -> None:
    class Named:
        label = "the neighbour"

        def __call__(self, written, trait) -> pd.DataFrame:
            return pd.DataFrame({"trait": [], "coherence": []})

    assert judges.name(Named()) == "the neighbour"
