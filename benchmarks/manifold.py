"""What it takes to stream activations into what manifolds are made of: memory and time.

    python benchmarks/manifold.py [--quick] [--threads 2] [--width 4096]

A million activations of width 4096 at one layer, in blocks of 2048 as a forward hands them over:
mean and covariance in four parts, float64, and a sample of 4096. Memory is what the process grows
by beyond one block. Time stands beside that of the forward passes which would make them: one block
of the width's Llama (7 B: 32 of them), in float32, on this machine; activations come out of the
first block at the earliest, out of the last at the latest. `--quick` streams 16,384 activations,
whose time counts for all, and does not fit; it says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import timing
import torch
from timing import Contestant, Target, at_least, at_most
from torch import Tensor

from workbench.forward.streaming import Streaming, as_stream
from workbench.statistics.estimates import Principal, Spectrum, likelihoods

BLOCKS = 32  # of the model
DOCUMENT = 256  # tokens
BOUNDS: dict[str, Target] = {
    "stream_memory_mib": at_most(2048),
    "stream_over_one_block": at_most(float("inf")),
    "stream_over_model": at_most(float("inf")),
    "same_as_numpy": at_least(1),
}


@dataclass(frozen=True)
class Size:
    """How many activations are streamed, at a time, and timed beside one forward of some tokens."""

    activations: int
    width: int
    rounds: int
    block: int = 2048
    forward: int = 256

    def __str__(self) -> str:
        return f"{self.activations} activations of width {self.width}, {self.rounds} rounds"


def blocks(size: Size, count: int) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
    """Activations like a model's, of documents of 256 tokens: far from 0, a few coordinates large.
    Made from one block, so that making them takes no time and no memory to speak of."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((size.block, size.width), dtype=np.float32)
    base *= np.geomspace(30, 0.1, size.width, dtype=np.float32)
    base += rng.standard_normal(size.width, dtype=np.float32)
    for start in range(0, count, size.block):
        tokens = np.arange(start, min(start + size.block, count))
        values = base[: len(tokens)] * (1 + 0.1 * ((start // size.block) % 7))
        yield torch.from_numpy(values)[:, None], tokens // DOCUMENT, tokens % DOCUMENT


def stream(size: Size, count: int) -> Streaming:
    made = Streaming(size.width, [0], folds=4, sample=4096, seed=0, unit=True)
    for values, documents, positions in blocks(size, count):
        made.add(values, documents, positions)
    return made


def same_as_numpy() -> bool:
    """Of a size at which the whole can be held."""
    size = Size(8192, 128, 1)
    found = stream(size, size.activations).folds[0]
    every = torch.cat([values[:, 0] for values, _, _ in blocks(size, size.activations)])
    whole = as_stream(every, True).double().numpy()
    parts = np.arange(len(whole)) // DOCUMENT % 4
    return all(
        np.allclose(each.covariance(), np.cov(whole[parts == part].T), rtol=1e-9, atol=1e-12)
        for part, each in enumerate(found)
    )


def block_of(width: int) -> Any:
    """One block of a Llama of this width, with random weights: tokens (1, T, D) -> the same."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=int(width * 2.6875),
        num_hidden_layers=1,
        num_attention_heads=max(1, width // 128),
        vocab_size=8,
    )
    return LlamaModel(config).eval()


@torch.inference_mode()
def pass_through(model: Any, tokens: int) -> Tensor:
    return model(inputs_embeds=torch.ones(1, tokens, model.config.hidden_size)).last_hidden_state


def fitted(made: Streaming) -> Principal:
    """What a fit takes beyond the stream: four spectra that judge each other, and one of all."""
    table = likelihoods(made.folds[0])
    best = table.loc[table["likelihood"].idxmax()]
    total = made.folds[0][0].copy()
    for part in made.folds[0][1:]:
        total.merge(part)
    return Principal.of(Spectrum.of(total), int(best["rank"]), best["shrinkage"])


def measure(size: Size, *, whole: bool) -> dict[str, Any]:
    kept: list[Streaming] = []
    memory = timing.peak_growth(lambda: kept.append(stream(size, size.activations)))
    figures: dict[str, Any] = {"stream_memory_mib": memory}
    if whole:
        figures["fit_memory_mib"] = timing.peak_growth(lambda: fitted(kept[0]))
    kept.clear()
    model = block_of(size.width)
    some = min(size.activations, 4 * size.block)
    made = {
        "stream": Contestant(lambda: stream(size, some), size.activations / some),
        "one block": Contestant(
            lambda: pass_through(model, size.forward), size.activations / size.forward
        ),
    }
    pass_through(model, 8)  # the first call makes what it keeps
    times = timing.interleave(made, size.rounds)
    timing.show_times(
        f"seconds for {size}",
        times,
        {
            "stream": "mean and covariance in four parts, float64, and a sample",
            "one block": f"float32 forward of {size.forward} tokens, its time scaled up",
        },
    )
    timing.show_ratios(times, [("stream_over_one_block", "stream", "one block")])
    ratio = timing.ratio(times, "stream", "one block")
    figures["stream_over_one_block"] = ratio
    figures["stream_over_model"] = None if ratio is None else ratio / BLOCKS
    return figures


def arguments() -> Any:
    parser = timing.parser("What streaming activations takes.")
    parser.add_argument("--width", type=int, default=4096, help="of the stream (default: 4096)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    torch.set_num_threads(args.threads)
    size = Size(16_384 if args.quick else 1_000_000, args.width, 2 if args.quick else 3)
    print(f"## {size}" + ("; no fit" if args.quick else ""), flush=True)
    figures = {
        **measure(size, whole=not args.quick),
        "same_as_numpy": same_as_numpy(),
        "measured": str(size),
    }
    settings = {"quick": args.quick, "threads": args.threads}
    return timing.finish("manifold", figures, BOUNDS, settings)


if __name__ == "__main__":
    sys.exit(main())
