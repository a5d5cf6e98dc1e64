"""How fast log-odds are measured: 33 multiples of a vector at the middle layer.

    python benchmarks/odds.py [--quick] [--model wren] [--threads 2] [--only wren|gpt2]

Against the least that can be done (*ideal*): in plain PyTorch, on batches ready made, the lower
blocks once, the upper blocks once for each multiple, logits of the answers' columns only; and
against 33 *plain* forwards of the whole model with logits of the same columns. `--quick` has fewer
pairs and rounds; it says so.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import peers
import sweep
import timing
import torch
from timing import Contestant, Target, at_least, at_most
from torch import Tensor, nn

MULTIPLIERS = tuple(np.linspace(-0.7, 0.7, 33).round(6).tolist())
BOUNDS: dict[str, Target] = {
    "odds_over_ideal": at_most(1.15),
    "plain_over_odds": at_most(float("inf")),
    "same": at_least(1),
}


@dataclass(frozen=True)
class Size:
    pairs: int
    rounds: int
    multipliers: tuple[float, ...] = MULTIPLIERS

    def __str__(self) -> str:
        return f"{len(self.multipliers)} multiples x {self.pairs} pairs, {self.rounds} rounds"


SIZES = {
    "wren": {False: Size(16, 5), True: Size(4, 2)},
    "gpt2": {False: Size(4, 5), True: Size(1, 2)},
}


def wren_pairs(count: int) -> Any:
    from workbench.contrast import pairs

    return pairs.load("wren-mood")[32 : 32 + count]


def gpt2_pairs(count: int, vocabulary: int = 50000) -> Any:
    """Prompts of 8 and answers of 16 made-up words, which share their first four."""
    from workbench.contrast.pairs import Pairs

    rng = np.random.default_rng(1)

    def words(size: int) -> str:
        return " ".join(f"w{i}" for i in rng.integers(vocabulary, size=size))

    prompts = [words(8) for _ in range(count)]
    heads = [words(4) for _ in range(count)]
    sides = ([f"{head} {words(12)}" for head in heads] for _ in range(2))
    return Pairs.from_lists(next(sides), next(sides), prompts, name="random words")


# ---- plain PyTorch ------------------------------------------------------------------------------


class _Same(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden


class _Nothing(nn.Module):
    """Position embeddings that add nothing: the stream has them already."""

    def forward(self, places: Tensor) -> Tensor:
        return torch.zeros(1)


def halves(plain: Any, layer: int) -> tuple[Any, Any]:
    """The model's body up to and with a block, without its last norm; and the model from the next
    block on, which takes a stream as embeddings. Weights are shared."""
    config = copy.deepcopy(plain.config)
    total = config.num_hidden_layers
    found = []
    for kept in (range(layer + 1), range(layer + 1, total)):
        half = copy.copy(plain)
        half._modules = dict(plain._modules)
        name = half.base_model_prefix
        body = copy.copy(plain.base_model)
        body._modules = dict(body._modules)
        half._modules[name] = body
        body.config = copy.deepcopy(config)
        body.config.num_hidden_layers = len(kept)
        blocks = peers.layer_list(plain)
        listed = nn.ModuleList([blocks[i] for i in kept])
        body._modules["layers" if "layers" in body._modules else "h"] = listed
        found.append(half)
    lower, upper = found
    norm = "norm" if "norm" in lower.base_model._modules else "ln_f"
    lower.base_model._modules[norm] = _Same()
    if "wpe" in upper.base_model._modules:
        upper.base_model._modules["wpe"] = _Nothing()
    return lower.base_model, upper


def _losses(logits: Tensor, batch: Any, first: int, rows: Any = slice(None)) -> Tensor:
    """(B,) summed losses of the completions of some rows, whose columns begin at `first`."""
    targets, own = batch.ids[rows, first:], batch.completion[rows, first:]
    table = logits.log_softmax(dim=-1).gather(-1, targets[..., None])[..., 0]
    return -(table * own).sum(dim=1)


@torch.inference_mode()
def ideal(lower: Any, upper: Any, ready: Sequence[Any], direction: Tensor, grid: Any) -> Tensor:
    """(rows, M) losses: the lower half once a batch, the upper once for each multiple of each row,
    as many at once as our own forwards hold."""
    from workbench.forward.tracing import TOKENS

    found = []
    for batch in ready:
        first, mask = int(batch.starts.min()), batch.attention.long()
        stream = lower(
            input_ids=batch.ids,
            attention_mask=mask,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        cells = torch.arange(len(batch) * len(grid))
        losses = []
        for some in cells.split(max(1, TOKENS // batch.width)):
            rows, values = some // len(grid), torch.tensor(grid)[some % len(grid)]
            logits = upper(
                inputs_embeds=stream[rows] + values[:, None, None] * direction,
                attention_mask=mask[rows],
                position_ids=batch.positions[rows],
                use_cache=False,
                logits_to_keep=batch.width - first + 1,
            ).logits[:, :-1]
            losses.append(_losses(logits, batch, first, rows))
        found.append(torch.cat(losses).reshape(len(batch), len(grid)))
    return torch.cat(found)


@torch.inference_mode()
def plainly(plain: Any, ready: Sequence[Any], layer: int, direction: Tensor, grid: Any) -> Tensor:
    """(rows, M) losses: the whole model once for each multiple."""
    found = []
    for batch in ready:
        first = int(batch.starts.min())
        losses = []
        for m in grid:
            with peers.hooked(plain, layer, m * direction):
                logits = peers.plain_forward(
                    plain, batch.ids, batch.attention.long(), keep=batch.width - first + 1
                )
            losses.append(_losses(logits[:, :-1], batch, first))
        found.append(torch.stack(losses, dim=1))
    return torch.cat(found)


# ---- the contestants ----------------------------------------------------------------------------


def contestants(setting: Any, given: Any, size: Size) -> tuple[dict[str, Contestant], list[int]]:
    """By name; and the order of the rows (sides of pairs) in what the plain ones return."""
    from workbench.forward.reading import batches
    from workbench.forward.tracing import TOKENS
    from workbench.preference.odds import both_sides, odds

    (own,) = setting.vector.at(1.0)
    everyone = both_sides(setting.lm, given)
    parts = list(batches(everyone, TOKENS))
    ready = [part for part, _ in parts]
    lower, upper = halves(setting.plain, own.layer)
    direction, grid = own.update.direction, size.multipliers
    made = {
        "odds": Contestant(lambda: odds(setting.lm, setting.vector, given, grid, quiet=True)),
        "ideal": Contestant(lambda: ideal(lower, upper, ready, direction, grid)),
        "plain": Contestant(lambda: plainly(setting.plain, ready, own.layer, direction, grid)),
    }
    return made, [row for _, rows in parts for row in rows]


def apart(times: Any, order: list[int]) -> float:
    """The largest difference in nats between any two contestants' losses."""
    frame, count = times["odds"].result, len(order) // 2
    ours = np.stack(
        [frame[f"loss_{side}"].to_numpy().reshape(count, -1) for side in ("positive", "negative")],
        axis=1,
    ).reshape(2 * count, -1)[order]
    return max(
        float(np.abs(ours - times[name].result.numpy()).max()) for name in ("ideal", "plain")
    )


NOTES = {
    "odds": "the whole of workbench.odds: tokens, losses, what leaves the answers, the frame",
    "ideal": "lower half once, upper half for each multiple, batches ready made",
    "plain": "the whole model for each multiple, batches ready made",
}


def measure(name: str, setting: Any, given: Any, size: Size) -> dict[str, Any]:
    print(f"\n## {name}: {size}", flush=True)
    made, order = contestants(setting, given, size)
    made["odds"].run()  # libraries look at a model the first time; not once per pair
    times = timing.interleave(made, size.rounds)
    timing.show_times("seconds", times, NOTES)
    rows = [("odds_over_ideal", "odds", "ideal"), ("plain_over_odds", "plain", "odds")]
    timing.show_ratios(times, rows)
    found: dict[str, Any] = {key: timing.ratio(times, a, b) for key, a, b in rows}
    found["apart_nats"] = apart(times, order)
    found["same"] = found["apart_nats"] < 1e-2
    found["seconds"] = times["odds"].median
    return {f"{name}_{key}": value for key, value in found.items()}


def arguments() -> Any:
    parser = timing.parser("How fast log-odds over multiples of a vector are measured.")
    parser.add_argument("--only", choices=("wren", "gpt2"), help="one of the two models")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    torch.set_num_threads(args.threads)
    peers.quietly()
    names = (args.only,) if args.only else ("wren", "gpt2")
    figures: dict[str, Any] = {}
    for name in names:
        size = SIZES[name][args.quick]
        if name == "wren":
            setting, given = sweep.wren_setting(args.model), wren_pairs(size.pairs)
        else:
            setting, given = sweep.gpt2_setting(), gpt2_pairs(size.pairs)
        figures |= measure(name, setting, given, size) | {f"{name}_measured": str(size)}
    targets = {f"{name}_{key}": bound for name in names for key, bound in BOUNDS.items()}
    settings = {"quick": args.quick, "threads": args.threads, "model": args.model}
    return timing.finish("odds", figures, targets, settings)


if __name__ == "__main__":
    sys.exit(main())
