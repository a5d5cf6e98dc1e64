"""Write the model card of a model of wren's language: ``python -m workbench.wren.card``.

Measures every figure of ``workbench.wren.scorecard`` against its target, and writes
README.md and card.json beside the weights. ``--beside PATH`` adds another model's realism figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from workbench.loading.models import LM, load
from workbench.support.tables import markdown_table
from workbench.wren import realism
from workbench.wren.scorecard import SEED, Row, bounds, figures, table

HERE = Path(__file__).parent


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

Shares are of texts sampled at temperature 1 where no prompt asks for the trait; `obeys` is the
share of texts, sampled alike, that show what an instruction asks for. (Coherent texts that have
nothing to show it with, as a story without a number cannot spell one, are left out: n is the rest.)
Both are measured for each kind of prompt by itself. Intervals are Wilson's for shares of texts, a
bootstrap over texts for means and ratios; sentences that parse carry the wider of the two. Many
greedy texts are the same but for names, so their intervals are too narrow.

A figure is *met* where its value lies inside the target; *met, interval crosses* where the value
does but the 95 % interval reaches outside, so that the sample alone does not settle it; *missed*
where the value lies outside. {verdicts}

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


def tally(rows: Sequence[Row]) -> str:
    """How many figures have each verdict, in words."""
    verdicts = [row.verdict for row in rows if row.verdict]
    crossing = verdicts.count("met, interval crosses")
    return (
        f"Of {len(verdicts)} targets {verdicts.count('met')} are met, {crossing} more are met with "
        f"an interval that crosses, {verdicts.count('missed')} are missed."
    )


def write_card(
    lm: LM, directory: Path, others: Sequence[LM], *, scale: float = 1.0, seed: int = SEED
) -> bool:
    """Measure, write README.md and card.json to ``directory``; whether no target is missed."""
    rows = figures(lm, scale=scale, seed=seed)
    summaries = [realism.summary(model) for model in (lm, *others)]
    text = CARD.format(
        parameters=sum(p.numel() for p in lm.model.parameters()) / 1e6,
        verdicts=tally(rows),
        figures=markdown_table(table(rows), ".4f"),
        documents=realism.DOCUMENTS,
        correlations=markdown_table(realism.correlations(), ".3f"),
        ambiguity=realism.ambiguity(),
        realism=markdown_table(pd.DataFrame([one.row() for one in summaries]), ".3f"),
        norms=markdown_table(pd.DataFrame([one.norms() for one in summaries]), ".2f"),
    )
    (directory / "README.md").write_text(text, encoding="utf-8")
    record = {
        "fingerprint": lm.fingerprint,
        "scale": scale,
        "seed": seed,
        "figures": [
            {
                "figure": row.name,
                "prompts": row.prompts,
                **asdict(row.found),
                "target": bounds(row.low, row.high),
                "verdict": row.verdict,
            }
            for row in rows
        ],
        "realism": [one.row() for one in summaries],
    }
    (directory / "card.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(rows).to_string())
    return all(row.verdict != "missed" for row in rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="wren", help="directory of the model")
    parser.add_argument("--beside", action="append", default=[], help="another model to compare")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sample sizes")
    parser.add_argument("--seed", type=int, default=SEED, help="of prompts, texts and documents")
    options = parser.parse_args()
    others = [load(name) for name in options.beside]
    directory = HERE / "model" if options.model == "wren" else Path(options.model)
    lm = load(options.model)
    met = write_card(lm, directory, others, scale=options.scale, seed=options.seed)
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
