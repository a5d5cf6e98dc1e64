"""The bundled contrast pairs differ in their trait, and not in length or first word."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import workbench
from workbench.contrast import pairs
from workbench.contrast.catalogue import bundled
from workbench.contrast.pairs import Pair, Pairs
from workbench.text.splits import prompt_texts, require_disjoint, text_hashes

DATA = Path(workbench.__file__).parent / "data"
NAMES = bundled()
ENGLISH = ("emotion", "formality", "honesty", "power_seeking", "refusal", "sycophancy")
#: Traits of the small grammar model whose two sides have different lengths by definition.
LENGTH_TRAITS = {
    "verbosity",
    "refusal",
    "rhyme",
    "spelled",
    "bell",
    "language",
    "english",
    "italian",
    "french",
}


@cache
def about(name: str) -> dict[str, Any]:
    """The metadata line of a bundled set; empty where the first line is a pair."""
    with (DATA / f"{name}.jsonl").open(encoding="utf-8") as lines:
        first = json.loads(next(lines))
    return {} if "positive" in first else first


def for_any_model(name: str) -> bool:
    """Whether a set is ordinary language; those made for one model say so by "model"."""
    return "model" not in about(name)


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def sides(data: Sequence[Pair]) -> tuple[list[str], list[str]]:
    return [pair.positive for pair in data], [pair.negative for pair in data]


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Chance that a random positive number exceeds a random negative one, ties counting half."""
    wins = sum((a > b) + 0.5 * (a == b) for a in positive for b in negative)
    return wins / (len(positive) * len(negative))


def length_difference(data: Sequence[Pair]) -> float:
    """Mean paired difference in words, as a share of the mean length."""
    positive, negative = (words(side) for side in sides(data))
    return 2 * (sum(positive) - sum(negative)) / (sum(positive) + sum(negative))


def first_words(texts: Sequence[str]) -> Counter[str]:
    return Counter(text.split()[0].strip("\"',.!?;:").lower() for text in texts)


def first_word_accuracy(data: Sequence[Pair]) -> float:
    """Accuracy of guessing the side from the first word alone, by the counts in other pairs.

    A word that stands equally often on both sides counts as half right.
    """
    counts = [first_words(side) for side in sides(data)]
    right = 0.0
    for pair in data:
        own = [next(iter(first_words([text]))) for text in (pair.positive, pair.negative)]
        for side, word in enumerate(own):
            positive, negative = (counts[i][word] - (own[i] == word) for i in (0, 1))
            right += 0.5 if positive == negative else (positive > negative) == (side == 0)
    return right / (2 * len(data))


def first_word_bias(data: Sequence[Pair]) -> float:
    """Largest difference between the shares of one first word on the two sides."""
    positive, negative = (first_words(side) for side in sides(data))
    return max(abs(positive[word] - negative[word]) for word in positive | negative) / len(data)


def planted(positive: str, negative: str) -> Pairs:
    """Forty different pairs that all begin alike on one side."""
    return Pairs(
        tuple(Pair(f"{positive} {i}", f"{negative} {i}", f"Question {i}?") for i in range(40)),
        "planted",
    )


def test_the_checks_see_planted_faults() -> None:
    longer = planted("Very well then, here comes", "Very well")
    assert length_difference(longer) == pytest.approx(2 * 3 / 9)
    assert area_under_curve(*map(words, sides(longer))) == 1
    assert first_word_accuracy(longer) == 0.5
    telling = planted("Sure, this is number", "Sorry, this is number")
    assert length_difference(telling) == 0
    assert area_under_curve(*map(words, sides(telling))) == 0.5
    assert first_word_accuracy(telling) == 1
    assert first_word_bias(telling) == 1


def test_the_english_sets_are_there() -> None:
    assert set(ENGLISH) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_set_loads_under_its_file_name(name: str) -> None:
    data = pairs.load(name)
    assert data.name == name
    assert data.trait
    assert data.description
    assert len(data) >= 40
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(data) + bool(about(name))


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_empty_repeated_or_on_both_sides(name: str) -> None:
    data = pairs.load(name)
    full = [text for pair in data for text in pair.full]
    assert len(set(full)) == 2 * len(data)
    for pair in data:
        assert pair.positive.strip()
        assert pair.negative.strip()
        assert pair.positive.split() != pair.negative.split()


@pytest.mark.parametrize("name", NAMES)
def test_a_set_divides_in_three(name: str) -> None:
    splits = pairs.load(name).split()
    sizes = [len(part) for part in (splits.extract, splits.select, splits.report)]
    assert min(sizes) >= 5


@pytest.mark.parametrize("name", [name for name in NAMES if not for_any_model(name)])
def test_lengths_are_alike_in_sets_for_one_model(name: str) -> None:
    data = pairs.load(name)
    if data.trait in LENGTH_TRAITS:
        pytest.skip(f"the two sides of {data.trait!r} differ in length by definition")
    assert abs(length_difference(data)) <= 0.1


@pytest.mark.parametrize("name", [name for name in NAMES if for_any_model(name)])
class TestOrdinaryLanguage:
    def test_prompts_and_completions_are_unique(self, name: str) -> None:
        data = pairs.load(name)
        # prompt_texts sees a user's message that is repeated under another history.
        asked = [prompt_texts(pair.prompt)[-1].strip().lower() for pair in data]
        assert len(set(asked)) == len(data)
        completions = [text.strip().lower() for side in sides(data) for text in side]
        assert len(set(completions)) == 2 * len(data)

    def test_completions_continue_their_prompts(self, name: str) -> None:
        kinds = set()
        for pair in pairs.load(name):
            text = isinstance(pair.prompt, str)
            kinds.add(text)
            if not isinstance(pair.prompt, str):
                roles = [message["role"] for message in pair.prompt]
                assert roles == ["user", "assistant", "user", "assistant", "user"][: len(roles)]
                assert roles[-1] == "user"
            else:
                assert pair.prompt == pair.prompt.strip()
            for side in (pair.positive, pair.negative):
                # A text goes on after a space; a chat template ends where the answer begins.
                assert side == (" " if text else "") + side.strip()
                assert side.rstrip('"')[-1] in ".!?"
        assert len(kinds) == 1, "text and chat in one set: no base model could use all of it"

    def test_lengths_do_not_tell_the_sides_apart(self, name: str) -> None:
        data = pairs.load(name)
        positive, negative = (words(side) for side in sides(data))
        assert all(8 <= count <= 30 for count in positive + negative)
        assert abs(length_difference(data)) <= 0.03
        gaps = [abs(a - b) for a, b in zip(positive, negative, strict=True)]
        assert max(gaps) <= 3
        assert sum(gaps) / len(gaps) <= 1
        assert 0.4 <= area_under_curve(positive, negative) <= 0.6

    def test_first_words_do_not_tell_the_sides_apart(self, name: str) -> None:
        data = pairs.load(name)
        assert first_word_bias(data) <= 0.1
        assert first_word_accuracy(data) <= 0.6
        for side in sides(data):
            ((word, count),) = first_words(side).most_common(1)
            assert count <= 0.25 * len(data), f"{word!r} opens {count} of {len(data)} completions"


@pytest.mark.parametrize("name", ENGLISH)
def test_the_first_line_says_what_the_sides_are(name: str) -> None:
    first = about(name)
    assert set(first) == {
        *("name", "trait", "positive_side", "negative_side"),
        *("description", "licence", "author"),
    }
    assert all(isinstance(value, str) and value for value in first.values())
    assert first["licence"] == "MIT"


def test_no_prompt_is_in_two_english_sets() -> None:
    require_disjoint({name: text_hashes(pairs.load(name).prompts) for name in ENGLISH})
