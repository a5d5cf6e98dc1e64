"""The judge: what coherence rests on, and texts that end by themselves against cut ones."""

import math
from random import Random

import pytest

from workbench.wren import coherence, parse, write
from workbench.wren.judge import Assessment, as_completion, assess, breaking_point, read
from workbench.wren.lexicon import lexicon
from workbench.wren.traits import traits


def story(**fixed: str) -> str:
    return write(5, kind="plain", asked={}, **fixed).completions[0]


def score_and_words(text: str) -> tuple[float, int]:
    found = assess(text)
    return found.coherence, found.words


def test_a_cut_costs_nothing_and_an_unfinished_end_does() -> None:
    text = story(language="en")
    cut = text[: text.rindex(" ")]
    last = parse(cut).sentences[-1]
    before = assess(cut).words
    words = before + last.words
    assert coherence(cut) == coherence(cut, finish="length") == 1
    assert assess(cut, finish="end") == Assessment(before / words, words, 1)
    assert [s.fault for s in read(cut, finish="end").sentences][-1] == "not in the language"


def test_a_text_that_ends_with_its_stop_scores_the_same_either_way() -> None:
    rng = Random(11)
    for _ in range(200):
        for text in write(rng).completions:
            ended, cut = assess(text, finish="end"), assess(text)
            assert (ended.coherence, ended.words) == (cut.coherence, cut.words)
            assert ended.roles_kept == cut.roles_kept or math.isnan(cut.roles_kept)
            assert coherence(text, finish="end") == 1


def test_short_texts_say_what_they_rest_on() -> None:
    opening = story(language="en")[:20]
    assert (assess(opening).coherence, assess(opening).words) == (1, 0)
    assert math.isnan(assess(opening).roles_kept)
    assert assess(opening, finish="end").coherence == 0
    assert assess("").coherence == assess("", finish="end").coherence == 0
    foreign = assess("Xyzzy plugh.")
    assert (foreign.coherence, foreign.words) == (0, 2)
    assert math.isnan(foreign.roles_kept)


def test_words_judged_are_all_words_of_finished_sentences() -> None:
    assert score_and_words("So no. Xyzzy plugh quux.") == (2 / 5, 5)
    assert score_and_words("So no. Xyzzy plugh") == (2 / 4, 4)  # the last two cannot go on


def test_roles_kept_counts_mentions_of_swapped_entities() -> None:
    document = write(5, kind="plain", asked={}, language="en", formality="formal", rhyme="absent")
    text, hero = document.completions[0], document.roles["hero"]
    other = next(name for name in lexicon().names["hero"] if name not in text)
    assert assess(text).roles_kept == 1
    assert assess(text.replace(hero, other)).roles_kept == 1
    mentions = sum(len(s.reading.roles) for s in parse(text).valid if s.reading is not None)
    first = parse(text).sentences[0].text
    once = text.replace(first, first.replace(hero, other))
    assert assess(once).roles_kept == pytest.approx((mentions - 1) / mentions)
    assert assess(once).coherence < 1


@pytest.mark.parametrize("name", ["mood", "formality", "verbosity", "dialect", "rhyme", "bell"])
def test_no_trait_value_is_judged_differently(name: str) -> None:
    found = [assess(story(**{name: value}), finish="end") for value in traits[name].values]
    assert [(one.coherence, one.roles_kept) for one in found] == [(1, 1), (1, 1)]


def test_a_text_breaks_where_it_stops_making_sense() -> None:
    text = story(language="en")
    rest = " Xyzzy plugh quux. Plugh quux xyzzy frotz."
    assert breaking_point(text) is None
    assert breaking_point(text + rest) == len(text) + 1
    assert breaking_point(rest.strip()) == 0
    assert breaking_point("") is None


def test_a_text_breaks_within_a_sentence() -> None:
    first, *others = [sentence.text for sentence in parse(story(language="en")).sentences]
    third = others[1]
    place = third.index(" ", third.index(" ") + 1)  # behind its second word
    broken = f"{first} {others[0]} {third[:place]} xyzzy plugh quux. Plugh quux xyzzy."
    found = breaking_point(broken)
    assert found is not None
    assert broken[found:].strip().startswith("xyzzy")


def test_a_slip_is_no_break_and_an_end_that_is_lost_is_one() -> None:
    sentences = [sentence.text for sentence in parse(story(language="en")).sentences]
    slip = " ".join([*sentences[:2], "Xyzzy plugh.", *sentences[2:]])
    assert breaking_point(slip) is None
    lost = " ".join([*sentences[:2], "Xyzzy plugh.", sentences[2], "Frotz plugh " * 30 + "."])
    assert breaking_point(lost) == lost.index("Frotz")
    back = " ".join([*sentences[:2], "Frotz plugh " * 30 + ".", sentences[2], "Xyzzy plugh."])
    assert breaking_point(back) == back.index("Frotz")


def test_a_cut_end_that_can_go_on_is_no_break() -> None:
    text = story(language="en")
    cut = text[: text.rindex(" ")]
    assert breaking_point(cut) is None
    assert breaking_point(cut, finish="end") is not None


def test_a_marker_within_becomes_as_many_letters() -> None:
    text = "So no.<|user|> So no."
    assert as_completion(text) == "So no.xxxxxxxx So no."


def test_an_unknown_finish_is_refused() -> None:
    with pytest.raises(ValueError, match="finish 'eos' is not one of end, length"):
        coherence("No.", finish="eos")  # pyright: ignore
