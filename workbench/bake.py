"""A steered model as a plain checkpoint: interventions written into the weights for good.

    vector        h + c v         a bias of block l, b' = b + c v / s     (biases.py, relatives.py)
    LoRA          x (W + m A B)   the down-projection's weight
    local weight  x (W + m dW) + b + m db

A weight knows no positions: what is baked acts on every token, the first included. The result is
compared with the traced interventions before anybody gets it, and needs transformers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench import tracing
from workbench.baked import CONFIG_KEY, Baked, Change, Check, compare, written
from workbench.biases import Room, find_room
from workbench.edit import check_lasting
from workbench.layers import find_layers
from workbench.positions import everything
from workbench.projections import find_down_projections
from workbench.relatives import relatives
from workbench.steering import check_fits, check_interventions, check_layer
from workbench.store import tensors_hash
from workbench.tokens import Prompt
from workbench.updates import Add, Intervention, Place, per_row
from workbench.weight_updates import AddLinear, AddLowRank

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from workbench.models import LM

PROMPTS: tuple[Prompt, ...] = ("The", "Once upon a time", "I think that you")


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
    memory, one into which the same is baked already, and as `steering.plan`; where no place for a
    constant exists, saying what would work; and where the result does not compute the same.
    """
    check_interventions(interventions)
    given = [*lm.edits, *interventions]
    for each in given:
        _check(lm, each)
    check_bakeable(lm)
    changes = [_described(each) for each in given if _size(each)]
    if not changes:
        raise ValueError("nothing to bake: give interventions whose coefficient is not 0")
    refuse_twice(lm, changes)
    wanted = _wanted(lm, [each for each in given if _size(each)])
    model, rooms, how = _with_rooms(lm, wanted)
    _write(model, wanted, rooms)
    original = getattr(lm, "original", lm)
    batch = written(original, prompts, given)
    with torch.no_grad():
        reference = tracing.forward(original, batch, given, lambda logits: logits)
    check = compare(original, reference, model, batch)
    require_equal(check, "the traced interventions")
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
        constants=dict(wanted.constants),
    )


@dataclass
class _Wanted:
    """What is to be added: to the stream after a layer (D,), and to a layer's down-projection
    dW (I, D) and db (D,), all float32 and times their coefficients."""

    constants: dict[int, Tensor] = field(default_factory=dict)
    weights: dict[int, Tensor] = field(default_factory=dict)
    biases: dict[int, Tensor] = field(default_factory=dict)

    def weight_names(self, model: PreTrainedModel) -> list[str]:
        return [f"{name}.weight" for name in _down_names(model, self.weights).values()]


def check_bakeable(lm: LM) -> None:
    """Raise ValueError for weights that cannot be changed (quantised, not in memory), and for an
    architecture that transformers alone would not load."""
    if not type(lm.model).__module__.startswith("transformers."):
        raise ValueError(
            f"{lm.name!r} runs code of its own ({type(lm.model).__name__} of "
            f"{type(lm.model).__module__}), so a checkpoint of it would not load with transformers "
            "alone; keep the model edited: from workbench.edit import edit"
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


def refuse_twice(lm: LM, changes: Sequence[Change]) -> None:
    """Raise ValueError where one of the changes is in the model's weights already."""
    known = {each["sha256"]: each for each in getattr(lm.model.config, CONFIG_KEY, None) or ()}
    for change in changes:
        old = known.get(change.sha256)
        if old is not None:
            raise ValueError(
                f"this {change.kind} is baked into {lm.name!r} already (layer {old['layer']}, "
                f"coefficient {old['coefficient']:g}): baked twice it would act twice. Load the "
                f"model that it was baked onto, {old['base']!r}, and bake that"
            )


def _check(lm: LM, each: Intervention) -> None:
    """Raise ValueError for an intervention that no weight can hold."""
    check_lasting(each)
    check_fits(lm, each.update, Place(check_layer(lm, each.layer), each.site))
    if each.positions is not everything:
        raise ValueError(
            f"positions {each.positions!r}: a weight acts on every token, the first included; "
            "bake with positions=everything, or keep the model edited: "
            "from workbench.edit import edit"
        )
    allowed = (Add,) if each.site == "residual" else (Add, AddLowRank, AddLinear)
    held = each.site in ("residual", "attention", "mlp")
    if not held or not isinstance(each.update, allowed):
        raise ValueError(
            f"{type(each.update).__name__} at the site {each.site!r} is no change of a weight; "
            "what can be baked is a vector (Add), and a LoRA or local weight at the site 'mlp'"
        )


def _size(each: Intervention) -> float:
    return float(per_row(each.coefficient))  # type: ignore[arg-type]


def _described(each: Intervention) -> Change:
    update: Any = each.update
    kinds = {Add: "vector", AddLowRank: "LoRA", AddLinear: "local weight"}
    names = {Add: ("direction",), AddLowRank: ("a", "b"), AddLinear: ("weight", "bias")}
    tensors = {name: getattr(update, name) for name in names[type(update)]}
    place = {"layer": torch.tensor(each.layer), each.site: torch.tensor(0)}
    kind, origin = kinds[type(update)], update.origin
    made_on = origin.model if origin is not None else ""
    size = _size(each)
    return Change(kind, each.layer, each.site, size, tensors_hash(tensors | place), made_on)


def _wanted(lm: LM, given: Sequence[Intervention]) -> _Wanted:
    found = _Wanted()

    def add(table: dict[int, Tensor], layer: int, value: Tensor) -> None:
        value = value.detach().to(lm.device, torch.float32)
        table[layer] = table[layer] + value if layer in table else value

    for each in given:
        update, size = each.update, _size(each)
        if isinstance(update, Add):
            table = found.constants if each.site == "residual" else found.biases
            add(table, each.layer, size * update.direction)
            continue
        assert isinstance(update, AddLowRank | AddLinear)
        add(found.weights, each.layer, size * update.matrix())
        if isinstance(update, AddLinear) and bool(update.bias.any()):
            add(found.biases, each.layer, size * update.bias)
    return found


def _down_names(model: PreTrainedModel, layers: Any) -> dict[int, str]:
    """Dotted names of the down-projections at some layers."""
    if not layers:
        return {}
    path = find_layers(model)
    found = find_down_projections(model, path)
    return {layer: f"{path}.{layer}.{own[0]}" for layer in layers if (own := found[layer])}


def _with_rooms(lm: LM, wanted: _Wanted) -> tuple[PreTrainedModel, dict[int | str, Room], str]:
    """The first of the model and its relatives that has a bias for every constant, these biases
    (by layer, or by the name of a down-projection), and how it is written."""
    tried = []
    for model, how in relatives(lm.model):
        if model is None:
            tried.append(how)
            continue
        path = find_layers(model)
        rooms: dict[int | str, Room | None] = {
            layer: find_room(model, path, layer) for layer in wanted.constants
        }
        for name in _down_names(model, wanted.biases).values():
            module = model.get_submodule(name)
            own = getattr(module, "bias", None)
            rooms[name] = Room(f"{name}.bias", 1.0) if own is not None else None
        found = {at: room for at, room in rooms.items() if room is not None}
        if len(found) == len(rooms):
            return model, found, how
        tried.append(how or f"{type(model).__name__} as it is")
    layers = sorted({*wanted.constants, *wanted.biases})
    raise ValueError(
        f"{lm.name!r} ({type(lm.model).__name__}) has no bias that adds a constant "
        f"{'to the stream after' if wanted.constants else 'to the MLP output of'} layer "
        f"{', '.join(map(str, layers))}, and no relative that computes the same has one (tried: "
        f"{'; '.join(tried)}). {_instead(lm)}"
    )


def _instead(lm: LM) -> str:
    """What would work where a constant has no place."""
    steered = "the model edited while it runs (from workbench.edit import edit)"
    try:
        lm.projection_name(0)
    except ValueError:
        return f"What would work: {steered}"
    lora = "a LoRA, which changes weights alone (workbench.train(lm, pairs, form='lora'))"
    return f"What would work: {lora}, or {steered}"


@torch.no_grad()
def _write(model: PreTrainedModel, wanted: _Wanted, rooms: Mapping[int | str, Room]) -> None:
    """Give the model new weights: those it has are another model's too."""
    for layer, name in _down_names(model, wanted.weights).items():
        module = model.get_submodule(name)
        change = wanted.weights[layer]
        # Conv1D (GPT-2) keeps its matrix as (in, out).
        turned = change.T if isinstance(module, nn.Linear) else change
        replace_weight(model, f"{name}.weight", turned)
    for layer, name in _down_names(model, wanted.biases).items():
        replace_weight(model, rooms[name].name, wanted.biases[layer])
    for layer, value in wanted.constants.items():
        replace_weight(model, rooms[layer].name, value / rooms[layer].scale)


def replace_weight(model: PreTrainedModel, name: str, change: Tensor) -> None:
    """Put a new parameter, the old one plus a change, in its place; half precision is rounded once,
    after the sum."""
    owner, _, own = name.rpartition(".")
    module, old = model.get_submodule(owner), model.get_parameter(name)
    wide = torch.promote_types(old.dtype, torch.float32)
    new = (old.detach().to(wide) + change.to(old.device, wide)).to(old.dtype)
    module.register_parameter(own, nn.Parameter(new, requires_grad=False))


def require_equal(check: Check, other: str) -> None:
    """Raise ValueError unless the baked model computes the same."""
    if not check.equal:
        raise ValueError(
            f"the baked model does not compute what {other} do: logits differ by "
            f"{check.difference:.3g} (largest {check.largest:.3g}), KL {check.kl:.3g} nats a "
            "token; it is not given out. Keep the model edited: from workbench.edit import edit"
        )
