"""Sweeps whose every number is known, for tests of tables and sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

GRID = np.linspace(-2, 2, 17)
SCALE = 50.0


def swept(
    *,
    effect: float = 0.8,
    breaks: float = 1.0,
    prompts: int = 8,
    judged: bool = True,
    grid: np.ndarray = GRID,
) -> pd.DataFrame:
    """A sweep whose trait is `effect` times the coefficient, up to 7 % more or less by prompt, and
    whose texts are gibberish, without coherence or trait, from `breaks` on; below, coherence is 1.
    """
    answers = np.linspace(0.93, 1.07, prompts)
    rows = []
    for prompt in range(prompts):
        for c in grid:
            broken = abs(c) >= breaks
            rows.append(
                {
                    "prompt_index": prompt,
                    "prompt": f"Prompt | number {prompt}\n",
                    "coefficient": c * SCALE,
                    "coefficient_norm": c,
                    "vector": "vector",
                    "text": f"text of {prompt} at {c} <b>",
                    "tokens": 40,
                    "excess": 5.0 if broken else 0.0,
                    "distinct_2": 1.0,
                    "longest_repeat": 1,
                    "logprob_unsteered": -4.0 if broken else -1.0,
                    "alert": -9.0,
                    "trait": 0.0 if broken else effect * c * answers[prompt],
                    "coherence": 0.0 if broken else 1.0,
                }
            )
    frame = pd.DataFrame(rows)
    frame.attrs = {"new_tokens": 40, "trait": "mood"}
    return frame if judged else frame.drop(columns=["trait", "coherence"])
