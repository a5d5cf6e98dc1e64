"""The detector on a model that somebody else trained: what its marks look like in texts.

    python benchmarks/transfer.py MODEL [--directory reports] [--quick]

MODEL is a model of children's stories in English, such as stories260K (Hugging Face format), which
is no part of this project. Nothing is tuned: pairs from templates, the difference of means at the
layer where the odds of held-out pairs move most, `sweep`, `find_ceiling`. The trait is told by
counting words (`by_words`); no judge knows whether these texts hold together, so that no figure
here can say whether the ceilings are right: the table of texts is for a reader. `--quick` sweeps
every fourth coefficient and saves nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import timing  # puts the checkout on the path
from timing import at_least

from workbench import find_ceiling, load, random_like, sweep
from workbench.contrast.pairs import Pairs
from workbench.extraction.steerability import steering_vector
from workbench.judges import Written
from workbench.studies import coefficient_findings as findings
from workbench.support import tables

CHILDREN = ("Lily", "Tom", "Sue", "Ben", "Mia", "Tim", "Anna", "Max", "Jane", "Sam")
# Trait -> how its two sides go on after the child's name.
CONTRASTS = {
    "glad": (
        ("was so happy. {0} smiled and laughed and played all day.",
         "was very sad. {0} cried and cried and did not want to play."),
        ("got a big hug. It was the best day and {0} was full of joy.",
         "lost the toy. It was a bad day and {0} was full of tears."),
        ("loved the party. Everyone was happy and {0} began to sing.",
         "was afraid of the dark. Everyone was sad and {0} began to cry."),
    ),
    "outdoors": (
        ("went to the park. {0} ran on the grass, under the big tree and the sun.",
         "stayed in the house. {0} sat on the bed in the room, near the door."),
        ("was in the garden with the birds, the flowers and the trees.",
         "was in the kitchen with the table, the cups and the plates."),
        ("walked in the forest and saw a bird in the sky.",
         "looked in the box and saw a book on the floor."),
    ),
    "talking": (
        ('said, "Hi! What is your name?" "I am a cat," said the cat.',
         "walked up the hill and saw a cat. The cat was on the wall."),
        ('asked, "Can I play with you?" "Yes!" said mom.',
         "went to play. Mom was in the house and the sun was warm."),
        ('said, "Thank you!" and mom said, "You are welcome."',
         "took the ball and ran. The dog ran too."),
    ),
}  # fmt: skip
# Further ways to begin, which are in no pair.
OTHERS = (
    "{0} had a dog.",
    "{0} had a ball.",
    "{0} woke up early.",
    "There was a boy. He had a friend named {0}.",
    "It was morning and {0} was ready.",
    "{0} found something new.",
)
# Trait -> words that show it, and words that show its opposite.
SHOWN = {
    "glad": (
        "happy smiled laughed joy fun loved love hug smile best excited glad",
        "sad cried cry afraid scared tears bad angry lost hurt sorry upset",
    ),
    "outdoors": (
        "park tree trees grass sun sky garden outside bird birds flower flowers forest hill",
        "house room bed kitchen table box door inside book floor home cup plate chair",
    ),
    "talking": ('" “', ""),
}
OPENINGS = (
    "Once upon a time, there was a little girl named {0}.",
    "One day, {0} and mom went for a walk.",
)
NEW_TOKENS, TEMPERATURE, COEFFICIENTS = 64, 0.7, np.linspace(-1, 1, 33)
TARGETS = {"with_a_ceiling": at_least(6)}


def by_words(written: Sequence[Written], trait: str) -> pd.DataFrame:
    """A judge of the trait alone, by the words (or signs) that stand in a text: the share of those
    that show it minus that of those that show its opposite; where only one kind is looked for, -1
    without it. NaN where a text has neither."""

    shown, other = (set(words.split()) for words in SHOWN[trait])
    scores = []
    for each in written:
        found = re.findall(r"[a-z]+|[\"“]", each.text.lower())
        yes, no = sum(w in shown for w in found), sum(w in other for w in found)
        alone = 1.0 if yes else -1.0
        known = (yes - no) / (yes + no) if yes + no else float("nan")
        scores.append(known if other else alone)
    return pd.DataFrame({"trait": scores}, dtype=float)


def pairs_of(trait: str) -> Pairs:
    """Contrast pairs: each opening and child with each way to go on."""
    positive, negative, prompts = [], [], []
    for opening in OPENINGS:
        for child in CHILDREN[:6]:
            for shown, other in CONTRASTS[trait]:
                prompts.append(opening.format(child))
                positive.append(f" {child} {shown.format(child)}")
                negative.append(f" {child} {other.format(child)}")
    return Pairs.from_lists(positive, negative, prompts=prompts, name=trait, trait=trait)


def random_alone(frame: pd.DataFrame) -> pd.DataFrame:
    """The control of a sweep as a sweep of its own, with the unsteered texts."""
    still = (frame["vector"] == "vector") & (frame["coefficient"] == 0)
    alone = frame[still | (frame["vector"] == "random")].assign(vector="vector")
    alone.attrs = frame.attrs
    return alone


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The detector on somebody else's model.")
    parser.add_argument(
        "--quick", action="store_true", help="every fourth coefficient; saves nothing"
    )
    parser.add_argument("model", help="a model's name or path")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    args = parser.parse_args(argv)
    lm = load(args.model)
    prompts = [form.format(child) for form in (*OPENINGS, *OTHERS) for child in CHILDREN[6:]]
    ceilings, frames, texts, layers = {}, {}, [], {}
    for trait in CONTRASTS:
        vector = steering_vector(lm, pairs_of(trait).split())
        layers[trait] = vector.layer
        frames[trait] = sweep(
            lm,
            vector,
            prompts,
            COEFFICIENTS[:: 4 if args.quick else 1],
            new_tokens=NEW_TOKENS,
            temperature=TEMPERATURE,
            trait=trait,
            judges=[by_words],
            controls={"random": random_like(vector, 0)},
            progress=False,
        )
        ceilings[trait] = find_ceiling(frames[trait])
        found = findings.texts_around(frames[trait], ceilings[trait])
        texts.append(found.assign(vector=trait)[["vector", *found.columns]])
    # What breaks under a random vector breaks by length alone.
    trait = next(iter(CONTRASTS))
    frames["random"] = random_alone(frames[trait])
    ceilings["random"] = find_ceiling(frames["random"])
    marks = findings.marks_table(ceilings, frames).rename(columns={"trait": "vector"})
    timing.show("marks, in residual norms", list(marks), marks.values.tolist())
    every = pd.concat(texts, ignore_index=True)
    timing.show("texts", list(every), every.values.tolist())
    if not args.quick:
        about = {"model": lm.name, "weights": lm.fingerprint, "layers": layers}
        about |= {"prompts": len(prompts), "new_tokens": NEW_TOKENS, "temperature": TEMPERATURE}
        tables.save_table(marks, "transfer_marks", directory=args.directory, provenance=about)
        tables.save_table(every, "transfer_texts", directory=args.directory, provenance=about)
    sides = [side for name in CONTRASTS for side in ceilings[name].sides.values()]
    figures = {
        "vectors": len(CONTRASTS),
        "sides": len(sides),
        "with_a_ceiling": sum(side.collapses for side in sides),
        "with_an_effect": sum(side.effect == "effect" for side in sides),
    }
    return timing.finish("transfer", figures, TARGETS, {"quick": args.quick, "model": lm.name})


if __name__ == "__main__":
    sys.exit(main())
