"""One steered decoding: transformers' own `generate`, or a caller's loop, step by step.

Opens nnsight traces, as tracing.py does and under the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from nnsight import save
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor

from workbench.forward.caching import roomy_cache
from workbench.forward.steering import Plan, last_step, whole_plan, with_edits
from workbench.forward.streams import model_inputs, model_parameters
from workbench.forward.tracing import Remote
from workbench.forward.visits import Watcher, modules, visit_all
from workbench.interventions.updates import Intervention
from workbench.loading.layers import evaluating
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from workbench.loading.models import LM


class Watch(Watcher, Protocol):
    """A watcher of a decoding: it adds what it governs to the plan, and remembers what it did.

    `record` gives that, tensors by name, as a `Processor` does; `done` the interventions that do
    the same again.
    """

    def join(self, lm: LM, batch: Batch, steered: Plan, new_tokens: int) -> Plan: ...

    def record(self) -> dict[str, Tensor]: ...

    def done(self, record: Mapping[str, Tensor]) -> list[Intervention]: ...


class Processor(Protocol):
    """A transformers logits processor that also remembers what it saw.

    `record` gives that, tensors by name: it runs where the model runs, after the last step.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor: ...

    def record(self) -> dict[str, Tensor]: ...


@torch.no_grad()
def decode(
    lm: LM,
    batch: Batch,
    interventions: Sequence[Intervention],
    config: GenerationConfig,
    processor: Processor,
    *,
    watch: Watch | None = None,
    streamer: Any = None,
    stopping: Sequence[Callable[..., Any]] = (),
    remote: Remote = False,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """One steered decoding by transformers' own `generate`: new ids (B, n), and the record.

    Step 0 is the pass over the batch, step s feeds the s-th new token back. Decoding ends after
    config.max_new_tokens, or when all rows have ended, or when a stopping criterion says so; a
    streamer gets the ids as they come (transformers' own protocols for both). A watch sees streams
    while they are made, and may change how strongly later ones are steered.
    """
    width, limit = batch.width, int(config.max_new_tokens or 0)
    steered = whole_plan(lm, batch, interventions, new_tokens=limit)
    if watch is not None:
        steered = watch.join(lm, batch, steered, limit)
    options: dict[str, Any] = {"generation_config": config, "logits_processor": [processor]}
    if streamer is not None:
        options["streamer"] = streamer
    if stopping:
        options["stopping_criteria"] = list(stopping)
    inputs: dict[str, Any] = model_inputs(lm.model, batch)
    cache = None if remote else roomy_cache(lm.model, width + limit)
    if cache is not None:
        inputs["past_key_values"] = cache
    # transformers fills what our settings leave open from the checkpoint's own: suppressed tokens,
    # guidance or chunked prefill would slip in and change texts and columns.
    own, lm.model.generation_config = lm.model.generation_config, type(config)()
    try:
        return _decode(lm, inputs, steered, width, options, processor, watch, remote)
    finally:
        lm.model.generation_config = own


def _decode(
    lm: LM,
    inputs: dict[str, Any],
    steered: Plan,
    width: int,
    options: dict[str, Any],
    processor: Processor,
    watch: Watch | None,
    remote: Remote,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    found = modules(lm, [*steered, *(() if watch is None else watch.places)])
    limit = options["generation_config"].max_new_tokens
    steps = limit if watch is not None else last_step(steered, width) + 1
    # A remote run reads this block without its comments and finds the inner blocks by line: so the
    # short one comes first, and no comment stands above the second.
    with evaluating(lm.model), lm.traced.generate(**options, remote=remote) as tracer:
        with tracer.invoke():
            ids = save(tracer.result)
            record = save(processor.record() | ({} if watch is None else watch.record()))
        with tracer.invoke(**inputs):
            step = 0
            try:
                for step in tracer.iter[:steps]:
                    visit_all(found, steered, width + step, watch)
            except OutOfOrderError:
                # Every row ended, or the run was stopped, before the last planned step.
                if step == 0:
                    raise
    return ids[:, width:].cpu(), {name: value.cpu() for name, value in record.items()}


@torch.inference_mode()
def advance(
    lm: LM, batch: Batch, steered: Plan, cache: Any, columns: int, *, remote: Remote = False
) -> Tensor:
    """Logits (B, V) after a batch whose last `columns` columns are new: those before lie in the
    cache, which grows by these. The plan's tables cover the new columns alone, (B, columns). In
    inference mode, which costs less than to go without gradients: the logits take none."""
    inputs = model_inputs(lm.model, batch)
    new = {name: inputs[name][:, -columns:] for name in inputs if name != "attention_mask"}
    inputs = {**inputs, **new, "past_key_values": cache, "use_cache": True}
    if "logits_to_keep" in model_parameters(lm.model):
        # The last alone. Beside a tensor of its own kind nnsight passes the batch on whole, where
        # it would else take it apart into rows and join these again.
        inputs["logits_to_keep"] = torch.tensor([-1])
    steered = with_edits(lm, batch, steered, start=batch.width - columns)
    found = modules(lm, steered)
    with evaluating(lm.model), lm.traced.trace(**inputs, remote=remote) as tracer:
        visit_all(found, steered, columns)
        logits = save(tracer.result.logits[:, -1])
    return logits
