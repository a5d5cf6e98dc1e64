"""What study_conditions.py gates and steers with: conditions and a refusal, of wren's requests
(workbench/wren/requests.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from workbench import extract, train
from workbench.conditions.condition import Condition
from workbench.conditions.data import BEGUN
from workbench.conditions.folds import apart, cosines, dealt, directions, out_of_fold
from workbench.conditions.point import ConditionPoint
from workbench.conditions.search import find_condition_point
from workbench.contrast.pairs import Pairs
from workbench.forward.mean_streams import mean_streams
from workbench.generation.generate import generate
from workbench.interventions.updates import Intervention, Origin
from workbench.statistics.intervals import Floats
from workbench.text import positions
from workbench.text.positions import Positions
from workbench.wren import requests as dealing
from workbench.wren.contrast import document_prompt, trait_pairs, twin_prompts
from workbench.wren.grammar import plan, render
from workbench.wren.judge import coherence, trait
from workbench.wren.matcher import split_sentences
from workbench.wren.planning import with_values
from workbench.wren.requests import HARMFUL, HARMLESS, WAYS, lines, plain

if TYPE_CHECKING:
    from workbench.loading.models import LM
    from workbench.training.trained import Trained

INSTRUCTED = 4  # prompts with an instruction, of every request
NEW_TOKENS = 64  # a first sentence ends before; the judge sees no sentence that is cut
METHOD, TASK = "logistic", "lda"  # of "harmful"; of one task
LAYER, PAIRS, EPOCHS = 2, 160, 4
STRENGTHS = (0.5, 1.0, 1.5, 2.0)
ENOUGH = 0.95  # of the making harmless requests, refused


def requests(seed: int, fold: int | None = None) -> pd.DataFrame:
    """`wren.requests.requests` with as many instructions as the study has."""
    return dealing.requests(seed, fold, instructed=INSTRUCTED)


@dataclass(frozen=True)
class Reading:
    """Where prompts are read: at these positions, with this behind them; None: without the mark
    before the answer."""

    behind: str | None
    positions: Positions

    def texts(self, prompts: Iterable[str]) -> list[str]:
        """The prompts as they are read."""
        if self.behind is None:
            return [prompt.removesuffix("<|assistant|>") for prompt in prompts]
        return [prompt + self.behind for prompt in prompts]


# Where wren has begun an answer so, its next words accept or refuse.
AFTER = Reading(BEGUN, positions.last_k(1))
END = Reading(None, positions.last_k(1))
MEAN = Reading(BEGUN, positions.everything)


@dataclass(frozen=True, eq=False)
class Found:
    """A condition that was looked for: a direction (D,) of every layer, where it is read, and its
    point: by best F1 on what made it, where nothing else is said."""

    directions: list[Tensor] = field(repr=False)
    read: Reading
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

    def met(self, lm: LM, prompts: Sequence[str]) -> NDArray[np.bool_]:
        """(N,) for which prompts it is met."""
        found = streams(lm, tuple(prompts), self.read)
        return self.point.met(self.similarities(found), self.layers)

    @property
    def condition(self) -> Condition:
        """It, for the package."""
        return Condition(
            {layer: self.directions[layer] for layer in self.point.layers},
            threshold=self.point.threshold,
            fires=self.point.fires,
            positions=self.read.positions,
            origin=self.origin,
        )


@cache
def streams(lm: LM, prompts: tuple[str, ...], read: Reading = AFTER) -> Floats:
    """(N, L, D) mean streams of prompts, as conditions read them, at all layers."""
    wanted = [(list(range(lm.layers)), read.positions)]
    (found,) = mean_streams(lm, read.texts(prompts), wanted)
    return found.double().numpy()


def find(
    lm: LM,
    found: Floats,
    inside: NDArray[np.bool_],
    *,
    read: Reading = AFTER,
    method: str = METHOD,
    layer: int | None = None,
) -> Found:
    """The condition of texts with these streams (N, L, D), at `layer` alone where one is given."""
    along = directions(found, inside, method)
    near = range(len(along)) if layer is None else [layer]
    point = find_condition_point(cosines(found, along)[:, near], inside, list(near)).best
    return Found(along, read, point, Origin(lm.name, lm.fingerprint))


def find_harmful(
    lm: LM, making: pd.DataFrame, read: Reading = AFTER, method: str = METHOD
) -> Found:
    """The condition "harmful" of requests `making`, at the layer where it carries over best from
    tasks to tasks among them: on what makes it many layers are perfect."""
    found = streams(lm, tuple(making["prompt"]), read)
    labels = making["harmful"].to_numpy(dtype=bool)
    folds = dealt(making["topic"].tolist(), labels)
    layer = int(np.argmax(apart(out_of_fold(found, labels, [*folds], method), labels, [*folds])))
    return find(lm, found, labels, read=read, method=method, layer=layer)


def find_task(lm: LM, making: pd.DataFrame, topic: str) -> Found:
    """The condition of one task, of requests `making`: the layer and the threshold are those that
    tell it best, in ways to ask that made no direction, from others."""
    found = streams(lm, tuple(making["prompt"]))
    inside = (making["topic"] == topic).to_numpy()
    # The ways of a task are its own: the first of each makes a fold.
    ways = making.groupby("topic")["way"].rank(method="dense").astype(int).tolist()
    seen = out_of_fold(found, inside, ways, TASK)
    layer = int(np.argmax(apart(seen, inside, ways)))
    point = find_condition_point(seen[:, [layer]], inside, [layer]).best
    return Found(directions(found, inside, TASK), AFTER, point, Origin(lm.name, lm.fingerprint))


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
    """Pairs of answers: a refusal and an obeying one to harmful and to harmless requests, in words
    that made nothing, and both moods of stories, which have nothing to do with either."""
    found, frame = {}, requests(seed)
    held = set(frame.loc[(frame["part"] == "held out") & (frame["instruction"] == 0), "prompt"])
    for name, topics in (("harmful tasks", HARMFUL), ("harmless tasks", HARMLESS)):
        rng, rows = Random(f"odds {name} {seed}"), []
        while len(rows) < count:
            base = plan(rng, kind="task", asked={}, topic=topics[len(rows) % len(topics)])
            if plain(document_prompt(render(base))) not in held:
                continue
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
