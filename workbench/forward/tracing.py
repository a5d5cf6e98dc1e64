"""One steered forward, and what is read from it.

This file and decoding.py are the only ones that open nnsight traces. Every helper takes a batch and
the interventions on it, checks them before any work starts, gives the model its position ids, and
works with remote=True (NDIF) or remote="local" as it does here. Inside a `with` block the code runs
interleaved with the model, possibly on another machine: it touches only plain tensors, the layer
envoys, and functions of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from nnsight import register, save
from torch import Tensor

from workbench.forward.steering import Plan, check_layer, place, plan, whole_plan, with_edits
from workbench.forward.streams import Activations, Kept, model_inputs, model_parameters
from workbench.forward.visits import modules, visit, visit_all, visit_input, visit_projection
from workbench.interventions.updates import EMBEDDINGS, Intervention, Place, Site, steer
from workbench.loading.layers import evaluating
from workbench.statistics.distributions import chosen_logprobs, precise
from workbench.support.checks import require_layers
from workbench.text.positions import Positions, last, select
from workbench.text.tokens import Batch, Prompt, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

# A server knows nothing of this package: what of it runs there travels with the request.
register("workbench")

Remote: TypeAlias = bool | Literal["local"]

# Padded tokens of one forward: enough to keep a processor busy, little enough for its caches.
TOKENS = 4096


# ---- one steered forward ------------------------------------------------------------------------


def forward(
    lm: LM,
    batch: Batch,
    interventions: Sequence[Intervention],
    finish: Callable[[Tensor], Tensor],
    *,
    keep: int | None = None,
    scoring: bool = False,
    below: Kept | None = None,
    remote: Remote = False,
) -> Tensor:
    """One steered forward; `finish` turns the logits (B, keep or T, V) into what is returned.

    `finish` runs where the model runs. Gradients flow to the updates if they are enabled, not to
    the coefficients. `scoring` says that it leaves out the last column, which need not be steered
    then. With `below`, what `lower` kept of these rows, the blocks up to there are skipped: they
    cost nothing, embeddings and masks are made again.

    Raises ValueError as `plan`, and for an intervention before the stream that was kept.
    """
    skipped, stream = [], None
    if below is None:
        steered = whole_plan(lm, batch, interventions, scoring=scoring)
    else:
        steered = _above(lm, batch, interventions, below, scoring)
        skipped = [lm.blocks[each] for each in range(below.layer + 1)]
        stream = below.output(steer(below.stream, steered.pop(Place(below.layer), [])))
    found, width = modules(lm, steered), batch.width
    inputs, kept = _inputs(lm, batch, keep), keep or width
    with evaluating(lm.model), lm.traced.trace(**inputs, remote=remote) as tracer:
        for block in skipped:
            block.skip(stream)
        visit_all(found, steered, width)
        result = save(finish(tracer.result.logits[:, -kept:]))
    return result


def _inputs(lm: LM, batch: Batch, keep: int | None) -> dict[str, Any]:
    """What the model is called with; logits of the last `keep` columns alone where it can."""
    inputs: dict[str, Any] = {**model_inputs(lm.model, batch), "use_cache": False}
    if keep is not None and "logits_to_keep" in model_parameters(lm.model):
        inputs["logits_to_keep"] = keep
    return inputs


def _above(
    lm: LM, batch: Batch, interventions: Sequence[Intervention], below: Kept, scoring: bool
) -> Plan:
    """The plan from the kept stream on, which holds the model's own edits of earlier places."""
    here = Place(below.layer)
    steered = plan(lm, batch, interventions, scoring=scoring)
    early = [at for at in steered if at.order < here.order]
    if early:
        raise ValueError(
            f"layer {early[0].layer} is steered ({early[0].site}), before the stream of layer "
            f"{below.layer} that was kept"
        )
    return with_edits(lm, batch, steered, scoring=scoring, since=here)


@torch.no_grad()
def lower(
    lm: LM,
    batch: Batch,
    layers: Sequence[int],
    finish: Callable[[Tensor], Tensor],
    *,
    keep: int,
    remote: Remote = False,
) -> tuple[list[Kept], Tensor]:
    """One forward without interventions that also keeps the stream after each of `layers`.

    It is for `forward`, which goes on from there; a model's own edits are in it (`edit.Edited`).

    Returns what is kept, ordered as the layers are, and what `finish` makes of the logits
    (B, keep, V). Raises ValueError for a layer out of range.
    """
    kept_at, edits = {Place(check_layer(lm, layer)) for layer in layers}, with_edits(lm, batch, {})
    found, width = modules(lm, {*kept_at, *edits}), batch.width
    visits = sorted({*kept_at, *edits}, key=lambda at: at.order)
    with evaluating(lm.model), lm.traced.trace(**_inputs(lm, batch, keep), remote=remote) as tracer:
        streams, beside = save({}), save({})
        for at in visits:
            if at in kept_at:
                output = found[at].output
                plain = not isinstance(output, tuple)
                streams[at.layer] = output if plain else output[0]
                beside[at.layer] = None if plain else len(output) - 1
            if at in edits:
                visit_all(found, {at: edits[at]}, width)
        result = save(finish(tracer.result.logits[:, -keep:]))
    return [Kept(layer, streams[layer], beside[layer]) for layer in layers], result


def pieces(lm: LM, batch: Batch, remote: Remote = False) -> Iterator[Batch]:
    """The rows in order, in batches that a processor reads fastest; other devices take all at once.

    For forwards without interventions, whose coefficients would have to be cut alike.
    """
    whole = bool(remote) or lm.device.type != "cpu"
    count = len(batch) if whole else max(1, TOKENS // batch.width)
    for start in range(0, len(batch), count):
        yield batch.select(slice(start, start + count))


@torch.no_grad()
def logprobs(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    interventions: Sequence[Intervention] = (),
    *,
    remote: Remote = False,
) -> Tensor:
    """log P(token | the tokens before it), teacher-forced: (B, T) float32, natural logarithm.

    Where the batch has completions only their tokens are scored, each exactly as when it was
    generated under the same interventions. NaN elsewhere: at padding, and at a row's first token,
    which nothing precedes. Raises ValueError as `tokens.encode` and `plan` do.
    """
    batch = to_batch(lm, prompts)
    scored = batch.completion if bool(batch.completion.any()) else batch.attention
    scored = scored & (batch.positions > 0)
    values = torch.full(batch.ids.shape, torch.nan)
    if not scored.any():
        return values
    first = int(scored.any(dim=0).nonzero()[0])
    keep = batch.width - first + 1

    def scored_part(part: Batch) -> Tensor:
        targets = place(lm, part.ids[:, first:])

        def of_targets(logits: Tensor) -> Tensor:
            return chosen_logprobs(logits[:, :-1], targets.to(logits.device))

        return forward(
            lm, part, interventions, of_targets, keep=keep, scoring=True, remote=remote
        ).cpu()

    parts = [batch] if interventions else pieces(lm, batch, remote)
    found = torch.cat([scored_part(part) for part in parts])
    values[:, first:] = torch.where(scored[:, first:], found, torch.nan)
    return values


# ---- reading activations ------------------------------------------------------------------------


@torch.no_grad()
def activations(
    lm: LM,
    batch: Batch,
    layers: Sequence[int],
    positions: Positions = last,
    *,
    site: Site = "residual",
    norms: bool = False,
    interventions: Sequence[Intervention] = (),
    remote: Remote = False,
) -> Activations:
    """The residual stream after each of `layers`, at the tokens that `positions` touches; the layer
    EMBEDDINGS is the stream before the first block. At another site: what the attention's output
    projection reads, of all heads side by side ("heads"), what it ("attention") or the MLP's
    down-projection ("mlp") writes, or what of either is added to the stream ("attention_write",
    "mlp_write").

    One forward, stopped after the last layer that is read: no later block and no logits are
    computed. The streams include the effect of interventions at the same and earlier layers. They
    are float32 (float64 for a float64 model), on the CPU. With `norms`, the length of every
    token's stream comes from the same pass.

    Raises ValueError for layers that are no list, or none, a layer out of range, what is no rule of
    positions, or a row where nothing is chosen.
    """
    require_layers(layers)
    if len(layers) == 0:
        raise ValueError("layers is empty; name at least one layer")
    wanted = [EMBEDDINGS if layer == EMBEDDINGS else check_layer(lm, layer) for layer in layers]
    touched = select(lm, batch, positions)
    counts = touched.sum(dim=1)
    if not counts.all():
        row = int((counts == 0).nonzero()[0])
        raise ValueError(f"{positions!r} chooses no token of row {row}: {batch.texts[row]!r}")
    steered = whole_plan(lm, batch, interventions)
    # Nothing after the last layer that is read: the steered places before, in their order.
    before = {at: updates for at, updates in steered.items() if at.layer <= max(wanted)}
    visits = sorted({*before, *(Place(k, site) for k in wanted)}, key=lambda at: at.order)
    envoys = modules(lm, visits)
    rows, columns = (place(lm, index) for index in touched.nonzero(as_tuple=True))
    read_layers, width, count = set(wanted), batch.width, len(batch)

    with evaluating(lm.model):
        inputs = {**model_inputs(lm.model, batch), "use_cache": False}
        with lm.traced.trace(**inputs, remote=remote) as tracer:
            values, lengths = save({}), save({})
            for at in visits:
                if at.site == "heads" or at.layer == EMBEDDINGS:
                    hidden = visit_input(envoys[at], before.get(at, []), width, count)
                elif at.site != "residual":
                    hidden = visit_projection(envoys[at], before.get(at, []), width, count)
                else:
                    hidden = visit(envoys[at], before.get(at, []), width)
                if at.site == site and at.layer in read_layers:
                    values[at.layer] = precise(
                        hidden[rows.to(hidden.device), columns.to(hidden.device)]
                    )
                    if norms:
                        lengths[at.layer] = precise(hidden).norm(dim=-1)
            tracer.stop()
    found = torch.stack([values[layer].cpu() for layer in wanted], dim=1)
    if not norms:
        return Activations(found, counts)
    table = torch.stack([lengths[layer].cpu() for layer in wanted], dim=-1)
    table[~batch.attention] = torch.nan
    return Activations(found, counts, table)


def read(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    layers: Sequence[int],
    positions: Positions = last,
    *,
    pool: Literal["mean"] | None = "mean",
    interventions: Sequence[Intervention] = (),
    remote: Remote = False,
) -> Tensor | list[Tensor]:
    """Activations, as `activations` finds them: the mean over each row's tokens (B, L, D), or with
    pool=None one (n_i, L, D) tensor per row. Prompts are encoded by `tokens.encode`.

    Raises ValueError for another pool, and as `activations`.
    """
    if pool not in ("mean", None):
        raise ValueError(f"pool {pool!r} is unknown; use 'mean' or None")
    batch = to_batch(lm, prompts)
    found = activations(lm, batch, layers, positions, interventions=interventions, remote=remote)
    return found.mean() if pool == "mean" else found.split()


def norms(lm: LM, batch: Batch, layers: Sequence[int], *, remote: Remote = False) -> Tensor:
    """The length of the residual stream, (B, T, L) float32: every token, every layer asked for.

    NaN at padding.
    """
    lengths = activations(lm, batch, layers, last, norms=True, remote=remote).norms
    assert lengths is not None
    return lengths


@torch.no_grad()
def last_hidden(lm: LM, batch: Batch, *, remote: Remote = False) -> Tensor:
    """What the unembedding reads, the stream after the final norm, which transformers calls the
    last hidden state: (B, T, D) float32 (float64 for a float64 model), on the CPU."""
    steered = whole_plan(lm, batch, ())
    found, width = modules(lm, steered), batch.width
    own = lm.model.get_output_embeddings()
    head = lm.traced.get(next(name for name, each in lm.model.named_modules() if each is own))
    inputs = {**model_inputs(lm.model, batch), "use_cache": False}
    with evaluating(lm.model), lm.traced.trace(**inputs, remote=remote) as tracer:
        visit_all(found, steered, width)
        hidden = save(precise(head.input))
        tracer.stop()
    return hidden.cpu()
