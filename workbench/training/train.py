"""From contrast pairs to a trained intervention: SFT, RePS or SPLIT, as vector, LoRA, local weight.

Where `extract` reads a direction off the model's activations, `train` lowers an objective
(objectives.py) of the steered model's own probabilities, by gradients through the traced forward.
The base model is frozen and comes back as it was. Source: "Why Steering Works" (arXiv 2602.02343).
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from workbench.contrast.holding import hold_out
from workbench.contrast.pairs import Pairs, check_pairs
from workbench.contrast.polarity import against_said, require_consistent
from workbench.forward.steering import check_layer, plan
from workbench.loading.layers import frozen
from workbench.support.checks import require_layers, require_lists, require_model
from workbench.support.interrupts import stopping
from workbench.support.store import open_chunks, tensors_hash
from workbench.support.versions import versions
from workbench.text.positions import Positions, Rule, everything
from workbench.text.splits import require_disjoint
from workbench.training.examples import Examples, make_examples
from workbench.training.fitting import Diverged, State, fit
from workbench.training.minibatch import Settings, Sub, Task
from workbench.training.objectives import AnyObjective, as_objective
from workbench.training.trainable import FORMS, Form, interventions
from workbench.training.trained import Trained, as_parameters, history, loss_history, make_result
from workbench.vectors.forms import LoRA

if TYPE_CHECKING:
    from workbench.loading.models import LM

__all__ = ["Diverged", "loss_history", "train"]

# The published code trains the vector on every token but the first, and applies it to all.
NOT_FIRST = Rule("not_first", lambda batch: batch.attention & (batch.positions > 0), True)


def train(
    lm: LM,
    pairs: Pairs,
    objective: AnyObjective = "split",
    form: str = "vector",
    *,
    layers: int | Sequence[int] | None = None,
    rank: int = 4,
    factors: Sequence[float] | None = None,
    sub: Sub = "negate",
    positions: Positions | None = None,
    epochs: int = 2,
    batch: int = 4,
    learning_rate: float | None = None,
    warmup: float = 0.0,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    dropout: float = 0.1,
    held_out: Pairs | float | None = None,
    patience: int | None = 3,
    start: Trained | None = None,
    compat: bool = False,
    parts: int = 1,
    seed: int = 0,
    directory: str | os.PathLike[str] | None = None,
    stop: threading.Event | None = None,
    watch: Callable[[dict[str, float]], None] | None = None,
    progress: bool = True,
    quiet: bool = False,
) -> Trained:
    """Train a vector, a LoRA or a local weight on contrast pairs.

    Args:
        lm: The model. It is frozen meanwhile, and unchanged afterwards.
        pairs: Prompts with two completions; the positive one shows the trait.
        objective: "sft", "reps" or "split" with the weights of objectives.py, or one with its own,
            such as SPLIT(margin=8.0).
        form: "vector" (after a block), "lora" or "local_weight" (on the MLP's down-projection).
        layers: Where, one layer or several that are trained together; by default the middle one.
        rank: Of the LoRA.
        factors: Coefficients m of which every example draws one; by default the published ones,
            2, 4, … 20 for the vector and 0.2, 0.4, … 2 for the others.
        sub: Pairs are trained to show the trait at +m. "negate" also trains them to show its
            opposite at -m; "remove" (vector) the same with what the stream has of the vector taken
            away; None leaves that out.
        positions: Which tokens are steered meanwhile; by default all (`compat`, vector: all but
            the first).
        epochs, batch: Passes over the examples, and examples of a step (both their sides count
            once); the last step of an epoch may have fewer.
        learning_rate: Of AdamW, falling linearly to 0; by default 0.08 (vector) or 0.01.
        warmup: Share of the steps in which it rises first.
        weight_decay, clip: Of AdamW; the largest norm of a step's gradient.
        dropout: Share of the change's entries that is dropped at random.
        held_out: Other pairs, or the share of `pairs` (default 0.2), that judge every epoch: the
            one with the lowest loss is kept. 0: all pairs are trained on and the last step is kept.
        patience: Epochs without a lower held-out loss after which training ends; None: never.
        start: What to begin from: a result of the same form and model. What made it counts as
            having made the new one, too.
        compat: Compute the objective as the published code does (objectives.py), and train its
            number beside the vector.
        parts: In how many forwards a step's examples are read, for memory. The result is the same
            but for rounding and for the noise of dropout; with `compat` the objective is of each
            part.
        seed: Of the start, the order, the factors, the dropout and the held-out pairs.
        directory: Where checkpoints are kept. The same call picks up there, and ends with the
            numbers of a run that was not cut.
        stop: Set it to end early, as Ctrl-C does: what is trained so far is returned.
        watch: Given each row of the loss history as it comes.
        progress, quiet: Show a bar with the loss; do not print.

    Returns a `SteeringVector`, `LoRA` or `LocalWeight`. Its coefficient is m: `vector.at(m,
    unit="raw", layers=vector.layers)`, `lora.at(m)`. `loss_history(result)`, from
    `workbench.training.train`, gives its losses; "complete" in its provenance is False if it was
    stopped.

    If held-out pairs answer the other way round than those that were trained on, that is printed
    and stands in the provenance ("turned"): some of either may be the wrong way round. Where
    training diverged, that is warned of instead.

    Raises ValueError, before any step, for arguments of another kind (the name of a model or of
    pairs, say), unknown names, settings out of range, layers without
    the site of the form, pairs that lack a prompt, have an empty completion, are longer than the
    context or contradict each other (polarity.py), held-out pairs that share a text with what is
    trained on or has made `start`, a `start` of another model, and a `directory` that holds another
    run; and
    `Diverged`, a ValueError that names the step and its pairs, for a loss that is not finite: its
    `result` is what the last checkpoint holds (None before the first).
    """
    require_model(lm)
    check_pairs(pairs)
    require_lists(factors=factors)
    aim, shape = as_objective(objective), _form(form)
    settings = Settings(
        objective=aim,
        form=shape,
        layers=_layers(lm, layers, start),
        rank=rank if not isinstance(start, LoRA) else start.rank,
        factors=shape.factors if factors is None else tuple(factors),
        sub=sub,
        positions=positions or (NOT_FIRST if compat and form == "vector" else everything),
        epochs=epochs,
        batch=batch,
        learning_rate=shape.learning_rate if learning_rate is None else learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        clip=clip,
        dropout=dropout,
        patience=patience,
        compat=compat,
        seed=seed,
        parts=parts,
    )
    require_consistent(pairs)
    parameters = settings.begin(lm)
    if start is not None:
        start.check(lm)
        given = as_parameters(start, shape, settings.layers)
        parameters |= {name: tensor.to(lm.device) for name, tensor in given.items()}
    begun = tensors_hash(parameters)
    before, chose = (set[str](), set[str]()) if start is None else _known_to(start)
    if isinstance(held_out, Pairs):
        require_disjoint({"start": before, f"{held_out.name} (held out)": held_out.texts})
        chose |= set(held_out.texts)
    division = hold_out(pairs, held_out, seed, made=shape.name.replace("_", " "))
    making = replace(pairs, pairs=tuple(pairs[i] for i in division.making))
    judging = held_out if isinstance(held_out, Pairs) else None
    if division.judging:
        judging = replace(pairs, pairs=tuple(pairs[i] for i in division.judging))

    def examples_of(which: Pairs) -> Examples:
        return make_examples(lm, which, sub=sub is not None, reference=aim.needs_reference)

    examples = examples_of(making)
    judged = None if judging is None else examples_of(judging)
    task = Task(lm, settings, making, division.making, examples, judged)
    schedule = settings.schedule(len(examples))
    first, _ = examples.batch([0], False)
    plan(lm, first, interventions(shape, parameters, torch.ones(1), settings.positions))
    state, path = State(parameters), None
    if directory is not None:
        decides = {
            "model": lm.fingerprint,
            "data": making.fingerprint,
            "held_out": None if judging is None else judging.fingerprint,
            "start": begun,
            **settings.as_json(),
        }
        path = open_chunks(directory, decides, schedule.steps).directory / "state.safetensors"
        state = State.load(path, lm.device) or state

    def result(of: State, complete: bool, turned: str | None = None) -> Trained:
        about = {
            "pairs": pairs.name,
            "trait": pairs.trait,
            "data": pairs.fingerprint,
            "start": None if start is None else begun,
            "texts": sorted({*pairs.texts, *before}),
            "made_from": len(making),
            "held_out": division.said,
            "held_out_texts": sorted(chose),
            **settings.as_json(),
            "steps": of.step,
            "complete": complete,
            "kept": "lowest held-out loss" if of.best else "last step",
            "turned": turned,
            "history": history(of),
            "model_type": str(lm.model.config.model_type),
            "dtype": str(lm.dtype).removeprefix("torch."),
            "versions": versions(),
        }
        return make_result(lm, shape, of.chosen(), aim.name, examples.sides, about)

    judge = None if judged is None else task.judge
    with stopping(stop) as stopped, frozen(lm.model):
        try:
            ended = fit(
                state, schedule, task.losses, judge, task.name, stopped, path, progress, watch
            )
        except Diverged as error:
            if error.state is not None and error.state.step:
                error.result = result(error.state, complete=False)
            raise
        lost = ended.lost()
        # What answers after a run that diverged says nothing of how the pairs stand.
        away = None if lost else task.against(ended.chosen())
        told = None if away is None else against_said(away)
        turned = None if told is None else f"held out: {told}"
        made = result(ended, ended.complete(schedule), turned)
    if lost:
        warnings.warn(
            f"{lost}; lower the learning rate ({settings.learning_rate:g}) or the factors",
            stacklevel=2,
        )
    if not quiet:
        print(f"{pairs.name}: {made!r}; {division.said}" + (f"; {turned}" if turned else ""))
    return made


def _form(name: str) -> Form:
    if name not in FORMS:
        raise ValueError(f"form {name!r} is unknown; choose one of {', '.join(FORMS)}")
    return FORMS[name]


def _known_to(start: Trained) -> tuple[set[str], set[str]]:
    """Hashes of the texts that made a result, and of those that judged it."""
    return set(start.texts), set(start.held_out_texts)


def _layers(lm: LM, layers: int | Sequence[int] | None, start: Trained | None) -> tuple[int, ...]:
    """The layers to train, in order. Raises ValueError for none, one twice, or out of range."""
    if layers is None:
        return (lm.layers // 2,) if start is None else start.layers
    if not isinstance(layers, int):
        require_layers(layers)
    given = [layers] if isinstance(layers, int) else list(layers)
    chosen = tuple(sorted(check_layer(lm, layer) for layer in given))
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"layers {layers!r}: name at least one, and each once")
    return chosen
