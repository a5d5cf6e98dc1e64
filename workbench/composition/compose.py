"""Several properties at once, each as strongly as its own schedule says at every step.

Per step one pass over rows (unsteered, property 1 alone, …, property n alone) of all prompts, from
which schedules take their coefficients, and one pass with all properties together, whose token is
written. Every row keeps its own cache, and what is added at a token stays: so this is exactly what
running the whole text again at every step would give. The prompts but for their last token are run
once for all rows. Scalena et al. 2024,
https://arxiv.org/abs/2406.17563.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pandas as pd
import torch
from torch import Tensor

from workbench.composition.checks import check_kinds, check_numbers, check_properties, check_rows
from workbench.composition.schedules import Schedule, Seen
from workbench.forward import decoding
from workbench.forward.caching import decoding_cache, select_rows
from workbench.forward.steering import Plan, check_interventions, place
from workbench.generation.generate import end_ids, text_lengths
from workbench.generation.sampling import Chooser, Sampling, check_sampling, check_streams
from workbench.interventions.updates import AnyUpdate, Intervention, Place, per_row
from workbench.statistics.distributions import divergence, precise
from workbench.text.completions import decode_completions
from workbench.text.tokens import Batch, Prompt, pad_id, to_batch

if TYPE_CHECKING:
    from workbench.generation.live import Flag
    from workbench.loading.models import LM


# What a property adds at a step: updates by place, with what a coefficient of 1 scales each by.
Added: TypeAlias = Sequence[tuple[Place, AnyUpdate, float]]


class Property(Protocol):
    """What can be added at a step; nothing at steps that it does not know."""

    def at(self, step: int) -> Added: ...


@dataclass(frozen=True, eq=False)
class Same:
    """The same interventions at every step, such as `vector.at(1.0)` or those of a LoRA or a local
    weight; a schedule's coefficient multiplies theirs. Their positions are not asked: a property
    acts from the last token of the prompt on.

    Raises ValueError for what is no list of interventions, and for a coefficient that is not one
    number.
    """

    interventions: Sequence[Intervention]

    def __post_init__(self) -> None:
        if callable(getattr(self.interventions, "at", None)):
            raise ValueError(
                f"Same is of interventions, not of a {type(self.interventions).__name__}; give "
                "Same(vector.at(1.0))"
            )
        check_interventions(self.interventions)
        for each in self.interventions:
            if callable(each.coefficient) or per_row(each.coefficient).ndim:
                raise ValueError(
                    f"the coefficient {each.coefficient!r} is not one number: a schedule says how "
                    "strong a property is at each row and step"
                )

    def at(self, step: int) -> Added:
        return [
            (Place(each.layer, each.site), each.update, float(per_row(each.coefficient)))  # type: ignore[arg-type]
            for each in self.interventions
        ]


@dataclass(frozen=True, eq=False)
class Composed:
    """B texts of up to N tokens that were written with several properties.

    ids, lengths, texts, batch   as of `generate.Generation`
    coefficients                 property -> (B, N), NaN after a text's end
    logprobs                     (B, N) log P(token) under the composed model, nats
    kl                           (B, N) KL(composed || unsteered) of the next token, nats; None
                                 where no schedule looks at the unsteered model
    passes                       rows of which the model was asked the next token, at all steps
    """

    ids: Tensor
    lengths: Tensor
    texts: list[str]
    coefficients: Mapping[str, Tensor]
    logprobs: Tensor
    kl: Tensor | None
    passes: int
    batch: Batch = field(repr=False)

    def frame(self) -> pd.DataFrame:
        """One row per text, property and step: `row`, `step`, `token`, `property`, `coefficient`,
        `logprob`, `kl`."""
        rows = []
        for name, table in self.coefficients.items():
            for row, length in enumerate(self.lengths.tolist()):
                for step in range(length):
                    spent = float("nan") if self.kl is None else float(self.kl[row, step])
                    rows.append(
                        (row, step, int(self.ids[row, step]), name, float(table[row, step]),
                         float(self.logprobs[row, step]), spent)
                    )  # fmt: skip
        columns = ["row", "step", "token", "property", "coefficient", "logprob", "kl"]
        return pd.DataFrame(rows, columns=columns)


def compose(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    properties: Mapping[str, Property],
    schedules: Mapping[str, Schedule],
    *,
    new_tokens: int = 30,
    temperature: float = 0.0,
    seed: int = 0,
    streams: Sequence[int] | None = None,
    forced: Tensor | None = None,
    on_token: Callable[[Composed], None] | None = None,
    stop: Flag | None = None,
) -> Composed:
    """Continue prompts with every property as strongly as its schedule says.

    properties   name -> what is added at each step, such as `deltas.StepDeltas`
    schedules    the same names -> `schedules`
    forced       (B, N) ids that are written whatever the model would choose: their
                 log-probabilities are those of a text under the composed model
    on_token     gets the texts so far after every token, in the thread that called
    stop         looked at after every token: once set, what was written so far is returned

    Nothing is added before the last token of a prompt. Properties may differ in steps and layers:
    one that has ended, or knows nothing of a layer, adds nothing there. Raises ValueError, before
    the model runs, for what is no property or no schedule, names that differ, no properties, at any
    step a layer out of range and an update that does not fit the model or was made on another, a
    schedule that is made for another number of rows, and as `generate`; and where logits come out
    as NaN.
    """
    check_kinds(properties, schedules)
    if not properties or set(properties) != set(schedules):
        raise ValueError(
            f"properties {sorted(properties)} and schedules {sorted(schedules)}: give one schedule "
            "for each property, and one property at least"
        )
    check_sampling(new_tokens, temperature, seed=seed)
    batch = to_batch(lm, prompts, new_tokens=new_tokens)
    check_properties(lm, properties, new_tokens)
    rows = len(batch)
    check_rows(schedules, rows)
    chosen = tuple(range(rows)) if streams is None else check_streams(streams, rows)
    if forced is not None and forced.shape != (rows, new_tokens):
        raise ValueError(f"forced ids {tuple(forced.shape)}; give ({rows}, {new_tokens})")
    run = _Run(lm, batch, properties, schedules, new_tokens)
    ends = () if forced is not None else end_ids(lm)
    chooser = Chooser(Sampling(temperature, seed=seed, streams=chosen), batch, ends)
    ids = torch.full((rows, new_tokens), pad_id(lm))
    ended = torch.zeros(rows, dtype=torch.bool)
    for step in range(new_tokens):
        logits = run.step(step)
        picked = chooser.adjust(run.whole.ids, logits, step).argmax(dim=-1).cpu()
        ids[:, step] = picked if forced is None else forced[:, step]
        run.chose(ids[:, step], logits)
        ended |= torch.isin(ids[:, step], torch.tensor(ends, dtype=torch.long))
        if on_token is not None:
            on_token(run.result(ids[:, : step + 1], ends))
        if bool(ended.all()) or (stop is not None and stop.is_set()):
            break
    return run.result(ids[:, : step + 1], ends)


class _Run:
    """The caches of one composition and what it logs."""

    def __init__(
        self,
        lm: LM,
        batch: Batch,
        properties: Mapping[str, Property],
        schedules: Mapping[str, Schedule],
        steps: int,
    ) -> None:
        self.lm, self.batch, self.steps = lm, batch, steps
        self.properties, self.schedules = properties, schedules
        probes = {name: schedules[name].probe for name in properties}
        self.probes = {name: each for name, each in probes.items() if each is not None}
        self.whole = batch  # the prompts with what was written
        self.copies = torch.arange(len(batch)).repeat(1 + len(self.probes))
        # Nothing is added before a prompt's last token: all its rows are one there.
        self.cache = _begun(lm, batch, steps)
        self.looking = select_rows(self.cache, self.copies) if self.probes else None
        self.coefficients: dict[str, list[Tensor]] = {name: [] for name in properties}
        self.logprobs: list[Tensor] = []
        self.kl: list[Tensor] = []
        self.clean: Tensor | None = None
        self.passes = 0

    def step(self, step: int) -> Tensor:
        """Logits (B, V) of the next token with all properties together."""
        added = {name: each.at(step) for name, each in self.properties.items()}
        looked = self._look(added) if self.probes else {}
        strengths = {}
        for name, schedule in self.schedules.items():
            given = per_row(schedule(step, self.steps, looked.get(name))).cpu()
            if given.ndim > 1 or given.numel() not in (1, len(self.batch)):
                raise ValueError(
                    f"the schedule of {name!r} gave coefficients of the shape "
                    f"{tuple(given.shape)} at step {step}; give one, or {len(self.batch)}"
                )
            strengths[name] = given.expand(len(self.batch))
            self.coefficients[name].append(strengths[name])
        logits = self._advance(self.whole, added, strengths, self.cache)
        most = {name: float(each.abs().max()) for name, each in strengths.items()}
        check_numbers(logits, f"all properties, at most as strong as {most}", step)
        return logits

    def _look(self, added: Mapping[str, Added]) -> dict[str, Seen]:
        """What each schedule that looks may see: one pass of all rows."""
        rows = len(self.batch)
        strengths = {}
        for place_of, name in enumerate(self.probes, 1):
            strengths[name] = torch.zeros(len(self.copies))
            strengths[name][place_of * rows : (place_of + 1) * rows] = self.probes[name]
        logits = self._advance(self.whole.select(self.copies), added, strengths, self.looking)
        for name, own in zip(("no property", *self.probes), logits.split(rows), strict=True):
            check_numbers(own, name, len(self.kl))
        tables = precise(logits).log_softmax(dim=-1).cpu().split(rows)
        self.clean = tables[0]
        spent = torch.stack(self.kl).sum(dim=0) if self.kl else torch.zeros(rows)
        return {
            name: Seen(tables[0], table, spent, len(self.probes))
            for name, table in zip(self.probes, tables[1:], strict=True)
        }

    def _advance(
        self, batch: Batch, added: Mapping[str, Added], strengths: Mapping[str, Tensor], cache: Any
    ) -> Tensor:
        """Logits (B, V) after a batch, each property added at its last column as strongly as told
        for each row."""
        steered: Plan = {}
        for name, strength in strengths.items():
            table = place(self.lm, strength[:, None])
            for at, update, factor in added[name] if bool(strength.any()) else ():
                steered.setdefault(at, []).append((update, factor * table))
        self.passes += len(batch)
        ordered = {at: steered[at] for at in sorted(steered, key=lambda at: at.order)}
        return decoding.advance(self.lm, batch, ordered, cache, 1)

    def chose(self, picked: Tensor, logits: Tensor) -> None:
        """Write a token, and log it with what the composed model thought."""
        self.whole = self.whole.extend(picked[:, None], torch.ones_like(picked))
        table = precise(logits).log_softmax(dim=-1).cpu()
        self.logprobs.append(table.gather(-1, picked[:, None])[:, 0])
        if self.clean is not None:
            self.kl.append(divergence(table, self.clean))

    def result(self, ids: Tensor, ends: Sequence[int]) -> Composed:
        lengths = text_lengths(ids, ends)
        ended = torch.arange(ids.shape[1]) >= lengths[:, None]
        ids = ids.masked_fill(ended, pad_id(self.lm))
        own = [row[:n] for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)]
        texts = decode_completions(
            self.lm.tokenizer,
            [row[:-1] if row and row[-1] in ends else row for row in own],
            skip_special_tokens=False,
        )

        def shaped(values: list[Tensor]) -> Tensor:
            return torch.stack(values, dim=1).masked_fill(ended, torch.nan)

        return Composed(
            ids=ids,
            lengths=lengths,
            texts=texts,
            coefficients={name: shaped(each) for name, each in self.coefficients.items()},
            logprobs=shaped(self.logprobs),
            kl=shaped(self.kl) if self.kl else None,
            passes=self.passes,
            batch=self.batch,
        )


def _begun(lm: LM, batch: Batch, steps: int) -> Any:
    """The cache of a batch but for its last column, with room for so many tokens more."""
    cache, columns = decoding_cache(lm.model, batch.width + steps), batch.width - 1
    if columns:
        before = replace(batch, ids=batch.ids[:, :-1], attention=batch.attention[:, :-1])
        decoding.advance(lm, before, {}, cache, columns)
    return cache
