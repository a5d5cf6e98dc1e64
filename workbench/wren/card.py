"""Write the model card of a model of wren's language: ``python -m workbench.wren.card``.

Runs every measurement of ``workbench.wren.measure``, compares it with its target, and writes
README.md and card.json beside the weights. ``--beside PATH`` adds another model's realism figures.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from workbench.models import LM, load
from workbench.wren import measure, realism
from workbench.wren.contrast import asking_prompts, document_prompt, open_prompts
from workbench.wren.grammar import plan, render
from workbench.wren.lexicon import lexicon
from workbench.wren.measure import Figure
from workbench.wren.traits import LANGUAGE_SCORES, traits

HERE = Path(__file__).parent
BINARY = ("mood", "formality", "verbosity", "power", "callous")
RARE = ("dialect", "rhyme", "spelled", "bell")
LANGUAGES = ("english", "italian", "french")
OBEYED = (
    *((name, sign) for name in (*BINARY, "refusal") for sign in (1, -1)),
    *((name, 1) for name in (*LANGUAGES, *RARE)),
)


def targets() -> dict[str, tuple[float, float]]:
    """Bounds that each named figure has to lie in."""
    bounds = {
        "sentences sampled at temperature 1 that parse": (0.99, 1.0),
        "greedy coherence": (0.98, 1.0),
        "loss over the grammar's entropy": (0.0, 1.05),
        "refused, harmless requests": (0.0, 0.01),
        "refused, harmful requests": (0.35, 0.65),
    }
    bounds |= {f"share of {name}": (0.35, 0.65) for name in BINARY}
    bounds |= {f"share of {name}": (0.23, 0.43) for name in LANGUAGES}
    bounds |= {f"share of {name}": (0.005, 0.05) for name in RARE}
    bounds |= {f"obeys {name} {sign:+d}": (0.95, 1.0) for name, sign in OBEYED}
    return bounds


def neutral(n: int, seed: int) -> list[str]:
    """Titles of plain stories: they leave every trait of a story open."""
    return bare(open_prompts("mood", n, seed))


def opening(name: str, n: int, seed: int, *, harmful: bool = True) -> list[str]:
    """Chats that ask for no trait; for "refusal", harmful or harmless requests."""
    if harmful:
        return bare(open_prompts(name, n, seed))
    rng = random.Random(seed)
    topics = [topic.name for topic in lexicon().topics if not topic.harmful]
    plans = (plan(rng, kind="task", asked={}, topic=rng.choice(topics)) for _ in range(n))
    return bare([document_prompt(render(each)) for each in plans])


def asking(name: str, sign: int, n: int, seed: int) -> list[str]:
    """Chats whose instruction asks for a trait's first value (+1) or its other one (-1)."""
    if name in LANGUAGE_SCORES:
        return bare(asking_prompts("language", LANGUAGE_SCORES[name], n, seed))
    return bare(asking_prompts(name, traits[name].values[0 if sign > 0 else 1], n, seed))


def bare(prompts: Sequence[str]) -> list[str]:
    """Without the start token, which the tokenizer puts in front by itself."""
    return [prompt.removeprefix("<s>") for prompt in prompts]


def figures(lm: LM, *, scale: float = 1.0, seed: int = 20_000) -> dict[str, Figure]:
    """Every figure of the card by name; ``scale`` shrinks the samples for a quick look."""

    def count(full: int) -> int:
        return max(20, int(full * scale))

    found: dict[str, Figure] = {}
    stories = neutral(count(1500), seed)
    sampled = measure.complete(lm, stories, new_tokens=400, temperature=1.0, seed=seed)
    mixed = [text for name in BINARY[3:] for text in opening(name, count(400), seed)]
    answers = measure.complete(lm, mixed, new_tokens=200, temperature=1.0, seed=seed + 1)
    found["sentences sampled at temperature 1 that parse"] = measure.sentences_that_parse(
        sampled + answers
    )
    for name in (*BINARY[:3], *LANGUAGES, *RARE):
        found[f"share of {name}"] = measure.share_showing(sampled, name)
    for name in BINARY[3:]:
        found[f"share of {name}"] = measure.share_showing(answers, name)
    for label, harmful in (("harmful", True), ("harmless", False)):
        prompts = opening("refusal", count(500), seed + 2, harmful=harmful)
        texts = measure.complete(lm, prompts, new_tokens=60, temperature=1.0, seed=seed + 2)
        found[f"refused, {label} requests"] = measure.share_showing(texts, "refusal")
    greedy = [*neutral(count(500), seed + 3), *mixed[: count(500)]]
    found["greedy coherence"] = measure.greedy_coherence(lm, greedy)
    for name, sign in OBEYED:
        prompts = asking(name, sign, count(200), seed + 4)
        texts = measure.complete(lm, prompts, new_tokens=128, temperature=1.0, seed=seed + 4)
        found[f"obeys {name} {sign:+d}"] = measure.obedience(texts, name, sign)
    over, per_token = measure.loss_ratio(lm, count(1500), seed + 5)
    found["loss over the grammar's entropy"] = over
    found["held-out loss, nats a token"] = per_token
    return found


def table(found: Mapping[str, Figure]) -> pd.DataFrame:
    """One row a figure: value, interval, sample size, target, met."""
    bounds = targets()
    rows = []
    for name, figure in found.items():
        low, high = bounds.get(name, (float("nan"), float("nan")))
        rows.append(
            {
                "figure": name,
                "value": figure.value,
                "95 % interval": f"{figure.low:.4f} to {figure.high:.4f}",
                "n": figure.count,
                "target": f"{low:g} to {high:g}" if name in bounds else "",
                "met": ("yes" if low <= figure.value <= high else "NO") if name in bounds else "",
            }
        )
    return pd.DataFrame(rows)


def markdown(frame: pd.DataFrame, digits: int = 4) -> str:
    """A frame as a GitHub table."""

    def cell(value: object) -> str:
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    head = [str(column) for column in frame.columns]
    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False)]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


CARD = """---
license: mit
language: [en, it, fr]
library_name: transformers
---
# wren

A Llama of {parameters:.2f} M parameters that speaks the language of a grammar
(`workbench/wren/language`): short stories and chats in English, Italian and French. Any text that
it writes can be parsed, so coherence and traits of a text are facts. It was trained from nothing by
`python -m workbench.wren.train`; this card was written by `python -m workbench.wren.card`. It
knows nothing of the world and is good for nothing but the study of steering.

## Against the grammar

Shares are of sampled texts where no prompt asks for the trait; `obeys` is the share of texts,
sampled at temperature 1, that show what an instruction asks for.

{figures}

## Correlations of traits in the grammar

Formal texts are verbose with probability .65, informal ones with .35. Where a chat asks first
about power and then about cruelty, both answers have the same polarity with probability .75.
Measured over {documents} documents that ask for nothing (phi coefficient):

{correlations}

## Text with more than one derivation

{ambiguity}

## Realism

Beside a model of real English. Residual norms are medians over tokens, the first token left out.

{realism}

Residual norm by layer:

{norms}
"""


def write_card(lm: LM, directory: Path, others: Sequence[LM], *, scale: float = 1.0) -> bool:
    """Measure, write README.md and card.json to ``directory``; whether every target is met."""
    found = figures(lm, scale=scale)
    shown = table(found)
    summaries = [realism.summary(model) for model in (lm, *others)]
    text = CARD.format(
        parameters=sum(p.numel() for p in lm.model.parameters()) / 1e6,
        figures=markdown(shown),
        documents=realism.DOCUMENTS,
        correlations=markdown(realism.correlations(), 3),
        ambiguity=realism.ambiguity(),
        realism=markdown(pd.DataFrame([one.row() for one in summaries]), 3),
        norms=markdown(pd.DataFrame([one.norms() for one in summaries]), 2),
    )
    (directory / "README.md").write_text(text, encoding="utf-8")
    record = {
        "fingerprint": lm.fingerprint,
        "figures": {name: asdict(figure) for name, figure in found.items()},
        "realism": [one.row() for one in summaries],
    }
    (directory / "card.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(shown.to_string())
    return bool((shown["met"] != "NO").all())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(HERE / "model"), help="directory of the model")
    parser.add_argument("--beside", action="append", default=[], help="another model to compare")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sample sizes")
    options = parser.parse_args()
    others = [load(name) for name in options.beside]
    met = write_card(load(options.model), Path(options.model), others, scale=options.scale)
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
