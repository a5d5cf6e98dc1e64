"""Write the contrast pairs of wren's traits as files: ``python -m workbench.wren.ship``.

They go where every bundled data set is, so that the rest of the package treats wren like any
other model. A test remakes them and compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from workbench.wren.contrast import asking_prompts, trait_pairs
from workbench.wren.traits import LANGUAGE_SCORES, traits

DIRECTORY = Path(__file__).parents[1] / "data"
COUNT, ASKING, SEED = 160, 40, 2026
NAMES = (*(name for name in traits if name != "language"), *LANGUAGE_SCORES)


def lines(name: str) -> list[Mapping[str, object]]:
    """The metadata line and the pairs of one trait; prompts without the start token."""
    asked = ("language", LANGUAGE_SCORES[name]) if name in LANGUAGE_SCORES else None
    trait, value = asked or (name, traits[name].values[0])
    return [
        {
            "name": f"wren-{name}",
            "trait": name,
            "model": "wren",
            "description": f"{traits[trait].description}; same story, other value ({value} first)",
            "licence": "MIT",
            "asking": [
                prompt.removeprefix("<s>") for prompt in asking_prompts(trait, value, ASKING, SEED)
            ],
        },
        *(
            {"prompt": prompt.removeprefix("<s>"), "positive": positive, "negative": negative}
            for prompt, positive, negative in trait_pairs(name, COUNT, SEED)
        ),
    ]


def text(name: str) -> str:
    """The file of one trait."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines(name))


def main() -> None:
    """Write every file."""
    for name in NAMES:
        (DIRECTORY / f"wren-{name}.jsonl").write_text(text(name), encoding="utf-8")
        print(f"wren-{name}.jsonl")


if __name__ == "__main__":
    main()
