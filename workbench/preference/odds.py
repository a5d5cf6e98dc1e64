"""How much a model prefers one answer of a pair to the other, and either to all else, over m.

    preference(m) = L_n - L_p        utility(m) = log( (e^-L_p + e^-L_n) / (1 - e^-L_p - e^-L_n) )

with L = -log P(answer | prompt), the sum over its tokens under teacher forcing, for a model steered
by m times some interventions (arXiv 2602.02343). Answers are read, never written.

The two are tied by arithmetic: of answers of more than a few tokens neither is likely, and then
utility = -min(L_p, L_n) but for log 2 at most, which is -(L_p + L_n)/2 + |preference|/2. So beside
them stand the likelihood per token and, where texts are given, the loss on unrelated text;
`coupling.survives` says how much of "utility falls" is left. Knows nothing of laws or figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from workbench.contrast.pairs import Pairs, check_pairs
from workbench.contrast.polarity import against_said
from workbench.forward.tracing import Remote
from workbench.interventions.updates import Intervention
from workbench.preference.logodds import Forks, preference, utility, utility_of_means
from workbench.preference.multiples import check_multipliers, multiples
from workbench.support.checks import require_model
from workbench.support.versions import versions
from workbench.text.splits import as_text
from workbench.text.tokens import Batch, Prompt, encode
from workbench.vectors.steerable import Steerable, is_steerable

if TYPE_CHECKING:
    from workbench.loading.models import LM

Steered = Steerable | Sequence[Intervention]


def odds(
    lm: LM,
    steered: Steered,
    pairs: Pairs,
    multipliers: ArrayLike,
    *,
    length: Literal["sum", "mean"] = "sum",
    unrelated: Sequence[Prompt] | None = None,
    memory: float = 1 << 30,
    remote: Remote = False,
    quiet: bool = False,
) -> pd.DataFrame:
    """Preference and utility log-odds of every pair under every multiple m.

    steered      a vector, LoRA or local weight, where `at` steers by itself and in its usual unit
                 (a vector: its own layer, residual norms); or interventions as they are at m = 1,
                 such as `vector.at(1.0, layers=[3, 4])`
    pairs        pairs with prompts
    multipliers  the grid of m, 0 among it
    length       "sum": losses are of whole answers; "mean": per token, which are no probabilities
                 of answers any more
    unrelated    texts of nothing to do with the trait, for the column of that name
    memory       bytes that the logits of one forward may take
    quiet        neither a progress bar nor what is odd is shown

    One row per (pair, m), ordered so:
    `pair` (its index), `m`, `loss_positive`, `loss_negative` (L_p and L_n, nats), `preference`,
    `utility` (nats; NaN where undefined), `likelihood` (mean log-probability per token of the two
    answers, -(L_p / tokens + L_n / tokens) / 2, nats per token), `tokens_positive`,
    `tokens_negative`, `begins_alike` (one answer begins with all of the other, so that their
    probabilities overlap) and, with unrelated texts, `unrelated` (their mean loss at that m, nats
    per token, the same for every pair).

    At m = 0 the losses are those of `tracing.logprobs` without interventions. In `attrs`: what was
    steered and read (`model`, `weights`, `layers`, `unit`, `pairs`, `pairs_sha256`, `length`,
    `versions`), how many pairs are `undefined` (utility NaN at some m) and `begin_alike`, and
    `said`, a list of sentences about what is odd: they are printed unless `quiet`.

    Raises ValueError for anything but `Pairs`, a grid without 0 or with values that are not finite,
    pairs without prompts, an answer without tokens, a pair over the model's context, a vector of
    another model, coefficients given per row, and another `length`.
    """
    require_model(lm)
    check_pairs(pairs)
    if length not in ("sum", "mean"):
        raise ValueError(f"length {length!r} is unknown; use 'sum' or 'mean'")
    grid = check_multipliers(multipliers)
    interventions = _interventions(lm, steered)
    batch = both_sides(lm, pairs)
    forks, forked, alike = _forks(batch, pairs)
    (found,) = multiples(
        lm,
        batch,
        [interventions],
        grid,
        forks=forks,
        memory=memory,
        remote=remote,
        desc=None if quiet else "log-odds",
    ).numpy()
    losses, leaving = -found[0], found[1]  # (2n, M), the sides of a pair one after the other
    counts = batch.completion.sum(dim=1).numpy()
    positive, negative = losses[::2], losses[1::2]
    per_token = losses / counts[:, None]
    if length == "mean":
        positive, negative = per_token[::2], per_token[1::2]
        useful = utility_of_means(positive, negative)
    else:
        sides = leaving[::2], leaving[1::2]
        useful = utility(
            positive, negative, sides, np.broadcast_to(forked[:, None], sides[0].shape)
        )
    shape = positive.shape
    columns: dict[str, Any] = {
        "pair": np.broadcast_to(np.arange(len(pairs))[:, None], shape),
        "m": np.broadcast_to(grid, shape),
        "loss_positive": positive,
        "loss_negative": negative,
        "preference": preference(positive, negative),
        "utility": useful,
        "likelihood": -(per_token[::2] + per_token[1::2]) / 2,
        "tokens_positive": np.broadcast_to(counts[::2, None], shape),
        "tokens_negative": np.broadcast_to(counts[1::2, None], shape),
        "begins_alike": np.broadcast_to(alike[:, None], shape),
    }
    frame = pd.DataFrame({name: values.reshape(-1) for name, values in columns.items()})
    if unrelated is not None:
        how = {"memory": memory, "remote": remote, "quiet": quiet}
        table = unrelated_loss(lm, interventions, unrelated, grid, **how)
        frame["unrelated"] = frame["m"].map(table.groupby("m")["loss"].mean())
    undefined = int(np.isnan(useful).any(axis=1).sum())
    frame.attrs = {
        "model": lm.name,
        "weights": lm.fingerprint if lm.in_memory else "",
        "layers": sorted({each.layer for each in interventions}),
        "unit": steered.units[0] if is_steerable(steered) else "given",
        "pairs": pairs.name,
        "trait": pairs.trait,
        "pairs_sha256": pairs.fingerprint,
        "length": length,
        "undefined": undefined,
        "begin_alike": int(alike.sum()),
        "said": remarks(frame, steered, pairs),
        "versions": versions(),
    }
    if frame.attrs["said"] and not quiet:
        print("\n".join(frame.attrs["said"]))
    return frame


def unrelated_loss(
    lm: LM,
    steered: Steered,
    texts: Sequence[Prompt],
    multipliers: ArrayLike,
    *,
    memory: float = 1 << 30,
    remote: Remote = False,
    quiet: bool = False,
) -> pd.DataFrame:
    """The loss on whole texts under every multiple m: one row per (text, m).

    Columns `text` (its index), `m` and `loss` (mean over the text's tokens but the first, nats per
    token). Raises ValueError for a text of one token, and as `odds`.
    """
    grid = check_multipliers(multipliers)
    batch = encode(lm, texts)
    counts = batch.attention.sum(dim=1).numpy() - 1
    if (counts < 1).any():
        row = int(np.flatnonzero(counts < 1)[0])
        raise ValueError(
            f"unrelated text {row} is one token, {batch.texts[row]!r}: give longer ones"
        )
    (found,) = multiples(
        lm,
        batch,
        [_interventions(lm, steered)],
        grid,
        memory=memory,
        remote=remote,
        desc=None if quiet else "loss",
    )
    loss = -found[0].numpy() / counts[:, None]
    return pd.DataFrame(
        {
            "text": np.repeat(np.arange(len(loss)), len(grid)),
            "m": np.tile(grid, len(loss)),
            "loss": loss.reshape(-1),
        }
    )


def _interventions(lm: LM, steered: Steered) -> Sequence[Intervention]:
    if not is_steerable(steered):
        return steered
    steered.check(lm)
    return steered.at(1.0)


def both_sides(lm: LM, pairs: Pairs) -> Batch:
    """Both sides of every pair, answers as completions: positive 0, negative 0, positive 1, ...

    Raises ValueError for pairs without prompts and answers without tokens.
    """
    for index, pair in enumerate(pairs):
        if not all(pair.prompts):
            raise ValueError(
                f"pair {index} of {pairs.name!r} is two whole texts; log-odds are of answers: give "
                "pairs with prompts"
            )
    sides = [
        (prompt, text)
        for pair in pairs
        for prompt, text in zip(pair.prompts, (pair.positive, pair.negative), strict=True)
    ]
    batch = encode(lm, [prompt for prompt, _ in sides], [text for _, text in sides])
    empty = (~batch.completion.any(dim=1)).nonzero()
    if len(empty):
        row = int(empty[0])
        side = ("positive", "negative")[row % 2]
        raise ValueError(
            f"pair {row // 2} of {pairs.name!r}: its {side} answer {sides[row][1]!r} has no "
            "tokens; write it in letters that the tokenizer knows, or leave the pair out"
        )
    return batch


def _forks(batch: Batch, pairs: Pairs) -> tuple[Forks, np.ndarray, np.ndarray]:
    """Where the answers of each pair part; which pairs part at all, after one prompt (n,) bool; and
    of which one answer begins with the other (n,) bool."""
    answers = [row[own].tolist() for row, own in zip(batch.ids, batch.completion, strict=True)]
    column = torch.full((len(batch),), batch.width)
    rival = torch.zeros(len(batch), dtype=torch.long)
    whole = torch.ones(len(batch), dtype=torch.bool)
    forked, alike = (np.zeros(len(pairs), dtype=bool) for _ in range(2))
    for index, pair in enumerate(pairs):
        up, down = 2 * index, 2 * index + 1
        sides = zip(answers[up], answers[down], strict=False)
        shared = next((i for i, (a, b) in enumerate(sides) if a != b), None)
        if as_text(pair.prompts[0]) != as_text(pair.prompts[1]):
            continue
        if shared is None:
            alike[index] = True
            continue
        forked[index] = True
        for row, other in ((up, down), (down, up)):
            column[row] = batch.starts[row] + shared
            rival[row] = answers[other][shared]
        whole[down] = False
    return Forks(column, rival, whole), forked, alike


def remarks(frame: pd.DataFrame, steered: Steered, pairs: Pairs) -> list[str]:
    """Sentences about what is odd in a frame of `odds`."""
    said = []
    by_pair = frame.groupby("pair", sort=False)
    alike = by_pair["begins_alike"].first().to_numpy(dtype=bool)
    undefined = int(by_pair["utility"].agg(lambda values: values.isna().any()).sum())
    if alike.any():
        first = pairs[int(np.flatnonzero(alike)[0])]
        said.append(
            f"{int(alike.sum())} of {len(pairs)} pairs of {pairs.name!r} have an answer that "
            f"begins with all of the other, such as {first.positive[:40]!r} and "
            f"{first.negative[:40]!r}: their probabilities overlap, so their utility is too high "
            "or undefined"
        )
    if undefined:
        said.append(
            f"utility is undefined at some m for {undefined} of {len(pairs)} pairs: NaN there"
        )
    turned = against_said(against(frame))
    if turned:
        said.append(turned)
    if is_steerable(steered) and steered.texts & set(pairs.texts):
        said.append("what steers was made from some of these texts: nothing here is held out")
    return said


def against(frame: pd.DataFrame) -> np.ndarray:
    """(n,) by how much each pair's preference falls with m, in nats: the mean over the m below 0
    less that over those above, within half of the range. NaN where either side has none."""
    steered = frame[frame["m"] != 0]
    near = steered[steered["m"].abs() <= frame["m"].abs().max() / 2]
    chosen = near if near["m"].min() < 0 < near["m"].max() else steered
    table = chosen.assign(up=chosen["m"] > 0).pivot_table(
        index="pair", columns="up", values="preference", aggfunc="mean"
    )
    table = table.reindex(index=frame["pair"].unique(), columns=[False, True])
    return (table[False] - table[True]).to_numpy(dtype=float)
