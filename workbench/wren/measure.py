"""Measure a model of wren's language against the grammar: the figures of the model card.

Every figure comes from the exact parser. Shares of texts carry Wilson's 95 % interval; means and
ratios, whose texts weigh differently, the bootstrap over texts. Knows nothing of training, nor of
targets; the card itself is written by ``workbench.wren.card``.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.forward.tracing import logprobs
from workbench.generation.generate import Generation, end_ids, generate
from workbench.generation.measures import longest_repeat
from workbench.loading.models import LM
from workbench.statistics.intervals import Interval, bootstrap, bootstrap_mean, ratio, wilson
from workbench.text.tokens import Prompt, encode
from workbench.wren import grammar
from workbench.wren.judge import Finish, as_completion, assess, coherence, read, trait
from workbench.wren.lexicon import lexicon

ROWS = 250


@dataclass(frozen=True)
class Completion:
    """A text that a model wrote, why it ends there, and whether it loops."""

    text: str
    finish: Finish
    loops: bool


def loops(made: Generation) -> NDArray[np.bool_]:
    """Whether a span of at least a quarter of a text's tokens stands in it twice: (B,)."""
    lengths = made.lengths.numpy()
    return longest_repeat(made.ids.numpy(), lengths)[0] >= 0.25 * np.maximum(lengths, 1)


def completions(lm: LM, made: Generation) -> list[Completion]:
    """The rows of a generation. A text ends by itself where its last token is an end token."""
    ends = end_ids(lm)
    last = made.ids.gather(1, (made.lengths[:, None] - 1).clamp_min(0))[:, 0].tolist()
    return [
        Completion(as_completion(text), "end" if token in ends else "length", bool(looping))
        for text, token, looping in zip(made.texts, last, loops(made), strict=True)
    ]


def complete(
    lm: LM, prompts: Sequence[Prompt], *, new_tokens: int, temperature: float, seed: int = 0
) -> list[Completion]:
    """One completion a prompt, ``ROWS`` prompts at a time; a prompt's noise is its own."""
    written: list[Completion] = []
    for at in range(0, len(prompts), ROWS):
        chunk = prompts[at : at + ROWS]
        made = generate(
            lm,
            chunk,
            new_tokens=new_tokens,
            temperature=temperature,
            seed=seed,
            streams=range(at, at + len(chunk)),
            score=False,
        )
        written.extend(completions(lm, made))
    return written


def share(hits: Sequence[bool]) -> Interval:
    """Share of the texts that hit, with Wilson's interval."""
    return wilson(sum(hits), len(hits))


def sentences_that_parse(written: Sequence[Completion]) -> Interval:
    """Share of finished sentences that belong to the language; ``count`` is that of texts.

    Sentences of one text are no independent draws, and a bootstrap of texts has no width where
    every sentence parses: the interval reaches as far as the wider of Wilson's (over sentences)
    and the bootstrap's (over texts).
    """
    rows = []
    for completion in written:
        sentences = read(completion.text, finish=completion.finish).sentences
        judged = [sentence.valid for sentence in sentences if sentence.finished]
        rows.append((sum(judged), len(judged)))
    texts = bootstrap(rows, ratio)
    alone = wilson(sum(valid for valid, _ in rows), sum(judged for _, judged in rows))
    return Interval(
        texts.value, min(texts.low, alone.low), max(texts.high, alone.high), texts.count
    )


def share_showing(written: Sequence[Completion], name: str) -> Interval:
    """Share of the texts that show the trait at all in which its first value prevails."""
    scores = [trait(completion.text, name) for completion in written]
    return share([score > 0 for score in scores if score != 0])


def obedience(written: Sequence[Completion], name: str, wanted: int) -> Interval:
    """Share of texts whose trait score has the wanted sign (+1 or -1).

    Texts that show neither value count as disobedient, unless they are wholly coherent: then the
    grammar itself gave them nothing to show it with (a story without a number cannot spell one),
    and they are left out.
    """
    hits = []
    for completion in written:
        score = trait(completion.text, name)
        if score != 0 or coherence(completion.text, finish=completion.finish) < 1:
            hits.append(score * wanted > 0)
    return share(hits)


def wholeness(written: Sequence[Completion]) -> dict[str, Interval]:
    """How texts hang together: coherence, words it rests on, entities kept, loops."""
    found = [assess(completion.text, finish=completion.finish) for completion in written]
    return {
        "coherence": bootstrap_mean([one.coherence for one in found], bounds=(0, 1)),
        "words judged": bootstrap_mean([one.words for one in found]),
        "roles kept": bootstrap_mean([one.roles_kept for one in found], bounds=(0, 1)),
        "texts that loop": share([one.loops for one in written]),
        "texts that differ by more than names": share(_first_of_their_kind(written)),
    }


def _first_of_their_kind(written: Sequence[Completion]) -> list[bool]:
    """Which texts are the first that read so, whoever they tell of."""
    everyone = itertools.chain(*lexicon().names.values())
    names = re.compile(rf"\b({'|'.join(everyone)})\b")
    masked = [names.sub("N", one.text) for one in written]
    first = {text: place for place, text in reversed(list(enumerate(masked)))}
    return [first[text] == place for place, text in enumerate(masked)]


def loss_ratio(lm: LM, count: int, seed: int) -> tuple[Interval, Interval]:
    """Model's loss on fresh documents over the grammar's own entropy, and the loss in nats a token.

    The entropy is the mean of -log P(text): that of its derivation, and of what the derivation
    leaves open. Each document stands alone, from its first token; the few per cent that are longer
    than the model's context are left out.
    """
    rng = random.Random(seed)
    written = (grammar.write(rng) for _ in range(2 * count))
    fits = (d for d in written if len(lm.tokenizer(d.text)["input_ids"]) <= (lm.context or 512))
    documents = list(itertools.islice(fits, count))
    rows = []
    for at in range(0, len(documents), 50):
        chunk = documents[at : at + 50]
        bodies = [document.text.removeprefix("<s>") for document in chunk]
        found = logprobs(lm, encode(lm, bodies))
        totals = found.nan_to_num().sum(1).tolist()
        lengths = (~found.isnan()).sum(1).tolist()
        for document, total, length in zip(chunk, totals, lengths, strict=True):
            entropy = -(document.log_probability + document.ambiguity)
            rows.append((-total, entropy, float(length)))
    per_token = bootstrap([(row[0], row[2]) for row in rows], ratio)
    return bootstrap([row[:2] for row in rows], ratio), per_token
