"""Bands over prompts: what is resampled, how often they cover, what is left out."""

import numpy as np
import pandas as pd

from workbench.sweeps.bands import band_over_prompts, drawn_band


def sweep(prompts: int = 3) -> pd.DataFrame:
    """One row per (prompt, coefficient); measures are plain functions of both."""
    return pd.DataFrame(
        [
            {
                "prompt_index": prompt,
                "coefficient": 10 * x,
                "coefficient_norm": x,
                "logprob_unsteered": -1 - abs(x) - prompt,
                "trait": x / 2,
            }
            for prompt in range(prompts)
            for x in (-1, -0.5, 0, 0.5, 1)
        ]
    )


def test_interval_resamples_prompts_whole() -> None:
    """Prompts that differ by a constant give a band of one width at every coefficient."""
    line = band_over_prompts(sweep(), "logprob_unsteered")
    width = line["high"] - line["low"]
    assert np.allclose(width, width[0])
    assert width[0] > 0
    assert (line["low"] <= line["mean"]).all()
    assert (line["mean"] <= line["high"]).all()


def test_interval_covers_the_mean() -> None:
    """A 95 % interval of 40 normal values holds their expectation in about 95 of 100 draws."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        frame = pd.DataFrame({"prompt_index": range(40), "coefficient_norm": 0.0})
        line = band_over_prompts(frame.assign(value=generator.normal(size=40)), "value", size=400)
        hits += bool(line["low"][0] <= 0 <= line["high"][0])
    assert 178 <= hits <= 198


def test_interval_skips_gaps() -> None:
    frame = sweep()
    frame.loc[frame["prompt_index"] == 2, "trait"] = np.nan
    frame.loc[frame["coefficient_norm"] == 0, "trait"] = np.nan
    line = band_over_prompts(frame, "trait")
    assert list(line["x"]) == [-1, -0.5, 0.5, 1]
    assert np.allclose(line["mean"], [-0.5, -0.25, 0.25, 0.5])


def test_one_prompt_leaves_everything_open_on_a_scale_with_ends() -> None:
    """Without ends nothing is known of the others, and the band has no width."""
    line = band_over_prompts(sweep(prompts=1), "logprob_unsteered")
    assert np.allclose(line["low"], line["high"])
    line = band_over_prompts(sweep(prompts=1), "trait")
    assert (line["high"] - line["low"] > 1.0).all()


def test_another_axis() -> None:
    line = band_over_prompts(sweep().assign(coefficient_norm=np.nan), "trait", axis="coefficient")
    assert list(line["x"]) == [-10, -5, 0, 5, 10]
    assert list(line["prompts"]) == [3] * 5


def test_the_mean_of_a_few_is_not_drawn() -> None:
    frame = sweep(8)
    gone = (frame["coefficient_norm"] == 1) & (frame["prompt_index"] < 4)
    frame.loc[gone, "trait"] = np.nan
    assert drawn_band(frame, "trait")["x"].tolist() == [-1, -0.5, 0, 0.5]
    few = frame[frame["prompt_index"] >= 4]
    assert drawn_band(few, "trait")["x"].tolist() == [-1, -0.5, 0, 0.5, 1]
