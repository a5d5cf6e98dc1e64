"""How fast a sweep is: 33 coefficients x 8 prompts x 32 tokens, written and scored.

    python benchmarks/sweep.py [--quick] [--model wren] [--threads 2] [--only wren|gpt2]

Against repeng's loop over texts, against one batch with a hook written by hand, and part by part
against plain transformers; on wren and on a random GPT-2 of 124 million parameters. All contestants
must write the same greedy tokens. Takes about 15 minutes on wren, an hour more on GPT-2 (repeng's
loop); `--quick` runs repeng on some of the texts and a smaller sweep on GPT-2, and says so.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import peers
import timing
import torch
from peers import Task
from timing import Contestant, Target, at_least, at_most

TARGETS: dict[str, Target] = {
    "wren_repeng_over_ours": at_least(15),
    "wren_ours_over_by_hand": at_most(1.1),
    "wren_generate_over_plain": at_most(1.15),
    "wren_score_over_forward": at_most(1.1),
    "wren_same_tokens": at_least(1),
    "gpt2_repeng_over_ours": at_least(4),
    "gpt2_same_tokens": at_least(1),
}
COEFFICIENTS = tuple(np.linspace(-2, 2, 33).tolist())


@dataclass(frozen=True)
class Size:
    """How much is measured: the sweep, the rounds, and how many texts the slow peers write.

    parts   generation alone and scoring alone; `by_hand` and `beside` (figures without a target)
            likewise say what takes part
    """

    coefficients: tuple[float, ...]
    prompts: int
    new_tokens: int
    rounds: int
    repeng: int
    every_prefix: int = 0
    by_hand: bool = True
    parts: bool = True
    beside: bool = True

    @property
    def texts(self) -> int:
        return len(self.coefficients) * self.prompts

    def __str__(self) -> str:
        said = (
            f"{len(self.coefficients)} coefficients x {self.prompts} prompts x {self.new_tokens} "
            f"tokens, {self.rounds} rounds"
        )
        if self.repeng < self.texts:
            said += f"; repeng on {self.repeng} of {self.texts} texts, its time scaled up"
        return said


WREN_FULL = Size(COEFFICIENTS, 8, 32, 5, 264, 33)
WREN_QUICK = Size(COEFFICIENTS, 4, 32, 3, 6, beside=False)
GPT2_FULL = Size(COEFFICIENTS, 8, 32, 5, 264, parts=False, beside=False)
GPT2_QUICK = Size(COEFFICIENTS[::4], 4, 8, 2, 3, by_hand=False, parts=False, beside=False)


@dataclass(frozen=True, eq=False)
class Setting:
    """A model twice, traced and plain (so that no tracer's hooks slow the peers), and a vector."""

    lm: Any
    plain: Any
    vector: Any
    prompts: Sequence[str]

    @property
    def tokenizer(self) -> Any:
        return self.lm.tokenizer

    def task(self, size: Size) -> Task:
        (own,) = self.vector.at(1.0)
        return Task(
            prompts=tuple(self.prompts[: size.prompts]),
            coefficients=size.coefficients,
            layer=own.layer,
            direction=own.update.direction,
            new_tokens=size.new_tokens,
        )


def wren_setting(name: str) -> Setting:
    from transformers import AutoModelForCausalLM

    from workbench.contrast import pairs
    from workbench.extraction.extract import extract
    from workbench.loading import checkpoints, models
    from workbench.wren import open_prompts

    lm = models.load(name)
    source, _ = checkpoints.locate(name, "")
    plain = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    mood = pairs.load("wren-mood")[:32]
    vector = extract(lm, mood, layer=lm.layers // 2, cache=False, quiet=True)
    return Setting(lm, plain, vector, open_prompts("mood", 8, seed=1))


def gpt2_setting(**config: Any) -> Setting:
    """A random GPT-2, by default of the small one's size, with a made-up word for every token.

    Its weights are drawn with a standard deviation of 0.05: with GPT-2's own 0.02 a random model's
    logits lie so close together that nothing could be said about equal tokens.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from workbench.extraction.extract import with_norms
    from workbench.loading import models
    from workbench.vectors.steering_vector import SteeringVector

    torch.manual_seed(0)
    end = config.get("vocab_size", 50257) - 1
    settings = {"initializer_range": 0.05, "bos_token_id": end, "eos_token_id": end, **config}
    plain = GPT2LMHeadModel(GPT2Config(**settings)).eval()
    words = {f"w{i}": i for i in range(end)} | {"<|endoftext|>": end}
    base = Tokenizer(WordLevel(words, unk_token="w0"))
    base.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=base, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    rng = np.random.default_rng(0)
    prompts = [" ".join(f"w{i}" for i in rng.integers(end, size=6 + n)) for n in range(8)]
    lm = models.load(copy.deepcopy(plain), tokenizer=tokenizer)
    direction = torch.randn(lm.width)
    vector = SteeringVector({lm.layers // 2: direction}, {}, lm.name, "", "random", lm.layers // 2)
    return Setting(lm, plain, with_norms(vector, lm, prompts), prompts)


# ---- the contestants ----------------------------------------------------------------------------


def write(setting: Setting, size: Size) -> Any:
    """Our greedy texts, by generation alone."""
    from workbench.generation.generate import generate

    task = setting.task(size)
    return generate(
        setting.lm,
        [prompt for prompt, _ in task.cells],
        setting.vector.at(coefficients(task)),
        new_tokens=size.new_tokens,
        score=False,
    )


def coefficients(task: Task) -> torch.Tensor:
    return torch.tensor([c for _, c in task.cells])


def contestants(setting: Setting, size: Size, written: Any) -> dict[str, Contestant]:
    """Everything that is timed, by name. `written` is what `write` returns."""
    from workbench.forward import tracing
    from workbench.generation.generate import generate
    from workbench.generation.scoring import score
    from workbench.sweeps.sweep import sweep

    lm, plain, words, task = setting.lm, setting.plain, setting.tokenizer, setting.task(size)

    def ours(kl: bool) -> Callable[[], Any]:
        return lambda: sweep(
            lm,
            setting.vector,
            list(task.prompts),
            task.coefficients,
            new_tokens=size.new_tokens,
            kl=kl,
            progress=False,
        )

    def loop(count: int, every_prefix: bool) -> Contestant:
        chosen = spread(size.texts, count)
        return Contestant(
            lambda: peers.repeng_loop(plain, words, task, chosen, every_prefix=every_prefix),
            size.texts / count,
        )

    made = {"sweep": Contestant(ours(False)), "repeng": loop(size.repeng, False)}
    if size.by_hand:
        made["by hand"] = Contestant(lambda: peers.by_hand(plain, words, task))
    if size.every_prefix:
        made["repeng, every prefix"] = loop(size.every_prefix, True)
    if not size.parts:
        return made

    batch, steered = written.batch, setting.vector.at(coefficients(task))
    longest = int(written.lengths.max())
    texts = batch.extend(written.ids[:, :longest], written.lengths, written.texts)
    attention, all_attention = batch.attention.long(), texts.attention.long()
    if size.beside:
        made["sweep with kl"] = Contestant(ours(True))
        made["generate and score"] = Contestant(
            lambda: generate(lm, batch, steered, new_tokens=size.new_tokens)
        )
    return made | {
        "generate": Contestant(
            lambda: generate(lm, batch, steered, new_tokens=size.new_tokens, score=False)
        ),
        "plain generate": Contestant(
            lambda: peers.plain_generate(plain, batch.ids, attention, size.new_tokens)
        ),
        "score": Contestant(lambda: tracing.logprobs(lm, texts)),
        "score, with excess": Contestant(lambda: score(lm, texts)),
        "plain forward": Contestant(
            lambda: peers.plain_forward(plain, texts.ids, all_attention, longest + 1)
        ),
    }


def spread(texts: int, count: int) -> list[int]:
    """`count` of the texts, evenly over prompts and coefficients."""
    return [int((i + 0.5) * texts / count) for i in range(count)]


NOTES = {
    "sweep": "the whole of workbench.sweep, without the divergence (kl=False)",
    "by hand": "one batch under a forward hook, then one scoring forward",
    "repeng": "one text at a time, scored in one pass",
    "repeng, every prefix": "one text at a time, one pass for each prefix of the text",
    "sweep with kl": "one more forward; nothing here does the same",
    "generate and score": "workbench.generate",
    "generate": "workbench.generate, score=False",
    "plain generate": "transformers, the same batch, unsteered",
    "score": "tracing.logprobs",
    "score, with excess": "what a sweep runs: entropy and echoes as well",
    "plain forward": "transformers, the same tokens, logits of the same columns",
}


# ---- the same texts -----------------------------------------------------------------------------


def same_tokens(
    setting: Setting, size: Size, written: Any, results: Mapping[str, Any]
) -> dict[str, peers.Agreement]:
    """Our texts beside those of the peers, by peer.

    Raises ValueError where the sweep has another text than generation alone, or a peer another
    score for the same text.
    """
    plain, words, task = setting.plain, setting.tokenizer, setting.task(size)
    frame = results["sweep"]
    if frame["text"].tolist() != list(written.texts):
        raise ValueError("the sweep's texts are not those of generation alone")
    ids = [row[:n] for row, n in zip(written.ids.tolist(), written.lengths.tolist(), strict=True)]
    everything = range(size.texts)
    chosen = {"by hand": everything, "repeng": spread(size.texts, size.repeng)}
    found = {}
    for name in chosen.keys() & results.keys():
        peer: peers.Written = results[name]
        own = [ids[i] for i in chosen[name]]
        margins = peers.margin_of(plain, words, task, chosen[name])
        found[name] = peers.agreement(own, peer.ids, margins)
        for index, peer_ids, score in zip(chosen[name], peer.ids, peer.scores, strict=True):
            gap = abs(frame["logprob_unsteered"].iloc[index] - score)
            if ids[index] == peer_ids and gap >= 1e-3:
                text = written.texts[index]
                raise ValueError(f"{name} scores {text!r} {score}, the sweep {gap} apart")
    return found


# ---- one model ----------------------------------------------------------------------------------


def measure(name: str, setting: Setting, size: Size) -> dict[str, Any]:
    """Figures of one model, their names beginning with its name; prints its tables."""
    print(f"\n## {name}: {size}", flush=True)
    written = write(setting, size)
    made = contestants(setting, size, written)
    watched = [each for each in ("sweep", "by hand", "sweep with kl") if each in made]
    peaks = {each: timing.peak_growth(made[each].run) for each in watched if size.parts}
    times = timing.interleave(made, size.rounds)
    results = {each: times[each].result for each in times}
    found = same_tokens(setting, size, written, results)
    for peer, agreed in found.items():
        print(f"greedy texts, ours and {peer}: {agreed}", flush=True)
    if peaks:
        timing.show("peak memory above the loaded model, MiB", list(peaks), [list(peaks.values())])
    timing.show_times("seconds for all texts", times, NOTES)
    rows = [
        ("repeng_over_ours", "repeng", "sweep"),
        ("every_prefix_over_ours", "repeng, every prefix", "sweep"),
        ("ours_over_by_hand", "sweep", "by hand"),
        ("ours_with_kl_over_by_hand", "sweep with kl", "by hand"),
        ("generate_and_score_over_by_hand", "generate and score", "by hand"),
        ("generate_over_plain", "generate", "plain generate"),
        ("score_over_forward", "score", "plain forward"),
        ("full_score_over_forward", "score, with excess", "plain forward"),
    ]
    rows = [row for row in rows if row[1] in times and row[2] in times]
    timing.show_ratios(times, rows)
    return {
        **{f"{name}_{key}": timing.ratio(times, over, under) for key, over, under in rows},
        f"{name}_same_tokens": all(agreed.different == 0 for agreed in found.values()),
        **{f"{name}_peak_mib_{key.replace(' ', '_')}": peak for key, peak in peaks.items()},
        f"{name}_seconds": times["sweep"].median,
        f"{name}_measured": str(size),
    }


def arguments() -> Any:
    parser = timing.parser("How fast a sweep is.")
    parser.add_argument("--only", choices=("wren", "gpt2"), help="leave the other model out")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    torch.set_num_threads(args.threads)
    peers.quietly()
    figures: dict[str, Any] = {}
    if args.only != "gpt2":
        size = WREN_QUICK if args.quick else WREN_FULL
        figures |= measure("wren", wren_setting(args.model), size)
    if args.only != "wren":
        size = GPT2_QUICK if args.quick else GPT2_FULL
        figures |= measure("gpt2", gpt2_setting(), size)
    settings = {"quick": args.quick, "threads": args.threads, "model": args.model}
    return timing.finish("sweep", figures, TARGETS, settings)


if __name__ == "__main__":
    sys.exit(main())
