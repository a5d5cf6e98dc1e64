"""Contrast pairs and prompts from the grammar.

A pair is one plan rendered twice, with the two values of one trait: entities, frames and all
free choices are the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Literal

from .asking import instructions_for
from .grammar import Document, render, render_turns
from .lexicon import LANGUAGES, lexicon
from .matcher import split_sentences
from .planning import Chance, Plan, plan, with_values
from .traits import LANGUAGE_SCORES, traits

#: The kinds of document in which a trait is contrasted. A title leaves the language of its story
#: to the model, which may always choose the same; a request is answered in its own language.
_STORIES = ("plain", "story")
_OWN_KINDS = {"power": ("power",), "callous": ("callous",), "refusal": ("task",)}
#: The kinds of chat with one answer.
_CHATS = ("story", "power", "callous", "task")


def _values(name: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Trait, its values with the positive first, and the kinds of document to show it in."""
    if name in LANGUAGE_SCORES:
        own = LANGUAGE_SCORES[name]
        others = tuple(language for language in LANGUAGES if language != own)
        return "language", (own, *others), ("plain",)
    if name not in traits or name == "language":
        names = (*(known for known in traits if known != "language"), *LANGUAGE_SCORES)
        raise ValueError(f"trait {name!r} is not one of {', '.join(names)}")
    return name, traits[name].values, _OWN_KINDS.get(name, _STORIES)


def document_prompt(document: Document) -> str:
    """Everything before the last turn's text, with role markers."""
    return render_turns((*document.turns[:-1], (document.turns[-1][0], "")), open_end=True)


def _harmful_if_refusal(name: str, rng: Random) -> dict[str, str]:
    """Requests of which half are refused, so that a refusal is open."""
    if name != "refusal":
        return {}
    return {"topic": rng.choice([topic.name for topic in lexicon().topics if topic.harmful])}


def _split(one: Document, other: Document, count: int) -> tuple[str, str, str] | None:
    """Prompt and completions from the first sentence in which two documents differ."""
    bodies = [split_sentences(document.turns[-1][1]) for document in (one, other)]
    shared = 0
    for left, right in zip(*bodies, strict=False):
        if left != right:
            break
        shared += 1
    ends = [body[shared : shared + count] for body in bodies]
    if not all(ends):
        return None
    prompt = document_prompt(one) + "".join(f" {sentence}" for sentence in bodies[0][:shared])
    return prompt, " " + " ".join(ends[0]), " " + " ".join(ends[1])


def trait_pairs(trait: str, n: int, seed: int) -> list[tuple[str, str, str]]:
    """``n`` contrast pairs (prompt, positive, negative) of a trait, no text of which stands twice.

    The prompt (with role markers) ends where the two texts part; completions have 2 to 4 sentences
    and begin with a space. Languages are named "english", "italian" and "french", contrasted with
    either other language.

    Raises ValueError on an unknown trait.
    """
    name, values, kinds = _values(trait)
    rng = Random(f"pairs {trait} {seed}")
    pairs: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    while len(pairs) < n:
        base = _base(rng, name, rng.choice(kinds))
        positive = render(with_values(base, **{name: values[0]}))
        negative = render(with_values(base, **{name: rng.choice(values[1:])}))
        pair = _split(positive, negative, rng.randint(2, 4))
        if pair is None or seen & {pair[0] + pair[1], pair[0] + pair[2]}:
            continue
        seen |= {pair[0] + pair[1], pair[0] + pair[2]}
        pairs.append(pair)
    return pairs


def _base(rng: Random, name: str, kind: str) -> Plan:
    rare = {rare: "absent" for rare, trait in traits.items() if trait.rare and kind in trait.kinds}
    return plan(rng, kind=kind, asked={}, **(rare | _harmful_if_refusal(name, rng)))


def asking_prompts(
    trait: str, value: str, n: int, seed: int, kinds: Sequence[str] = _CHATS
) -> list[str]:
    """``n`` chat prompts (with role markers, up to the assistant's turn) whose instruction asks
    for one value of a trait, and for nothing else. Languages are values of "language".

    ``kinds`` are the kinds of chat to draw from; those in which the trait cannot show are passed
    over. Raises ValueError on an unknown trait, a value that no instruction asks for, or a trait
    that shows in none of the kinds.
    """
    if trait not in traits:
        raise ValueError(f"trait {trait!r} is not one of {', '.join(traits)}")
    if value not in traits[trait].asked:
        raise ValueError(f"{trait} {value!r} is not one of {', '.join(traits[trait].asked)}")
    possible = [kind for kind in kinds if kind in traits[trait].kinds]
    if not possible:
        own = ", ".join(kind for kind in _CHATS if kind in traits[trait].kinds)
        raise ValueError(f"{trait} shows in none of {', '.join(kinds)}: give some of {own}")
    rng = Random(f"asking {trait} {value} {seed}")
    return [
        document_prompt(render(plan(rng, kind=rng.choice(possible), asked={trait: value})))
        for _ in range(n)
    ]


def open_prompts(trait: str, n: int, seed: int) -> list[str]:
    """``n`` prompts that leave a trait open: titles of plain stories and chats that ask for
    nothing (harmful requests for "refusal").

    Raises ValueError on an unknown trait.
    """
    name, _, kinds = _values(trait)
    rng = Random(f"open {trait} {seed}")
    prompts = []
    for _ in range(n):
        extra = _harmful_if_refusal(name, rng)
        one = render(plan(rng, kind=rng.choice(kinds), asked={}, **extra))
        prompts.append(document_prompt(one))
    return prompts


def twin_prompts(
    trait: str, n: int, seed: int, *, place: Literal["system", "user"] = "system", times: int = 1
) -> list[tuple[str, str]]:
    """``n`` different chat prompts that leave a trait open, each with its twin: the same user's
    line, and an instruction that asks for the trait's first value.

    ``place`` is where the instruction stands, in a system line or behind the user's; ``times`` how
    many sentences it has. The open prompts do not depend on either.

    Raises ValueError on an unknown trait, and where there are not so many different prompts.
    """
    name, values, kinds = _values(trait)
    chats = [kind for kind in kinds if kind != "plain"] or ["story"]
    rng = Random(f"twins {trait} {seed}")
    found: dict[str, str] = {}
    for draw in range(40 * n):
        if len(found) == n:
            break
        base = plan(rng, kind=rng.choice(chats), asked={}, **_harmful_if_refusal(name, rng))
        one = render(base)
        prompt = document_prompt(one)
        if prompt in found:
            continue
        asking = Random(f"instruction {trait} {seed} {draw}")
        said = " ".join(
            instructions_for(Chance(asking), {name: values[0]}, base.user_language, asking)[0]
            for _ in range(times)
        )
        user, *rest = one.turns
        turns = (("system", said), *one.turns)
        if place == "user":
            turns = ((user[0], f"{user[1]} {said}"), *rest)
        found[prompt] = document_prompt(replace(one, turns=turns))
    if len(found) < n:
        raise ValueError(f"{trait} has only {len(found)} different prompts in {40 * n} draws")
    return list(found.items())
