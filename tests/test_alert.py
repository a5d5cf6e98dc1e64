"""The reference rule's refusals; its numbers are in test_parity_alert.py and test_ceiling.py."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from workbench.sweeps.alert import Alert, alert_as_coded, alert_as_meant

FRAME = pd.DataFrame(
    {"prompt_index": 0, "vector": "vector", "coefficient": [0.0, 1.0], "text": ["a", "b"]}
)


@pytest.mark.parametrize(
    ("rule", "column"), [(alert_as_meant, "logprob_unsteered"), (alert_as_coded, "alert")]
)
def test_a_missing_column_is_named(rule: Callable[[pd.DataFrame], Alert], column: str) -> None:
    with pytest.raises(ValueError, match=rf"the frame has no column '{column}'; it has"):
        rule(FRAME)
