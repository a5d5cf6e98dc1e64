"""What study_conditions.py gates and steers with: requests of wren's tasks, conditions, a refusal.

wren knows 12 tasks, 4 of them harmful, and asks for each in 9 ways (3 languages, 3 forms): 108
requests in all. An instruction that asks for another trait beside makes many prompts of each. A
seed deals the ways of every task: 5 may make things, 4 are held out. A fold leaves out one harmful
and two harmless tasks whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench import extract, positions, tracing, train
from workbench.condition_point import ConditionPoint
from workbench.condition_search import find_condition_point
from workbench.conditions import Condition
from workbench.generate import generate
from workbench.intervals import Floats
from workbench.methods import METHODS
from workbench.pairs import Pairs
from workbench.positions import Positions
from workbench.similarity import similarity
from workbench.tokens import encode
from workbench.updates import Intervention, Origin
from workbench.wren.contrast import document_prompt, trait_pairs, twin_prompts
from workbench.wren.grammar import plan, render
from workbench.wren.judge import coherence, trait
from workbench.wren.lexicon import lexicon
from workbench.wren.matcher import split_sentences
from workbench.wren.planning import with_values

if TYPE_CHECKING:
    from workbench.models import LM
    from workbench.trained import Trained

WAYS, MAKING, FOLDS = 9, 5, 4  # ways to ask for a task; those that make things; folds
INSTRUCTED = 4  # prompts with an instruction, of every request
# What is read after: where wren has said this, its next words accept or refuse.
SUFFIX = " Indeed,"
AFTER, MEAN = positions.last_k(1), positions.everything
NEW_TOKENS = 64  # a first sentence ends before; the judge sees no sentence that is cut
METHOD = "logistic"
LAYER, PAIRS, EPOCHS = 2, 160, 4
STRENGTHS = (0.5, 1.0, 1.5, 2.0)
ENOUGH = 0.95  # of the making harmless requests, refused

HARMFUL = tuple(topic.name for topic in lexicon().topics if topic.harmful)
HARMLESS = tuple(topic.name for topic in lexicon().topics if not topic.harmful)


def plain(text: str) -> str:
    """Without the start token, which the tokenizer adds."""
    return text.removeprefix("<s>")


@cache
def lines(topic: str) -> tuple[str, ...]:
    """The ways to ask for a task."""
    rng, found = Random(topic), set[str]()
    while len(found) < WAYS:
        found.add(render(plan(rng, kind="task", asked={}, topic=topic)).turns[0][1])
    return tuple(sorted(found))


def left_out(fold: int) -> set[str]:
    """The tasks that a fold leaves out."""
    return {HARMFUL[fold], *HARMLESS[2 * fold : 2 * fold + 2]}


@cache
def requests(seed: int, fold: int | None = None) -> pd.DataFrame:
    """All requests of a seed, distinct prompts: `prompt`, `topic`, `harmful`, `way` (0 to 8),
    `instruction` (0: none), `part` ("making", "held out"; "unseen": of tasks that the fold leaves
    out)."""
    rows = []
    for topic in (*HARMFUL, *HARMLESS):
        rng = Random(f"requests {topic} {seed}")
        held = rng.sample(range(WAYS), WAYS - MAKING)
        found: list[list[str]] = [[] for _ in range(WAYS)]
        while not all(len(each) > INSTRUCTED for each in found):
            made = plan(rng, kind="task", topic=topic)
            if "refusal" in made.asked:
                continue
            document = render(made)
            said = next(text for role, text in document.turns if role == "user")
            way = next(i for i, line in enumerate(lines(topic)) if line in said)
            prompt, room = plain(document_prompt(document)), found[way]
            if not made.asked and (not room or room[0] != prompt):
                room.insert(0, prompt)
            elif made.asked and prompt not in room and len(room[1:]) < INSTRUCTED:
                room.append(prompt)
        for way, each in enumerate(found):
            part = "held out" if way in held else "making"
            if fold is not None and topic in left_out(fold):
                part = "unseen"
            for number, prompt in enumerate(each):
                rows.append((prompt, topic, topic in HARMFUL, way, number, part))
    columns = ["prompt", "topic", "harmful", "way", "instruction", "part"]
    return pd.DataFrame(rows, columns=columns)


def harmless(
    seed: int, count: int, without: Iterable[str] = (), kind: str | None = None
) -> pd.DataFrame:
    """So many distinct harmless prompts, of all kinds as wren's language has them or of one, but
    for those that ask for a refusal or to obey: `prompt`, `kind`. `without`: prompts that shall not
    be among them."""
    rng, found, barred = Random(f"harmless {kind} {seed}"), dict[str, str](), set(without)
    while len(found) < count:
        made = plan(rng, kind=kind)
        if made.kind == "task" and lexicon().topics[made.roles["topic"]].harmful:
            continue
        prompt = plain(document_prompt(render(made)))
        if "refusal" not in made.asked and prompt not in barred:
            found.setdefault(prompt, made.kind)
    return pd.DataFrame({"prompt": [*found], "kind": [*found.values()]})


def after(prompts: Iterable[str]) -> list[str]:
    """The prompts as conditions read them."""
    return [prompt + SUFFIX for prompt in prompts]


@dataclass(frozen=True, eq=False)
class Found:
    """A condition that was looked for: a direction (D,) of every layer, what it reads, and its
    point by best F1 on what made it."""

    directions: list[Tensor]
    read: Positions
    point: ConditionPoint
    origin: Origin

    def similarities(self, found: Floats) -> Floats:
        """(N, L) cosines of streams (N, L, D)."""
        return cosines(found, self.directions)

    @property
    def layers(self) -> list[int]:
        return list(range(len(self.directions)))

    def score(self, found: Floats) -> Floats:
        """(N,) of streams, rising with how much it is met."""
        return self.point.score(self.similarities(found), self.layers)

    def at(self, point: ConditionPoint) -> Condition:
        """The condition at a point."""
        return Condition(
            {layer: self.directions[layer] for layer in point.layers},
            threshold=point.threshold,
            fires=point.fires,
            positions=self.read,
            origin=self.origin,
        )


@cache
def streams(lm: LM, prompts: tuple[str, ...], read: Positions = AFTER) -> Floats:
    """(N, L, D) mean streams of prompts, as conditions read them, at all layers."""
    return read_texts(lm, after(prompts), read)


def read_texts(lm: LM, texts: Iterable[str], read: Positions) -> Floats:
    """(N, L, D) mean streams of texts at all layers."""
    parts = tracing.pieces(lm, encode(lm, list(texts)), False)
    layers = list(range(lm.layers))
    found = [tracing.activations(lm, part, layers, read).mean() for part in parts]
    return torch.cat(found).double().numpy()


def find(
    lm: LM,
    found: Floats,
    inside: NDArray[np.bool_],
    *,
    read: Positions = AFTER,
    method: str = METHOD,
    layer: int | None = None,
) -> Found:
    """The condition of texts with these streams (N, L, D), at `layer` alone where one is given."""
    along = directions(found, inside, method)
    near = range(len(along)) if layer is None else [layer]
    point = find_condition_point(cosines(found, along)[:, near], inside, list(near)).best
    return Found(along, read, point, Origin(lm.name, lm.fingerprint))


def find_harmful(lm: LM, found: Floats, making: pd.DataFrame, method: str = METHOD) -> Found:
    """The condition "harmful" of requests `making` with streams (N, L, D), at the layer where it
    carries over best from tasks to tasks among them: on what makes it many layers are perfect."""
    layer = int(np.argmax(across_tasks(found, making, method)))
    return find(lm, found, making["harmful"].to_numpy(), method=method, layer=layer)


def directions(found: Floats, inside: NDArray[np.bool_], method: str) -> list[Tensor]:
    """Of every layer of streams (N, L, D) the direction (D,) from one class to the other."""
    count = max(inside.sum(), (~inside).sum())
    sides = (np.resize(np.flatnonzero(each), count) for each in (inside, ~inside))
    one, other = (torch.from_numpy(found[side]) for side in sides)
    return [METHODS[method](one[:, i], other[:, i]).double() for i in range(found.shape[1])]


def cosines(found: Floats, along: Sequence[Tensor]) -> Floats:
    """(N, L) of streams (N, L, D) with a direction of each layer."""
    each = [similarity("cosine", torch.from_numpy(found[:, i]), d) for i, d in enumerate(along)]
    return torch.stack(each, dim=1).numpy()


def across_tasks(found: Floats, making: pd.DataFrame, method: str) -> Floats:
    """(L,) how many of its standard deviations the classes lie apart (d') in tasks that did not
    make the direction: one harmful task with its share of the harmless ones after the other."""
    harmful, topics = making["harmful"].to_numpy(dtype=bool), making["topic"].to_numpy()
    bad, good = (list(dict.fromkeys(topics[each])) for each in (harmful, ~harmful))
    apart = []
    for index, topic in enumerate(bad):
        away = np.isin(topics, [topic, *good[index :: len(bad)]])
        out = cosines(found[away], directions(found[~away], harmful[~away], method))
        one, other = out[harmful[away]], out[~harmful[away]]
        spread = np.sqrt((one.var(axis=0, ddof=1) + other.var(axis=0, ddof=1)) / 2)
        apart.append((one.mean(axis=0) - other.mean(axis=0)) / spread)
    return np.mean(apart, axis=0)


def refusal(lm: LM, frame: pd.DataFrame, seed: int) -> Trained:
    """A LoRA trained by SFT to refuse the harmful requests that make things, and no other."""
    own = frame[(frame["part"] == "making") & frame["harmful"]]
    known = {
        line for t, way in zip(own["topic"], own["way"], strict=True) for line in [lines(t)[way]]
    }
    drawn = trait_pairs("refusal", 8 * PAIRS, 1000 + seed)
    rows = list(islice((row for row in drawn if any(line in row[0] for line in known)), PAIRS))
    prompts, refused, obeyed = zip(*rows, strict=True)
    pairs = Pairs.from_lists(
        refused, obeyed, [plain(each) for each in prompts], name="refusal", trait="refusal"
    )
    return train(
        lm, pairs, "sft", "lora", layers=LAYER, sub=None, epochs=EPOCHS, held_out=0, seed=seed,
        progress=False, quiet=True,
    )  # fmt: skip


def written(
    lm: LM, frame: pd.DataFrame, interventions: Sequence[Intervention], seed: int
) -> pd.DataFrame:
    """What is answered to requests, sampled at temperature 1 with noise of each request's own,
    exactly judged: `refused`, `obeyed` (neither: no whole sentence says which), `coherence`."""
    own = frame["topic"].map([*HARMFUL, *HARMLESS].index) * WAYS + frame["way"]
    made = generate(
        lm,
        frame["prompt"].tolist(),
        interventions,
        new_tokens=NEW_TOKENS,
        temperature=1.0,
        seed=seed,
        streams=(own * (INSTRUCTED + 1) + frame["instruction"]).tolist(),
        score=False,
    )
    return verdicts(made.texts)


def verdicts(texts: Sequence[str]) -> pd.DataFrame:
    """The exact judge's word on texts."""
    shown = pd.Series([trait(text, "refusal") for text in texts])
    wholes = [coherence(text) for text in texts]
    return pd.DataFrame({"refused": shown > 0, "obeyed": shown < 0, "coherence": wholes})


def strength(lm: LM, lora: Trained, frame: pd.DataFrame, seed: int) -> tuple[float, pd.DataFrame]:
    """The least multiple of a refusal that refuses enough of the harmless requests that make
    things, else the one that refuses most; and what each does to them."""
    own = frame[(frame["part"] == "making") & ~frame["harmful"] & (frame["instruction"] == 0)]
    tried = [written(lm, own, lora.at(m), seed).mean() for m in STRENGTHS]
    table = pd.DataFrame(tried).assign(m=STRENGTHS)
    enough = table.loc[table["refused"] >= ENOUGH, "m"]
    best = enough.min() if len(enough) else table.loc[table["refused"].idxmax(), "m"]
    return float(best), table


def odds_pairs(seed: int, count: int) -> dict[str, Pairs]:
    """Pairs of answers: a refusal and an obeying one to harmful and to harmless requests, and both
    moods of stories, which have nothing to do with either."""
    found = {}
    for name, topics in (("harmful tasks", HARMFUL), ("harmless tasks", HARMLESS)):
        rng, rows = Random(f"odds {name} {seed}"), []
        for index in range(count):
            base = plan(rng, kind="task", asked={}, topic=topics[index % len(topics)])
            sides = [render(with_values(base, refusal=value)) for value in ("refuse", "comply")]
            bodies = [" ".join(split_sentences(side.turns[-1][1])[:2]) for side in sides]
            rows.append((*(" " + body for body in bodies), plain(document_prompt(sides[0]))))
        found[name] = Pairs.from_lists(*zip(*rows, strict=True), name=name, trait="refusal")
    rows = [(yes, no, plain(prompt)) for prompt, yes, no in trait_pairs("mood", count, seed)]
    found["stories"] = Pairs.from_lists(*zip(*rows, strict=True), name="stories", trait="mood")
    return found


def refusing_ways(lm: LM, seed: int) -> Iterator[tuple[str, float, Sequence[Intervention]]]:
    """Ways to make wren refuse with their coefficients: none; difference of means of answers and
    of requests that ask for a refusal; what SFT trains."""
    yield "none", 0.0, ()
    given = trait_pairs("refusal", PAIRS, 1000 + seed)
    prompts, refused, obeyed = ([plain(each) for each in side] for side in zip(*given, strict=True))
    pairs = Pairs.from_lists(refused, obeyed, prompts, name="refusal", trait="refusal")
    twins = [(plain(one), plain(other)) for one, other in twin_prompts("refusal", 30, seed)]
    asked = Pairs.from_lists(
        [each for _, each in twins], [each for each, _ in twins], name="asked", trait="refusal"
    )
    for name, made, read in (
        ("answers", pairs, positions.generated),
        ("asked", asked, positions.last_k(1)),
    ):
        vector = extract(lm, made, positions=read, held_out=0, layer=LAYER, quiet=True)
        for coefficient in (0.15, 0.3, 0.45):
            yield f"difference of means, {name}", coefficient, vector.at(coefficient)
    for form, factors in (
        ("vector", (5.0, 10.0, 20.0)),
        ("lora", STRENGTHS),
        ("local_weight", STRENGTHS),
    ):
        trained = train(
            lm, pairs, "sft", form, layers=LAYER, sub=None, epochs=EPOCHS, held_out=0, seed=seed,
            progress=False, quiet=True,
        )  # fmt: skip
        for m in factors:
            yield f"SFT, {form}", m, trained.at(m, unit="raw", layers=[LAYER])
