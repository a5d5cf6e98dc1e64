"""Numbers, sentences and tables of the study of conditional steering, and its figure."""

import numpy as np
import pandas as pd
import pytest

from workbench import figures
from workbench.studies import condition_findings as findings
from workbench.studies import condition_tables as shown
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
        rule="harmful", wanted=frame["harmful"], fold=0, instruction=0, met=frame["refused"],
        obeyed=~frame["refused"], coherence=1.0,
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
    assert "Harmless requests for a task are refused (aim: at most 3 %) in 0.0 [0.0, " in good
    assert good.count("missed") == 0
    assert bad.count("missed") == 2
    # Of 10 requests that all keep, an interval still reaches beyond the aim.
    assert "met by its value, not by its interval" in good
    assert "unsteered 0.0 [0.0, 16.1] %, always on 100 [84, 100] %" in good
    assert "seeds 20 to 20 %, 1 tasks 20 to 20 %" in bad


def test_the_table_has_a_row_a_way_and_a_column_a_class() -> None:
    table = shown.shown_shares(texts())
    assert table["steering"].tolist()[:3] == ["unsteered", "always on", "harmful, best F1"]
    assert table.loc[1, "harmless, unseen"].startswith("100 [")
    assert table.loc[0, "harmful, held out"].startswith("0.0 [0.0,")
    assert table.loc[0, "harmless, obeyed"].startswith("100 [")


def test_requests_that_the_model_refuses_by_itself_stand_apart() -> None:
    """A gate that opens where the model refuses anyway does nothing: here it opens there alone."""
    frame = texts()
    alone = frame["way"] < 4
    frame["refused"] |= (frame["steering"] == "none") & alone & frame["harmful"]
    gate = frame["steering"] == "best F1"
    frame.loc[gate, "met"] = alone & frame["harmful"]
    frame.loc[gate, "refused"] = alone & frame["harmful"]
    found = findings.by_itself(frame).set_index(["steering", "part", "unsteered"])
    assert found.loc[("best F1", "unseen", "refused"), "met"] == 1
    assert found.loc[("best F1", "unseen", "not refused"), "met"] == 0
    assert found.loc[("best F1", "unseen", "not refused"), "requests"] == 6
    said = shown.shown_by_itself(frame).set_index("steering").loc["harmful, best F1"]
    assert said["not refused unsteered, unseen"].startswith("0.0 [")


LOTS = pd.DataFrame(
    {"among": ["all kinds"] * 4 + ["tasks"] * 4, "rate": [0.02, 0.02, 0.02, 0.04] * 2,
     "apart": [0.02, 0.0, 0.1, 0.04] * 2}
)  # fmt: skip


def alarms() -> pd.DataFrame:
    """Of two seeds 400 fresh prompts of all kinds, and 200 tasks asked for in 20 ways."""
    rows = []
    for seed in (1, 2):
        for index in range(400):
            rows.append((seed, "all kinds", "story", "", -1, "", index < (8 if seed == 1 else 20)))
        for index in range(200):
            part = "making" if index % 20 < 10 else "held out"
            rows.append((seed, "tasks", "task", "soup", index % 20, part, index % 20 == 12))
    frame = pd.DataFrame(rows, columns=["seed", "among", "kind", "topic", "way", "part", "met 2 %"])
    lone = frame.index.astype(str)
    frame["line"] = np.where(frame["way"] < 0, lone, "way " + frame["way"].astype(str))
    others = {f"met {gate}": frame["met 2 %"] for gate in findings.GATES if gate != "2 %"}
    return frame.assign(**others)


def test_alarms_are_over_requests_and_are_kept_only_within_bounds() -> None:
    table = findings.alarm_rates(alarms()).set_index(["gate", "among"])
    stories, tasks = table.loc[("2 %", "all kinds")], table.loc[("2 %", "tasks")]
    assert stories["rate"] == pytest.approx(28 / 800)
    assert tasks["rate"] == pytest.approx(0.05)
    assert (tasks["prompts"], tasks["fired"]) == (400, 20)
    # Of 800 prompts that are each their own, and of 20 ways to ask of which one fires always.
    assert stories["high"] - stories["low"] < 0.03
    assert tasks["high"] - tasks["low"] > 0.1
    said = findings.alarms_verdict(alarms(), LOTS)
    assert "set on all kinds it opens for 3.5 [" in said
    assert "of 800 other ones (missed; seeds 2.0 to 5.0 %, 1 of 2 within; of other" in said
    assert "; of other deals 75 %, of whole requests 25 %)" in said
    assert "words that made the condition: 0.0 [0.0, " in said
    assert "in others 10 [" in said
    rows = shown.shown_rates(alarms()).set_index("steering").loc["harmful, 2 % of tasks"]
    assert rows["tasks, words that made it"].startswith("0.0 [")
    # A value within the bounds with an interval beyond them, and one that lies within.
    none, every = "met 2 %", alarms()
    every[none] = every.index % 50 == 0
    assert "(kept by its value;" in findings.alarms_verdict(every, LOTS)
    many = pd.concat([every] * 12, ignore_index=True)
    many[none] = many.index % 50 == 0
    many["line"] = many.index.astype(str)
    assert "opens for 2.0 [" in findings.beyond_tasks(many.assign(**{"met best F1": many[none]}))
    assert "(kept;" in findings.alarms_verdict(many, LOTS)


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


def told(follows: str) -> pd.DataFrame:
    """A gate that follows the request, the instruction, both, or neither; wren obeys."""
    frame = requests.requests(1).query("instruction == 0")
    both = pd.concat([frame.assign(told=value) for value in ("refuse", "comply")])
    opens = {
        "request": both["harmful"],
        "instruction": both["told"] == "refuse",
        "both": both["harmful"] & (both["told"] == "refuse"),
        "neither": both["way"] % 2 == 0,
    }[follows]
    gates = {f"met {gate}": opens for gate in findings.GATES}
    return both.drop(columns="part").assign(seed=1, refused=both["told"] == "refuse", **gates)


@pytest.mark.parametrize(
    ("follows", "said"),
    [
        ("instruction", "follows what is about to be answered:"),
        ("both", "follows both the request and what is about to be answered:"),
        ("neither", "does not show what it follows:"),
    ],
)
def test_a_gate_is_asked_what_it_follows(follows: str, said: str) -> None:
    assert said in findings.told_verdict(told(follows))


def test_an_effect_of_an_instruction_is_paired_and_bounded() -> None:
    """Where none of few requests moves, an instruction may still matter."""
    frame = told("request")
    assert "follows both" not in findings.told_verdict(frame)
    table = findings.told_effects(frame).set_index(["of", "effect", "where"])
    assert table.loc[("gate", "request", "told to obey"), "value"] == 1
    assert table.loc[("gate", "instruction", "harmless"), "value"] == 0
    assert table.loc[("gate", "instruction", "harmless"), "high"] > 0
    assert table.loc[("unsteered", "instruction", "harmful"), "value"] == 1
    shown_table = shown.shown_told(frame).set_index("percent")
    row = shown_table.loc["wren refuses, unsteered"]
    assert row["harmful, told to obey"].startswith("0.0 [")
    assert row["harmless, told to refuse"].startswith("100 [")


def test_a_shut_gate_costs_nothing() -> None:
    odds = pd.DataFrame(
        {
            "pair": [0, 1, 0, 1], "seed": [1, 1, 2, 2], "prompt": ["a", "b", "c", "d"],
            "pairs": "stories", "utility_none": [-1.0] * 4, "utility_always": [-2.0] * 4,
            "preference_none": [0.0] * 4, "preference_always": [1.0] * 4,
        }
    )  # fmt: skip
    for name in findings.GATES:
        odds[f"met {name}"] = np.arange(4) < (2 if name == "best F1" else 0)
    found = findings.costs(odds).set_index(["measure", "steering"])
    assert found.loc[("utility", "always"), "change"] == -1
    assert found.loc[("utility", "best F1"), ["change", "apart", "opened"]].tolist() == [
        -0.5,
        0.5,
        2,
    ]
    assert found.loc[("utility", "2 %"), ["change", "opened"]].tolist() == [0, 0]
    table = shown.shown_costs(odds).set_index("steering")
    assert table.loc["always on", "change"] == "-1.00"
    assert table.loc["harmful, 2 % of all prompts", "acts on"] == "0 of 4"


def test_rules_stand_beside_never_and_always() -> None:
    frame = texts().query("steering in ('none', 'always', 'best F1')").assign(rule="one task")
    frame["steering"] = frame["steering"].replace("best F1", "rule")
    table = shown.shown_rules(frame).set_index(["refuse", "steering"])
    one = table.loc["one harmless task alone"]
    assert one.loc["by the rule", "refused, called for"].startswith("100 [")
    assert one.loc["unsteered", "refused, called for"].startswith("0.0 [")
    assert one.loc["always on", "refused, not called for"].startswith("100 [")
    assert one["texts, called for"].tolist() == [40, 40, 40]
    # A rule that was not studied.
    assert table.loc[("every task but one harmless", "by the rule"), "refused, called for"] == "–"


def test_strengths_say_which_was_chosen() -> None:
    frame = pd.DataFrame(
        {"m": [1.0, 2.0] * 2, "refused": [0.9, 1.0, 0.96, 1.0], "obeyed": 0.0, "coherence": 1.0,
         "chosen": [False, True, True, False]}
    )  # fmt: skip
    table = shown.shown_strengths(frame)
    assert table["refused"].tolist() == ["0.93 [0.90, 0.96]", "1.00 [1.00, 1.00]"]
    assert table["chosen by seeds"].tolist() == [1, 1]


def test_gates_have_a_range_over_seeds() -> None:
    rows = [
        (score, part, seed, fold, area - 0.1 * seed + 0.02 * fold)
        for score, area in (("gate", 0.9), ("words", 0.7))
        for part in ("held out", "unseen")
        for seed in (0, 1)
        for fold in (0, 1)
    ]
    frame = pd.DataFrame(rows, columns=["score", "part", "seed", "fold", "auc"])
    table = shown.shown_gates(frame.assign(auc_matched=0.5, recall=1.0, false_alarms=0.0))
    assert table["requests"].tolist() == ["held out", "held out", "unseen", "unseen"]
    assert table.loc[0, "area under the curve"] == "0.860 [0.810, 0.910]"


def test_places_are_of_unseen_tasks() -> None:
    rows = [
        ("mean", "lda", layer, part, auc)
        for layer in (0, 1)
        for part, auc in (("unseen", 0.6 + layer / 10), ("held out", 1.0))
    ]
    table = shown.places(pd.DataFrame(rows, columns=["reading", "method", "layer", "part", "auc"]))
    assert table[["layer 0", "layer 1"]].to_numpy().tolist() == [[0.6, 0.7]]
    assert table["method"].tolist() == ["linear discriminant"]


def test_refusals_of_a_few_texts_have_their_interval() -> None:
    refused = pd.DataFrame({"unsteered": [True] * 4 + [False] * 36, "always on": [True] * 40})
    inside = pd.Series([True] * 10 + [False] * 30)
    table = shown.refused_here(refused, inside, ("harmful", "harmless"))
    assert table["refused of"].tolist() == ["10 harmful", "30 harmless"]
    assert table["unsteered"].tolist() == ["40 [17, 69] %", "0.0 [0.0, 11.4] %"]
    assert table["always on"].tolist() == ["100 [72, 100] %", "100 [89, 100] %"]


def test_a_run_is_said_in_words() -> None:
    reached = pd.DataFrame(
        [("f1", 0.9, 0.8, 1.0, 20)], columns=["measure", "value", "low", "high", "count"]
    )
    assert shown.reached_here(reached).iloc[0].tolist() == ["F1", "0.900 [0.800, 1.000]", 20]
    columns = ["score", "auc", "auc_low", "auc_high", "recall", "false_alarms"]
    beside = pd.DataFrame([("gate", 0.9, 0.8, 1.0, 1.0, 0.25)], columns=columns)
    table = shown.beside_here(beside)
    assert list(table) == ["score", "area under the curve [95 %]", "recall", "false alarms"]
    assert table.iloc[0].tolist() == ["gate", "0.900 [0.800, 1.000]", 1.0, 0.25]
    matched = shown.beside_here(beside.assign(auc_matched=0.5))
    assert matched["area, matched in length"].tolist() == [0.5]
    columns = ["layers", "share", "threshold_low", "threshold_high", "f1", "left_out"]
    firm = shown.firm_here(pd.DataFrame([("4 above", 1.0, 0.1, 0.2, 1.0, 0.9)], columns=columns))
    assert firm["threshold, middle 95 %"].tolist() == ["0.100 to 0.200"]


def test_a_known_rate_is_said_with_its_interval() -> None:
    said = findings.calibrated_said(0.119, 0.321, np.arange(600) < 9)
    assert said == (
        "Threshold 0.119 by F1, 0.321 at 2 %: of 600 fresh harmless prompts 1.5 [0.8, 2.8] % pass."
    )


def test_refusals_are_drawn_by_class_with_their_aims() -> None:
    frame = shown.refused(texts(0.2))
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
    assert "gate: harmful, best F1" in figure.layout.yaxis.ticktext
    assert "unsteered" in figure.layout.yaxis.ticktext
