"""What a direction says: in tokens, read through the unembedding or through the input embedding.

The residual stream reaches the logits through the final norm and the unembedding,

    logits = W (s * C h / size(h) + b)

with s the norm's scale, C its centring (LayerNorm) or nothing (RMSNorm). A direction v therefore
moves the logits by W (s * C v), but for the division by the stream's size, one positive factor that
changes no ranking, and for what later blocks make of it (nostalgebraist 2020, "interpreting GPT:
the logit lens"). That is what it does to the output. Which tokens it is like where the stream
begins is told by its cosines with the input embeddings. Knows nothing of how a direction was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from workbench.loading.layers import evaluating
from workbench.support.checks import check_whole
from workbench.text.token_texts import token_texts

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Tokens whose embeddings are held at once, and as many as a forward is asked with.
_TOKENS, _ASKED = 8192, 8


@torch.no_grad()
def token_effects(lm: LM, direction: Tensor) -> Tensor:
    """Change of every logit (V,) per unit of `direction` (D,), up to the norm's positive factor.

    The mean over the vocabulary is taken out: a shift of all logits changes no probability. Raises
    ValueError for a direction of another width or a model without an unembedding matrix.
    """
    _check(lm, direction)
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
    `token_effects`, and ValueError for a count that is not a whole number of at least 1.
    """
    check_whole("count", count, 1)
    return _both_ends(lm, token_effects(lm, direction), count, "logit", ("favoured", "hindered"))


def largest_by_chance(lm: LM, draws: int = 99, seed: int = 0) -> float:
    """The largest change of a logit per unit of a random direction, in either direction: what 95 %
    of random directions do not exceed, in the unit of `top_tokens` of a direction of length 1.

    It bounds all tokens at once: a direction that says nothing shows a token beyond it one time in
    twenty. Fewer than 19 draws cannot tell: theirs is the largest of all. Raises ValueError as
    `token_effects`, and unless draws and seed are whole numbers of at least 1 and 0.
    """
    found = [token_effects(lm, each).abs().max() for each in _random(lm, draws, seed)]
    return _rarely_exceeded(torch.stack(found))


def nearest_tokens(lm: LM, direction: Tensor, count: int = 10) -> pd.DataFrame:
    """The `count` tokens whose input embeddings a direction (D,) is most like, and most unlike.

    Columns token, cosine, side: `cosine` is that of the direction with what the token adds to the
    stream before the first block; `side` is "nearest" or "opposite", the nearest to -v. What the
    model scales, projects or normalises an embedding by is taken into account; position embeddings,
    the same for all tokens, are not. Where embedding and unembedding are tied, a direction of a
    late layer often says the same here as in `top_tokens`, but for the final norm's scale.

    Raises ValueError for a direction of another width or of length 0, a count that is not a whole
    number of at least 1, weights that are not in memory, and a model whose tokens enter the stream
    in another way.
    """
    check_whole("count", count, 1)
    _check(lm, direction)
    if not direction.any():
        raise ValueError("the direction has length 0: it is near to no token")
    found = torch.cat(list(_token_cosines(lm, direction[None])))[:, 0]
    return _both_ends(lm, found, count, "cosine", ("nearest", "opposite"))


def nearest_by_chance(lm: LM, draws: int = 99, seed: int = 0) -> float:
    """The largest cosine of a random direction with any token's input embedding, in either
    direction: what 95 % of random directions do not exceed, as in `largest_by_chance`. Raises
    ValueError as that and `nearest_tokens`."""
    directions = torch.stack(list(_random(lm, draws, seed)))
    largest = [part.abs().max(dim=0).values for part in _token_cosines(lm, directions)]
    return _rarely_exceeded(torch.stack(largest).max(dim=0).values)


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


def _check(lm: LM, direction: Tensor) -> None:
    if direction.shape != (lm.width,):
        raise ValueError(
            f"the direction has shape {tuple(direction.shape)}, the residual stream of "
            f"{lm.name!r} has width {lm.width}"
        )


def _random(lm: LM, draws: int, seed: int) -> Iterator[Tensor]:
    """Directions of length 1, drawn evenly from all. Raises ValueError for other numbers."""
    count = check_whole("draws", draws, 1)
    generator = torch.Generator().manual_seed(check_whole("seed", seed, 0))
    for direction in torch.randn(count, lm.width, generator=generator):
        yield direction / direction.norm()


def _rarely_exceeded(largest: Tensor) -> float:
    """What a further draw exceeds with a probability of 5 %: of n draws the k-th smallest, with
    k = 0.95 (n + 1), as each of the n + 1 places among them is as likely."""
    place = math.ceil(0.95 * (len(largest) + 1))
    return float(largest.sort().values[min(place, len(largest)) - 1])


def _both_ends(
    lm: LM, values: Tensor, count: int, column: str, sides: tuple[str, str]
) -> pd.DataFrame:
    """The tokens of the largest and of the smallest values (V,), outermost first."""
    most = min(count, len(values))
    ends = [(sign * values).topk(most).indices for sign in (1, -1)]
    ids = torch.cat(ends)
    return pd.DataFrame(
        {
            "token": token_texts(lm.tokenizer, ids.tolist()),
            column: values[ids].tolist(),
            "side": [side for side in sides for _ in range(most)],
        }
    )


@torch.no_grad()
def _token_cosines(lm: LM, directions: Tensor) -> Iterator[Tensor]:
    """(v, k) cosines of directions (k, D) with every token's way into the stream, part by part."""
    if not lm.in_memory:
        raise ValueError(
            f"the weights of {lm.name!r} are not in memory: its embeddings are unknown"
        )
    table, through = lm.model.get_input_embeddings(), _after_embedding(lm)
    own: Tensor = table.weight  # type: ignore[assignment]
    for ids in torch.arange(own.shape[0], device=own.device).split(_TOKENS):
        rows = table(ids)
        rows = normalize((rows if through is None else through(rows)).float(), dim=-1)
        yield (rows @ normalize(directions.to(rows), dim=-1).T).cpu()


@torch.no_grad()
def _after_embedding(lm: LM) -> nn.Module | None:
    """What an embedding passes before it is in the stream: a projection (some OPTs), a norm
    (BLOOM), or None where it is only scaled, and a position embedding added.

    Told by a forward of a few tokens, one a text: the streams before the first block must differ
    from token to token as what it gives does, but for one positive factor.
    """
    blocks: nn.ModuleList = lm.model.get_submodule(lm.layer_path)  # type: ignore[assignment]
    table = lm.model.get_input_embeddings()
    embedded: list[Tensor] = []
    stream: list[Tensor] = []
    found: list[tuple[nn.Module | None, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module is table:
            embedded.append(output)
            found.append((None, output))
        given = inputs[0] if len(inputs) == 1 else None
        if stream or not embedded or not isinstance(given, Tensor):
            return
        same = given.shape == embedded[0].shape and torch.equal(given, embedded[0].to(given.device))
        if same and isinstance(output, Tensor):
            found.append((module, output))

    def begin(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        stream.append(inputs[0] if inputs else named["hidden_states"])

    leaves = [m for m in lm.model.modules() if next(m.children(), None) is None]
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    handles.append(blocks[0].register_forward_pre_hook(begin, with_kwargs=True))
    try:
        with evaluating(lm.model):
            ids = torch.linspace(0, lm.vocabulary - 1, _ASKED, device=lm.device).long()[:, None]
            lm.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    for module, rows in found:
        if _differ_alike(rows, stream[0]):
            return module
    raise ValueError(
        f"the tokens of {lm.name!r} ({type(lm.model).__name__}) do not enter the residual stream "
        f"as their embeddings of width {embedded[0].shape[-1]}, nor as one projection or norm of "
        "these: no cosine with them is exact; read it through the unembedding (top_tokens)"
    )


def _differ_alike(rows: Tensor, stream: Tensor) -> bool:
    """Whether tokens (n, 1, D) differ from their mean in both alike, but for a positive factor."""
    if rows.shape != stream.shape:
        return False
    one, other = (x.double() - x.double().mean(dim=0) for x in (rows.to(stream.device), stream))
    factor = (one * other).sum() / one.square().sum()
    tolerance = torch.finfo(stream.dtype).eps ** 0.5
    return bool(factor > 0 and (other - factor * one).norm() <= tolerance * other.norm())
