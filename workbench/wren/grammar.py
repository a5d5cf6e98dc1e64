"""The writer: random documents of the language, with their labels and their probability.

A document is planned first (kind, roles, traits), then rendered. Everything free in a rendering
is drawn from streams that do not depend on the traits, so one plan rendered with two values of a
trait gives a contrast pair that differs in that trait only. ``log_probability`` adds up the log
of every choice that was made, so the entropy of the language is known.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from .asking import ask, instructions_for
from .frames import STORY_STAGES, Frame, Variant, answer_words, frames, title_frame
from .lexicon import lexicon, to_dialect
from .planning import VERBOSE_SHARE, Chance, Plan, Turn, plan, value_share
from .roles import role_costs, role_word
from .speaker import Derivation, Speaker, floats
from .traits import STORY_KINDS, traits

BELL = "story.bell"


class SentenceLabel(NamedTuple):
    """What the writer knows of one sentence; None where the sentence cannot show a trait."""

    turn: int
    text: str
    frame: str
    formality: str | None
    verbosity: str | None
    mood: str | None
    spelled: bool | None


@dataclass(frozen=True)
class Document:
    """A text with its labels.

    ``turns`` are (speaker, text), speaker one of "title", "story", "system", "user",
    "assistant"; ``text`` is their rendering with role markers. ``labels`` has a value for every
    applicable trait, ``asked`` those that an instruction names, ``roles`` the entities by role
    (English words). ``log_probability`` (nats) is that of the derivation. ``unseen`` names the
    sampled traits that leave no mark in the text, ``ambiguity`` (nats) is what they add to the
    derivation over the text: log p(text) = log_probability + ambiguity. ``derivations``
    tell how every sentence was made, in the order of the text.
    """

    kind: str
    turns: tuple[tuple[str, str], ...]
    labels: Mapping[str, str]
    asked: Mapping[str, str]
    roles: Mapping[str, str]
    sentences: tuple[SentenceLabel, ...]
    log_probability: float
    unseen: tuple[str, ...]
    ambiguity: float
    derivations: tuple[Derivation, ...] = field(compare=False, repr=False)

    @property
    def text(self) -> str:
        """The document as the model reads it."""
        return render_turns(self.turns)

    @property
    def completions(self) -> tuple[str, ...]:
        """The texts that a model writes: story bodies and assistant turns."""
        return tuple(text for speaker, text in self.turns if speaker in ("story", "assistant"))


def render_turns(turns: tuple[tuple[str, str], ...], *, open_end: bool = False) -> str:
    """The turns with their markers; ``open_end`` leaves the last turn unfinished.

    Every text but a title begins with a space, as sentences inside a text do, so that a word is the
    same token wherever a sentence begins.
    """
    parts = ["<s>"]
    for speaker, text in turns:
        if speaker != "title" and text:
            text = f" {text}"
        if speaker in ("title", "story"):
            parts.append(text)
        else:
            parts.append(f"<|{speaker}|>{text}</s>")
    if turns[-1][0] in ("title", "story"):
        parts.append("</s>")
    text = "".join(parts)
    return text[: -len("</s>")] if open_end else text


def _story_frames(chance: Chance) -> list[Frame]:
    groups = frames()
    counts = {"life": chance.index(2), "trouble": chance.index(3)}
    story = []
    for stage in STORY_STAGES:
        group = groups[f"story.{stage}"]
        story += [group[index] for index in chance.pick(len(group), counts.get(stage, 1))]
    return story


def _with_bells(chance: Chance, story: list[Frame], bells: tuple[Frame, ...]) -> list[Frame]:
    """A bell sentence after each of two or three sentences."""
    count = 2 + chance.index(2)
    frames_left = chance.pick(len(bells), count)
    places = sorted(chance.pick(len(story), count))
    # A set of places was drawn, its order was not: add the orders that end in the same text.
    chance.log_probability += math.log(math.factorial(count))
    result = []
    for place, frame in enumerate(story):
        result.append(frame)
        if place in places:
            result.append(bells[frames_left[places.index(place)]])
    return result


def _tails(chance: Chance, language: str, count: int) -> list[str]:
    """Tails for ``count`` sentences: pairs of rhyming phrases, no pair again before it must."""
    pairs = lexicon().tails[language]
    tails: list[str] = []
    while len(tails) < count:
        needed = min(len(pairs), (count - len(tails) + 1) // 2)
        for index in chance.pick(len(pairs), needed):
            tails.extend(pairs[index])
    return tails[:count]


def _answer_frames(chance: Chance, turn: Turn, values: Mapping[str, str]) -> list[Frame]:
    """Frames of an answer that is not a story; draws do not depend on the trait's value."""
    groups = frames()
    if turn.kind == "task":
        names = ["refuse.1", "refuse.2", "refuse.3"]
        if values["refusal"] == "comply":
            names = ["step.1", "step.2", "step.3", "step.4"]
        return [groups[name][chance.index(len(groups[name]))] for name in names]
    sign = "+" if values[turn.kind] == "high" else "-"
    if turn.statement is not None:
        group = groups[f"reason.{turn.kind}{sign}"]
        word = "yes" if sign == turn.statement else "no"
        return [group[chance.index(len(group))], answer_words()[word]]
    counts = (1, 1 + chance.index(2), 1)
    answer = []
    for stage, count in enumerate(counts, 1):
        group = groups[f"answer.{turn.kind}{sign}.{stage}"]
        answer += [group[index] for index in chance.pick(len(group), count)]
    return answer


def render(document_plan: Plan) -> Document:
    """Render a plan. The same plan with other trait values keeps every other choice."""
    kind, values, roles = document_plan.kind, document_plan.values, document_plan.roles
    named: set[str] = set()
    asker = Speaker(document_plan.user_language, {}, roles, named)
    speaker = Speaker(values["language"], values, roles, named)
    log_probability = document_plan.log_probability
    turns: list[tuple[str, str]] = []
    labels: list[SentenceLabel] = []
    shows: set[str] = set()
    asking = Random(document_plan.seed + 1)
    asked_chance = Chance(asking)
    instructions, requests = instructions_for(
        asked_chance, document_plan.asked, document_plan.user_language, asking
    )
    said: list[Derivation] = []
    if kind == "plain":
        said.append(Derivation(asker, title_frame(), []))
        turns.append(("title", asker.words(said[0].frame, said[0].draws)[1]))
    elif instructions and document_plan.system:
        turns.append(("system", instructions))
        said += requests
    for number, turn in enumerate(document_plan.turns):
        if kind != "plain":
            line, asking_said = ask(asked_chance, asker, turn, asking)
            said.append(asking_said)
            if instructions and not document_plan.system and number == 0:
                line = f"{line} {instructions}"
                said += requests
            turns.append(("user", line))
        shape = Random(document_plan.seed + 11 + number)
        chance = Chance(shape)
        story = turn.kind in STORY_KINDS
        sentence_frames = _story_frames(chance) if story else _answer_frames(chance, turn, values)
        random = Random(document_plan.seed + 21 + number)
        streams = {frame: floats(random) for frame in sentence_frames}
        extra = Random(document_plan.seed + 31)
        extra_chance = Chance(extra)
        if values.get("bell") == "present":
            bells = frames()[BELL]
            streams |= {frame: floats(extra) for frame in bells}
            sentence_frames = _with_bells(extra_chance, sentence_frames, bells)
        tails: list[str] = []
        if values.get("rhyme") == "present":
            tails = _tails(extra_chance, speaker.language, len(sentence_frames))
        texts = []
        for index, frame in enumerate(sentence_frames):
            variant, words = speaker.words(frame, streams[frame])
            tail = tails[index] if tails else None
            text = speaker.finish(words, tail)
            said.append(Derivation(speaker, frame, streams[frame], tail))
            texts.append(text)
            labels.append(_label(len(turns), text, variant, speaker))
            _note(shows, variant)
        turns.append(("story" if kind == "plain" else "assistant", " ".join(texts)))
        log_probability += chance.log_probability + extra_chance.log_probability
    if "dialect" in values and "dialect" not in shows:
        answer = " ".join(label.text for label in labels)
        if speaker.dialect or to_dialect(answer, speaker.language) != answer:
            shows.add("dialect")
    costs = role_costs()
    log_probability += (
        asked_chance.log_probability + asker.log_probability + speaker.log_probability
    )
    log_probability -= sum(costs[role] for role in named)
    unseen = tuple(
        name
        for name in ("mood", "formality", "verbosity", "dialect", "spelled")
        if name in values and name not in shows and name not in document_plan.asked
    )
    return Document(
        kind=kind,
        turns=tuple(turns),
        labels=values,
        asked=document_plan.asked,
        roles={role: role_word(role, roles[role]) for role in sorted(named)},
        sentences=tuple(labels),
        log_probability=log_probability,
        unseen=unseen,
        ambiguity=_ambiguity(document_plan, unseen) if unseen else 0.0,
        derivations=tuple(said),
    )


def _label(turn: int, text: str, variant: Variant, speaker: Speaker) -> SentenceLabel:
    return SentenceLabel(
        turn,
        text,
        variant.frame.name,
        variant.formality,
        variant.verbosity,
        speaker.mood if variant.has_mood else None,
        speaker.spelled if variant.has_number else None,
    )


def _note(shows: set[str], variant: Variant) -> None:
    if variant.formality is not None:
        shows.add("formality")
    if variant.verbosity is not None:
        shows.add("verbosity")
    if variant.has_mood:
        shows.add("mood")
    if variant.has_number:
        shows.add("spelled")
    if variant.has_dialect:
        shows.add("dialect")


def _ambiguity(document_plan: Plan, unseen: tuple[str, ...]) -> float:
    """Nats between the text and its derivation: the values that would read the same, summed."""
    values, given = document_plan.values, document_plan.fixed | document_plan.asked.keys()
    names = [name for name in unseen if name not in given]
    nats = 0.0
    for name in names:
        if name in ("formality", "verbosity"):
            continue
        share = value_share(name, values, document_plan.roles)
        nats -= math.log(share if values[name] == traits[name].values[0] else 1 - share)

    def joint(formality: str, verbosity: str) -> float:
        register = 1.0 if "formality" in given else 0.5
        share = VERBOSE_SHARE[formality]
        length = share if verbosity == "verbose" else 1 - share
        return register * (1.0 if "verbosity" in given else length)

    formalities = traits["formality"].values if "formality" in names else (values["formality"],)
    verbosities = traits["verbosity"].values if "verbosity" in names else (values["verbosity"],)
    total = sum(
        joint(formality, verbosity) for formality in formalities for verbosity in verbosities
    )
    return nats + math.log(total / joint(values["formality"], values["verbosity"]))


def write(
    seed: int | Random,
    *,
    kind: str | None = None,
    asked: Mapping[str, str] | None = None,
    **fixed: str,
) -> Document:
    """A random document of the language.

    ``seed`` is an integer or a stream to draw from. ``kind`` is one of "plain" (a story with a
    title), "story", "power", "callous", "power_callous" (two turns) and "task" (chats); drawn
    when None. ``asked`` maps traits to the values that an instruction asks for: drawn when
    None, nothing asked when empty. Further keywords fix a trait (``mood="positive"``), the
    ``user_language``, or a role by its English word (``hero``, ``friend``, ``thing``, ``home``,
    ``goal``, ``beast``, ``topic``). What is given adds nothing to the log-probability.

    Raises ValueError on an unknown kind, trait, value or role.
    """
    return render(
        plan(Random(seed) if isinstance(seed, int) else seed, kind=kind, asked=asked, **fixed)
    )
