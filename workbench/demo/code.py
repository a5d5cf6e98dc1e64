"""A state as Python: what a reader pastes into a file, runs, and gets the very same text.

Whatever a state holds goes in as a literal (`repr`), so no text of a user's can become code.
"""

from __future__ import annotations

from workbench.demo.contrasts import in_chats
from workbench.demo.state import State


def as_python(
    state: State,
    made: State,
    layer: int,
    second_layer: int | None = None,
    *,
    dtype: str = "",
) -> str:
    """Code that remakes the steered text of a state.

    made          the state that the vector was made by
    layer         of the vector, as it was chosen
    second_layer  of the second vector; None where none is in use
    dtype         of a model that was loaded elsewhere, whose name may load another one; "" for one
                  that was loaded by its name
    """
    own = made.source == "own"
    lines = ["import workbench as wb", "from workbench.generation import live"]
    lines += ["from workbench.demo import contrasts"] if own else []
    lines += [""]
    lines += loading(made, dtype)
    lines += of_personas(made, layer) if own else of_data("vector", made.data, made, layer)
    steer = f"*vector.at({state.coefficient!r})"
    if second_layer is not None:
        lines += of_data("second", state.second, made, second_layer)
        steer += f", *second.at({state.second_coefficient!r})"
    lines += [
        "written = live.stream(",
        f"    lm, {state.asked!r},",
        f"    [{steer}],",
        f"    new_tokens={state.new_tokens}, temperature={state.temperature!r}, "
        f"seed={state.text_seed},",
        ")  # wb.generate writes the same, without the twin and the shading",
        "print(written.steered.text)",
    ]
    return "\n".join(lines) + "\n"


def loading(made: State, dtype: str) -> list[str]:
    """Load the model; `dtype` as of `as_python`."""
    if not dtype:
        return [f"lm = wb.load({made.model!r})"]
    return [
        "# The demo was given a loaded model: load it here as it was loaded there.",
        f"lm = wb.load({made.model!r}, dtype={dtype!r})",
    ]


def of_data(name: str, data: str, made: State, layer: int) -> list[str]:
    """The vector of a data set."""
    chats = ".as_chat()" if in_chats(data, made.style) else ""
    return [
        f"splits = wb.pairs.load({data!r}){chats}.split(seed={made.seed})",
        f"{name} = wb.extract(",
        f"    lm, splits.extract, {made.method!r}, positions=wb.positions.generated,",
        f"    held_out=splits.select, layer={layer}, seed={made.seed}, quiet=True,",
        ")",
    ]


def of_personas(made: State, layer: int) -> list[str]:
    """The vector of two personas."""
    return [
        f"prompts = contrasts.data_prompts({made.data!r}, {made.style!r}, {made.seed})",
        "pairs = contrasts.own_pairs(",
        f"    lm, {made.positive!r}, {made.negative!r},",
        f"    {made.template!r}, prompts, style={made.style!r}, seed={made.seed},",
        ")",
        "vector = wb.extract(",
        f"    lm, pairs, {made.method!r}, positions=wb.positions.generated,",
        f"    layer={layer}, seed={made.seed}, quiet=True,",
        ")",
    ]
