"""Where the coefficients of a comparison of methods stand (tradeoff.py), in a sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.support.wording import listed


def grids_said(table: pd.DataFrame) -> str:
    """How many prompts chose the coefficients that are compared, and on how fine a grid; and which
    the first method's are. They need not be those of a longer sweep on a finer grid.

    table  several of `tradeoff.tradeoff`, with a column `trait_name`
    """
    first = table[table["method"] == table["method"].iloc[0]]
    step = float(np.diff(np.sort(first["coefficient"].unique())).max())
    chosen = first[first["recommended"]]
    each = [
        f"{row['coefficient']:+.2f} for {row['trait_name']}" for row in chosen.to_dict("records")
    ]
    return (
        f"Here coefficients are chosen on {int(first['chosen_on'].iloc[0])} prompts, in steps of "
        f"{step:.3g} residual norms, the same for all methods"
        + (f" ({table['method'].iloc[0]}: {listed(each)})." if each else ".")
    )
