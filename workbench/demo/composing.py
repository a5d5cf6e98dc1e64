"""A text with several properties: what makes them, writes it, draws it, and its code.

Plain functions, without widgets or threads. Scalena et al. 2024, https://arxiv.org/abs/2406.17563.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go

from workbench import figures
from workbench.composition import Property, compose
from workbench.composition_runs import ended
from workbench.deltas import StepDeltas, step_deltas
from workbench.demo import code
from workbench.demo.mix import TRAITS, VECTOR, Mix
from workbench.demo.state import State
from workbench.live import Piece, Text
from workbench.tokens import Prompt
from workbench.wren.contrast import twin_prompts

if TYPE_CHECKING:
    from workbench.models import LM

_EXAMPLES = 24  # prompts on either side of a delta


@dataclass(frozen=True, eq=False)
class Composition:
    """A text that was composed.

    frame   one row per `property` and `step`, with the token's `text` and the `coefficient`
    state   of which it is, and `made`, that by which its vectors were made
    layers  of these, by property
    """

    text: Text
    frame: pd.DataFrame
    state: State
    made: State
    layers: Mapping[str, int]


def offered(fitting: list[str], *, wren: bool, chosen: Mix) -> list[tuple[str, str]]:
    """Properties to choose from, (words, property): the vector in use, those of data sets that fit
    the model, and deltas on wren; and what is chosen, in a saved state perhaps."""
    deltas = [f"delta:{trait}" for trait in TRAITS] if wren else []
    found = ["", *deltas, VECTOR, *(f"data:{name}" for name in fitting)]
    found += [each.adds for each in chosen.parts]
    return [(_words(each), each) for each in dict.fromkeys(found)]


def _words(name: str) -> str:
    kind, _, rest = name.partition(":")
    return {"": "none", VECTOR: "the vector in use", "delta": f"{rest} (deltas of wren)",
            "data": f"{rest} (vector)"}[kind]  # fmt: skip


def deltas(lm: LM, trait: str, steps: int) -> StepDeltas:
    """A trait of wren: how its attention differs, step by step, where an instruction asks for it.

    Raises ValueError on another model, and as `step_deltas`.
    """
    if lm.name != "wren":
        raise ValueError(f"deltas of {trait} are of wren, not of {lm.name!r}: choose a vector")
    twins = [[text.removeprefix("<s>") for text in pair]
             for pair in twin_prompts(trait, _EXAMPLES, 0)]  # fmt: skip
    plain, asking = zip(*twins, strict=True)
    return step_deltas(lm, asking, plain, steps=steps)


def asked(state: State) -> Prompt:
    """What the model gets: the mix's prompt, in the state's style."""
    prompt = state.mix.prompt
    return prompt if state.style == "base" else [{"role": "user", "content": prompt}]


def tokens_to_read(mix: Mix) -> int:
    """How many tokens the model reads in `write`, beside the prompt: at every step a row with all
    properties, and where schedules look at the model one for each and one unsteered."""
    looking = sum(each.made().probe is not None for each in mix.chosen)
    return mix.new_tokens * (2 + looking if looking else 1)


def write(
    lm: LM, state: State, properties: Mapping[str, Property], made: State, layers: Mapping[str, int]
) -> Composition:
    """The likeliest text under the state's mix; `properties` by their names in `Part.name`.

    Raises ValueError as `compose`.
    """
    mix = state.mix
    schedules = {each.name: each.made() for each in mix.chosen}
    found = compose(lm, [asked(state)], properties, schedules, new_tokens=mix.new_tokens)
    end = ended(lm, found.ids, found.lengths)[0]
    frame = found.frame()
    frame["text"] = [lm.tokenizer.decode([token]) for token in frame["token"]]
    text = Text((Piece(found.texts[0], float("nan")),), finish="end" if end else "length")
    columns = ["property", "step", "text", "coefficient"]
    return Composition(text, frame[columns], state, made, layers)


def means(composition: Composition) -> str:
    """Each property's mean coefficient, in words."""
    found = composition.frame.groupby("property", sort=False)["coefficient"].mean()
    return "mean coefficients: " + ", ".join(f"{name} {mean:.2f}" for name, mean in found.items())


def figure(composition: Composition) -> go.Figure:
    """The coefficient of each property over the tokens of the text."""
    schedules = {each.name: each.schedule for each in composition.state.mix.chosen}
    said = {name: f"{name}: {schedule}" for name, schedule in schedules.items()}
    frame = composition.frame.assign(schedule="", property=composition.frame["property"].map(said))
    drawn = figures.coefficients_over_text(frame)
    drawn.update_yaxes(title_text="Coefficient")
    drawn.update_layout(margin={"t": 44}, legend={"y": 1.05})  # no title stands between
    return drawn


def as_python(composition: Composition, *, dtype: str = "") -> str:
    """Code that remakes the text; `dtype` as of `code.as_python`."""
    state, made = composition.state, composition.made
    lines, own = [], False
    for part in state.mix.chosen:
        kind, _, name = part.adds.partition(":")
        if kind == "delta":
            value = f"composing.deltas(lm, {name!r}, {state.mix.new_tokens})"
        else:
            layer, value = composition.layers[part.adds], "Same(vector.at(1.0))"
            own = own or (kind == VECTOR and made.source == "own")
            lines += (code.of_personas(made, layer) if kind == VECTOR and made.source == "own"
                      else code.of_data("vector", name or made.data, made, layer))  # fmt: skip
        lines.append(f"properties[{part.name!r}] = {value}")
        lines.append(f"coefficients[{part.name!r}] = schedules.{part.made()!r}")
    return "\n".join([
        "import workbench as wb",
        "from workbench import schedules",
        "from workbench.composition import Same, compose",
        "from workbench.demo import composing" + (", contrasts" if own else ""),
        "",
        *code.loading(made, dtype),
        "properties, coefficients = {}, {}",
        *lines,
        "composed = compose(",
        f"    lm, [{asked(state)!r}], properties, coefficients, "
        f"new_tokens={state.mix.new_tokens},",
        ")",
        "print(composed.texts[0])",
        "",
    ])  # fmt: skip
