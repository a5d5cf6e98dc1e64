"""What could be watched in place of a judge while a coefficient grows, and how well each tells
texts that hold from texts that do not.

A *metric* is a number per text that needs no judge, each counted so that more means worse:

surprisal     -log P, mean over tokens. Cross-entropy is the same, perplexity its exponential: what
              ranks texts by one ranks them by all three
sequence      -log P of the whole text, the sum
entropy       of the next-token distribution, mean over tokens
repetition    1 - distinct 3-grams over all of them
+ entropy     surprisal plus entropy (the logarithm of perplexity, made worse by doubt)
+ repetition  surprisal plus repetition
echo          -log P(next token = this token), mean over tokens: ALERT's score as its code has it

All but the last two can be read under the unsteered model or under the steered one that wrote the
text. These are the metrics that the reference report compares (Steering Vector Coefficient
Selection, 2025); its settings are varied by `compare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor

from workbench import judges, scoring
from workbench.checks import check_whole
from workbench.generate import generate
from workbench.intervals import Floats, percentiles, resamples
from workbench.judges import Judge
from workbench.measures import distinct
from workbench.study import HOLDS
from workbench.tokens import Prompt
from workbench.vectors import SteeringVector

if TYPE_CHECKING:
    from workbench.models import LM

#: The metrics' columns, and in words; a word "steered" or "unsteered" says which model reads.
METRICS: Mapping[str, str] = MappingProxyType(
    {
        f"{metric}_{reader}": f"{words}, {reader} model"
        for metric, words in {
            "surprisal": "−log-probability per token",
            "sequence": "−log-probability of the text",
            "entropy": "entropy",
            "surprisal_entropy": "−log-probability + entropy",
            "surprisal_repetition": "−log-probability + repetition",
        }.items()
        for reader in ("unsteered", "steered")
    }
    | {"repetition": "repeated 3-grams", "echo": "ALERT as coded, unsteered model"}
)
TOGETHER = 128  # texts of one batch


@dataclass(frozen=True)
class Setting:
    """One way to write and read the texts of a comparison.

    name                in words
    prompts             which of the prompts that `compare` is given
    read                how many of a text's first tokens a metric sees; None: all
    """

    name: str
    prompts: str = "open"
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    read: int | None = None


#: What the reference report varies, one thing at a time from the first.
SETTINGS: tuple[Setting, ...] = (
    Setting("sampled, all tokens"),
    Setting("temperature 0.7", temperature=0.7),
    Setting("greedy", temperature=0.0),
    Setting("greedy, repetition penalty 1.1", temperature=0.0, repetition_penalty=1.1),
    Setting("first token only", read=1),
    Setting("first 8 tokens", read=8),
    Setting("first 24 tokens", read=24),
    Setting("plain text (base style)", prompts="plain"),
    Setting("chat (instruct style)", prompts="chat"),
    Setting("prompt asks for the trait", prompts="asking"),
)


def measured(
    lm: LM,
    vector: SteeringVector,
    prompts: Sequence[Prompt],
    coefficients: Sequence[float],
    *,
    judge: Judge,
    trait: str,
    setting: Setting = SETTINGS[0],
    reads: Sequence[int] = (),
    new_tokens: int = 48,
    seed: int = 0,
) -> pd.DataFrame:
    """Texts at every coefficient, with every metric and a judge's coherence.

    coefficients  in residual norms; those of one prompt share their sampling noise
    judge, trait  who says whether a text holds, see `judges`
    reads         numbers of first tokens that the metrics see, one set of rows for each; by
                  default that of the setting
    new_tokens    the most tokens of a text

    One row per text and read: `prompt_index`, `coefficient`, `text`, `read` (tokens), the columns
    of `METRICS` (nats, but for repetition), `coherence` and `holds` (coherence of at least a half).
    Texts whose coherence the judge does not know are left out.
    """
    check_whole("new_tokens", new_tokens, 1)
    reads = list(reads) or [setting.read or new_tokens]
    places = [(p, float(c)) for c in coefficients for p in range(len(prompts))]
    frames = []
    for start in range(0, len(places), TOGETHER):
        some = places[start : start + TOGETHER]
        made = generate(
            lm,
            [prompts[p] for p, _ in some],
            vector.at(torch.tensor([c for _, c in some]), unit="norm"),
            new_tokens=new_tokens,
            temperature=setting.temperature,
            repetition_penalty=setting.repetition_penalty,
            seed=seed,
            streams=[p for p, _ in some],
            score=False,
        )
        longest = int(made.lengths.max())
        written = made.batch.extend(made.ids[:, :longest], made.lengths, made.texts)
        scores = scoring.score(lm, written)
        verdict = judges.score(
            made.texts, [prompt.text for prompt in made.batch.prompts], trait, by=judge
        )
        for read in reads:
            seen = slice(0, read)
            columns = {
                **_read(scores.logprobs[:, seen], scores.entropy[:, seen], "unsteered"),
                **_read(made.logprobs_steered[:, seen], made.entropy[:, seen], "steered"),
            }
            lengths = made.lengths.clamp(max=read).numpy()
            again = 1 - np.nan_to_num(distinct(made.ids[:, seen].numpy(), lengths, 3), nan=1.0)
            frame = pd.DataFrame(
                {
                    "prompt_index": [p for p, _ in some],
                    "coefficient": [c for _, c in some],
                    "text": made.texts,
                    "read": read,
                    **columns,
                    **{
                        f"surprisal_repetition_{reader}": columns[f"surprisal_{reader}"] + again
                        for reader in ("unsteered", "steered")
                    },
                    "repetition": again,
                    "echo": -scores.echoes[:, seen].double().nanmean(dim=1).numpy(),
                    "coherence": verdict["coherence"].to_numpy(),
                }
            )
            frames.append(frame)
    table = pd.concat(frames, ignore_index=True).dropna(subset=["coherence"])
    return table.assign(holds=table["coherence"] >= HOLDS).reset_index(drop=True)


def kinds(
    lm: LM, leaving: Sequence[Prompt], asking: Sequence[Prompt] = (), *, count: int = 16
) -> dict[str, Sequence[Prompt]]:
    """Prompts as `compare` takes them, the first `count` of each kind: "open" (those that leave
    the trait open, as they come), of these "plain" and "chat" (messages, or text that begins with
    one of the template's own marks), and "asking". A kind without prompts is left out."""
    openings = _openings(lm)

    def is_chat(prompt: Prompt) -> bool:
        return not isinstance(prompt, str) or prompt.startswith(openings)

    found = {
        "open": leaving,
        "plain": [prompt for prompt in leaving if not is_chat(prompt)],
        "chat": [prompt for prompt in leaving if is_chat(prompt)],
        "asking": asking,
    }
    return {kind: prompts[:count] for kind, prompts in found.items() if len(prompts)}


def compare(
    lm: LM,
    vectors: Mapping[str, SteeringVector],
    prompts: Mapping[str, Mapping[str, Sequence[Prompt]]],
    coefficients: Sequence[float],
    *,
    judge: Judge,
    settings: Sequence[Setting] = SETTINGS,
    new_tokens: int = 48,
    seed: int = 0,
) -> pd.DataFrame:
    """How well each metric tells texts that hold from those that do not, in each setting.

    vectors  trait -> vector
    prompts  trait -> kind (as settings name them) -> prompts; settings whose kind of prompts is
             missing are left out

    The rows of `areas`, with the setting's name first as `setting`. Settings that differ only in
    how much is read share their texts.
    """
    kinds = set.intersection(*(set(kinds) for kinds in prompts.values()))
    groups: dict[Setting, list[Setting]] = {}
    for setting in settings:
        if setting.prompts in kinds:
            texts = Setting("", setting.prompts, setting.temperature, setting.repetition_penalty)
            groups.setdefault(texts, []).append(setting)
    found = {}
    for texts, members in groups.items():
        reads = [member.read or new_tokens for member in members]
        frames = []
        for trait, vector in vectors.items():
            frame = measured(
                lm,
                vector,
                prompts[trait][texts.prompts],
                coefficients,
                judge=judge,
                trait=trait,
                setting=texts,
                reads=reads,
                new_tokens=new_tokens,
                seed=seed,
            )
            frames.append(frame.assign(prompt_index=trait + frame["prompt_index"].astype(str)))
        everything = pd.concat(frames, ignore_index=True)
        for member, read in zip(members, reads, strict=True):
            found[member.name] = areas(everything[everything["read"] == read], seed=seed)
    return pd.concat(
        [found[each.name].assign(setting=each.name) for each in settings if each.name in found],
        ignore_index=True,
    )[["setting", "metric", "area", "low", "high", "texts", "prompts"]]


def areas(frame: pd.DataFrame, *, seed: int = 0, size: int = 400) -> pd.DataFrame:
    """For each metric the area under the curve: how often a text that does not hold scores worse
    than one that holds, ties counted half. 0.5: no better than chance; below: the wrong way.

    frame  as `measured` gives it

    One row per metric: `metric`, `area`, `low` and `high` (95 %, a bootstrap over prompts),
    `texts`, `prompts`.
    """
    names, code = np.unique(frame["prompt_index"].astype(str), return_inverse=True)
    weights = resamples(len(names), size, np.random.default_rng(seed))[:, code]
    broken = ~frame["holds"].to_numpy(dtype=bool)
    rows = []
    for metric in METRICS:
        values = frame[metric].to_numpy(dtype=float)
        low, high = _ends(values, broken, weights)
        rows.append((metric, area(values, broken), low, high, len(frame), len(names)))
    return pd.DataFrame(rows, columns=["metric", "area", "low", "high", "texts", "prompts"])


def _openings(lm: LM) -> tuple[str, ...]:
    """How the model's chat template begins a system and a user message; none without a template."""
    if not getattr(lm.tokenizer, "chat_template", None):
        return ()
    found = []
    for role in ("system", "user"):
        message = [{"role": role, "content": "\x00"}]
        text = str(lm.tokenizer.apply_chat_template(message, tokenize=False))
        found.append(text.split("\x00")[0].removeprefix(lm.tokenizer.bos_token or "").strip())
    return tuple(opening for opening in found if opening)


def said(table: pd.DataFrame) -> str:
    """In words, what `compare` found in its first setting, and from the first token alone."""
    first = table["setting"].iloc[0]

    def words(metric: str, setting: str = first) -> str:
        row = table[(table["metric"] == metric) & (table["setting"] == setting)].iloc[0]
        return f"{row['area']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"

    lines = (
        f"Of two texts, one that holds and one that does not, the log-probability per token under "
        f"the unsteered model names the right one with probability "
        f"{words('surprisal_unsteered')} ({first}); under the steered model, "
        f"{words('surprisal_steered')}; the steered model's entropy, {words('entropy_steered')}; "
        f"repeated 3-grams, {words('repetition')}."
    )
    alone = [each.name for each in SETTINGS if each.read == 1]
    if alone and alone[0] in set(table["setting"]):
        lines += (
            f" The first token alone says {words('surprisal_unsteered', alone[0])}, where 0.5 is "
            "chance."
        )
    return lines


def area(values: Floats, broken: np.ndarray) -> float:
    """The share of pairs (broken, whole) of texts (N,) whose broken one has the larger value, ties
    counted half; NaN where all are of one kind. Mann & Whitney 1947."""
    some = int(broken.sum())
    if some in (0, len(broken)):
        return float("nan")
    ranks = rankdata(values)[broken].sum()
    return float((ranks - some * (some + 1) / 2) / (some * (len(broken) - some)))


def _ends(values: Floats, broken: np.ndarray, weights: Floats) -> tuple[float, float]:
    """The ends of the 95 % interval of `area`; weights (R, N): how often each text is drawn."""
    order = np.argsort(values, kind="stable")
    places = np.unique(values[order], return_inverse=True)[1]
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    bad = np.add.reduceat((weights * broken)[:, order], starts, axis=1)
    good = np.add.reduceat((weights * ~broken)[:, order], starts, axis=1)
    below = np.cumsum(good, axis=1) - good / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = (bad * below).sum(axis=1) / (bad.sum(axis=1) * good.sum(axis=1))
    known = drawn[np.isfinite(drawn)]
    return percentiles(known, 0.95) if len(known) else (np.nan, np.nan)


def _read(logprobs: Tensor, entropy: Tensor, reader: str) -> dict[str, Floats]:
    """Metrics of one reader from token scores (B, n), NaN after a text's end."""
    surprisal = -logprobs.double().nanmean(dim=1).numpy()
    doubt = entropy.double().nanmean(dim=1).numpy()
    return {
        f"surprisal_{reader}": surprisal,
        f"sequence_{reader}": -logprobs.double().nansum(dim=1).numpy(),
        f"entropy_{reader}": doubt,
        f"surprisal_entropy_{reader}": surprisal + doubt,
    }
