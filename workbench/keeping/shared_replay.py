"""Whether a machine does what another did: stored generations are written again and compared.

Greedy texts part where two tokens are nearly as likely and the arithmetic differs in its last bit.
So beside the texts themselves the stored tokens' log-probabilities are compared, which do not jump.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from workbench.forward import tracing
from workbench.generation.generate import generate
from workbench.interventions.updates import Intervention
from workbench.support.versions import versions
from workbench.text.tokens import Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Of a log-probability, nats: what another processor may change, in float32 and in half precision.
TOLERANCE, TOLERANCE_COARSE = 1e-3, 0.1
# What must be the same for a vector to do the same.
REQUIRED = ("weights", "dtype", "template", "tokenizer")
# What shows how a tokenizer cuts, beside its vocabulary.
_PROBES = (
    "The quick brown fox, 1984 and 3.14.",
    "  two  spaces\n\tand a tab ",
    "naïve café — Ünïcödé 漢字 🙂",
    "<s>[INST] don't\u00a0stop</s>",
)


@dataclass(frozen=True, eq=False)
class Replay:
    """What `verify` found.

    surroundings  one row each of weights, dtype, template, tokenizer, device, attention kernel and
                  versions: `what`, `stored`, `here`, `same`
    generations   one row per stored text: `prompt`, `stored`, `here`, `same`, `parts_at` (the
                  first token that differs, NaN for none), `logprob` and `unsteered` (the largest
                  difference of a stored token's log-probability, nats, steered and not), `effect`
                  (by how much steering raises the mean log-probability of a stored token here,
                  nats; one that is near 0 verifies little)
    reason        why the texts could not be written here, so that all of that is empty; "" where
                  they were
    """

    surroundings: pd.DataFrame
    generations: pd.DataFrame
    reason: str = ""

    @property
    def verified(self) -> bool:
        """Whether the vector does here what it did there: the same weights, dtype, template and
        tokenizer, and every stored token as likely as it was, steered and not. Device, kernel and
        versions may differ."""
        where = self.surroundings.set_index("what")["same"]
        return self.close and all(bool(where[name]) for name in REQUIRED)

    @property
    def same(self) -> bool:
        """Whether every text came out again, token by token; of the surroundings it says
        nothing."""
        return bool(self.generations["same"].all())

    @property
    def close(self) -> bool:
        """Whether the stored tokens are as likely here, steered and not, to 1e-3 nats (0.1 where
        the card was made in half precision): where texts part although this is so, two tokens were
        as good as equally likely."""
        dtype = self.surroundings.set_index("what").at["dtype", "stored"]
        near = TOLERANCE if dtype in ("float32", "float64") else TOLERANCE_COARSE
        return bool((self.generations[["logprob", "unsteered"]] <= near).all(axis=None))

    def __repr__(self) -> str:
        if self.reason:
            return f"Replay(NOT verified: {self.reason})"
        said = "verified" if self.verified else "NOT verified"
        count, kept = int(self.generations["same"].sum()), len(self.generations)
        worst = self.generations[["logprob", "unsteered"]].max(axis=None)
        differ = self.surroundings[~self.surroundings["same"]]["what"].tolist()
        return (
            f"Replay({said}: {count} of {kept} texts the same, log-probabilities within "
            f"{worst:.2g} nats; differs: {', '.join(differ) or 'nothing'})"
        )


def verify_card(lm: LM, card: Mapping[str, Any], steered: Sequence[Intervention]) -> Replay:
    """Write a card's generations again and compare, with what surrounds them. Chats that the model
    has no template for are not written: that is the result's `reason`.

    Raises ValueError for tokens that the model does not have.
    """
    here = {
        "weights": lm.fingerprint if lm.in_memory else "unknown",
        "dtype": str(lm.dtype).removeprefix("torch."),
        "template": template_hash(lm.tokenizer),
        "tokenizer": tokenizer_hash(lm.tokenizer),
        "device": lm.device.type,
        "attention": attention_kernel(lm),
        **versions(),
    }
    stored = {
        "weights": card["fingerprint"],
        **{name: card[name] for name in ("dtype", "template", "tokenizer", "device", "attention")},
        **card["versions"],
    }
    surroundings = pd.DataFrame(
        [
            {"what": what, "stored": value, "here": here.get(what), "same": here.get(what) == value}
            for what, value in stored.items()
        ]
    )
    kept = card["generations"]
    highest = max(max(each["ids"]) for each in kept)
    if highest >= lm.vocabulary:
        raise ValueError(
            f"the card's texts have the token {highest}, {lm.name!r} has {lm.vocabulary}; it "
            "belongs to another model"
        )
    prompts = [each["prompt"] for each in kept]
    if not here["template"] and not all(isinstance(each, str) for each in prompts):
        return Replay(
            surroundings,
            pd.DataFrame([_row(each) for each in kept]),
            f"the card's texts answer chats, and the tokenizer of {lm.name!r} has no chat template "
            "to write them by; load the model with the one that the card was made with",
        )
    longest = max(int(each["new_tokens"]) for each in kept)
    made = generate(lm, prompts, steered, new_tokens=longest, score=False)
    scores = stored_scores(lm, prompts, [each["ids"] for each in kept], steered)
    rows = []
    for row, each in enumerate(kept):
        ids = made.ids[row, : int(made.lengths[row])].tolist()[: int(each["new_tokens"])]
        own = {name: values[row] for name, values in scores.items()}
        apart = {
            name: float((values - torch.tensor(each[name])).abs().max())
            for name, values in own.items()
        }
        pairs = zip(ids, each["ids"], strict=False)
        parts = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        if parts is None and len(ids) != len(each["ids"]):
            parts = min(len(ids), len(each["ids"]))
        rows.append(
            _row(each)
            | {
                "here": made.texts[row],
                "same": parts is None,
                "parts_at": math.nan if parts is None else parts,
                "logprob": apart["logprobs"],
                "unsteered": apart["logprobs_unsteered"],
                "effect": float((own["logprobs"] - own["logprobs_unsteered"]).mean()),
            }
        )
    return Replay(surroundings, pd.DataFrame(rows))


def _row(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `Replay.generations` of a text that was not written again."""
    return {
        "prompt": str(stored["prompt"]),
        "stored": stored["text"],
        "here": "",
        "same": False,
        **dict.fromkeys(("parts_at", "logprob", "unsteered", "effect"), math.nan),
    }


def stored_scores(
    lm: LM, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], steered: Sequence[Intervention]
) -> dict[str, list[Tensor]]:
    """Of each written token its log-probability, steered and not, a tensor for each text.

    Raises ValueError for one that is no number.
    """
    written = encode(lm, prompts, ids)
    found = {}
    for name, edits in (("logprobs", steered), ("logprobs_unsteered", ())):
        values = tracing.logprobs(lm, written, edits)
        rows = [row[own] for row, own in zip(values, written.completion, strict=True)]
        if not all(bool(row.isfinite().all()) for row in rows):
            raise ValueError(
                f"{lm.name!r} gives a written token a log-probability that is no number: its "
                "streams overflow in this precision; load it in bfloat16 or float32"
            )
        found[name] = rows
    return found


def attention_kernel(lm: LM) -> str:
    """By which of transformers' implementations the model attends."""
    return str(getattr(lm.model.config, "_attn_implementation", None) or "unknown")


def template_hash(tokenizer: Any) -> str:
    """sha256 of the chat template; "" where there is none."""
    template = getattr(tokenizer, "chat_template", None)
    return hashlib.sha256(json.dumps(template).encode()).hexdigest() if template else ""


def tokenizer_hash(tokenizer: Any) -> str:
    """sha256 of the vocabulary and of how some texts are cut: what a tokenizer does, however its
    files are written."""
    words = sorted(tokenizer.get_vocab().items())
    cut = [tokenizer(text)["input_ids"] for text in _PROBES]
    return hashlib.sha256(json.dumps([words, cut]).encode()).hexdigest()
