"""A steered model as a plain checkpoint: interventions written into the weights for good.

    vector        h + c v         a bias of block l, b' = b + c v / s     (biases.py, relatives.py)
    LoRA          x (W + m A B)   the weight of the MLP's or the attention's output projection
    local weight  x (W + m dW) + b + m db

A weight knows no positions: what is baked acts on every token, the first included. The result is
compared with the traced interventions before anybody gets it, and needs transformers alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.forward import tracing
from workbench.forward.reading import residual_norms
from workbench.forward.steering import check_fits, check_interventions, check_layer
from workbench.interventions.updates import Add, Intervention, Place
from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.keeping.baked import Baked
from workbench.keeping.baked_changes import (
    Change,
    described,
    matrices,
    record,
    refuse_twice,
    size_of,
)
from workbench.keeping.baked_check import compare, require_equal, written
from workbench.keeping.biases import Room, find_room
from workbench.keeping.edit import check_lasting
from workbench.keeping.relatives import misplaced, relatives
from workbench.loading.layers import find_layers
from workbench.loading.projections import find_attention_outputs, find_down_projections
from workbench.text.positions import everything
from workbench.text.tokens import Batch, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from workbench.loading.models import LM

PROMPTS: tuple[Prompt, ...] = ("The", "Once upon a time", "I think that you")
# Of the sites that are the output of a linear map, what finds it.
_MAPS = {"mlp": find_down_projections, "attention": find_attention_outputs}
_SITES = {
    "residual": "to the stream after layer",
    "mlp": "to the MLP output of layer",
    "attention": "to the attention output of layer",
}


def bake(
    lm: LM,
    interventions: Sequence[Intervention] = (),
    *,
    about: Mapping[str, Any] | None = None,
    prompts: Sequence[Prompt] = PROMPTS,
) -> Baked:
    """The model under interventions as one without: `save` and `push_to_hub` take it home.

    interventions  such as `vector.at(2.0)`, of a vector, LoRA or local weight; what an edited
                   model (`edit.edit`) is edited by comes before them
    about          where they came from, for the card: such as `vector.provenance`
    prompts        texts that are continued to compare the two models

    Where the architecture has no bias in the right place, the checkpoint is written as a relative
    that has one, if there is one that computes the same.

    Raises ValueError before any work for interventions that no weight can hold (positions, per-row
    or changing coefficients, other updates or sites), for a quantised model, one that is not in
    memory on one device, one with weights that its architecture lacks, and as `steering.plan`; for
    baking twice, which is the same direction at the same place (layer and site), whatever its
    coefficient, unit or sign, in the weights already or two times among what is given; where no
    place for a constant exists, saying what would work; and where the result does not compute the
    same, or so little is changed that its precision cannot tell.
    """
    check_interventions(interventions)
    everything_given = [*lm.edits, *interventions]
    for each in everything_given:
        _check(lm, each)
    check_bakeable(lm)
    given = [each for each in everything_given if _acts(each)]
    if not given:
        raise ValueError("nothing to bake: give interventions whose coefficient is not 0")
    changes = [described(each) for each in given]
    refuse_twice(lm, changes)
    wanted = _wanted(lm, given)
    model, rooms, how = _with_rooms(lm, wanted)
    _write(model, wanted, rooms)
    batch = written(lm, prompts, interventions)
    with torch.no_grad():
        reference = tracing.forward(lm, batch, interventions, lambda logits: logits)
    check = compare(lm, reference, model, batch)
    require_equal(check, "the traced interventions")
    original = getattr(lm, "original", lm)
    changes = _with_shares(original, changes, batch)
    record(lm, model.config, changes)
    only_streams = all(each.site == "residual" for each in given)
    return Baked(
        model=model,
        tokenizer=lm.tokenizer,
        base=lm.name,
        fingerprint=original.fingerprint,
        changes=tuple(changes),
        weights=tuple(sorted({*wanted.weight_names(model), *(r.name for r in rooms.values())})),
        rewritten=how,
        check=check,
        about=dict(about or {}),
        constants={at.layer: v for at, v in wanted.constants.items()} if only_streams else {},
    )


@dataclass
class _Wanted:
    """What is to be added: to the stream after a layer (D,), and to an output projection dW (I, D)
    and db (D,), all float32 and times their coefficients, by place."""

    constants: dict[Place, Tensor] = field(default_factory=dict)
    weights: dict[Place, Tensor] = field(default_factory=dict)
    biases: dict[Place, Tensor] = field(default_factory=dict)

    def weight_names(self, model: PreTrainedModel) -> list[str]:
        return [f"{name}.weight" for name in _map_names(model, self.weights).values()]


def check_bakeable(lm: LM) -> None:
    """Raise ValueError for weights that cannot be changed (quantised, not in memory, on several
    devices), and for what transformers alone would not load (code or weights of its own)."""
    if not type(lm.model).__module__.startswith("transformers."):
        raise ValueError(
            f"{lm.name!r} runs code of its own ({type(lm.model).__name__} of "
            f"{type(lm.model).__module__}), so a checkpoint of it would not load with transformers "
            "alone; keep the model edited: from workbench.keeping.edit import edit"
        )
    quantised = getattr(lm.model, "quantization_method", None) or getattr(
        lm.model.config, "quantization_config", None
    )
    if quantised is not None or not all(p.is_floating_point() for p in lm.model.parameters()):
        raise ValueError(
            f"{lm.name!r} is quantised: a change would be rounded away with the weights. Load it "
            "in bfloat16, bake, and quantise the result"
        )
    if not lm.in_memory:
        raise ValueError(
            f"the weights of {lm.name!r} are not all in memory (offloaded, or on a server); load "
            "the model whole to bake"
        )
    spread = getattr(lm.model, "hf_device_map", None) or {}
    devices = {*map(str, spread.values())} or {str(p.device) for p in lm.model.parameters()}
    if len(devices) > 1:
        raise ValueError(
            f"{lm.name!r} is spread over {', '.join(sorted(devices))} by a device_map; load it on "
            "one device to bake (device='cpu' will do)"
        )
    names = misplaced(lm.model)
    if names:
        raise ValueError(
            f"{lm.name!r} has weights that a plain {type(lm.model).__name__} of its config has "
            f"not, or lacks some of its: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}. A "
            "checkpoint of it would not load as it is: merge adapters into the weights first (of "
            "peft: merge_and_unload), and say biases in the config"
        )


def _check(lm: LM, each: Intervention) -> None:
    """Raise ValueError for an intervention that no weight can hold."""
    check_lasting(each)
    check_fits(lm, each.update, Place(check_layer(lm, each.layer), each.site))
    if each.positions is not everything:
        raise ValueError(
            f"positions {each.positions!r}: a weight acts on every token, the first included; "
            "bake with positions=everything, or keep the model edited: "
            "from workbench.keeping.edit import edit"
        )
    allowed = {"residual": (Add,), **dict.fromkeys(_MAPS, (Add, AddLowRank, AddLinear))}
    if not isinstance(each.update, allowed.get(each.site, ())):
        raise ValueError(
            f"{type(each.update).__name__} at the site {each.site!r} is no change of a weight; "
            "what can be baked is a vector (Add) at the site 'residual', 'mlp' or 'attention', and "
            "a LoRA or local weight at the latter two"
        )


def _acts(each: Intervention) -> bool:
    parts = [part for part in matrices(each) if part is not None]
    return size_of(each) != 0 and any(bool(part.any()) for part in parts)


def _with_shares(lm: LM, changes: Sequence[Change], batch: Batch) -> list[Change]:
    """The same with their share of the unsteered stream's length, where they have a length."""
    layers = sorted({each.layer for each in changes if each.layer is not None and each.length})
    norms = residual_norms(lm, batch, layers) if layers else {}
    return [
        replace(each, share=each.length / norms[each.layer])
        if each.length and each.layer is not None
        else each
        for each in changes
    ]


def _wanted(lm: LM, given: Sequence[Intervention]) -> _Wanted:
    found = _Wanted()

    def add(table: dict[Place, Tensor], at: Place, value: Tensor) -> None:
        value = value.to(lm.device)
        table[at] = table[at] + value if at in table else value

    for each in given:
        at, size = Place(each.layer, each.site), size_of(each)
        weight, bias = matrices(each)
        if weight is not None:
            add(found.weights, at, size * weight)
        if bias is not None:
            add(found.constants if at.site == "residual" else found.biases, at, size * bias)
    return found


def _map_names(model: PreTrainedModel, places: Collection[Place]) -> dict[Place, str]:
    """Dotted names of the output projections at some places."""
    if not places:
        return {}
    path = find_layers(model)
    found = {site: _MAPS[site](model, path) for site in {at.site for at in places}}
    names = {at: found[at.site][at.layer] for at in places}
    return {at: f"{path}.{at.layer}.{own[0]}" for at, own in names.items() if own is not None}


def _with_rooms(lm: LM, wanted: _Wanted) -> tuple[PreTrainedModel, dict[Place, Room], str]:
    """The first of the model and its relatives that has a bias for every constant, these biases by
    place, and how it is written."""
    tried = []
    for model, how in relatives(lm.model):
        if model is None:
            tried.append(how)
            continue
        path = find_layers(model)
        rooms = {at: find_room(model, path, at.layer) for at in wanted.constants}
        for at, name in _map_names(model, wanted.biases).items():
            own = getattr(model.get_submodule(name), "bias", None)
            rooms[at] = Room(f"{name}.bias", 1.0) if own is not None else None
        found = {at: room for at, room in rooms.items() if room is not None}
        if len(found) == len({*wanted.constants, *wanted.biases}):
            return model, found, how
        tried.append(how or f"{type(model).__name__} as it is")
    places = sorted({*wanted.constants, *wanted.biases}, key=lambda at: at.order)
    said = [
        f"{words} {', '.join(str(at.layer) for at in places if at.site == site)}"
        for site, words in _SITES.items()
        if any(at.site == site for at in places)
    ]
    raise ValueError(
        f"{lm.name!r} ({type(lm.model).__name__}) has no bias that adds a constant "
        f"{' and '.join(said)}, and no relative that computes the same has one (tried: "
        f"{'; '.join(tried)}). {_instead(lm, sorted({at.layer for at in places}))}"
    )


def _instead(lm: LM, layers: Sequence[int]) -> str:
    """What would work where a constant has no place at some layers."""
    steered = "the model edited while it runs (from workbench.keeping.edit import edit)"
    try:
        for layer in layers:
            lm.projection_name(layer)
    except ValueError:
        return f"What would work: {steered}"
    lora = "a LoRA, which changes weights alone (workbench.train(lm, pairs, form='lora'))"
    return f"What would work: {lora}, or {steered}"


@torch.no_grad()
def _write(model: PreTrainedModel, wanted: _Wanted, rooms: Mapping[Place, Room]) -> None:
    """Give the model new weights: those it has are another model's too."""
    for at, name in _map_names(model, wanted.weights).items():
        change = wanted.weights[at]
        # Conv1D (GPT-2) keeps its matrix as (in, out).
        turned = change.T if isinstance(model.get_submodule(name), nn.Linear) else change
        replace_weight(model, f"{name}.weight", turned)
    for at, value in [*wanted.biases.items(), *wanted.constants.items()]:
        replace_weight(model, rooms[at].name, value / rooms[at].scale)


def replace_weight(model: PreTrainedModel, name: str, change: Tensor) -> None:
    """Put a new parameter, the old one plus a change, in its place; half precision is rounded once,
    after the sum."""
    owner, _, own = name.rpartition(".")
    module, old = model.get_submodule(owner), model.get_parameter(name)
    wide = torch.promote_types(old.dtype, torch.float32)
    new = (old.detach().to(wide) + change.to(old.device, wide)).to(old.dtype)
    module.register_parameter(own, nn.Parameter(new, requires_grad=False))
