"""From a state to a vector, a sweep and texts: plain functions, without widgets or threads.

What the buttons of the demo do, a script can do by calling these.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench import judges
from workbench.contrast import catalogue
from workbench.contrast.pairs import Pairs, load
from workbench.demo.contrasts import data_pairs, data_prompts, own_pairs
from workbench.demo.mix import Mix, Part
from workbench.demo.state import State, steps
from workbench.extraction import steerability
from workbench.extraction.extract import extract
from workbench.generation import live
from workbench.interventions.updates import Intervention
from workbench.sweeps.ceiling import find_ceiling
from workbench.sweeps.marks import Ceiling
from workbench.sweeps.rounds import in_order, joined
from workbench.sweeps.sweep import sweep
from workbench.text.positions import generated
from workbench.text.splits import PromptSet
from workbench.text.tokens import encode
from workbench.vectors.controls import random_like
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

# A sweep: so many tokens a text, so many steps to either end. Prompts where a judge measures the
# trait, and where the divergence beyond a random control does, which doubles the texts.
TOKENS, STEPS = 32, 8
JUDGED, CONTROLLED = 32, 16
_JUDGES = 12  # held-out pairs that choose a layer: every layer reads them twice


class Stopped(Exception):
    """The stop button was pressed."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A vector, and what it may be swept on.

    prompts  of the role "select": apart from what made the vector
    judges   what measures the trait here; none: the KL divergence does
    """

    vector: SteeringVector
    prompts: PromptSet
    judges: tuple[judges.Judge, ...]


@contextmanager
def interruptible(
    lm: LM, stop: threading.Event, read: Callable[[int], None] = lambda tokens: None
) -> Iterator[None]:
    """Within, every forward of the model asks first whether to stop, and tells `read` how many
    tokens it will read, padding included. Raises Stopped if so."""

    def ask(_: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if stop.is_set():
            raise Stopped
        ids = named.get("input_ids", inputs[0] if inputs else None)
        read(0 if ids is None else ids.numel())

    hook = lm.model.register_forward_pre_hook(ask, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def initial(lm: LM, seed: int = 0, *, model: str | None = None) -> State:
    """A state to begin with: a data set that fits the model, and one of its prompts.

    model  by what name or path the model is loaded again; its own name by default
    """
    data = fitting(lm, ["wren-mood"])[0]
    name = lm.name if model is None else model
    state = State(model=name, data=data, seed=seed, new_tokens=_room(lm, 48))
    first = State.prompt if lm.name == "wren" else data_prompts(data)[0]
    prompt = first if isinstance(first, str) else str(first[-1]["content"])
    mix = replace(Mix(), prompt=prompt, new_tokens=_room(lm, Mix.new_tokens))
    if lm.name == "wren":
        some = Part("delta:italian", "dynamic", 0.75), Part("delta:mood", "fixed", 0.5)
        mix = replace(mix, parts=(*some, Part()))
    return replace(state, prompt=prompt, mix=mix)


def chats(lm: LM) -> bool:
    """Whether a model can be asked in chats: it has a template for them."""
    return bool(lm.tokenizer.chat_template)


def fitting(lm: LM, wanted: Sequence[str] = ()) -> list[str]:
    """The bundled data sets that fit a model: among `wanted` if any does, else among all."""
    return catalogue.fitting(lm.name, wanted, len(catalogue.bundled()), chats=chats(lm))


def _room(lm: LM, wanted: int) -> int:
    """Tokens of a text that leave the prompt most of a small model's context."""
    return wanted if lm.context is None else max(1, min(wanted, lm.context // 4))


# ---- vector, sweep, texts -----------------------------------------------------------------------


def train(lm: LM, state: State) -> Trained:
    """The vector of a state, its layer chosen or found, and the prompts to sweep it on.

    Raises ValueError as `extract`, and for a layer that the model does not have.
    """
    if state.layer is not None and state.layer >= lm.layers:
        raise ValueError(f"layer {state.layer}: {lm.name!r} has layers 0 to {lm.layers - 1}")
    prompts = data_prompts(state.data, state.style, state.seed)
    if state.source == "own":
        made = own_pairs(
            lm, state.positive, state.negative, state.template, prompts,
            style=state.style, seed=state.seed,
        )  # fmt: skip
        vector, trait = extract(
            lm, made, state.method, positions=generated, layer=state.layer, seed=state.seed,
            quiet=True,
        ), ""  # fmt: skip
    else:
        vector, trait = data_vector(lm, state.data, state), load(state.data).trait
    exact = lm.name == "wren" and trait != ""
    few = tuple(prompts[: JUDGED if exact else CONTROLLED])
    return Trained(
        vector, PromptSet(few, prompts.name, prompts.role), (judges.exact,) if exact else ()
    )


def data_vector(lm: LM, data: str, state: State) -> SteeringVector:
    """The vector of a bundled data set, by the state's method, layer and seed."""
    splits = data_pairs(data, state.style).split(seed=state.seed)
    vector = extract(
        lm, splits.extract, state.method, positions=generated, held_out=splits.select,
        layer=state.layer, seed=state.seed, quiet=True,
    )  # fmt: skip
    if state.layer is not None:
        return vector
    return steerability.at_steepest(lm, vector, splits.select[:_JUDGES], quiet=True)


def tokens_to_read(lm: LM, state: State) -> int:
    """About how many tokens the model reads in `train`; 0 where that is not known beforehand."""
    if state.source == "own":
        return 0
    splits = data_pairs(state.data, state.style).split(seed=state.seed)

    def length(pairs: Pairs) -> int:
        sides = [
            (prompt, text)
            for pair in pairs
            for prompt, text in zip(pair.prompts, (pair.positive, pair.negative), strict=True)
        ]
        asked = [prompt or text for prompt, text in sides]
        said = [text if prompt else () for prompt, text in sides]
        return int(encode(lm, asked, said).attention.sum())

    chooses = 0 if state.layer is not None else 2 * lm.layers * length(splits.select[:_JUDGES])
    return length(splits.extract) + length(splits.select) + chooses


def sweep_in_rounds(
    lm: LM,
    trained: Trained,
    state: State,
    *,
    directory: Path | None = None,
    stop: threading.Event | None = None,
) -> Iterator[tuple[pd.DataFrame, int, int]]:
    """A sweep that grows from the middle outwards: the frame so far, rounds done, rounds in all.

    The last frame is that of one `sweep` over all coefficients. A round that a stop cuts is
    dropped, and the iteration ends; with a `directory`, finished rounds are read from there.
    """
    rounds = steps(state.reach, STEPS)
    frames: list[pd.DataFrame] = []
    for index, coefficients in enumerate(rounds):
        frame = sweep(
            lm, trained.vector, trained.prompts, coefficients,
            new_tokens=_room(lm, TOKENS), temperature=1.0, seed=state.seed, judges=trained.judges,
            controls=() if trained.judges else {"random": random_like(trained.vector, state.seed)},
            kl=not trained.judges,
            directory=None if directory is None else directory / f"round-{index}",
            progress=False, stop=stop,
        )  # fmt: skip
        if not frame.attrs["complete"]:
            return
        frames.append(frame)
        yield in_order(joined(frames)), index + 1, len(rounds)


def conditions(lm: LM) -> str:
    """Under which conditions a sweep's texts are written, in words."""
    return f"{_room(lm, TOKENS)} tokens, temperature 1"


def ceiling_of(frame: pd.DataFrame, *, seed: int, bootstrap: int) -> Ceiling | None:
    """The ceiling, or None while a frame holds too little for one."""
    try:
        return find_ceiling(frame, seed=seed, bootstrap=bootstrap)
    except ValueError:
        return None


def interventions(
    vector: SteeringVector, state: State, second: SteeringVector | None = None
) -> tuple[Intervention, ...]:
    """What a state adds to the residual stream."""
    added = vector.at(state.coefficient)
    return added if second is None else (*added, *second.at(state.second_coefficient))


def has_second(state: State) -> bool:
    """Whether a second vector takes part."""
    return bool(state.second) and state.second_coefficient != 0


def write(
    lm: LM,
    vector: SteeringVector,
    state: State,
    second: SteeringVector | None = None,
    *,
    on_token: Callable[[live.Written], None] | None = None,
    pace: float = 0.0,
    stop: threading.Event | None = None,
) -> live.Written:
    """Both texts of a state, streamed; see `live.stream`."""
    return live.stream(
        lm, state.asked, interventions(vector, state, second), new_tokens=state.new_tokens,
        temperature=state.temperature, seed=state.text_seed, on_token=on_token, pace=pace,
        stop=stop,
    )  # fmt: skip
