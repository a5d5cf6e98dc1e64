"""The reference report's comparison of metrics: one thing varied at a time, each metric against the
exact coherence.

The report (Steering Vector Coefficient Selection, 2025) varies the model that reads, temperature,
repetition penalty, the number of tokens, the kind of prompt, and base against instruct style.
metrics.py holds the metrics themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from workbench.judges import Judge
from workbench.sweeps.metrics import areas, measured
from workbench.text.tokens import Prompt
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM


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
    common = set.intersection(*(set(own) for own in prompts.values()))
    groups: dict[Setting, list[Setting]] = {}
    for setting in settings:
        if setting.prompts in common:
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
                new_tokens=new_tokens,
                temperature=texts.temperature,
                repetition_penalty=texts.repetition_penalty,
                reads=reads,
                seed=seed,
            )
            frames.append(
                frame.assign(
                    prompt_index=trait + frame["prompt_index"].astype(str),
                    stratum=trait + frame["coefficient"].astype(str),
                )
            )
        everything = pd.concat(frames, ignore_index=True)
        for member, read in zip(members, reads, strict=True):
            found[member.name] = areas(everything[everything["read"] == read], seed=seed)
    rows = [found[each.name].assign(setting=each.name) for each in settings if each.name in found]
    table = pd.concat(rows, ignore_index=True)
    return table[["setting", *table.columns.drop("setting")]]


def _openings(lm: LM) -> tuple[str, ...]:
    """How the model's chat template begins a message, of the user or of another role; none without
    a template. Templates that refuse a system message, or add one of their own, are no obstacle:
    a role's mark is what stands before the first message's content."""
    if not getattr(lm.tokenizer, "chat_template", None):
        return ()
    first, second = "\x00one\x00", "\x00two\x00"
    found = set()
    for roles in (("user", "assistant"), ("system", "user")):
        chat = [{"role": r, "content": c} for r, c in zip(roles, (first, second), strict=True)]
        try:
            text = str(lm.tokenizer.apply_chat_template(chat, tokenize=False))
        except Exception:  # whatever a template raises for a role that it does not know
            continue
        before = text.partition(first)[0].removeprefix(str(lm.tokenizer.bos_token or ""))
        if before.strip():
            found.add(before.strip())
    return tuple(found)


def said(table: pd.DataFrame) -> str:
    """In words, what `compare` found in its first setting, and from the first token alone."""
    first = table["setting"].iloc[0]

    def words(metric: str, setting: str = first) -> str:
        row = table[(table["metric"] == metric) & (table["setting"] == setting)].iloc[0]
        return f"{row['area']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"

    row = table[(table["metric"] == "surprisal_unsteered") & (table["setting"] == first)].iloc[0]
    lines = (
        f"Of two texts at the same coefficient, one that holds and one that does not, the "
        f"log-probability per token under the unsteered model names the right one with probability "
        f"{words('surprisal_unsteered')} ({first}, {row['pairs']} pairs); under the steered model, "
        f"{words('surprisal_steered')}; the steered model's entropy, {words('entropy_steered')}; "
        f"repeated 3-grams, {words('repetition')}. Across coefficients the first of these reaches "
        f"{row['pooled']:.2f}, but the size of the coefficient alone {row['pooled_size']:.2f}."
    )
    alone = [each.name for each in SETTINGS if each.read == 1]
    if alone and alone[0] in set(table["setting"]):
        lines += (
            f" The first token alone says {words('surprisal_unsteered', alone[0])}, where 0.5 is "
            "chance."
        )
    return lines
