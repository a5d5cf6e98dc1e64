"""Metrics in place of a judge: what they count, and how well each tells what holds."""

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench import comparison, metrics
from workbench.figures import metric_areas, metric_curves
from workbench.judges import Written


def frame(values: list[float], holds: list[bool], prompts: list[int]) -> pd.DataFrame:
    columns = {name: np.zeros(len(values)) for name in metrics.METRICS}
    return pd.DataFrame(
        {**columns, "prompt_index": prompts, "holds": holds, "surprisal_unsteered": values}
    )


def test_area_counts_pairs_and_halves_ties() -> None:
    values = np.array([1.0, 2.0, 2.0, 3.0])
    broken = np.array([False, False, True, True])
    # Pairs (broken, whole): 2>1, 2=2, 3>1, 3>2.
    assert metrics.area(values, broken) == pytest.approx(3.5 / 4)
    assert metrics.area(-values, broken) == pytest.approx(0.5 / 4)
    assert np.isnan(metrics.area(values, np.zeros(4, dtype=bool)))


def test_areas_have_intervals_over_prompts() -> None:
    rng = np.random.default_rng(0)
    holds = rng.random(200) < 0.5
    values = np.where(holds, 0.0, 1.0) + rng.normal(size=200)
    found = metrics.areas(frame(values.tolist(), holds.tolist(), [i // 10 for i in range(200)]))
    row = found.set_index("metric").loc["surprisal_unsteered"]
    assert row["area"] == pytest.approx(metrics.area(values, ~holds))
    assert row["low"] < row["area"] < row["high"]
    assert row["high"] - row["low"] < 0.3
    assert (row["texts"], row["prompts"]) == (200, 20)
    # What is the same for all texts tells nothing.
    assert found.set_index("metric").loc["echo", ["area", "low", "high"]].tolist() == [0.5] * 3


def test_bootstrap_of_whole_prompts_is_that_of_the_area() -> None:
    """Weights of texts give what drawing them gives."""
    values, broken = np.array([0.0, 1, 1, 2, 3]), np.array([False, True, False, True, True])
    weights = np.array([[2.0, 1, 0, 0, 1], [1, 1, 1, 1, 1]])
    for row in weights:
        drawn = np.repeat(np.arange(5), row.astype(int))
        low, high = metrics._ends(values, broken, row[None])
        assert low == high == pytest.approx(metrics.area(values[drawn], broken[drawn]))


def holding(written: list[Written], trait: str) -> pd.DataFrame:
    """Texts of an even number of letters hold."""
    coherence = [float(len(each.text) % 2 == 0) for each in written]
    return pd.DataFrame({"trait": [0.0] * len(written), "coherence": coherence}, dtype=float)


@pytest.fixture(scope="module")
def measured():
    lm = wb.load("wren")
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(0))
    vector = wb.SteeringVector(
        directions={1: direction},
        residual_norm={1: 30.0},
        layer=1,
        method="made up",
        model=lm.name,
        fingerprint=lm.fingerprint,
    )
    prompts = ["Marta & Benno:", "Kaspar & Felix:", "Nora & Dennis:"]
    found = metrics.measured(
        lm,
        vector,
        prompts,
        [-4.0, 0.0, 4.0],
        judge=holding,
        trait="mood",
        reads=(2, 8),
        new_tokens=8,
    )
    return lm, vector, prompts, found


def test_both_models_read_the_same_where_nothing_is_steered(measured) -> None:
    _, _, _, found = measured
    assert len(found) == 3 * 3 * 2
    still = found[found["coefficient"] == 0]
    for metric in ("surprisal", "sequence", "entropy", "surprisal_entropy", "surprisal_repetition"):
        assert np.allclose(still[f"{metric}_steered"], still[f"{metric}_unsteered"], atol=1e-4)
    pushed = found[found["coefficient"] == 4]
    assert not np.allclose(pushed["surprisal_steered"], pushed["surprisal_unsteered"], atol=0.1)
    assert (found["holds"] == (found["text"].str.len() % 2 == 0)).all()


def test_metrics_are_of_the_tokens_that_were_read(measured) -> None:
    lm, vector, prompts, found = measured
    for index, prompt in enumerate(prompts):
        made = wb.generate(
            lm,
            [prompt],
            vector.at(torch.tensor([4.0]), unit="norm"),
            new_tokens=8,
            temperature=1.0,
            streams=[index],
        )
        own = found[(found["prompt_index"] == index) & (found["coefficient"] == 4)]
        assert (own["text"] == made.texts[0]).all()
        for read, row in own.set_index("read").iterrows():
            scores = -made.logprobs_unsteered[0, :read]
            assert row["surprisal_unsteered"] == pytest.approx(float(scores.nanmean()), abs=1e-4)
            assert row["sequence_unsteered"] == pytest.approx(float(scores.nansum()), abs=1e-3)


def test_kinds_of_prompts() -> None:
    lm = wb.load("wren")
    chat = "<|user|> Tell me a story.</s><|assistant|>"
    found = comparison.kinds(lm, ["Nora & Dennis:", chat, "<b> no mark"], count=2)
    assert found == {
        "open": ["Nora & Dennis:", chat],
        "plain": ["Nora & Dennis:", "<b> no mark"],
        "chat": [chat],
    }


def compared() -> pd.DataFrame:
    rows = [
        (setting, metric, 0.9 - 0.05 * place, 0.85 - 0.05 * place, 0.95 - 0.05 * place, 10, 5)
        for setting in ("sampled, all tokens", "first token only")
        for place, metric in enumerate(metrics.METRICS)
    ]
    columns = ["setting", "metric", "area", "low", "high", "texts", "prompts"]
    return pd.DataFrame(rows, columns=columns)


def test_the_sentence_quotes_the_table() -> None:
    words = comparison.said(compared())
    assert "0.90 [0.85, 0.95] (sampled, all tokens)" in words
    assert "under the steered model, 0.85 [0.80, 0.90]" in words
    assert "The first token alone says 0.90" in words
    assert "first token" not in comparison.said(compared().iloc[: len(metrics.METRICS)])


def test_areas_are_drawn_bold_where_not_clearly_worse() -> None:
    figure = metric_areas(compared())
    (heat,) = figure.data
    assert heat.z.shape == (len(metrics.METRICS), 2)
    column = [row[0] for row in heat.text]
    # The best's lower end is .85: the third's upper end still reaches it, the fourth's does not.
    assert column[:4] == ["<b>90</b>", "<b>85</b>", "<b>80</b>", "75"]


def test_curves_are_drawn_in_words(measured) -> None:
    figure = metric_curves(measured[3][measured[3]["read"] == 8])
    assert "exact" in figure.layout.yaxis5.title.text
    names = {trace.name for trace in figure.data if trace.showlegend}
    assert names == {"unsteered model", "steered model"}
