"""What a direction says: the tokens it favours and hinders, read through the unembedding.

The residual stream reaches the logits through the final norm and the unembedding,

    logits = W (s * C h / size(h) + b)

with s the norm's scale, C its centring (LayerNorm) or nothing (RMSNorm). A direction v therefore
moves the logits by W (s * C v), but for the division by the stream's size, one positive factor that
changes no ranking, and for what later blocks make of it (nostalgebraist 2020, "interpreting GPT:
the logit lens"). Knows nothing of how a direction was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

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
    through = direction.to(weight.device, torch.float32)
    if norm is not None:
        through = _scale_and_centre(norm, through)
    effects = weight.float() @ through
    return (effects - effects.mean()).cpu()


def top_tokens(lm: LM, direction: Tensor, count: int = 10) -> pd.DataFrame:
    """The `count` most favoured and most hindered tokens: columns token, logit, side.

    `logit` is the change of a token's logit per unit of the direction, up to one positive factor
    common to all tokens; `side` is "favoured" or "hindered". Raises as `token_effects`.
    """
    effects = token_effects(lm, direction)
    rows = [
        {"token": lm.tokenizer.decode([int(index)]), "logit": float(effects[index]), "side": side}
        for side, sign in (("favoured", 1), ("hindered", -1))
        for index in (sign * effects).topk(min(count, len(effects))).indices
    ]
    return pd.DataFrame(rows)


def final_norm(lm: LM) -> nn.Module | None:
    """The norm between the last block and the unembedding: the last module that stands beside the
    layer list and has a weight of the residual stream's width, or None where there is none."""
    parent, _, name = lm.layer_path.rpartition(".")
    holder = lm.model.get_submodule(parent) if parent else lm.model
    norms = [
        module
        for child, module in holder.named_children()
        if child != name and getattr(module, "weight", torch.empty(0)).shape == (lm.width,)
    ]
    return norms[-1] if norms else None


def _scale_and_centre(norm: nn.Module, direction: Tensor) -> Tensor:
    """s * C v, asked of the norm itself: some scale by 1 + weight, and not every norm that centres
    is a LayerNorm of torch's."""
    weight: Tensor = norm.get_parameter("weight")
    # Mean 0 (for an even width) and mean square 1: every norm leaves it but for scale and bias.
    probe = torch.ones(1, 1, len(direction), dtype=weight.dtype, device=weight.device)
    probe[..., ::2] = -1.0
    scale = (norm(probe) - norm(-probe)).float() / (2 * probe.float())
    centres = torch.allclose(norm(probe + 1), norm(probe), atol=0.05)
    centred = direction - direction.mean() if centres else direction
    return scale[0, 0] * centred
