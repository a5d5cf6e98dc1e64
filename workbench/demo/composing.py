"""A text with several properties: written token by token, drawn, kept, and its code.

Plain functions, without widgets or threads. Scalena et al. 2024, https://arxiv.org/abs/2406.17563.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go

from workbench import figures
from workbench.composition.compose import Composed, compose
from workbench.demo import code
from workbench.demo.mix import TRAITS, VECTOR
from workbench.demo.properties import Given, as_property
from workbench.demo.state import TRAINS, State, differing
from workbench.generation.generate import end_ids
from workbench.generation.live import Flag, Text, Writer
from workbench.reporting import report
from workbench.text.completions import decode_completions
from workbench.text.tokens import Prompt
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

# What a composed text depends on, beside what its vectors are made of.
_COMPOSES = ("model", "style", "mix", "temperature", "text_seed")


@dataclass(frozen=True, eq=False)
class Composition:
    """A text that was composed, or is so far.

    frame   one row per `property` and `step`: the `token` and its `text`, the `coefficient`,
            `logprob` of the token under the composed model and `kl` as of `Composed.frame`
    state   of which it is, and `made`, that by which its vectors were made
    layers  of these, by property
    """

    text: Text
    frame: pd.DataFrame
    state: State
    made: State
    layers: Mapping[str, int]

    @property
    def whole(self) -> bool:
        """Whether it was written to its end."""
        return self.text.finish in ("end", "length")

    @property
    def steps(self) -> int:
        """How many tokens were written, the one that ends a text included."""
        return len(self.text.ids)


def offered(
    fitting: list[str], *, wren: bool, given: list[str], chosen: list[str]
) -> list[tuple[str, str]]:
    """Properties to choose from, (words, property): those that were `given` to the demo, deltas on
    wren, the vector in use, those of data sets that fit the model; and what is `chosen`, in a saved
    state perhaps."""
    found = ["", *(f"given:{name}" for name in given)]
    found += [f"delta:{trait}" for trait in TRAITS] if wren else []
    found += [VECTOR, *(f"data:{name}" for name in fitting), *chosen]
    return [(_words(each), each) for each in dict.fromkeys(found)]


def _words(name: str) -> str:
    kind, _, rest = name.partition(":")
    return {"": "none", VECTOR: "the vector in use", "delta": f"{rest} (deltas of wren)",
            "data": f"{rest} (vector)", "given": f"{rest} (given)"}[kind]  # fmt: skip


def asked(state: State) -> Prompt:
    """What the model gets: the mix's prompt, in the state's style."""
    prompt = state.mix.prompt
    return prompt if state.style == "base" else [{"role": "user", "content": prompt}]


def is_of(composition: Composition, state: State, made: State) -> bool:
    """Whether a text is of a state, with vectors `made` so."""
    same = not differing(composition.state, state, _COMPOSES)
    return same and not (composition.layers and differing(composition.made, made, TRAINS))


def write(
    lm: LM,
    state: State,
    added: Mapping[str, Given],
    made: State,
    *,
    on_token: Callable[[Composition], None] = lambda so_far: None,
    pace: float = 0.0,
    stop: Flag | None = None,
) -> Composition:
    """The text under the state's mix, at its temperature and by its seed.

    added     what each part adds, by `Part.name`, the vectors among them `made` by that state
    on_token  gets the text so far, `pace` seconds apart at least
    stop      looked at after every token: once set, what was written so far is returned

    Raises ValueError as `compose`.
    """
    mix = state.mix
    parts = {each.name: each for each in mix.chosen}
    layers = {
        parts[name].adds: each.layer
        for name, each in added.items()
        if isinstance(each, SteeringVector)
    }
    writer = Writer(lm.tokenizer, end_ids(lm), mix.new_tokens)
    told = -math.inf

    def taken(found: Composed, text: Text) -> Composition:
        return Composition(text, _frame(lm, found), state, made, layers)

    def heard(found: Composed) -> None:
        nonlocal told
        writer.take(int(found.ids[0, len(writer.ids)]), math.nan)
        if time.monotonic() - told >= pace:
            told = time.monotonic()
            on_token(taken(found, writer.so_far()))

    found = compose(
        lm, [asked(state)], {name: as_property(each) for name, each in added.items()},
        {name: each.made() for name, each in parts.items()}, new_tokens=mix.new_tokens,
        temperature=state.temperature, seed=state.text_seed, on_token=heard, stop=stop,
    )  # fmt: skip
    return taken(found, writer.finished())


def _frame(lm: LM, found: Composed) -> pd.DataFrame:
    frame = found.frame().drop(columns="row")
    ids = [[token] for token in frame["token"]]
    texts = decode_completions(lm.tokenizer, ids, skip_special_tokens=False)
    frame["text"] = texts
    return frame[["property", "step", "token", "text", "coefficient", "logprob", "kl"]]


def means(composition: Composition) -> str:
    """Each property's mean coefficient, in words."""
    found = composition.frame.groupby("property", sort=False)["coefficient"].mean()
    return "mean coefficients: " + ", ".join(f"{name} {mean:.2f}" for name, mean in found.items())


def figure(composition: Composition) -> go.Figure:
    """The coefficient of each property over the tokens of the text. Unless the model ended it the
    axes are those of the longest text and of the strongest property, so that nothing moves but the
    curves while it is written, or stopped and begun again."""
    mix = composition.state.mix
    said = {each.name: f"{each.name}: {each.schedule}" for each in mix.chosen}
    frame = composition.frame.assign(schedule="", property=composition.frame["property"].map(said))
    drawn = figures.coefficients_over_text(frame)
    top = max(0.1, *(each.strength for each in mix.chosen))
    steps = composition.steps if composition.text.finish == "end" else mix.new_tokens
    drawn.update_xaxes(range=[-0.7, steps - 0.3])
    drawn.update_yaxes(title_text="Coefficient", range=[-0.06 * top, 1.15 * top])
    drawn.update_layout(margin={"t": 44}, legend={"y": 1.05})  # no title stands between
    return drawn


def export(
    composition: Composition, lm: LM, name: str, folder: Path, *, dtype: str = ""
) -> report.Export:
    """Keep the figure, every token's coefficients as a table, and beside them the text, what is
    chosen (a state that can be restored) and the code that makes it again.

    Files are those of `report.export`, which says what is raised; `dtype` as of `code.as_python`.
    """
    state = composition.state
    drawn = figure(composition).update_layout(meta=None)  # drawn again as it is here
    return report.export(
        drawn, name, data=composition.frame, directory=folder,
        provenance={
            "text": composition.text.text, "finish": composition.text.finish,
            "prompt": asked(state), "model": lm.name, "fingerprint": lm.fingerprint,
            "temperature": state.temperature, "seed": state.text_seed,
            "layers": dict(composition.layers), "state": json.loads(state.to_json()),
            "vectors_made_by": json.loads(composition.made.to_json()),
            "code": as_python(composition, dtype=dtype),
        },
    )  # fmt: skip


def as_python(composition: Composition, *, dtype: str = "") -> str:
    """Code that remakes the text; `dtype` as of `code.as_python`."""
    state, made = composition.state, composition.made
    kinds = {each.adds.partition(":")[0] for each in state.mix.chosen}
    rooms = ["properties"] if "delta" in kinds else []
    if VECTOR in kinds and made.source == "own":
        rooms = ["contrasts", *rooms]
    lines = []
    for part in state.mix.chosen:
        kind, _, name = part.adds.partition(":")
        if kind == "delta":
            value = f"properties.deltas(lm, {name!r}, {state.mix.new_tokens})"
        elif kind == "given":
            vector = part.adds in composition.layers
            value = f"Same(given[{name!r}].at(1.0))" if vector else f"given[{name!r}]"
        else:
            layer, value = composition.layers[part.adds], "Same(vector.at(1.0))"
            lines += (code.of_personas(made, layer) if kind == VECTOR and made.source == "own"
                      else code.of_data("vector", name or made.data, made, layer))  # fmt: skip
        lines.append(f"added[{part.name!r}] = {value}")
        lines.append(f"coefficients[{part.name!r}] = schedules.{part.made()!r}")
    handed = "# given: what the demo was handed as `properties`; make or load it here, too."
    return "\n".join([
        "import workbench as wb",
        "from workbench.composition import schedules",
        "from workbench.composition.compose import Same, compose",
        *([f"from workbench.demo import {', '.join(rooms)}"] if rooms else []),
        "",
        *code.loading(made, dtype),
        *([handed] if "given" in kinds else []),
        "added, coefficients = {}, {}",
        *lines,
        "composed = compose(",
        f"    lm, [{asked(state)!r}], added, coefficients,",
        f"    new_tokens={state.mix.new_tokens}, temperature={state.temperature!r}, "
        f"seed={state.text_seed},",
        ")",
        "print(composed.texts[0])",
        "",
    ])  # fmt: skip
