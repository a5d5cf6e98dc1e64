"""Metrics in place of a judge: what they count, and how well each tells what holds."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import made_up

import workbench as wb
from workbench.figures import metric_areas, metric_curves
from workbench.generation import scoring
from workbench.generation.measures import distinct
from workbench.judges import Written
from workbench.studies import metric_comparison as comparison
from workbench.sweeps import metrics
from workbench.text.tokens import encode


def frame(
    values: list[float], holds: list[bool], prompts: list[int], coefficients: list[float]
) -> pd.DataFrame:
    columns = {name: np.zeros(len(values)) for name in metrics.METRICS}
    about = {"prompt_index": prompts, "holds": holds, "coefficient": coefficients}
    return pd.DataFrame({**columns, **about, "surprisal_unsteered": values})


def test_area_counts_pairs_and_halves_ties() -> None:
    values = np.array([1.0, 2.0, 2.0, 3.0])
    broken = np.array([False, False, True, True])
    # Pairs (broken, whole): 2>1, 2=2, 3>1, 3>2.
    assert metrics.area(values, broken) == pytest.approx(3.5 / 4)
    assert metrics.area(-values, broken) == pytest.approx(0.5 / 4)
    assert np.isnan(metrics.area(values, np.zeros(4, dtype=bool)))


def test_what_only_follows_the_coefficient_tells_nothing() -> None:
    """Broken texts lie further out and the metric is the coefficient: across coefficients it looks
    good, among texts at one coefficient it is chance."""
    rng = np.random.default_rng(0)
    sizes = np.repeat([0.1, 0.4, 0.7], 60)
    holds = rng.random(180) > sizes
    found = metrics.areas(frame(sizes.tolist(), holds.tolist(), [*range(60)] * 3, sizes.tolist()))
    row = found.set_index("metric").loc["surprisal_unsteered"]
    assert row["area"] == 0.5
    assert row["pooled"] == row["pooled_size"] > 0.7
    assert row["behind_low"] <= 0


def test_areas_have_intervals_over_prompts() -> None:
    rng = np.random.default_rng(0)
    holds = rng.random(200) < 0.5
    values = np.where(holds, 0.0, 1.0) + rng.normal(size=200)
    one = frame(values.tolist(), holds.tolist(), [i // 10 for i in range(200)], [0.3] * 200)
    found = metrics.areas(one).set_index("metric")
    row = found.loc["surprisal_unsteered"]
    assert row["area"] == pytest.approx(metrics.area(values, ~holds)) == row["pooled"]
    assert row["low"] < row["area"] < row["high"]
    assert row["high"] - row["low"] < 0.3
    assert (row["texts"], row["prompts"]) == (200, 20)
    assert row["behind_low"] == 0  # the best is not behind itself
    # What is the same for all texts tells nothing, and that is shown to lie behind.
    assert found.loc["echo", ["area", "low", "high"]].tolist() == [0.5] * 3
    assert found.loc["echo", "behind_low"] > 0


def test_weights_of_texts_give_what_drawing_them_gives() -> None:
    values, broken = np.array([0.0, 1, 1, 2, 3]), np.array([False, True, False, True, True])
    weights = np.array([[2.0, 1, 0, 0, 1], [1, 1, 1, 1, 1]])
    found = metrics._within(values, broken, weights, [np.arange(5)])
    for area, row in zip(found, weights, strict=True):
        drawn = np.repeat(np.arange(5), row.astype(int))
        assert area == pytest.approx(metrics.area(values[drawn], broken[drawn]))


def holding(written: list[Written], trait: str) -> pd.DataFrame:
    """Texts of an even number of letters hold."""
    coherence = [float(len(each.text) % 2 == 0) for each in written]
    return pd.DataFrame({"trait": [0.0] * len(written), "coherence": coherence}, dtype=float)


@pytest.fixture(scope="module")
def measured():
    lm = wb.load("wren")
    vector = made_up(lm)
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


def test_repetition_and_echo_are_read_off_the_text(measured) -> None:
    """Against what the package's own helpers say of the same text, one by one."""
    lm, _, _, found = measured
    for _, row in found[(found["read"] == 8) & (found["coefficient"] == 0)].iterrows():
        prompt = ["Marta & Benno:", "Kaspar & Felix:", "Nora & Dennis:"][row["prompt_index"]]
        batch = encode(lm, [prompt], [row["text"]])
        echoes = scoring.score(lm, batch).echoes[0]
        assert row["echo"] == pytest.approx(float(echoes[:8].nanmean()), abs=0.3)
    ids = np.array([[1, 2, 3, 1, 2, 3, 1, 2]])
    assert 1 - distinct(ids, np.array([8]), 3)[0] == pytest.approx(0.5)


def test_reads_are_never_pooled(measured) -> None:
    with pytest.raises(ValueError, match=r"reads of \[.*2.*8.*\] tokens"):
        metrics.areas(measured[3])


def test_settings_share_their_texts_and_pool_traits(measured, monkeypatch) -> None:
    lm, vector, prompts, found = measured
    asked = []

    def counted(*args: Any, **options: Any) -> pd.DataFrame:
        asked.append(options["reads"])
        return metrics.measured(*args, **options)

    monkeypatch.setattr(comparison, "measured", counted)
    settings = [
        comparison.Setting("all"),
        comparison.Setting("two", read=2),
        comparison.Setting("chats", prompts="chat"),
    ]
    table = comparison.compare(
        lm,
        {"mood": vector},
        {"mood": {"open": prompts}},
        [-4.0, 0.0, 4.0],
        judge=holding,
        settings=settings,
        new_tokens=8,
    )
    assert asked == [[8, 2]]  # one set of texts; nobody has chats
    assert list(dict.fromkeys(table["setting"])) == ["all", "two"]
    for name, read in (("all", 8), ("two", 2)):
        own = table[table["setting"] == name].set_index("metric")["area"]
        alone = metrics.areas(found[found["read"] == read]).set_index("metric")["area"]
        assert np.allclose(own, alone, equal_nan=True)


class OnlyUsers:
    """A tokenizer whose template refuses a system message, as some published ones do."""

    chat_template = "{...}"
    bos_token = "<bos>"

    def apply_chat_template(self, chat: list[dict[str, str]], tokenize: bool) -> str:
        assert not tokenize
        if chat[0]["role"] == "system":
            raise ValueError("System role not supported")
        return "<bos>" + "".join(f"[{each['role']}]{each['content']}[end]" for each in chat)


def test_a_template_may_refuse_a_system_message() -> None:
    lm: Any = SimpleNamespace(tokenizer=OnlyUsers())
    found = comparison.kinds(lm, ["[user]Hi[end]", "Hi"])
    assert (found["chat"], found["plain"]) == (["[user]Hi[end]"], ["Hi"])


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
        {
            "setting": setting,
            "metric": metric,
            "area": 0.9 - 0.05 * place,
            "low": 0.85 - 0.05 * place,
            "high": 0.95 - 0.05 * place,
            "behind_low": place - 2,
            "pairs": 70,
            "texts": 10,
            "prompts": 5,
            "pooled": 0.97,
            "pooled_size": 0.94,
        }
        for setting in ("sampled, all tokens", "first token only")
        for place, metric in enumerate(metrics.METRICS)
    ]
    return pd.DataFrame(rows)


def test_the_sentence_quotes_the_table() -> None:
    words = comparison.said(compared())
    assert "0.90 [0.85, 0.95] (sampled, all tokens, 70 pairs)" in words
    assert "under the steered model, 0.85 [0.80, 0.90]" in words
    assert "reaches 0.97, but the size of the coefficient alone 0.94" in words
    assert "The first token alone says 0.90" in words
    assert "first token" not in comparison.said(compared().iloc[: len(metrics.METRICS)])


def test_areas_are_drawn_bold_where_not_shown_to_lie_behind() -> None:
    (heat,) = metric_areas(compared()).data
    assert heat.z.shape == (len(metrics.METRICS), 2)
    column = [row[0] for row in heat.text]
    white = '<span style="color:white"><b>90</b></span>'
    assert column[:4] == [white, "<b>85</b>", "<b>80</b>", "75"]
    # What is not above chance is not bold, and a copy is named only.
    doubtful = compared()
    doubtful.loc[doubtful["metric"] == "surprisal_steered", "low"] = 0.49
    kept, copy = (doubtful["metric"] == f"{name}_unsteered" for name in ("surprisal", "sequence"))
    doubtful.loc[copy, "area"] = doubtful.loc[kept, "area"].to_numpy() - 0.02
    figure = metric_areas(doubtful)
    assert [row[0] for row in figure.data[0].text][1] == "85"
    names = [metrics.METRICS[f"{name}_unsteered"] for name in ("surprisal", "sequence")]
    assert names[0] in figure.data[0].y
    assert names[1] not in figure.data[0].y
    assert f"{names[1]} (as {names[0]})" in figure.layout.annotations[0].text


def test_curves_are_drawn_in_words(measured) -> None:
    figure = metric_curves(measured[3][measured[3]["read"] == 8])
    assert "Coherence" in figure.layout.yaxis4.title.text
    names = {trace.name for trace in figure.data if trace.showlegend}
    assert names == {"read by the unsteered model", "read by the steered model"}
