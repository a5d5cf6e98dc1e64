"""lm-evaluation-harness on any model of this package, an edited one included: what steering costs.

    from workbench.harness import Harness
    simple_evaluate(Harness(edit(lm, vector.at(2.0))), tasks=[…])

Texts are cut, and contexts and continuations joined, by the harness's own code for Hugging Face
models; only the forwards are ours. So an edited model's figures stand beside those that others
report, and those of a baked checkpoint are the harness's own (`--model hf`) for the same model.
Gao et al., "The Language Model Evaluation Harness", https://zenodo.org/records/12608602.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.forward import tracing
from workbench.forward.steering import place
from workbench.generation.generate import generate
from workbench.statistics.distributions import chosen_logprobs
from workbench.text import positions
from workbench.text.tokens import from_ids

try:
    from lm_eval import utils  # pyright: ignore[reportMissingImports]
    from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
    from lm_eval.models.utils import (  # pyright: ignore[reportMissingImports]
        handle_stop_sequences,
        normalize_gen_kwargs,
    )
except ImportError as error:
    raise ImportError(
        "lm-evaluation-harness is not installed: pip install -e '.[harness]' (in an environment "
        "of its own: it needs other versions than constraints.txt has)"
    ) from error

if TYPE_CHECKING:
    from workbench.loading.models import LM

_BY_NUMBER = (positions.everything, positions.prompt, positions.generated, positions.last)
_COUNTED = (positions.Token, positions.Nth)
_KNOWN = {"do_sample", "temperature", "top_p", "until", "max_gen_toks"}


class Harness(TemplateLM):
    """A model as the harness sees it; `seed` is of texts that a task wants sampled.

    Raises ValueError for edits at positions that may look at the text, of which the harness gives
    tokens, cut already; and, when it is asked for the likelihood of whole texts (perplexity), for
    edits of the prompt alone, as such texts have none.
    """

    def __init__(self, lm: LM, *, seed: int = 0) -> None:
        super().__init__()
        for each in lm.edits:
            if each.positions not in _BY_NUMBER and not isinstance(each.positions, _COUNTED):
                raise ValueError(
                    f"positions {each.positions!r} may look at the text, the harness gives tokens; "
                    "edit at everything, prompt, generated, last, token(-k) or nth(k)"
                )
        self.lm, self.seed = lm, seed
        self.tokenizer: Any = lm.tokenizer

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else first

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    @property
    def most(self) -> int:
        """Tokens that a model reads at once, as the harness has it for the same model."""
        limit = self.lm.context or self.tokenizer.model_max_length
        # A tokenizer that knows no limit has a number beyond all texts.
        return limit if limit < 1 << 30 else 2048

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids; the tokenizer's own special tokens unless the text begins with them."""
        if add_special_tokens is None:
            begun = string.startswith(self.tokenizer.decode(self.prefix_token_id))
            add_special_tokens = not begun
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """log P of each continuation in nats, and whether greedy decoding would write it."""
        rows = []
        for _, context, continuation in requests:
            if not 1 <= len(continuation) <= self.most:
                raise ValueError(
                    f"a continuation of {len(continuation)} tokens; it has 1 at least, and at most "
                    f"the context of {self.most}"
                )
            # The last token is not read: a row may be as long as the context without it.
            rows.append((context[-(self.most + 1 - len(continuation)) :], continuation))
        found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
        for chosen in _chunks([len(a) + len(b) for a, b in rows]):
            contexts, answers = zip(*(rows[i] for i in chosen), strict=True)
            for i, each in zip(chosen, self._score(contexts, answers), strict=True):
                found[i] = each
        for request, each in zip(requests, found, strict=True):
            if request[0] is not None:
                self.cache_hook.add_partial("loglikelihood", request[0], each)
        return found

    @torch.no_grad()
    def _score(
        self, contexts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> Iterator[tuple[float, bool]]:
        batch = from_ids(self.lm, contexts, [answer[:-1] for answer in answers])
        # The columns before each token of a row's answer: from its context's last one on.
        first = int(batch.starts.min()) - 1
        own = torch.arange(first, batch.width) >= batch.starts[:, None] - 1
        wanted = torch.zeros_like(own, dtype=torch.long)
        wanted[own] = torch.tensor([token for answer in answers for token in answer])
        targets = place(self.lm, wanted)

        def finish(logits: Tensor) -> Tensor:
            there = targets.to(logits.device)
            best = logits.argmax(dim=-1) == there
            return torch.stack([chosen_logprobs(logits, there), best.float()])

        keep = batch.width - first
        scores, greedy = tracing.forward(self.lm, batch, (), finish, keep=keep).cpu()
        totals = scores.double().masked_fill(~own, 0).sum(dim=1)
        yield from zip(totals.tolist(), (greedy.bool() | ~own).all(dim=1).tolist(), strict=True)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """log P of whole texts, in windows of the context where they are longer.

        Raises ValueError for edits of a prompt alone: a window's is one token.
        """
        for each in self.lm.edits:
            if not each.positions.generated:
                raise ValueError(
                    f"whole texts have no prompt: an edit at {each.positions!r} would steer one "
                    "token of each window; edit at everything or generated"
                )
        totals = []
        for (text,) in (each.args for each in requests):
            windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.most,
                context_len=1,
            )
            pairs: Any = [(None, *utils.make_disjoint_window(each)) for each in windows]
            totals.append(sum(score for score, _ in self._loglikelihood_tokens(pairs)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), totals[-1])
        return totals

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Continuations, each cut at the first of its request's stop strings.

        Raises ValueError for settings that are not known here, and where what is to be written
        fills the context.
        """
        asked = [(each.args[0], normalize_gen_kwargs(each.args[1])) for each in requests]
        for _, how in asked:
            if set(how) - _KNOWN:
                raise ValueError(
                    f"{sorted(set(how) - _KNOWN)} are not known; only {sorted(_KNOWN)}"
                )
            if how["max_gen_toks"] >= self.most:
                raise ValueError(
                    f"max_gen_toks={how['max_gen_toks']} leaves no room for a prompt in a context "
                    f"of {self.most}; ask for fewer"
                )
        made = [""] * len(asked)
        alike: dict[str, list[int]] = {}
        for i, (_, how) in enumerate(asked):
            alike.setdefault(repr(sorted(how.items())), []).append(i)
        ends = self.tokenizer.decode(self.eot_token_id)
        for group in alike.values():
            how: Any = asked[group[0]][1]
            room = how["max_gen_toks"]
            ids = [self.tok_encode(asked[i][0])[-(self.most - room) :] for i in group]
            sampled = {"temperature": how.get("temperature", 0.0), "top_p": how.get("top_p", 1.0)}
            stops = handle_stop_sequences(list(how["until"]), eos=ends)
            for chosen in _chunks([len(each) + room for each in ids]):
                batch = from_ids(self.lm, [ids[i] for i in chosen], new_tokens=room)
                found = generate(
                    self.lm,
                    batch,
                    new_tokens=room,
                    seed=self.seed,
                    streams=[group[i] for i in chosen],
                    score=False,
                    **(sampled if how["do_sample"] else {}),
                )
                for i, text in zip(chosen, found.texts, strict=True):
                    made[group[i]] = _cut(text, stops)
        for each, text in zip(requests, made, strict=True):
            self.cache_hook.add_partial("generate_until", each.args, text)
        return made


def _cut(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0] if stop else text
    return text


def _chunks(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows of about one length together, as many as one forward takes."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        count = max(1, tracing.TOKENS // lengths[order[0]])
        yield order[:count]
        order = order[count:]
