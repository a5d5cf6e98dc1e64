"""Write the contrast pairs of wren's traits as files: ``python -m workbench.wren.ship``.

They go where every bundled data set is, so that the rest of the package treats wren like any
other model. With ``--check`` nothing is written: files that the language as it is now would not
make are named, and the command fails.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from workbench.wren.contrast import asking_prompts, open_prompts, trait_pairs
from workbench.wren.traits import LANGUAGE_SCORES, traits

DIRECTORY = Path(__file__).parents[1] / "data"
COUNT, ASKING, SEED = 160, 40, 2026
# Of so many prompts that leave a trait open, the first different ones that are in no pair.
DRAWN, OPEN = 600, 80
NAMES = (*(name for name in traits if name != "language"), *LANGUAGE_SCORES)


def lines(name: str) -> list[Mapping[str, object]]:
    """The metadata line and the pairs of one trait; prompts without the start token."""
    asked = ("language", LANGUAGE_SCORES[name]) if name in LANGUAGE_SCORES else None
    trait, value = asked or (name, traits[name].values[0])
    pairs = trait_pairs(name, COUNT, SEED)
    taken = {prompt for prompt, _, _ in pairs}
    free = [prompt for prompt in open_prompts(name, DRAWN, SEED) if prompt not in taken]
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
            "open": [prompt.removeprefix("<s>") for prompt in list(dict.fromkeys(free))[:OPEN]],
        },
        *(
            {"prompt": prompt.removeprefix("<s>"), "positive": positive, "negative": negative}
            for prompt, positive, negative in pairs
        ),
    ]


def text(name: str) -> str:
    """The file of one trait."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines(name))


def stale(directory: Path = DIRECTORY) -> list[str]:
    """Names of the files that are missing or differ from what would be written now."""
    files = {f"wren-{name}.jsonl": name for name in NAMES}
    return [
        file
        for file, name in files.items()
        if not (directory / file).is_file()
        or (directory / file).read_text(encoding="utf-8") != text(name)
    ]


def write(directory: Path = DIRECTORY) -> None:
    """Write every file."""
    for name in NAMES:
        (directory / f"wren-{name}.jsonl").write_text(text(name), encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write or check the contrast pairs of wren.")
    parser.add_argument("--check", action="store_true", help="write nothing, name stale files")
    if not parser.parse_args().check:
        write()
        print(f"{len(NAMES)} files written to {DIRECTORY}")
        return
    found = stale()
    for file in found:
        print(f"{file} is not what the language makes now: run python -m workbench.wren.ship")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
