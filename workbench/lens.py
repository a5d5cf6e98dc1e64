"""What a direction says: the tokens it favours and hinders, read through the unembedding.

The residual stream reaches the logits through the final norm and the unembedding,

    logits = W (s * C h / size(h) + b)

with s the norm's scale, C its centring (LayerNorm) or nothing (RMSNorm). A direction v therefore
moves the logits by W (s * C v), but for the division by the stream's size, one positive factor that
changes no ranking, and for what later blocks make of it (nostalgebraist 2020, "interpreting GPT:
the logit lens"). Knows nothing of how a direction was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from workbench.layers import evaluating

if TYPE_CHECKING:
    from workbench.models import LM


@torch.no_grad()
def token_effects(lm: LM, direction: Tensor) -> Tensor:
    """Change of every logit (V,) per unit of `direction` (D,), up to the norm's positive factor.

    The mean over the vocabulary is taken out: a shift of all logits changes no probability. Raises
    ValueError for a direction of another width or a model without an unembedding matrix.
    """
    if direction.shape != (lm.width,):
        raise ValueError(
            f"the direction has shape {tuple(direction.shape)}, the residual stream of "
            f"{lm.name!r} has width {lm.width}"
        )
    unembedding = lm.model.get_output_embeddings()
    weight = getattr(unembedding, "weight", None)
    if weight is None or weight.shape[-1] != lm.width:
        raise ValueError(f"{lm.name!r} has no unembedding of width {lm.width} to read through")
    norm = final_norm(lm)
    through = direction.float() if norm is None else _scale_and_centre(norm, direction.float())
    effects = weight.float() @ through.to(weight.device)
    return (effects - effects.mean()).cpu()


def top_tokens(lm: LM, direction: Tensor, count: int = 10) -> pd.DataFrame:
    """The `count` tokens that a direction (D,) favours most, and those that it hinders most.

    Columns token, logit, side: `logit` is the change of a token's logit per unit of the direction,
    up to one positive factor common to all tokens; `side` is "favoured" or "hindered". Raises as
    `token_effects`.
    """
    effects = token_effects(lm, direction)
    rows = [
        {"token": lm.tokenizer.decode([int(index)]), "logit": float(effects[index]), "side": side}
        for side, sign in (("favoured", 1), ("hindered", -1))
        for index in (sign * effects).topk(min(count, len(effects))).indices
    ]
    return pd.DataFrame(rows)


def largest_by_chance(lm: LM, draws: int = 99, seed: int = 0) -> float:
    """The largest change of a logit per unit of a random direction, in either direction: the median
    over the draws, in the unit of `top_tokens` of a direction of length 1."""
    generator = torch.Generator().manual_seed(seed)
    found = [
        token_effects(lm, direction / direction.norm()).abs().max()
        for direction in torch.randn(draws, lm.width, generator=generator)
    ]
    return float(torch.stack(found).median())


@torch.no_grad()
def final_norm(lm: LM) -> nn.Module | None:
    """The norm between the last block and the unembedding, or None where there is none.

    Told by a forward of two tokens: of the modules without children that run after the last block
    the last that maps the residual stream's width to itself and does not leave it as it was. So
    it needs no weight, and a dropout is none.
    """
    blocks: nn.ModuleList = lm.model.get_submodule(lm.layer_path)  # type: ignore[assignment]
    found: list[nn.Module] = []
    done = False

    def finish(*_: Any) -> None:
        nonlocal done
        done = True

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        given = inputs[0] if inputs else None
        if not (done and isinstance(given, Tensor) and isinstance(output, Tensor)):
            return
        if given.shape == output.shape and given.shape[-1] == lm.width and not same(given, output):
            found.append(module)

    def same(given: Tensor, output: Tensor) -> bool:
        return torch.equal(given.to(output.device, output.dtype), output)

    leaves = [m for m in lm.model.modules() if next(m.children(), None) is None]
    handles = [blocks[-1].register_forward_hook(finish)]
    handles += [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        with evaluating(lm.model):
            ids = torch.tensor([[0, 1]], device=lm.device)
            lm.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    head = lm.model.get_output_embeddings()
    norms = [module for module in found if module is not head]
    return norms[-1] if norms else None


def _scale_and_centre(norm: nn.Module, direction: Tensor) -> Tensor:
    """s * C v, asked of the norm itself: some scale by 1 + weight, some have no weight, and not
    every norm that centres is a LayerNorm of torch's. On the device of the norm."""
    own = next(norm.parameters(), direction)
    direction = direction.to(own.device)
    # Mean 0 (for an even width) and mean square 1: every norm leaves it but for scale and bias.
    probe = torch.ones(1, 1, len(direction), dtype=own.dtype, device=own.device)
    probe[..., ::2] = -1.0
    scale = (norm(probe) - norm(-probe)).float() / (2 * probe.float())
    shifted = (norm(probe + 1) - norm(probe)).float().abs().max() < 0.05
    centred = torch.where(shifted, direction - direction.mean(), direction)
    return scale[0, 0] * centred
