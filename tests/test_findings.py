"""Tables and sentences of a report, from a frame whose every number is known."""

import math

import numpy as np
import pandas as pd
import torch
from sweeps import GRID, swept

from workbench.studies import coefficient_findings as findings
from workbench.sweeps.ceiling import Ceiling, find_ceiling
from workbench.vectors.steering_vector import SteeringVector

VECTORS = {
    "mood": SteeringVector(
        directions={2: torch.ones(4) / 2},
        residual_norm={2: 50.0},
        model="m",
        fingerprint="f",
        method="mean_difference",
        layer=2,
        provenance={"pairs": "set", "made_from": 30, "layer_choice": "as asked"},
    )
}


def found(frame: pd.DataFrame) -> Ceiling:
    return find_ceiling(frame, bootstrap=50)


def test_vectors_stand_with_their_layer_and_prompts() -> None:
    (row,) = findings.vectors_table(VECTORS, {"mood": swept()}).to_dict("records")
    assert (row["pairs"], row["made the vector"], row["layer"]) == ("set", 30, 2)
    assert row["why this layer"] == "as asked"
    assert (row["one residual norm (raw units)"], row["prompts of the sweep"]) == ("50.0", 8)


def test_texts_stand_at_the_marks_in_order() -> None:
    frame = swept()
    table = findings.texts_around(frame, found(frame), prompt_index=2)
    assert table["text"].str.startswith("text of 2 at").all()
    middle = table[table["where"].str.contains("unsteered")]
    assert middle["coefficient"].tolist() == ["+0.00"]
    assert middle["where"].tolist() == ["unsteered"]
    assert table["where"].iloc[0] == table["where"].iloc[-1] == "beyond"
    assert table["coherence"].iloc[-1] == 0.0


def test_slopes_stand_beside_those_of_controls() -> None:
    """The random control's are all the same: a slope has no scale that could bound them."""
    frame = swept()
    random = swept().assign(vector="random")
    random["trait"] = -0.1 * random["coefficient_norm"]
    both = pd.concat([frame, random], ignore_index=True)
    table = findings.slopes_table({"mood": both})
    assert table["texts"].tolist() == ["steered", "random vector"]
    assert table["anti-steerable, of the rest"].tolist() == ["0% [0%, 32%]", "100% [68%, 100%]"]
    means = table["mean slope (trait per residual norm)"].tolist()
    assert means[0].startswith("+0.80 [+0.7")
    assert means[1] == "−0.10 (all equal)"
    assert findings.slopes_table({"mood": swept(judged=False)}).empty


def test_without_norms_the_unit_is_raw() -> None:
    """A vector imported from another tool: the sweep knows its coefficients in raw units alone."""

    def raw(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(coefficient=frame["coefficient_norm"], coefficient_norm=math.nan)

    frames = {"mood": raw(swept())}
    ceilings = {"mood": found(frames["mood"])}
    fresh = {"mood": raw(swept(grid=np.array([-0.8, 0.0, 0.8])))}
    values = findings.sweep_values(frames, ceilings, fresh, VECTORS)
    assert (values["range"], values["unit"]) == ("−2.00 to +2.00", "raw units")
    assert " raw units: coherence changes by" in str(values["verdicts"])
    assert "mean slope (trait per raw unit)" in str(values["slopes"])
    assert "Distance from there, in raw units:" in str(values["rules_verdict"])
    words = " ".join(map(str, values.values())).replace("one residual norm (raw units)", "")
    assert "residual norm" not in words
    assert "nan" not in words


def test_flags_of_all_traits_are_counted_together() -> None:
    """Of 17 coefficients 7 lie below 1, where texts are intact and coherent, for 8 prompts each;
    none is in doubt, but where half of the prompts are coherent."""
    said = findings.flags_counted({"mood": swept(), "tone": swept(breaks=9.0)})
    rows = said.splitlines()[-2:]
    assert rows == [
        f"| intact | {8 * (7 + 17)} | 0 | 0 | 0 |",
        f"| broken | 0 | {8 * 10} | 0 | 0 |",
    ]
    mixed = swept()
    mixed.loc[(mixed["prompt_index"] < 4) & (mixed["coefficient_norm"] == 1.5), "coherence"] = 1.0
    rows = findings.flags_counted({"mood": mixed}).splitlines()[-2:]
    assert rows == ["| intact | 56 | 0 | 0 | 0 |", "| broken | 4 | 76 | 4 | 4 |"]
    assert "No judge" in findings.flags_counted({"mood": swept(), "b": swept(judged=False)})


def test_values_of_a_report_are_text_or_numbers_without_gaps() -> None:
    for judged in (True, False):
        frames = {"mood": swept(judged=judged)}
        ceilings = {"mood": found(frames["mood"])}
        fresh = {"mood": swept(judged=judged, grid=np.array([-0.5, 0.0, 0.5]))}
        values = findings.sweep_values(frames, ceilings, fresh, VECTORS)
        assert all(isinstance(value, str | int) and value != "" for value in values.values())
        assert "nan" not in " ".join(map(str, values.values()))
        assert "<b>" not in str(values["texts"])
        assert values["coefficients"] == len(GRID)
        assert (values["range"], values["unit"]) == ("−2.00 to +2.00", "residual norms")
