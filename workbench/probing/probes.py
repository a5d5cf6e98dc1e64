"""Probes: what a model's residual stream tells, layer by layer and token by token.

One pass reads every layer at every token asked for; linear_probes.py judges each by cross-validated
probes. A probe shows that a class can be read off the stream, not that the model uses it there: its
direction need not be one that steers (see `Probes.vector`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench.contrast.pairs import Pairs
from workbench.extraction.layer_scores import best_layer
from workbench.forward.steering import check_layer
from workbench.forward.token_streams import read_tokens, touched_by
from workbench.forward.tracing import Remote
from workbench.probing.labelled_texts import LabelledTexts, label_texts
from workbench.probing.linear_probes import KINDS, Bools, check_dealt, deal, judge
from workbench.probing.stream_rounding import beyond_rounding
from workbench.probing.word_probes import told_by_words, words_so_far
from workbench.statistics.intervals import Floats
from workbench.support.checks import check_whole, require_layers, require_model
from workbench.support.store import tensors_hash
from workbench.support.versions import versions
from workbench.text.positions import Positions
from workbench.text.tokens import Batch, Prompt
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True, eq=False)
class Probes:
    """What probes tell, and their directions.

    table          one row per layer and position, see `probe`
    directions     (layer, position) -> (D,) float32 of unit length, towards the positive class; of
                   the probe of all texts. Cells without one are left out.
    residual_norm  layer -> median norm of the residual stream over tokens other than the first
    model, fingerprint, kind, provenance   as of a `SteeringVector`
    """

    table: pd.DataFrame
    directions: Mapping[tuple[int, int | str], Tensor]
    residual_norm: Mapping[int, float]
    model: str
    fingerprint: str
    kind: str
    provenance: Mapping[str, Any]

    def vector(
        self, position: int | str | None = None, *, layer: int | None = None
    ) -> SteeringVector:
        """The probes' directions at one position as a steering vector: unit length, in the stream's
        own units (the features' scaling undone), towards the positive class.

        position  by default that of the highest held-out accuracy
        layer     the default layer, by default that of the highest held-out accuracy at the
                  position (the lower of equals)

        A direction that reads a class best need not be one that writes it: a probe leans away from
        whatever else varies along the class, and may rest on what the model never uses. Marks and
        Tegmark (2023, https://arxiv.org/abs/2310.06824) find that the difference of means changes
        a model's answers more than a logistic probe that reads as well. So measure in a sweep what
        it does.
        Raises ValueError for a position or a layer without a direction.
        """
        cells = zip(self.table["layer"], self.table["position"], strict=True)
        table = self.table[[cell in self.directions for cell in cells]]
        at = position
        if at is None and len(table):
            at = table["position"].iloc[int(table["accuracy"].to_numpy().argmax())]
        own = table[table["position"] == at]
        if at is None or own.empty:
            raise ValueError(
                f"no direction at the position {position!r}; there are some at "
                f"{list(dict.fromkeys(at for _, at in self.directions))}"
            )
        top = best_layer(own, "accuracy")
        layers = [int(each) for each in own["layer"]]
        wanted = int(top["layer"]) if layer is None else check_whole("layer", layer, 0)
        if wanted not in layers:
            raise ValueError(f"no direction at layer {layer!r}; there are some at {layers}")
        why = (
            f"highest held-out accuracy of {len(layers)} layers ({top['accuracy']:.1%} of "
            f"{int(top['texts'])} texts)"
        )
        return SteeringVector(
            directions={each: self.directions[each, at] for each in layers},
            residual_norm={each: self.residual_norm[each] for each in layers},
            model=self.model,
            fingerprint=self.fingerprint,
            method=f"{self.kind} probe",
            layer=wanted,
            provenance={
                **self.provenance,
                "positions": str(at),
                "layer_choice": why if layer is None else "as asked",
            },
        )


def probe(
    lm: LM,
    texts: Pairs | Sequence[Prompt] | Batch,
    labels: Sequence[bool] | None = None,
    *,
    layers: Sequence[int] | None = None,
    positions: int | Sequence[int] | Positions = -1,
    kind: str = "logistic",
    folds: int = 5,
    groups: Sequence[Any] | None = None,
    shuffles: int = 3,
    words: bool = False,
    fewest: int | None = None,
    seed: int = 0,
    remote: Remote = False,
    quiet: bool = False,
) -> Probes:
    """Cross-validated probes of the residual stream at each layer and position.

    texts      contrast pairs, whose positive sides are the positive class; or texts with labels
    labels     one per text, True (1) for the positive class; two classes alone
    layers     decoder layers, all of them by default
    positions  tokens of the texts as they stand, each probed by itself: from 0 on counted from the
               first one (the tokenizer's own start token, where it sets one), below 0 from the last
               (-1); or a rule of positions.py, the mean over whose tokens is probed
    kind       "logistic" (the L2 penalty chosen in the training folds) or "lda" (Ledoit-Wolf
               shrinkage), both on features standardised in the training folds
    groups     one per pair or per text: what a fold holds whole. By default texts and pairs that
               share a prompt or a text; the sides of a pair are always together
    shuffles   how many times the labels are shuffled for the control, within their folds and groups
               (`shuffled_labels.shuffled`); each takes as long as the probe itself
    words      whether words and length alone are asked too, of the text up to the token
               (`word_probes`), for what the probe reads beyond them
    fewest     None: every text must have every position. A number: a text counts where it has the
               token, and cells of fewer texts than that, or too few for the folds, are left blank
    quiet      show no bars

    The table has `layer`, `position`, `texts` and `groups`, how many there are, `coordinates`, how
    many of the stream's D differ between texts by more than rounding (`rounding.py`; the others are
    left out), `chance`, the accuracy of naming always the larger class; and of held-out texts
    `accuracy`, `auc` (of texts of one fold, blind to the classes' sizes), `control` (accuracy on
    shuffled labels, whose interval is the least and the greatest of the shuffles), `control_auc`
    and `selectivity` = accuracy - control (linear_probes.py says what this control can show); with
    `words`, the accuracy of `words` and of `length` alone, and `beyond_words` and `beyond_length`,
    by how much the probe's is higher: a probe that reads no more need not have found more than a
    word. Intervals (`…_low`, `…_high`) are the 95 % bootstrap's over groups; they speak for other
    texts and these probes, not for probes of other training texts. The best of many cells is
    flattered by the choice. All streams read are held at once: 4 x texts x layers x positions x D
    bytes.

    Raises ValueError, before the model runs, for labels, groups, layers, positions, or numbers that
    do not fit, and for folds that would be without a class; afterwards for streams that are not
    finite.
    """
    require_model(lm)
    require_layers(layers)
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; choose one of {', '.join(map(repr, KINDS))}")
    chosen = list(range(lm.layers)) if layers is None else [check_layer(lm, k) for k in layers]
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"layers {chosen}: name at least one, and each once")
    for name, value, least in (("folds", folds, 2), ("shuffles", shuffles, 1), ("seed", seed, 0)):
        check_whole(name, value, least)
    if fewest is not None:
        check_whole("fewest", fewest, 2 * folds)
    made = label_texts(lm, texts, labels, groups)
    touched = touched_by(lm, made.batch, positions)
    there = {at: tokens.any(dim=1).numpy() for at, tokens in touched.items()}  # (B,) each
    if fewest is None:
        _check_everywhere(made.batch, there)
    how = {"folds": folds, "shuffles": shuffles, "seed": seed}
    known = {own.tobytes(): _can_fill(made, own, fewest, kind, how) for own in there.values()}
    filled = {at for at, own in there.items() if known[own.tobytes()]}
    if not filled:
        raise ValueError(
            f"at none of the positions {list(there)} can {folds} folds be dealt from {fewest} "
            "texts: give a smaller `fewest`, fewer folds, or other positions"
        )

    read = list(touched.values())
    values, norms = read_tokens(lm, made.batch, chosen, read, remote=remote, progress=not quiet)
    so_far = {}
    for at in filled if words else ():
        own, (said, tokens) = there[at], words_so_far(lm, made.batch, touched[at])
        chosen_texts = [said[row] for row in np.flatnonzero(own)]
        fold = deal(made.groups[own], made.labels[own], folds, seed)
        so_far[at] = told_by_words(chosen_texts, tokens[own], made.labels[own], fold)
    rows, directions = [], {}
    cells = [(k, p, (layer, at)) for k, layer in enumerate(chosen) for p, at in enumerate(there)]
    shown = {"desc": "probing", "unit": "cell", "delay": 2, "leave": False}
    for k, p, (layer, at) in tqdm(cells, disable=quiet, **shown):
        own = there[at]
        row: dict[str, Any] = {"layer": layer, "position": at, "texts": int(own.sum())}
        row["groups"] = len(np.unique(made.groups[own]))
        if at in filled:
            stream, apart = _told_apart(lm, values[p, own, k], layer, at)
            row["coordinates"] = int(apart.sum())
            given = stream, made.labels[own], made.groups[own]
            row |= judge(kind, *given, **how, beside=so_far.get(at))
            weights = torch.zeros(lm.width, dtype=torch.float64)
            if bool(apart.any()):
                weights[apart] = torch.from_numpy(KINDS[kind](*given, seed).weights)
            if bool(weights.any()):
                directions[layer, at] = (weights / weights.norm()).float()
        rows.append(row)
    pairs = texts if isinstance(texts, Pairs) else None
    provenance = {
        "pairs": pairs.name if pairs else "",
        "trait": pairs.trait if pairs else "",
        "data": pairs.fingerprint if pairs else tensors_hash({"ids": made.batch.ids}),
        "texts": sorted(made.hashes),
        "made_from": len(made.batch),
        "held_out": f"{folds} folds of {len(np.unique(made.groups))} groups, {shuffles} shuffles",
        "seed": seed,
        "model_type": str(lm.model.config.model_type),
        "dtype": str(lm.dtype).removeprefix("torch."),
        "versions": versions(),
    }
    return Probes(
        pd.DataFrame(rows),
        directions,
        dict(zip(chosen, norms.tolist(), strict=True)),
        lm.name,
        lm.fingerprint,
        kind,
        provenance,
    )


def _check_everywhere(batch: Batch, there: Mapping[int | str, Bools]) -> None:
    """Raise ValueError for a position that a text lacks."""
    for at, own in there.items():
        if not own.all():
            if isinstance(at, str):
                text = batch.texts[int(np.flatnonzero(~own)[0])]
                raise ValueError(
                    f"{at} touches no token of {text[:200]!r}; read other positions, or give a "
                    "number as `fewest`, with which such texts are left out"
                )
            row = int(np.flatnonzero(~own)[0])
            length = int(batch.attention[row].sum())
            shortest = int(batch.attention.sum(dim=1).min())
            raise ValueError(
                f"position {at!r} lies outside of text {row}, which has {length} tokens: "
                f"{batch.texts[row][:200]!r}; the shortest has {shortest}: give positions from "
                f"{-shortest} to {shortest - 1}, or a number as `fewest`, with which texts are "
                "left out where they lack a token"
            )


def _can_fill(
    made: LabelledTexts, own: Bools, fewest: int | None, kind: str, how: dict[str, int]
) -> bool:
    """Whether the texts at a position are enough and can be dealt to folds.

    Without `fewest` the error says why they cannot.
    """
    if fewest is not None and int(own.sum()) < fewest:
        return False
    try:
        check_dealt(kind, made.labels[own], made.groups[own], **how)
    except ValueError as error:
        if fewest is None:
            raise ValueError(
                f"{error}. By default what shares a prompt is one group; pairs of one prompt can "
                "be told apart by groups=range(len(pairs))"
            ) from None
        return False
    return True


def _told_apart(lm: LM, stream: Tensor, layer: int, position: int | str) -> tuple[Floats, Tensor]:
    """Of a stream (N, D) the coordinates that differ by more than rounding, (N, C) float64, and
    which these are, (D,) bool; where there is none, one that is 0 in every text.

    Raises ValueError for values that are not finite.
    """
    if not bool(torch.isfinite(stream).all()):
        row = int((~torch.isfinite(stream)).any(dim=1).nonzero()[0])
        raise ValueError(
            f"the stream of the {row}-th text that is read at layer {layer}, position {position!r} "
            "is not finite; load the model in float32, or in bfloat16"
        )
    apart = beyond_rounding(stream, lm.dtype)
    if not bool(apart.any()):
        return np.zeros((len(stream), 1)), apart
    return stream[:, apart].double().numpy(), apart
