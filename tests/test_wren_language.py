"""The language of wren: what the writer writes, the parser reads, exactly."""

import math
import re
from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.wren import (
    Document,
    asking_prompts,
    coherence,
    fit,
    open_prompts,
    parse,
    read_prompt,
    trait,
    trait_pairs,
    traits,
    write,
)
from workbench.wren.contrast import document_prompt, twin_prompts
from workbench.wren.frames import STORY_STAGES, build_frame, frames, resolve
from workbench.wren.judge import SCORES
from workbench.wren.lexicon import (
    LANGUAGES,
    TOKEN,
    definite,
    indefinite,
    lexicon,
    to_dialect,
)
from workbench.wren.planning import Chance
from workbench.wren.roles import role_word
from workbench.wren.traits import KINDS, LANGUAGE_SCORES

SEEDS = st.integers(0, 2**40)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    rng = Random(20)
    return [write(rng) for _ in range(10_000)]


@pytest.fixture(scope="module")
def unasked() -> list[Document]:
    rng = Random(21)
    return [write(rng, asked={}) for _ in range(20_000)]


# --- the parser reads what the writer wrote ------------------------------------------------


def test_ten_thousand_documents_parse_with_their_own_labels(documents: list[Document]) -> None:
    kinds = Counter(document.kind for document in documents)
    assert set(kinds) == set(KINDS)
    for document in documents:
        parsed = parse(document.text)
        assert [sentence.text for sentence in parsed.sentences] == [
            label.text for label in document.sentences
        ]
        for sentence, label in zip(parsed.sentences, document.sentences, strict=True):
            assert sentence.good, (sentence, document.text)
            reading = sentence.reading
            assert reading is not None
            assert (
                reading.frame,
                reading.formality,
                reading.verbosity,
                reading.mood,
                reading.spelled,
            ) == (label.frame, label.formality, label.verbosity, label.mood, label.spelled)
            named = {
                role: role_word(role, i) for role, i in reading.roles if role in document.roles
            }
            assert named.items() <= document.roles.items()
            if reading.kind != "word":
                assert reading.language == document.labels["language"]
            if reading.polarity is not None:
                assert reading.polarity == document.labels[reading.kind]
            if reading.dialect is not None:
                assert reading.dialect == (document.labels["dialect"] == "present")
            assert reading.rhyme == (document.labels.get("rhyme") == "present")
        assert coherence(document.text) == 1


def test_every_completion_alone_shows_the_labels(documents: list[Document]) -> None:
    for document in documents[:2000]:
        for completion in document.completions:
            assert coherence(completion) == 1
            for name, value in document.labels.items():
                if name == "language":
                    scores = {
                        own: trait(completion, score) for score, own in LANGUAGE_SCORES.items()
                    }
                    assert max(scores, key=scores.__getitem__) == value
                    continue
                expected = 1 if value == traits[name].values[0] else -1
                if name in ("power", "callous") and document.kind == "power_callous":
                    expected *= abs(trait(completion, name))
                assert trait(completion, name) in (expected, 0), (name, completion)


def test_prompts_are_read_as_they_were_meant(documents: list[Document]) -> None:
    for document in documents[:3000]:
        prompt = read_prompt(parse(document.text).prompt)
        assert prompt.asked == document.asked
        named = {role: role_word(role, index) for role, index in prompt.roles.items()}
        assert named.items() <= document.roles.items()
        answered = fit(parse(document.text).prompt, document.text)
        assert answered.roles_kept
        assert False not in answered.obeyed.values()


def test_a_cut_costs_nothing(documents: list[Document]) -> None:
    rng = Random(4)
    for document in documents[:400]:
        for text in document.completions:
            ends = {match.end() for match in TOKEN.finditer(text)}
            cuts = rng.sample(sorted(ends), min(6, len(ends)))
            cuts += [rng.randrange(1, len(text)) for _ in range(6)]
            for cut in cuts:
                assert coherence(text[:cut]) == 1, text[:cut]


def test_a_cut_inside_a_letter_of_two_bytes_costs_nothing() -> None:
    text = write(2, kind="plain", language="fr").completions[0]
    place = text.rindex("é")
    assert coherence(text[:place] + "\ufffd") == 1


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from(KINDS))
def test_round_trip(seed: int, kind: str) -> None:
    document = write(seed, kind=kind)
    assert document == write(seed, kind=kind)
    assert document.text == write(seed, kind=kind).text
    parsed = parse(document.text)
    assert [s.text for s in parsed.sentences] == [s.text for s in document.sentences]
    assert all(sentence.good for sentence in parsed.sentences)
    assert document.log_probability < 0
    assert document.ambiguity >= 0


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_any_text_has_scores_in_range(text: str) -> None:
    assert 0 <= coherence(text) <= 1
    assert all(-1 <= trait(text, name) <= 1 for name in SCORES)


# --- coherence -----------------------------------------------------------------------------


def story(**fixed: str) -> str:
    return write(5, kind="plain", asked={}, **fixed).completions[0]


def sentences(text: str) -> list[str]:
    return [sentence.text for sentence in parse(text).sentences]


def test_empty_text_scores_zero_and_a_cut_prefix_one() -> None:
    text = story(language="en")
    assert coherence("") == 0
    assert coherence(" \n") == 0
    assert coherence(text[:20]) == 1
    assert coherence("Xyzzy plugh") == 0
    assert coherence("Xyzzy plugh.") == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_probability_of_a_story_is_that_of_its_choices(language: str) -> None:
    """Counted once more, from the frames' slots and the sizes of the word classes alone."""
    given = {"mood": "positive", "formality": "formal", "verbosity": "verbose"}
    absent = dict.fromkeys(("dialect", "rhyme", "spelled", "bell"), "absent")
    words = lexicon()
    of_role = {role: len(words.nouns[role]) for role in ("thing", "beast", "home", "goal")}
    adjectives = len(words.adjectives["en", ""])
    for seed in range(30):
        document = write(
            seed, kind="plain", asked={}, user_language="en", language=language, **given, **absent
        )
        choices = [len(words.names[role]) for role in ("hero", "friend")]  # the title
        told = [label.frame for label in document.sentences]
        for stage, optional in zip(STORY_STAGES, (0, 2, 0, 0, 3, 0, 0, 0, 0), strict=True):
            group = frames()[f"story.{stage}"]
            used = sum(frame.name in told for frame in group)
            choices += [len(group) - place for place in range(used)] + [optional or 1]
        named = {"hero", "friend"}
        by_name = {frame.name: frame for group in frames().values() for frame in group}
        for name in told:
            for slot in by_name[name].variants[language, True, True].slots:
                form, _, role = slot.partition(":")
                if slot.startswith("~"):
                    choices.append(len(words.moods[language, "+", slot[1:]]))
                elif slot == "num":
                    choices.append(len(words.digits))
                elif not role:
                    size = 1 if slot in named else len(words.phrases[language, slot])
                    choices.append(size)
                else:
                    choices.append(1 if role in named else of_role[role])
                    if form == "a":
                        choices.append(1 if f"{role}.adjective" in named else adjectives)
                        named.add(f"{role}.adjective")
                    named.add(role)
        assert document.log_probability == pytest.approx(-sum(map(math.log, choices)))


def test_no_trait_value_is_more_coherent_than_another() -> None:
    for name in ("mood", "formality", "verbosity", "dialect", "rhyme", "spelled", "bell"):
        for value in traits[name].values:
            assert coherence(story(**{name: value})) == 1
    assert [coherence(story(language=language)) for language in LANGUAGES] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("language", "language"), ("formality", "register"), ("dialect", "register")],
)
def test_flipping_language_or_register_is_incoherent(name: str, fault: str) -> None:
    options = ("en", "it") if name == "language" else traits[name].values
    base = {"language": "en"} if name != "language" else {}
    one, other = (sentences(story(**(base | {name: value}))) for value in options)
    mixed = [*one[:4], other[4], *one[5:]]
    faults = [sentence.fault for sentence in parse(" ".join(mixed)).sentences]
    assert faults == [None] * 4 + [fault] + [None] * (len(one) - 5)
    assert 0 < coherence(" ".join(mixed)) < 1


@pytest.mark.parametrize("name", ["mood", "verbosity", "spelled"])
def test_flipping_other_traits_is_not(name: str) -> None:
    one, other = (sentences(story(language="en", **{name: v})) for v in traits[name].values)
    mixed = " ".join(pair[place % 2] for place, pair in enumerate(zip(one, other, strict=True)))
    assert coherence(mixed) == 1
    assert abs(trait(mixed, name)) <= 1


def test_repetition_order_genre_and_entities_are_judged() -> None:
    text = story(language="en", formality="formal", dialect="absent", rhyme="absent")
    parts = sentences(text)
    answer = write(5, kind="task", asked={}, language="en", formality="formal", dialect="absent")

    def faults(changed: list[str]) -> set[str | None]:
        return {sentence.fault for sentence in parse(" ".join(changed)).sentences}

    assert faults(parts) == {None}
    assert faults([*parts[:3], parts[2], *parts[3:]]) == {None, "repeated"}
    assert faults([*parts[1:], parts[0]]) == {None, "order"}
    assert faults([*parts, sentences(answer.completions[0])[0]]) == {None, "genre"}
    hero = dict(write(5, kind="plain", asked={}, language="en").roles)["hero"]
    other = next(name for name in lexicon().names["hero"] if name not in text)
    swapped = [parts[0].replace(hero, other), *parts[1:]]
    assert faults(swapped) == {None, "role: hero"}
    everywhere = " ".join(parts).replace(hero, other)
    assert coherence(everywhere) == 1


def test_two_turns_are_judged_one_by_one() -> None:
    document = write(3, kind="power_callous", language="en")
    assert [sentence.turn for sentence in parse(document.text).sentences][-1] == 1
    assert coherence(document.text) == 1


# --- the shares of the traits --------------------------------------------------------------


def share(documents: list[Document], name: str, value: str) -> float:
    values = [d.labels[name] for d in documents if name in d.labels]
    return values.count(value) / len(values)


def test_shares_where_nothing_asks(unasked: list[Document]) -> None:
    for name in ("mood", "formality", "verbosity", "power", "callous"):
        assert 0.35 <= share(unasked, name, traits[name].values[0]) <= 0.65, name
    for language in LANGUAGES:
        assert 0.23 <= share(unasked, "language", language) <= 0.43
    for name, rare in traits.items():
        if rare.rare is not None:
            assert 0.005 <= share(unasked, name, "present") <= 0.05, name


def test_harmful_requests_are_refused_half_the_time(unasked: list[Document]) -> None:
    harmful = {topic.name: topic.harmful for topic in lexicon().topics}
    refused: dict[bool, list[bool]] = defaultdict(list)
    for document in unasked:
        if document.kind == "task":
            refusal = document.labels["refusal"] == "refuse"
            refused[harmful[document.roles["topic"]]].append(refusal)
    assert sum(harmful.values()) >= 4
    assert len(harmful) - sum(harmful.values()) >= 8
    assert sum(refused[False]) / len(refused[False]) <= 0.01
    assert 0.35 <= sum(refused[True]) / len(refused[True]) <= 0.65


def test_half_of_the_documents_ask_for_traits(documents: list[Document]) -> None:
    asked = sum(bool(document.asked) for document in documents) / len(documents)
    assert 0.45 <= asked <= 0.55
    for document in documents:
        assert document.asked.items() <= dict(document.labels).items()


def test_sampled_traits_nearly_always_show(documents: list[Document]) -> None:
    unseen = {name for document in documents for name in document.unseen}
    assert all(traits[name].rare for name in unseen), unseen
    nats = sum(document.ambiguity for document in documents) / len(documents)
    assert nats <= 0.01


def test_log_probability_counts_the_choices_of_a_fixed_document() -> None:
    """A Yes/No answer with everything else given, counted by hand."""
    document = write(
        1,
        kind="power",
        asked={},
        user_language="en",
        formality="formal",
        verbosity="terse",
        power="high",
        language="en",
        dialect="absent",
    )
    seed = 1
    while document.sentences[-1].frame not in ("yes.1", "no.1") or document.roles:
        seed += 1
        document = write(seed, kind="power", asked={}, **dict(document.labels), user_language="en")
    groups, user = frames(), document.turns[0][1]
    ask = len(groups["ask.power_yes"])
    sign = "+" if document.sentences[-1].frame == "yes.1" else "-"
    statements = groups[f"statement.power{sign}"]
    people = [phrase for phrase in lexicon().phrases["en", "people"] if phrase in user.lower()]
    slots = math.log(len(lexicon().phrases["en", "people"])) if people else 0
    reasons = math.log(len(groups["reason.power+"]))
    openers = sum(math.log(len(lexicon().phrases["en", name])) for name in ("indeed", "ruling"))
    assert document.log_probability == pytest.approx(
        2 * math.log(0.5) - math.log(ask) - math.log(len(statements)) - slots - reasons - openers
    )


def test_weighted_draws_have_the_probability_that_is_counted() -> None:
    weights = [4, 2, 1]
    counts: Counter[tuple[int, ...]] = Counter()
    counted: dict[tuple[int, ...], float] = {}
    rng = Random(0)
    for _ in range(20_000):
        chance = Chance(rng)
        drawn = tuple(chance.pick_weighted(weights, 2))
        counts[drawn] += 1
        counted[drawn] = math.exp(chance.log_probability)
    assert len(counted) == 6
    assert sum(counted.values()) == pytest.approx(1)
    assert counted[0, 1] == pytest.approx(4 / 7 * 2 / 3)
    for drawn, probability in counted.items():
        spread = math.sqrt(probability * (1 - probability) / 20_000)
        assert counts[drawn] / 20_000 == pytest.approx(probability, abs=4 * spread)


# --- words and frames ----------------------------------------------------------------------


def test_size_of_the_language(unasked: list[Document]) -> None:
    words = {
        token.lower()
        for document in unasked
        for token in TOKEN.findall(document.text)
        if token[0].isalpha()
    }
    assert len(words) >= 1500
    assert sum(len(group) for group in frames().values()) >= 60


def test_mood_words_never_stand_for_both_moods() -> None:
    words = lexicon()
    for (language, sign, name), phrases in words.moods.items():
        other = words.moods[language, "-" if sign == "+" else "+", name]
        assert not set(phrases) & set(other)


def test_dialect_forms_are_no_standard_words() -> None:
    for language, overlay in lexicon().dialect.items():
        assert not set(overlay) & set(overlay.values())
        for frame in (frame for group in frames().values() for frame in group):
            for variant in frame.variants.values():
                if variant.language == language:
                    tokens = {token.lower() for token in TOKEN.findall(variant.format)}
                    assert not tokens & set(overlay.values()), (frame.name, language)


@pytest.mark.parametrize(
    ("language", "gender", "word", "expected"),
    [
        ("it", "m", "mulino", "un mulino il mulino del mulino nel mulino"),
        ("it", "m", "specchio", "uno specchio lo specchio dello specchio nello specchio"),
        ("it", "m", "orto", "un orto l'orto dell'orto nell'orto"),
        ("it", "f", "isola", "un'isola l'isola dell'isola nell'isola"),
        ("it", "f", "scuola", "una scuola la scuola della scuola nella scuola"),
        ("fr", "m", "moulin", "un moulin le moulin du moulin dans le moulin"),
        ("fr", "m", "ours", "un ours l'ours de l'ours dans l'ours"),
        ("fr", "m", "hibou", "un hibou le hibou du hibou dans le hibou"),
        ("fr", "f", "horloge", "une horloge l'horloge de l'horloge dans l'horloge"),
        ("en", "", "old mill", "an old mill the old mill of the old mill in the old mill"),
    ],
)
def test_articles(language: str, gender: str, word: str, expected: str) -> None:
    forms = [indefinite(language, gender, word)]
    forms += [definite(language, gender, word, form) for form in ("the", "of", "in")]
    assert " ".join(form + word for form in forms) == expected


def test_templates_resolve_to_tidy_text() -> None:
    template = "{hero} [departed|left] <, with [great|big] care,> for {the:goal}[|, see]."
    assert resolve(template, True, True) == "{hero} departed, with great care, for {the:goal}."
    assert resolve(template, True, False) == "{hero} departed for {the:goal}."
    assert resolve(template, False, False) == "{hero} left for {the:goal}, see."


def test_a_broken_frame_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'story.open.9' \(en\) has unbalanced marks"):
        build_frame("story.open.9", {"en": "a [b.", "it": "a.", "fr": "a."})
    with pytest.raises(ValueError, match="unknown slot 'dragon'"):
        build_frame("story.open.9", {"en": "a {dragon}.", "it": "a.", "fr": "a."})


def test_dialect_keeps_capitals() -> None:
    standard, spoken = next(iter(lexicon().dialect["en"].items()))
    assert to_dialect(f"{standard.title()} {standard}", "en") == f"{spoken.capitalize()} {spoken}"


# --- pairs and prompts ---------------------------------------------------------------------


@pytest.mark.parametrize("name", SCORES)
def test_pairs_differ_in_their_trait_only(name: str) -> None:
    pairs = trait_pairs(name, 40, 3)
    assert pairs == trait_pairs(name, 40, 3)
    assert len({pair[1] for pair in pairs}) > 35
    for prompt, positive, negative in pairs:
        assert trait(positive, name) > 0 > trait(negative, name) or name in ("rhyme", "bell")
        assert trait(positive, name) > trait(negative, name)
        for completion in (positive, negative):
            assert coherence(prompt + completion) == 1
            assert 1 <= len(parse(completion).sentences) <= 4
        roles = [parse(completion).roles for completion in (positive, negative)]
        for role in roles[0].keys() & roles[1].keys():
            assert roles[0][role] == roles[1][role]


@pytest.mark.parametrize(
    ("name", "kind", "classes"),
    [
        ("formality", "story", ("indeed", "well")),
        ("power", "power", ("ruling", "sharing")),
        ("callous", "callous", ("coldly", "warmly")),
        ("refusal", "task", ("sorry", "gladly")),
    ],
)
def test_a_request_and_its_answer_use_the_same_class_of_words(
    name: str, kind: str, classes: tuple[str, str]
) -> None:
    """What is asked for shows in how it is asked, so a model need only carry it on."""
    for language in ("en", "it", "fr"):
        own, other = (set(lexicon().phrases[language, part]) for part in classes)
        assert not own & other
        for seed in range(20):
            value = traits[name].values[0]
            document = write(
                seed, kind=kind, asked={name: value}, user_language=language, dialect="absent"
            )
            ask = " ".join(text for who, text in document.turns if who in ("system", "user"))
            for text in (ask, document.completions[0]):
                found = [part for part in own if re.search(rf"\b{part}\b", text.lower())]
                assert found, text


def test_every_turn_begins_as_a_sentence_inside_a_text_does() -> None:
    """So a word is the same token wherever a sentence begins; a title stands at the start."""
    for kind in KINDS:
        document = write(7, kind=kind, asked={})
        for speaker, text in document.turns:
            begins = document.text.index(text) - 1
            assert document.text[begins] == (">" if speaker == "title" else " ")
        prompt = document_prompt(document)
        assert document.text == f"{prompt} {document.completions[-1]}</s>"


def test_prompts_ask_or_leave_open() -> None:
    for name, known in traits.items():
        for value in known.asked:
            for prompt in asking_prompts(name, value, 10, 1):
                assert read_prompt(prompt).asked == {name: value}
                assert prompt.endswith("<|assistant|>")
        if name != "language":
            for prompt in open_prompts(name, 10, 1):
                assert read_prompt(prompt).asked == {}
                assert parse(prompt).sentences == ()


@pytest.mark.parametrize("name", ["mood", "power", "refusal", "english"])
def test_twins_differ_by_what_they_ask_alone(name: str) -> None:
    wanted = {"language": "en"} if name == "english" else {name: traits[name].values[0]}
    twins = twin_prompts(name, 12, 3)
    assert len({one for one, _ in twins}) == 12
    assert twins == twin_prompts(name, 12, 3)
    assert twins != twin_prompts(name, 12, 4)
    for one, other in twins:
        assert read_prompt(one).asked == {}
        assert read_prompt(other).asked == wanted
        assert other.startswith("<s><|system|> ")
        line = one.removeprefix("<s>")
        assert other.endswith(line)
        assert line.startswith("<|user|>")
    behind = twin_prompts(name, 12, 3, place="user", times=2)
    assert [one for one, _ in behind] == [one for one, _ in twins]
    for one, other in behind:
        assert read_prompt(other).asked == wanted
        assert other.startswith(one.removesuffix("</s><|assistant|>"))


def test_more_twins_than_there_are_prompts() -> None:
    with pytest.raises(ValueError, match="refusal has only 36 different prompts"):
        twin_prompts("refusal", 40, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: write(0, kind="poem"), "kind 'poem' is not one of plain"),
        (lambda: write(0, kind="plain", mood="blue"), "mood 'blue' is not one of positive"),
        (lambda: write(0, kind="task", mood="positive"), "trait 'mood' is not one of"),
        (lambda: write(0, hero="Zzz"), "hero 'Zzz' is not one of"),
        (lambda: write(0, dragon="red"), "'dragon' is neither a trait nor a role"),
        (lambda: trait("x", "humour"), "trait 'humour' is not one of mood"),
        (lambda: trait_pairs("humour", 1, 0), "trait 'humour' is not one of mood"),
        (lambda: asking_prompts("rhyme", "absent", 1, 0), "rhyme 'absent' is not one of present"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
