"""Heat maps on made-up frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench import figures


def test_a_component_map_is_the_mean_over_prompts() -> None:
    rows = [
        {"layer": layer, "kind": kind, "head": head, "prompt_index": row, "kl": layer + head + row}
        for layer in range(2)
        for kind, head in (("head", 0), ("head", 10), ("head", 2), ("mlp", -1))
        for row in range(2)
    ]
    frame = pd.DataFrame([*rows, {"layer": -1, "kind": "whole", "head": -1, "kl": 9}])
    (drawn,) = figures.component_map(frame).data
    assert list(drawn.x) == ["0", "2", "10", "MLP"]
    assert list(drawn.y) == ["0", "1"]
    assert np.allclose(drawn.z, [[0.5, 2.5, 10.5, -0.5], [1.5, 3.5, 11.5, 0.5]])
    with pytest.raises(ValueError, match="no part to draw"):
        figures.component_map(frame[frame["kind"] == "whole"])
