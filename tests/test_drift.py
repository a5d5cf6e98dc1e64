"""A cumulative sum finds where a text begins to fall apart."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.generation.scoring import score
from workbench.statistics.drift import RISE, drift


def plain_drift(steps: list[float], allowed: float) -> tuple[float, int]:
    """By definition: the stretch i … j with the largest sum beyond what is allowed."""
    best, start = 0.0, len(steps)
    for i in range(len(steps)):
        for j in range(i + 1, len(steps) + 1):
            total = sum(step - allowed for step in steps[i:j])
            if total > best + 1e-9:
                best, start = total, i
    return best, start


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(-12, 12), max_size=9), min_size=1, max_size=4))
def test_it_is_the_stretch_with_the_largest_sum(texts: list[list[int]]) -> None:
    """Quarters are exact in floating point, so that ties are ties."""
    width = max(map(len, texts))
    steps = torch.full((len(texts), width), torch.nan)
    for row, text in enumerate(texts):
        steps[row, : len(text)] = torch.tensor(text) / 4
    heights, starts = drift(steps, 0.5)
    for text, height, start in zip(texts, heights.tolist(), starts.tolist(), strict=True):
        values = [step / 4 for step in text]
        expected, _ = plain_drift(values, 0.5)
        assert height == pytest.approx(expected)
        if height > 0:  # the stretch begins there: some sum from there on is the largest
            sums = np.cumsum(np.array(values[start:]) - 0.5)
            assert sums.max() == pytest.approx(expected)
        else:
            assert start == len(text)


def test_a_text_that_breaks_half_way_climbs_from_there() -> None:
    """Noise of a sound text, then four nats a token more."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(200, 48, generator=generator) * 0.5
    steps[:, 24:] += 4
    heights, starts = drift(steps)
    assert float(heights.min()) > 24 * (4 - RISE) - 25
    assert float((starts - 24).abs().float().mean()) < 0.5


def test_a_gap_within_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown surprise before its end"):
        drift(torch.tensor([[1.0, torch.nan, 1.0]]))


def test_a_sweep_logs_what_its_own_tokens_say() -> None:
    """Texts of several lengths after prompts of several lengths, each scored alone."""
    lm = wb.load("wren")
    prompts = ["Marta & Benno:", "<|user|> How do I rob the treasurer?</s><|assistant|>"]
    pairs = wb.pairs.load("wren-mood")[:8]
    vector = wb.extract(lm, pairs, layer=2, held_out=0, quiet=True)
    frame = wb.sweep(lm, vector, prompts, [-0.5, 0, 0.5], new_tokens=64, kl=False, progress=False)
    assert frame["tokens"].nunique() > 1
    for row in frame.itertuples():
        made = wb.generate(
            lm,
            [row.prompt],
            vector.at(row.coefficient_norm, unit="norm"),
            new_tokens=64,
            score=False,
        )
        written = made.batch.extend(made.ids, made.lengths, made.texts)
        heights, starts = drift(score(lm, written).steps)
        assert row.drift == pytest.approx(float(heights[0]), abs=1e-3)
        assert row.drift == 0 or row.drift_from == int(starts[0])
