"""Soft targets: the document's own tokens, and what could have been written in their place."""

import dataclasses
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

from workbench.wren import tokenizer as tokenizers
from workbench.wren.frames import frames
from workbench.wren.grammar import Document, write
from workbench.wren.lexicon import capitalise, lexicon
from workbench.wren.pieces import Piece
from workbench.wren.soft_targets import SoftTargets, _averaged, _begun_alike

COUNT = 3000


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [write(random.Random(f"soft {number}")) for number in range(COUNT)]


@pytest.fixture(scope="module", params=[1200, 6000])
def targets(documents: list[Document], request: pytest.FixtureRequest) -> SoftTargets:
    """With few tokens, of which many words need some, and with one for nearly every word."""
    texts = [document.text for document in documents]
    return SoftTargets(tokenizers.build(texts, size=request.param))


def encoded(targets: SoftTargets, text: str) -> list[int]:
    return targets.tokenizer(text, add_special_tokens=False)["input_ids"]


def english(seed: int, **fixed: str) -> Document:
    """A titled story in plain English, without a bell unless told so."""
    plain = {"dialect": "absent", "rhyme": "absent", "bell": "absent"}
    return write(seed, kind="plain", asked={}, language="en", **plain | fixed)


def shares(tokens: Iterable[int]) -> dict[int, float]:
    """Every token's share, to be compared with probabilities."""
    counts = Counter(tokens)
    return {token: pytest.approx(count / counts.total()) for token, count in counts.items()}


def test_the_tokens_are_those_of_the_text(documents: list[Document], targets: SoftTargets) -> None:
    for document in documents:
        ids, probabilities = targets(document)
        assert ids == encoded(targets, document.text)
        assert len(probabilities) == len(ids)
        for token, each in zip(ids, probabilities, strict=True):
            assert each[token] > 0
            assert sum(each.values()) == pytest.approx(1)


def test_on_average_the_probabilities_are_how_often_a_token_comes(
    documents: list[Document], targets: SoftTargets
) -> None:
    """For every token, occurrences minus probabilities have mean 0: |z| is small."""
    sums: defaultdict[int, float] = defaultdict(float)
    variances: defaultdict[int, float] = defaultdict(float)
    for document in documents:
        for token, each in zip(*targets(document), strict=True):
            for other, probability in each.items():
                sums[other] += (other == token) - probability
                variances[other] += probability * (1 - probability)
    scores = [sums[token] / math.sqrt(v) for token, v in variances.items() if v > 5]
    assert len(scores) > 300
    assert max(map(abs, scores)) < 4.5
    assert 0.7 < sum(z * z for z in scores) / len(scores) < 1.3


def test_most_of_the_noise_of_single_draws_is_gone(
    documents: list[Document], targets: SoftTargets
) -> None:
    """Without frames .68 of the entropy of the language would be in the targets."""
    known = sum(
        -probability * math.log(probability)
        for document in documents
        for each in targets(document)[1]
        for probability in each.values()
    )
    entropy = -sum(document.log_probability + document.ambiguity for document in documents)
    assert 0.76 < known / entropy < 1.0


# --- what is left to choose from -----------------------------------------------------------


def test_a_hero_can_be_any_hero_and_a_friend_any_friend(targets: SoftTargets) -> None:
    document = write(5, kind="plain", asked={})
    ids, probabilities = targets(document)
    heroes, friends = lexicon().names.values()
    assert probabilities[1] == shares(encoded(targets, name)[0] for name in heroes)
    friend = ids.index(encoded(targets, " &")[0]) + 1
    assert probabilities[friend] == shares(encoded(targets, f" {name}")[0] for name in friends)


def test_a_goal_is_any_place_to_go_to(targets: SoftTargets) -> None:
    """English, formal, terse: "indeed, the GOAL lay ..." is story.leave.2."""
    for seed in range(400):
        document = english(seed, formality="formal", verbosity="terse")
        names = [label.frame for label in document.sentences]
        number = names.index("story.leave.2") if "story.leave.2" in names else -1
        if number >= 0:
            break
    else:
        pytest.fail("no such story")
    ids, probabilities = targets(document)
    start = _start(document, number)
    at = len(encoded(targets, document.text[: document.text.index(" the ", start) + 4]))
    goals = [noun.words["en"] for noun in lexicon().nouns["goal"]]
    own = shares(encoded(targets, f" {goal}")[0] for goal in goals)
    assert probabilities[at] == own
    assert ids[at] in own


@pytest.mark.parametrize("formality", ["formal", "informal"])
def test_every_frame_of_the_group_may_follow_the_opener(
    formality: str, targets: SoftTargets
) -> None:
    """All frames of a stage begin with an opener of the same class, and differ after it."""
    document = english(7, formality=formality, verbosity="terse")
    opening = document.sentences[0]
    ids, probabilities = targets(document)
    comma = next(
        place for place, token in enumerate(ids) if targets.tokenizer.decode([token]).strip() == ","
    )
    group = frames()[opening.frame.rpartition(".")[0]]
    key = ("en", formality == "formal", False)
    following = []
    for frame in group:
        literals = frame.variants[key].literals
        after = next(literal for literal in literals if literal.startswith(","))
        words = after.removeprefix(",").rstrip(" ") or f" {document.roles['hero']}"
        following.append(encoded(targets, words)[0])
    assert len(set(following)) > 1
    assert probabilities[comma + 1] == shares(following)


def test_a_frame_that_was_used_does_not_come_again(targets: SoftTargets) -> None:
    """The first word of a story's last sentence about the bell, after others about it."""
    found = 0
    for seed in range(100):
        document = english(seed, bell="present")
        values = document.labels
        key = ("en", values["formality"] == "formal", values["verbosity"] == "verbose")
        names = [label.frame for label in document.sentences]
        last = max(place for place, name in enumerate(names) if name.startswith("story.bell"))
        group = frames()["story.bell"]
        left = [frame for frame in group if frame.name not in names[:last]]
        if len(left) == len(group):
            continue
        # the only slot that one of them begins with is the hero, who has been named by then
        words = [
            frame.variants[key].literals[0].strip(" ") or document.roles["hero"] for frame in left
        ]
        openings = [encoded(targets, f" {capitalise(text)}")[0] for text in words]
        at = len(encoded(targets, document.text[: _start(document, last)]))
        _, probabilities = targets(document)
        assert probabilities[at] == shares(openings)
        found += 1
    assert found > 10


def _start(document: Document, number: int) -> int:
    """Where a sentence begins in a text, with the space before it."""
    place = document.text.index(document.sentences[0].text)
    for label in document.sentences[: number + 1]:
        place = document.text.index(label.text, place)
    return place - 1


# --- averaging, by hand --------------------------------------------------------------------


def test_probabilities_are_the_mean_over_the_sentences_that_have_begun_alike() -> None:
    own = [(1, {1: 1.0}), (2, {2: 0.5, 3: 0.5}), (4, {4: 1.0})]
    alike = iter([(1, {1: 1.0}), (2, {2: 1.0}), (5, {5: 1.0})])
    parted = iter([(9, {9: 1.0}), (2, {2: 1.0})])
    ended = iter([(1, {1: 1.0})])
    found = _averaged(own, [alike, parted, ended])
    assert found[0] == (1, {1: pytest.approx(3 / 4), 9: pytest.approx(1 / 4)})
    assert found[1] == (2, {2: pytest.approx(3 / 4), 3: pytest.approx(1 / 4)})
    assert found[2] == (4, {4: pytest.approx(1 / 2), 5: pytest.approx(1 / 2)})


def test_by_enumeration_the_mean_of_the_targets_is_what_follows() -> None:
    """Two frames: one with a slot of xa, xb, y, z, one that says xc; the draw of the slot and the
    frame are free. Among the texts that begin with x, the targets average to what comes next."""
    x, a, b, c, y, z = range(6)
    slot = [[x, a], [x, b], [y], [z]]
    first = {x: 0.5, y: 0.25, z: 0.25}

    def with_slot(drawn: list[int]) -> list[tuple[int, dict[int, float]]]:
        steps = [(drawn[0], first)]
        return [*steps, (drawn[1], {a: 0.5, b: 0.5})] if drawn[0] == x else steps

    plain = [(x, {x: 1.0}), (c, {c: 1.0})]
    begun: Counter[int] = Counter()
    mean: defaultdict[int, float] = defaultdict(float)
    for drawn in slot:
        for own, rival in ((with_slot(drawn), plain), (plain, with_slot(drawn))):
            found = _averaged(own, [iter(rival)])
            if found[0][0] == x:
                begun[found[1][0]] += 1
                for token, probability in found[1][1].items():
                    mean[token] += probability
    assert begun == {a: 1, b: 1, c: 4}
    assert mean == {token: pytest.approx(count) for token, count in begun.items()}


def test_slots_that_sentences_begin_with_alike_are_filled_once() -> None:
    own = [Piece("well", ("well", "so")), Piece(", they"), Piece("left", ("left", "ran"))]
    rival = [Piece("so", ("well", "so")), Piece(", we"), Piece("ran", ("left", "ran"))]
    assert [piece.text for piece in _begun_alike(rival, own)] == ["well", ", we", "ran"]


def test_a_document_that_lacks_its_sentences_is_refused(
    documents: list[Document], targets: SoftTargets
) -> None:
    document = documents[0]
    broken = dataclasses.replace(document, turns=((document.turns[0][0], "Nothing."),))
    with pytest.raises(ValueError, match="does not hold"):
        targets(broken)
