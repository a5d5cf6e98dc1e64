"""The job "generate": a vector or weights from pairs, by the method that is asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.contrast.pairs import Pairs
from workbench.forward.reading import read_pairs
from workbench.forward.steering import check_layer
from workbench.preference.odds import odds, remarks
from workbench.runs.checking import swapped, usable
from workbench.runs.hyperparameters import training
from workbench.runs.jobs import Job
from workbench.runs.layouts import OWN_FILE, raw
from workbench.runs.records import plain
from workbench.runs.work import Stopped, Work, parts_folder
from workbench.support.versions import versions
from workbench.text.positions import generated
from workbench.training.fitting import Diverged
from workbench.training.train import train
from workbench.training.trainable import FORMS
from workbench.training.trained import Trained
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

# How many pairs are asked, after training, whether they answer to the coefficient.
_ASKED = 128


def decides(work: Work, job: Job, weights: str | None) -> dict[str, Any]:
    """All that decides what is made. Raises Missing where the hyper-parameters are not there."""
    values = work.hyper.making(job.combination)
    pairs = given(work, job, values)
    return plain(
        {
            "stage": job.stage,
            "weights": weights,
            "method": job.combination.method,
            "form": job.combination.form,
            "pairs": pairs.fingerprint,
            "bad_pairs": work.options.bad_pairs,
            # How many concepts there are decides nothing about one of them.
            "hyper_parameters": {k: v for k, v in values.items() if k != "max_concepts"},
        }
    )


def given(work: Work, job: Job, values: Mapping[str, Any]) -> Pairs:
    """The pairs to make it of: two examples each, one for every sign."""
    pairs = work.pairs(
        job.combination, "train", values["use_chat_template"], values["system_prompt"]
    )
    most = values["max_num_of_examples"]
    return pairs if most is None else pairs[: most // 2]


def make(work: Work, job: Job, causes: dict[str, Any]) -> tuple[Trained, list[str]]:
    """What is asked for, and sentences about it.

    Raises Stopped; Diverged, a ValueError, for a loss that is not finite, with the last checkpoint
    beside where the result would be; and ValueError for what cannot be trained on.
    """
    values, method = causes["hyper_parameters"], job.combination.method
    pairs, said = usable(
        work.lm,
        given(work, job, values),
        values["output_length"],
        work.options.bad_pairs,
    )
    if work.data.trait is not None:
        turned = swapped(pairs, work.data.trait)
        said += [] if turned is None else [turned]
    if method == "caa":
        work.stop.check()
        made = difference_of_means(work.lm, pairs, values["layers"])
    else:
        made = _train(work, job, causes, pairs)
    turned = made.provenance.get("turned")
    said += [] if turned is None else [turned]
    small = _small(values, method, job.combination.form)
    asked = pairs[:_ASKED]
    steered = raw(made, 1.0)
    frame = odds(work.lm, steered, asked, [-small, 0.0, small], quiet=True)
    return made, said + remarks(frame, steered, asked)


def _small(values: Mapping[str, Any], method: str, form: str) -> float:
    """A coefficient within those that it was trained at, and near enough to 0 for the model to hold
    together."""
    if method == "caa":
        return 0.5
    return min(map(abs, values["steering_factors"] or FORMS[form].factors)) / 2


def _train(work: Work, job: Job, causes: dict[str, Any], pairs: Pairs) -> Trained:
    method, form = job.combination.method, job.combination.form
    folder = parts_folder(job.folder, causes)
    try:
        made = train(
            work.lm,
            pairs,
            directory=folder,
            stop=work.stop.event,
            progress=sys.stderr.isatty(),
            quiet=True,
            **training(causes["hyper_parameters"], method, form),
        )
    except Diverged as error:
        if error.result is not None:
            kept = folder / OWN_FILE
            error.result.save(kept)
            raise Diverged(f"{error}, as {str(kept)!r}") from None
        raise
    if not made.provenance["complete"]:
        raise Stopped
    return made


def difference_of_means(lm: LM, pairs: Pairs, layers: list[int] | None = None) -> SteeringVector:
    """The mean over pairs of the positive less the negative side's activation, each the mean over
    the answer's tokens of the block's output: in its own length, so that m = 1 adds the difference.

    Contrastive activation addition, Rimsky et al. 2023, https://arxiv.org/abs/2312.06681.
    Raises ValueError for a layer out of range and for pairs without prompts.
    """
    chosen = [lm.layers // 2] if layers is None else sorted(check_layer(lm, one) for one in layers)
    found = read_pairs(lm, pairs, generated, layers=chosen, cache=False, progress=False)
    gap = found.positive.double().mean(0) - found.negative.double().mean(0)  # (L, D)
    return SteeringVector(
        directions={layer: gap[index].float() for index, layer in enumerate(chosen)},
        residual_norm=dict(zip(chosen, found.residual_norm.tolist(), strict=True)),
        model=lm.name,
        fingerprint=lm.fingerprint,
        method="caa",
        layer=chosen[len(chosen) // 2],
        provenance={
            "pairs": pairs.name,
            "trait": pairs.trait,
            "data": pairs.fingerprint,
            "texts": sorted(pairs.texts),
            "made_from": len(pairs),
            "positions": repr(generated),
            "model_type": str(lm.model.config.model_type),
            "dtype": str(lm.dtype).removeprefix("torch."),
            "versions": versions(),
        },
    )
