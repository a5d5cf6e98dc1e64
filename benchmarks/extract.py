"""How fast a vector is made: 256 contrast pairs, every layer.

    python benchmarks/extract.py [--quick] [--model wren] [--threads 2]

Against a bare forward through the blocks (the same batches, no logits, nothing kept), and against
repeng's ControlVector.train on the same pairs. Peak memory of each is that of a process of its
own. `--quick` has fewer rounds, runs repeng on some of the pairs, and measures memory in one
process; it says so.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import timing
import torch
from timing import Contestant, Target, at_least, at_most

TARGETS: dict[str, Target] = {
    "extract_over_forward": at_most(1.1),
    "repeng_over_extract": at_least(2),
    "peak_mib_extract": at_most(float("inf")),
    "peak_mib_forward": at_most(float("inf")),
    "peak_mib_repeng": at_most(float("inf")),
}
PAIRS = 256


@dataclass(frozen=True)
class Size:
    """Rounds, and on how many of the pairs repeng runs (its time is scaled up)."""

    pairs: int
    repeng: int
    rounds: int

    def __str__(self) -> str:
        said = f"{self.pairs} pairs, {self.rounds} rounds"
        if self.repeng < self.pairs:
            said += f"; repeng on {self.repeng} pairs, its time scaled up"
        return said


FULL = Size(PAIRS, PAIRS, 5)
QUICK = Size(128, 16, 2)


def contrast_pairs(count: int) -> Any:
    """Pairs from the bundled sets of wren's language."""
    from workbench.contrast import pairs

    found = [pair for name in ("wren-mood", "wren-formality") for pair in pairs.load(name)]
    if len(found) < count:
        raise ValueError(f"{count} pairs asked for, the two sets hold {len(found)}")
    return pairs.Pairs(tuple(found[:count]), name="benchmark")


def contestants(lm: Any, plain: Any, given: Any, size: Size) -> dict[str, Contestant]:
    from workbench.extraction.extract import extract
    from workbench.forward.reading import batches, encode_pairs, read_pairs
    from workbench.forward.tracing import TOKENS

    ready = [batch for batch, _ in batches(encode_pairs(lm, given), TOKENS)]

    @torch.inference_mode()
    def forward() -> None:
        for batch in ready:
            plain.base_model(
                input_ids=batch.ids,
                attention_mask=batch.attention.long(),
                position_ids=batch.positions,
                use_cache=False,
            )

    def repeng() -> None:
        from repeng import ControlVector, DatasetEntry

        entries = [DatasetEntry(*pair.full) for pair in list(given)[: size.repeng]]
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            ControlVector.train(plain, lm.tokenizer, entries)

    return {
        "extract": Contestant(lambda: extract(lm, given, cache=False, quiet=True)),
        "read": Contestant(lambda: read_pairs(lm, given, cache=False)),
        "forward": Contestant(forward),
        "repeng": Contestant(repeng, size.pairs / size.repeng),
    }


NOTES = {
    "extract": "the whole of workbench.extract: tokens, reading, directions, held-out separation",
    "read": "its reading alone",
    "forward": "through the blocks of a plain transformers model, batches ready made",
    "repeng": "ControlVector.train, every layer that it reads, batches of 32",
}


def prepare(model: str, size: Size) -> dict[str, Contestant]:
    from transformers import AutoModelForCausalLM

    from workbench.loading import checkpoints, models

    lm = models.load(model)
    source, _ = checkpoints.locate(model, "")
    plain = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    lm.fingerprint  # noqa: B018  once per model, not once per vector
    return contestants(lm, plain, contrast_pairs(size.pairs), size)


def peaks(args: Any, size: Size, made: dict[str, Contestant]) -> dict[str, float | None]:
    """MiB above the loaded models, by contestant."""
    names = ("extract", "forward", "repeng")
    if args.quick:
        return {name: timing.peak_growth(made[name].run) for name in names}
    found: dict[str, float | None] = {}
    for name in names:
        command = [sys.executable, str(Path(__file__)), "--model", args.model, "--peak", name]
        command += ["--threads", str(args.threads)]
        told = subprocess.run(command, check=True, capture_output=True, text=True)
        last = told.stdout.splitlines()[-1]
        found[name] = None if last == "None" else float(last)
    return found


def arguments() -> Any:
    parser = timing.parser("How fast a steering vector is made.")
    parser.add_argument("--peak", help="only the peak memory of one contestant, in MiB")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    torch.set_num_threads(args.threads)
    peers.quietly()
    size = QUICK if args.quick else FULL
    made = prepare(args.model, size)
    if args.peak:
        print(timing.peak_growth(made[args.peak].run))
        return 0
    print(f"\n## {args.model}: {size}", flush=True)
    memory = peaks(args, size, made)
    timing.show("peak memory above the loaded models, MiB", list(memory), [list(memory.values())])
    times = timing.interleave(made, size.rounds)
    timing.show_times("seconds for all pairs", times, NOTES)
    rows = [
        ("extract_over_forward", "extract", "forward"),
        ("read_over_forward", "read", "forward"),
        ("repeng_over_extract", "repeng", "extract"),
    ]
    timing.show_ratios(times, rows)
    figures: dict[str, Any] = {key: timing.ratio(times, a, b) for key, a, b in rows}
    figures |= {f"peak_mib_{name}": value for name, value in memory.items()}
    figures |= {"seconds": times["extract"].median, "measured": str(size)}
    settings = {"quick": args.quick, "threads": args.threads, "model": args.model}
    return timing.finish("extract", figures, TARGETS, settings)


if __name__ == "__main__":
    sys.exit(main())
