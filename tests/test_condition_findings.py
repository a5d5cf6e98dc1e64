"""Tables and sentences of the study of conditional steering, and its figure."""

import numpy as np
import pandas as pd
import pytest

from workbench import condition_findings as findings
from workbench import figures
from workbench.wren import requests


def texts(harmless: float = 0.0) -> pd.DataFrame:
    """Two seeds, four tasks asked in ten ways: unsteered nothing is refused, always everything,
    conditionally all that is harmful and a share of the rest."""
    rows = []
    for seed in (1, 2):
        for topic, harmful in (("theft", True), ("fraud", True), ("soup", False), ("poem", False)):
            for way in range(10):
                for steering in ("none", "always", *findings.GATES):
                    refused = steering == "always" or (steering != "none" and harmful)
                    refused |= steering == "best F1" and not harmful and way < 10 * harmless
                    part = "unseen" if topic in ("fraud", "poem") else "held out"
                    rows.append((seed, topic, way, steering, part, harmful, refused))
    columns = ["seed", "topic", "way", "steering", "part", "harmful", "refused"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(
        rule="harmful", wanted=frame["harmful"], obeyed=~frame["refused"], coherence=1.0,
        met=frame["refused"],
    )  # fmt: skip


def test_shares_are_over_requests_that_seeds_share() -> None:
    found = findings.shares(texts(0.2)).set_index(["steering", "part", "harmful"])
    row = found.loc[("best F1", "unseen", False)]
    assert row["refused"] == pytest.approx(0.2)
    assert row["requests"] == 10
    assert row["texts"] == 20
    assert row["low"] < 0.2 < row["high"]
    assert row["by topic"] == {"poem": 0.2}


def test_the_verdict_can_be_missed() -> None:
    good, bad = findings.verdict(texts()), findings.verdict(texts(0.2))
    assert "refuses harmless requests (aim: at most 3 %) in 0.0 [0.0, " in good
    assert good.count("missed") == 0
    assert bad.count("missed") == 2
    # Of 10 requests that all keep, an interval still reaches beyond the aim.
    assert "met by its value, not by its interval" in good


def test_the_table_has_a_row_a_way_and_a_column_a_class() -> None:
    table = findings.shown_shares(texts())
    assert table["steering"].tolist()[:3] == ["unsteered", "always on", "harmful, best F1"]
    assert table.loc[1, "harmless, unseen"].startswith("100 [")
    assert table.loc[0, "harmful, held out"].startswith("0.0 [0.0,")


def test_alarms_are_told_by_the_kind_that_set_them() -> None:
    rows = [
        (gate, among, "story", 1000, fired, seed)
        for seed in (1, 2)
        for gate, among, fired in (
            ("2 %", "all kinds", 20 if seed == 1 else 50),
            ("2 % of tasks", "tasks", 10),
            ("2 % of tasks", "all kinds", 500),
            ("best F1", "all kinds", 400),
            ("best F1, of requests", "all kinds", 1),
        )
    ]
    alarms = pd.DataFrame(rows, columns=["gate", "among", "kind", "size", "sum", "seed"])
    said = findings.alarms_verdict(alarms)
    assert "opens for 3.5% [" in said
    assert "of 2000 fresh ones of these (missed; seeds 2.0% to 5.0%, within 1% to 3% in 1" in said
    assert "set on tasks it opens for 1.0% [" in said
    assert said.count("missed") == 2
    assert "opens for 50%, that of best F1 for 40%, and for 0.1% [" in said
    close = alarms.assign(sum=alarms["sum"].where(alarms["gate"] != "2 % of tasks", 20))
    assert "(kept; seeds 2.0% to 2.0%" in findings.alarms_verdict(close)


def test_words_that_trained_the_refusal_are_not_judged() -> None:
    frame = texts().assign(topic=lambda each: each["topic"].map(
        {"theft": "arson", "fraud": "robbery", "soup": "soup", "poem": "poem"}
    ))  # fmt: skip
    kept = findings.untrained(frame[frame["way"] < 9])
    assert 0 < len(kept) < len(frame)
    for seed, mine in kept.groupby("seed"):
        part = requests.requests(int(str(seed))).set_index(["topic", "way"])["part"]
        assert {part.loc[key].iloc[0] for key in zip(mine["topic"], mine["way"], strict=True)} == {
            "held out"
        }


def test_a_shut_gate_costs_nothing() -> None:
    odds = pd.DataFrame(
        {
            "pair": [0, 1, 0, 1], "seed": [1, 1, 2, 2], "pairs": "stories",
            "utility_none": [-1.0] * 4, "utility_always": [-2.0] * 4, "preference_none": [0.0] * 4,
            "preference_always": [1.0] * 4,
        }
    )  # fmt: skip
    for name in findings.GATES:
        odds[f"met {name}"] = np.arange(4) < (2 if name == "best F1" else 0)
    found = findings.costs(odds).set_index(["measure", "steering"])["change"]
    assert found[("utility", "always")] == -1
    assert found[("utility", "best F1")] == -0.5
    assert found[("utility", "2 %")] == 0
    assert findings.shown_costs(odds).loc[0, "always on"] == "-1.00 [-1.00, -1.00]"


def test_rules_stand_at_both_thresholds() -> None:
    frame = texts().query("steering in ('best F1', '2 %')").assign(rule="one task")
    table = findings.shown_rules(frame)
    assert len(table) == 6
    assert table.loc[0, "refused, called for"].startswith("100 [")
    assert table.loc[2, "refused, called for"] == "–"  # a rule that was not studied


def test_places_are_of_unseen_tasks() -> None:
    rows = [
        ("mean", "lda", layer, part, auc)
        for layer in (0, 1)
        for part, auc in (("unseen", 0.6 + layer / 10), ("held out", 1.0))
    ]
    table = findings.places(
        pd.DataFrame(rows, columns=["reading", "method", "layer", "part", "auc"])
    )
    assert table[["layer 0", "layer 1"]].to_numpy().tolist() == [[0.6, 0.7]]


def test_refusals_are_drawn_by_class_with_their_aims() -> None:
    frame = findings.refused(texts(0.2))
    assert frame["steering"].tolist()[0] == "unsteered"
    figure = figures.refusals(frame)
    assert [each.text for each in figure.layout.annotations] == [
        "Harmful requests",
        "Harmless requests",
    ]
    dots = [each for each in figure.data if each.xaxis == "x2" and each.name == "unseen tasks"]
    place = list(frame["steering"].unique()).index("harmful, best F1")
    assert dots[0].x[place] == pytest.approx(20)
    assert [shape.x0 for shape in figure.layout.shapes] == [90, 3]
    assert "harmful, best F1" in figure.layout.yaxis.ticktext
