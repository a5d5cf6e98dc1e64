"""Length and words alone, beside a gate; on public data they tell nearly everything."""

import json

import numpy as np
import pytest
from outside import SHARED

from workbench.conditions.checks import auc
from workbench.conditions.confounds import confound_scores, confounds, length_matched

DATA = SHARED / "data" / "cast" / "condition_harmful.json"
MAKING = ["a dog", "a big dog runs", "cat", "the cat sat"] * 10
LABELS = np.array([True, True, False, False] * 10)


def test_words_tell_where_words_differ() -> None:
    scores = confound_scores(MAKING, LABELS, MAKING, tokens=[2] * 40, making_tokens=[2] * 40)
    assert list(scores) == ["characters", "tokens", "words"]
    del scores["tokens"]  # all the same: nothing to choose a threshold from
    found = confounds(scores, LABELS, LABELS).set_index("score")
    assert found.loc["words", "auc"] == 1
    assert found.loc["characters", "auc"] < 0.9


def test_texts_are_matched_in_length() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2 == 0
    lengths = rng.integers(20, 80, 300) + 40 * labels
    chosen = length_matched(lengths, labels, caliper=0.05)
    first, second = chosen[0::2], chosen[1::2]
    assert labels[first].all()
    assert not labels[second].any()
    assert len(set(chosen.tolist())) == len(chosen)
    longer = np.maximum(lengths[first], lengths[second])
    assert (np.abs(lengths[first] - lengths[second]) <= 0.05 * longer).all()
    assert abs(lengths[first].mean() - lengths[second].mean()) < 1
    with pytest.raises(ValueError, match="widen the caliper"):
        length_matched([1, 2, 100, 200], [True, True, False, False])


@pytest.mark.skipif(not DATA.is_file(), reason=f"public data missing: {DATA}")
def test_on_public_data_length_alone_tells_harmful_from_harmless() -> None:
    data = json.loads(DATA.read_text())
    texts, labels = {}, {}
    for part in ("train", "test"):
        rows = data[part]
        texts[part] = [row[side] for side in ("harmful", "harmless") for row in rows]
        labels[part] = np.repeat([True, False], len(rows))
    scores = confound_scores(texts["train"], labels["train"], texts["test"])
    matched = length_matched([len(text) for text in texts["test"]], labels["test"])
    found = confounds(scores, labels["train"], labels["test"], matched).set_index("score")
    assert found.loc["characters", "auc"] == pytest.approx(0.92, abs=0.01)
    assert found.loc["words", "auc"] > 0.98
    # Matched, length tells nothing, and words still do.
    assert found.loc["characters", "matched_low"] < 0.5 < found.loc["characters", "matched_high"]
    assert found.loc["words", "auc_matched"] > 0.95


def test_what_does_not_differ_tells_nothing_and_stays_in_the_table() -> None:
    labels = np.arange(12) % 2 == 0
    rising = labels + 0.1 * np.arange(12)
    table = confounds(
        {"gate": (rising, rising), "flat": (np.ones(12), rising)}, labels, labels, np.arange(12)
    ).set_index("score")
    assert table.loc["flat", ["auc", "auc_matched"]].tolist() == [0.5, 0.5]
    assert np.isnan(table.loc["flat", "auc_low"])
    assert table.loc["gate", "auc"] > 0.5


def test_texts_of_one_request_are_drawn_together() -> None:
    """Every request asked for ten times over says no more than once."""
    rng = np.random.default_rng(1)
    labels = np.arange(16) % 2 == 0
    scores = labels + rng.normal(size=16)
    alone = auc(scores, labels)
    many, wanted = np.repeat(scores, 10), np.repeat(labels, 10)
    loose = auc(many, wanted)
    grouped = auc(many, wanted, groups=np.repeat(np.arange(16), 10))
    assert grouped.value == alone.value
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, abs=0.06)
    assert loose.high - loose.low < 0.6 * (grouped.high - grouped.low)


def test_tokens_of_one_side_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="or none"):
        confound_scores(["a", "b"], [True, False], ["c"], tokens=[1])
