"""Weight orthogonalisation: a direction removed from every matrix that writes to the stream.

    W' = W - W r r'      W (…, D) of the embeddings, of each attention's and of each MLP's output,
    b' = b - (b r) r     and their biases; r (D,) of length 1, or several that span a subspace

No token's stream then ever has a part along r, so nothing in the model can read it: the ablation of
a direction at every place, written into the weights. Arditi et al. 2024, "Refusal in Language
Models Is Mediated by a Single Direction", https://arxiv.org/abs/2406.11717, section 4.1.

Output embeddings only read the stream. Where they are tied to the input's they become weights of
their own and stay as they are; code that changes a tied matrix in place, as the code published with
the paper does, changes what is read out as well.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.forward.steering import check_layer
from workbench.keeping.bake import PROMPTS, check_bakeable, replace_weight
from workbench.keeping.baked import Baked
from workbench.keeping.baked_changes import Change, record
from workbench.keeping.baked_check import compare, logits_of, require_equal, written
from workbench.keeping.relatives import twin
from workbench.support.store import tensors_hash
from workbench.text.tokens import Batch, Prompt
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from workbench.loading.models import LM

# Of a stream's length, what may be left along a removed direction: rounding of the arithmetic, and
# of weights in half precision.
_LEFT, _LEFT_COARSE = 1e-4, 1e-3
# Of what a matrix would write along directions by chance, what counts as nothing in float32; in
# half precision it is the precision.
_NOTHING = 1e-5


def orthogonalise(
    lm: LM,
    directions: SteeringVector | Tensor,
    *,
    about: Mapping[str, Any] | None = None,
    prompts: Sequence[Prompt] = PROMPTS,
) -> Baked:
    """The model without a direction, as a plain checkpoint.

    directions  a vector, of which the direction at its own layer is removed everywhere; or one
                direction (D,), or several (n, D) that are removed together. Lengths do not matter
    about       where they came from, for the card: such as `vector.provenance`
    prompts     texts that are continued to compare the weights with the direction removed from
                every write while the model runs

    Output embeddings that are tied to the input's are kept as they are, on their own, and the card
    says so.

    Raises ValueError for directions of another width, length 0 or another model, for an edited
    model and as `bake` for weights that cannot be changed, for a model no write of which has a part
    along the directions (they are removed already, whoever did it), blocks whose output maps their
    structure does not tell, and where a norm follows a write, which brings the direction back.
    """
    check_bakeable(lm)
    if lm.edits:
        raise ValueError(f"{lm!r} is edited; orthogonalise its original, and edit or bake then")
    rows, made_on = _rows(lm, directions)
    basis = torch.linalg.qr(rows.double().T)[0]  # (D, n)
    own = tensors_hash({"directions": rows})
    change = Change("removed direction", None, "every write", None, own, made_on)
    writes = [*_tables(lm.model, lm), *_maps(lm)]
    _refuse_twice(lm, [name for each in writes for name in _owned(lm.model, each)], basis)
    model, untied = _untied(lm.model)
    names = [name for each in writes for name in _owned(model, each)]
    for name in names:
        replace_weight(model, name, -_along(model, name, basis))
    with removed_from_writes(lm.model, writes, basis):
        batch = written(lm, prompts, ())
        reference = logits_of(lm.model, batch)
    coarse = lm.dtype not in (torch.float32, torch.float64)
    left = _left(model, lm.layer_path, batch, basis)
    if left > (_LEFT_COARSE if coarse else _LEFT):
        raise ValueError(
            f"{lm.name!r} ({type(lm.model).__name__}) brings the direction back: {left:.2g} of a "
            "stream lies along it after the weights were changed. A norm follows a write (as in "
            "Gemma-2, OLMo-2 or BLOOM), so that no weight holds the removal; remove the direction "
            "while the model runs"
        )
    check = compare(lm, reference, model, batch)
    require_equal(check, "the same removals while the model runs")
    record(lm, model.config, [change])
    return Baked(
        model=model,
        tokenizer=lm.tokenizer,
        base=lm.name,
        fingerprint=lm.fingerprint,
        changes=(change,),
        weights=tuple(names),
        rewritten="",
        check=check,
        untied=untied,
        about=dict(about or {}),
    )


@contextmanager
def removed_from_writes(
    model: PreTrainedModel, maps: Sequence[str], basis: Tensor
) -> Iterator[None]:
    """What the named modules write loses its part along the columns of `basis` (D, n) inside."""

    def remove(_module: nn.Module, _given: Any, output: Tensor) -> Tensor:
        q = basis.to(output.device, output.dtype)
        return output - (output @ q) @ q.T

    handles = [model.get_submodule(name).register_forward_hook(remove) for name in maps]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(lm: LM, directions: SteeringVector | Tensor) -> tuple[Tensor, str]:
    """Directions (n, D), and the model that they were made on."""
    made_on = ""
    if isinstance(directions, SteeringVector):
        directions.check(lm)
        directions, made_on = directions.directions[directions.layer], directions.model
    if not isinstance(directions, Tensor) or directions.ndim not in (1, 2):
        raise ValueError(f"{directions!r} is no direction (D,) and no directions (n, D)")
    rows = directions.detach().float().reshape(-1, directions.shape[-1])
    if rows.shape[1] != lm.width:
        raise ValueError(f"a direction is {rows.shape[1]} wide, {lm.name!r} is {lm.width} wide")
    independent = int(torch.linalg.matrix_rank(rows)) if torch.isfinite(rows).all() else 0
    if independent < len(rows) or len(rows) == 0:
        raise ValueError(
            "directions must be finite, of some length and independent of each other; give each "
            "once"
        )
    return rows.to(lm.device), made_on


def _refuse_twice(lm: LM, names: Sequence[str], basis: Tensor) -> None:
    """Raise ValueError where none of the weights has a part along the basis."""
    tolerance = max(_NOTHING, torch.finfo(lm.dtype).eps)
    chance = (basis.shape[1] / basis.shape[0]) ** 0.5
    for name in names:
        whole = float(lm.model.get_parameter(name).detach().double().norm())
        if float(_along(lm.model, name, basis).norm()) > tolerance * chance * whole:
            return
    raise ValueError(
        f"nothing in {lm.name!r} writes along these directions: they are removed from its weights "
        "already"
    )


def _maps(lm: LM) -> list[str]:
    """Dotted names of every block's output maps. Raises ValueError where they are not told."""
    found = []
    for layer in range(lm.layers):
        for name in (lm.attention_name, lm.projection_name):
            found.append(f"{lm.layer_path}.{check_layer(lm, layer)}.{name(layer)}")
    return found


def _tables(model: PreTrainedModel, lm: LM) -> list[str]:
    """Dotted names of the embeddings that are as wide as the stream: of tokens and positions."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and module.embedding_dim == lm.width
        and not name.startswith(f"{lm.layer_path}.")
    ]


def _owned(model: PreTrainedModel, name: str) -> list[str]:
    module = model.get_submodule(name)
    return [f"{name}.{own}" for own, _ in module.named_parameters(recurse=False)]


def _along(model: PreTrainedModel, name: str, basis: Tensor) -> Tensor:
    """The part of a weight that writes along the basis, float64."""
    weight = model.get_parameter(name).detach().double()
    q = basis.to(weight.device)
    # Linear maps keep (out, in); Conv1D, embeddings and biases end in the stream's width.
    turned = isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Linear) and weight.ndim > 1
    return q @ (q.T @ weight) if turned else (weight @ q) @ q.T


def _untied(model: PreTrainedModel) -> tuple[PreTrainedModel, bool]:
    """A twin whose output embeddings are its own, and whether they were not."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and head.weight is table.weight
    if head is None or not tied:
        made = twin(model)
    else:
        config = copy.deepcopy(model.config)
        config.tie_word_embeddings = False
        config.get_text_config(decoder=True).tie_word_embeddings = False
        state = model.state_dict()
        name = next(n for n, module in model.named_modules() if module is head)
        state[f"{name}.weight"] = head.weight.detach().clone()
        made = twin(model, config, weights=state)
    assert made is not None
    return made, tied


@torch.no_grad()
def _left(model: PreTrainedModel, path: str, batch: Batch, basis: Tensor) -> float:
    """The largest share of a stream's length that lies along the basis, after any block. In
    float32: what half precision rounds in the stream would hide what a norm brings back."""
    if model.dtype not in (torch.float32, torch.float64):
        exact = twin(model, dtype=torch.float32)
        assert exact is not None
        model = exact
    shares: list[float] = []

    def note(_module: nn.Module, _given: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        own = hidden[batch.attention.to(hidden.device)].double()
        part = (own @ basis.to(own)).norm(dim=-1) / own.norm(dim=-1).clamp_min(1e-12)
        shares.append(float(part.max()))

    blocks = list(model.get_submodule(path).children())
    handles = [block.register_forward_hook(note) for block in blocks]
    try:
        logits_of(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return max(shares)
