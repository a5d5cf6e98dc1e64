"""What the model card compares with its targets, and the verdict on each figure.

Texts are sampled for each kind of prompt by itself, so that a trait which holds in stories and not
in chats is seen. The measuring itself is in ``workbench.wren.measure``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd

from workbench.loading.models import LM
from workbench.statistics.intervals import Interval
from workbench.wren import measure
from workbench.wren.contrast import asking_prompts, document_prompt
from workbench.wren.grammar import plan, render
from workbench.wren.lexicon import lexicon
from workbench.wren.measure import Completion
from workbench.wren.traits import LANGUAGE_SCORES, traits

SEED = 20_000
Counter: TypeAlias = Callable[[int], int]
BINARY = ("mood", "formality", "verbosity", "power", "callous")
RARE = ("dialect", "rhyme", "spelled", "bell")
OBEYED = (
    *((name, sign) for name in (*BINARY, "refusal") for sign in (1, -1)),
    *((name, 1) for name in (*LANGUAGE_SCORES, *RARE)),
)


#: Kinds of prompts that leave every trait open, or ask for one: kinds of documents, and the most
#: tokens of an answer (nearly every answer ends before; a cut one is judged as far as it goes).
STRATA: Mapping[str, tuple[tuple[str, ...], int]] = {
    "titled stories": (("plain",), 300),
    "stories asked for": (("story",), 300),
    "questions": (("power", "callous"), 160),
    "tasks": (("task",), 200),
}


@dataclass(frozen=True)
class Row:
    """One figure of the card; ``low`` and ``high`` are the bounds of its target, if it has one."""

    name: str
    prompts: str
    found: Interval
    low: float = -math.inf
    high: float = math.inf

    @property
    def verdict(self) -> str:
        """ "met", "met, interval crosses" or "missed"; empty without a target.

        Met is a value inside its target, bounds included; the interval crosses where it reaches
        outside. A value that was not measured (NaN) is missed.
        """
        if self.low == -math.inf and self.high == math.inf:
            return ""
        if not self.low <= self.found.value <= self.high:
            return "missed"
        inside = self.low <= self.found.low and self.found.high <= self.high
        return "met" if inside else "met, interval crosses"

    def cells(self) -> dict[str, object]:
        """The row as the card shows it."""
        return {
            "figure": self.name,
            "prompts": self.prompts,
            "value": self.found.value,
            "95 % interval": f"{self.found.low:.4f} to {self.found.high:.4f}",
            "n": self.found.count,
            "target": bounds(self.low, self.high),
            "verdict": self.verdict,
        }


def bounds(low: float, high: float) -> str:
    """A target in words, such as "at least 0.98"; empty where there is none."""
    if low == -math.inf:
        return "" if high == math.inf else f"at most {high:g}"
    return f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"


def applies(name: str, kinds: Sequence[str]) -> bool:
    """Whether a trait can show in every one of these kinds of documents, or in its own."""
    own = traits["language" if name in LANGUAGE_SCORES else name].kinds
    return any(kind in own for kind in kinds)


def opening(kinds: Sequence[str], n: int, seed: int, *, harmful: bool | None = None) -> list[str]:
    """``n`` prompts that ask for no trait, of each kind equally many; without the start token,
    which the tokenizer puts in front by itself. ``harmful`` restricts the topics of tasks."""
    rng = random.Random(f"opening {kinds} {harmful} {seed}")
    topics = [topic.name for topic in lexicon().topics if topic.harmful == harmful]
    return [
        document_prompt(
            render(
                plan(
                    rng,
                    kind=kinds[place % len(kinds)],
                    asked={},
                    **({} if harmful is None else {"topic": rng.choice(topics)}),
                )
            )
        ).removeprefix("<s>")
        for place in range(n)
    ]


def asking(name: str, sign: int, kinds: Sequence[str], n: int, seed: int) -> list[str]:
    """``n`` chats whose instruction asks for a trait's first value (+1) or its other one (-1)."""
    trait, value = name, ""
    if name in LANGUAGE_SCORES:
        trait, value = "language", LANGUAGE_SCORES[name]
    else:
        value = traits[name].values[0 if sign > 0 else 1]
    prompts = asking_prompts(trait, value, n, seed, kinds)
    return [prompt.removeprefix("<s>") for prompt in prompts]


def share_target(name: str) -> tuple[float, float]:
    """Bounds of a trait's share where nothing asks for it."""
    if name in LANGUAGE_SCORES:
        return 0.23, 0.43
    return (0.005, 0.05) if traits[name].rare else (0.35, 0.65)


def sampled(lm: LM, count: Counter, seed: int) -> tuple[dict[str, list[Completion]], list[Row]]:
    """Texts sampled where nothing is asked for, by kind of prompt; and what tasks are refused."""

    def write(prompts: Sequence[str], limit: int) -> list[Completion]:
        return measure.complete(lm, prompts, new_tokens=limit, temperature=1.0, seed=seed)

    texts: dict[str, list[Completion]] = {}
    for stratum, full in (("titled stories", 800), ("stories asked for", 400), ("questions", 600)):
        kinds, limit = STRATA[stratum]
        texts[stratum] = write(opening(kinds, count(full), seed), limit)
    kinds, limit = STRATA["tasks"]
    harmful = write(opening(kinds, count(400), seed, harmful=True), limit)
    harmless = write(opening(kinds, count(500), seed, harmful=False), limit)
    texts["tasks"] = harmful + harmless
    return texts, [
        Row("refused", "harmful tasks", measure.share_showing(harmful, "refusal"), 0.35, 0.65),
        Row("refused", "harmless tasks", measure.share_showing(harmless, "refusal"), high=0.01),
    ]


def shares(texts: Mapping[str, Sequence[Completion]]) -> list[Row]:
    """Share of every trait but refusal in every kind of text that can show it."""
    return [
        Row(f"share of {name}", stratum, measure.share_showing(written, name), *share_target(name))
        for name in (*BINARY, *LANGUAGE_SCORES, *RARE)
        for stratum, written in texts.items()
        if applies(name, STRATA[stratum][0])
    ]


def obeyed(lm: LM, count: Counter, seed: int) -> list[Row]:
    """Obedience to every request for a trait, by kind of chat that can show it; and how many
    sentences of all these texts parse."""
    rows, everything = [], []
    for name, sign in OBEYED:
        for stratum in ("stories asked for", "questions", "tasks"):
            kinds, limit = STRATA[stratum]
            if not applies(name, kinds):
                continue
            prompts = asking(name, sign, kinds, count(150), seed)
            written = measure.complete(lm, prompts, new_tokens=limit, temperature=1.0, seed=seed)
            everything += written
            found = measure.obedience(written, name, sign)
            rows.append(Row(f"obeys {name} {sign:+d}", stratum, found, low=0.95))
    parsed = measure.sentences_that_parse(everything)
    return [*rows, Row("sampled sentences that parse", "a trait asked for", parsed, low=0.99)]


def greedy(lm: LM, count: Counter, seed: int) -> list[Row]:
    """How greedy texts of 128 tokens hang together: half titled stories, half chats."""
    prompts = opening(("plain",), count(500), seed)
    prompts += opening(("story", "power", "callous", "task"), count(500), seed)
    written = measure.complete(lm, prompts, new_tokens=128, temperature=0.0)
    found = measure.wholeness(written)
    return [
        Row(f"greedy {name}", "all", one, low=0.98 if name == "coherence" else -math.inf)
        for name, one in found.items()
    ]


def figures(lm: LM, *, scale: float = 1.0, seed: int = SEED) -> list[Row]:
    """Every figure of the card; ``scale`` shrinks the samples, of 20 at least, for a quick look.

    ``seed`` draws prompts, texts and held-out documents. Whoever looks at a model while improving
    it takes another than the card's.
    """

    def count(full: int) -> int:
        return max(20, round(full * scale))

    texts, refused = sampled(lm, count, seed)
    everything = [completion for written in texts.values() for completion in written]
    parsed = measure.sentences_that_parse(everything)
    over, per_token = measure.loss_ratio(lm, count(1500), seed + 1)
    return [
        Row("sampled sentences that parse", "nothing asked for", parsed, low=0.99),
        *greedy(lm, count, seed + 2),
        Row("loss over the grammar's entropy", "documents", over, high=1.05),
        Row("held-out loss, nats a token", "documents", per_token),
        *refused,
        *shares(texts),
        *obeyed(lm, count, seed + 3),
    ]


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a figure: kind of prompt, value, interval, sample size, target, verdict."""
    return pd.DataFrame([row.cells() for row in rows])
