"""assembly: every planned row once, and a frame that says what it lacks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.sweeps.assembly import (
    assemble,
    is_complete,
    missing,
    require_complete,
    whole_prompts,
)
from workbench.sweeps.planning import Rows


def plan() -> Rows:
    """Two prompts at -1, 0 and 1, of the vector and of a control, and one prompted."""
    value = np.array([-1.0, 0.0, 1.0] * 4 + [0.0])
    index = np.array([0, 0, 0, 1, 1, 1] * 2 + [0])
    kind = np.array(["vector"] * 6 + ["random"] * 6 + ["prompted"], dtype=object)
    place = np.arange(13)
    return Rows(place, kind, np.append(index[:-1], 2), index, value, 2 * value, value)


def part(*rows: int) -> pd.DataFrame:
    chosen = plan().take(np.array(rows))
    return pd.DataFrame(
        {
            "row": chosen.row,
            "prompt_index": chosen.index,
            "coefficient": chosen.raw,
            "vector": list(chosen.kind),
            "text": [f"text {row}" for row in rows],
        }
    )


def test_rows_come_in_the_order_of_the_plan() -> None:
    frame = assemble(plan(), [part(12, 3, 4, 5), part(*range(6, 12)), part(2, 0, 1)], {"seed": 4})
    assert frame["text"].tolist() == [f"text {row}" for row in range(13)]
    assert "row" not in frame
    assert frame.attrs == {"seed": 4, "complete": True, "rows_planned": 13, "missing": []}
    assert is_complete(frame)
    assert missing(frame).empty
    require_complete(frame, "anything")
    pd.testing.assert_frame_equal(whole_prompts(frame), frame)


def test_what_lacks_is_named_by_vector_and_coefficient() -> None:
    frame = assemble(plan(), [part(0, 1, 2, 3), None, part(6, 7, 8, 9, 10, 11, 12)], {})
    assert frame.attrs["complete"] is False
    assert frame.attrs["missing"] == [
        {"vector": "vector", "coefficient": 0.0, "prompts": [1]},
        {"vector": "vector", "coefficient": 1.0, "prompts": [1]},
    ]
    message = (
        r"a ceiling needs a whole sweep, but this one was stopped: 11 of 13 texts; coefficients "
        r"without all prompts: \+0, \+1\. Run the sweep again .*whole_prompts"
    )
    with pytest.raises(ValueError, match=message):
        require_complete(frame, "a ceiling")


def test_whole_prompts_are_a_smaller_whole_sweep() -> None:
    frame = assemble(plan(), [part(0, 1, 2, 3), part(6, 9, 10, 11)], {"seed": 4})
    whole = whole_prompts(frame)
    assert whole["text"].tolist() == [f"text {row}" for row in (0, 1, 2, 9, 10, 11)]
    assert whole.attrs["left_out"] == {"prompted": [0], "random": [0], "vector": [1]}
    assert is_complete(whole)
    assert missing(whole).empty
    assert whole.attrs["seed"] == 4
    assert not is_complete(frame)


def test_nothing_done_is_an_empty_frame_with_its_columns() -> None:
    frame = assemble(plan(), [None, None], {"kl": False})
    assert len(frame) == 0
    assert {"text", "empty", "longest_repeat"} <= set(frame.columns)
    assert "kl" not in frame.columns
    assert sum(map(len, missing(frame)["prompts"])) == 13
    assert whole_prompts(frame).empty


def test_rows_that_stand_twice_or_are_foreign_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows twice \(\[1\]\)"):
        assemble(plan(), [part(0, 1), part(1, 2)], {})
    with pytest.raises(ValueError, match=r"not in the plan \(\[99\]\)"):
        assemble(plan(), [part(0, 1).assign(row=[0, 99])], {})


def test_a_frame_of_other_making_counts_as_complete() -> None:
    assert is_complete(pd.DataFrame({"text": ["a"]}))
