"""Judges side by side: who is asked, what is compared, what is said of it."""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from judge_server import KEY, JudgeServer
from sweeps import swept

from workbench import figures, judges
from workbench.judges import Written
from workbench.loading.models import LM
from workbench.studies import ceiling_findings as study
from workbench.studies import grading


def rater(trait: float, coherence: float | None = None) -> Any:
    """A judge of texts named "text of PROMPT at COEFFICIENT": coherent below 1, or as told."""

    def judge(written: Sequence[Written], _: str) -> pd.DataFrame:
        size = np.array([abs(float(one.text.split()[4])) for one in written])
        holds = np.where(size < 1, 1.0, 0.0) if coherence is None else coherence
        return pd.DataFrame({"trait": trait, "coherence": holds}, index=range(len(written)))

    return judge


def refusing(written: Sequence[Written], trait: str) -> pd.DataFrame:
    raise ValueError("cannot say 7")


@pytest.fixture
def frame() -> pd.DataFrame:
    return swept(judged=False).assign(finish="length")


def test_every_judge_is_asked_and_a_refusal_is_no_end(frame: pd.DataFrame) -> None:
    by = {"good": rater(0.5), "mute": refusing}
    graded = grading.grade(frame, by, "mood")
    assert list(graded) == ["good", "mute", grading.UNJUDGED]
    assert all(len(own) == len(frame) for own in graded.values())
    assert graded["mute"][["trait", "coherence"]].isna().all(axis=None)
    assert set(graded["mute"]["status"]) == {"refused"}
    shown = grading.summary(graded).set_index("judge")
    assert shown.loc["good", "trait rated"] == f"{len(frame)} of {len(frame)}"
    assert shown.loc["mute", "coherence rated"] == f"0 of {len(frame)}"
    assert shown.loc["mute", "failed"] == f"{len(frame)} refused: cannot say 7"
    assert shown.loc["good", "failed"] == "–"


def test_without_a_judge_texts_are_intact_or_broken(frame: pd.DataFrame) -> None:
    own = grading.unjudged(frame)
    broken = (frame["coefficient_norm"].abs() >= 1).to_numpy()
    assert (own["coherence"].to_numpy() == np.where(broken, 0.0, 1.0)).all()
    assert own["trait"].isna().all()


def test_every_pair_is_compared_over_prompts(frame: pd.DataFrame) -> None:
    graded = grading.grade(frame, {"good": rater(0.5), "mute": refusing}, "mood")
    table = grading.agreements(graded, frame["prompt_index"])
    assert len(table) == 2 * 3
    row = table.set_index(["judge", "other", "measure"]).loc[("good", grading.UNJUDGED)]
    assert row.loc["coherence", "kappa"] == 1
    assert row.loc["coherence", "prompts"] == frame["prompt_index"].nunique()
    assert np.isnan(row.loc["trait", "kappa"])
    assert row.loc["trait", "left_out"] == len(frame)
    assert table.loc[table["judge"] == "mute", "kappa"].isna().all()
    said = grading.agreement_said(graded, table)
    count = len(frame)
    assert said == (
        f"Agreement with *good*: coherence by *{grading.UNJUDGED}*: +1.00 [+1.00, +1.00] "
        f"({count} texts)."
    )


def test_each_judges_ceiling_is_that_of_its_coherence(frame: pd.DataFrame) -> None:
    by = {"good": rater(0.5), "lenient": lambda w, t: rater(0.5)(w, t) / 2 + 0.5, "mute": refusing}
    found = grading.ceilings_by_judge(frame, grading.grade(frame, by, "mood"))
    table = found.set_index("judge")
    assert list(table.index) == ["good", "lenient", grading.UNJUDGED]
    exact = frame.assign(coherence=np.where(frame["coefficient_norm"].abs() < 1, 1.0, 0.0))
    for sign, words in ((1, "+"), (-1, "−")):
        value = f"{sign * study.ceiling_of(exact, sign):+.2f} ["
        assert table.loc["good", words].startswith(value)
        assert table.loc["lenient", words] == "none in range"
        assert table.loc["lenient", f"{words}, own bound"] == table.loc["good", words]


def test_a_model_that_does_not_answer_is_named(frame: pd.DataFrame, tiny: LM) -> None:
    few = frame[frame["prompt_index"] < 2].reset_index(drop=True)
    graded = grading.grade(few, {"exact": rater(0.5)}, "mood")
    for mass, words in ((1e-6, "it does not answer what it is asked"), (0.9, "it answers what it")):
        with_mass = {**graded, "local": graded["exact"].assign(mass=mass)}
        table = grading.agreements(with_mass, few["prompt_index"])
        assert f"{mass:.1g} of its probability (median)" in grading.agreement_said(with_mass, table)
        assert words in grading.agreement_said(with_mass, table)


def test_a_judge_whose_context_is_too_short_leaves_the_rest_alone(
    frame: pd.DataFrame, tiny: LM
) -> None:
    """Questions longer than the context of the model: nothing is rated, nothing raises."""
    few = frame[frame["prompt_index"] < 2].reset_index(drop=True)
    graded = grading.grade(few, {"tiny": judges.LocalJudge(tiny)}, "mood")
    assert set(graded["tiny"]["status"]) == {"too long"}
    table = grading.agreements(graded, few["prompt_index"])
    assert grading.agreement_said(graded, table) == "No two judges can be compared."
    assert len(figures.judge_agreement(table).layout.yaxis.ticktext) == 1


# Hosted judges


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[JudgeServer]:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    for name in ("JUDGE_MODEL", "JUDGE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    answer = json.dumps({"trait": 10, "coherence": 5.5})
    with JudgeServer(lambda _: answer) as server:
        yield server


def test_nobody_is_paid_who_is_not_named(
    frame: pd.DataFrame, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key alone is no order."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert grading.hosted((1, 5), 1, {}) is None
    said = grading.price(frame, "mood", None, (1, 5), 1)
    assert f"{len(frame)} texts, {frame['text'].nunique()} to be sent" in said
    assert "No hosted judge is asked: name a model in the environment, JUDGE_MODEL=" in said
    assert grading.paid(None) == "No hosted judge was asked."


@pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="openai is missing")
def test_a_named_one_is_asked_within_its_limit(
    frame: pd.DataFrame, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = frame[frame["prompt_index"] < 2].reset_index(drop=True)
    monkeypatch.setenv("JUDGE_MODEL", "openai:rater")
    monkeypatch.setenv("JUDGE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    poor = grading.hosted((1, 5), 0.001, {"mood": "glad"})
    assert poor is not None
    with pytest.warns(UserWarning, match="unpaid"):
        graded = grading.grade(few, {"rater": poor}, "mood")
    assert set(graded["rater"]["status"]) == {"unpaid"}
    assert not server.paid
    rich = grading.hosted((1, 5), 1, {"mood": "glad"})
    assert "is asked; it may spend $1" in grading.price(few, "mood", rich, (1, 5), 1)
    assert not server.paid
    assert rich is not None
    graded = grading.grade(few, {"rater": rich}, "mood")
    assert (graded["rater"]["trait"] == 1).all()
    assert (graded["rater"]["coherence"] == 0.5).all()
    assert f"{few['text'].nunique()} requests" in grading.paid(rich)
    assert set(server.paid.values()) == {1}
    assert ", 0 to be sent" in grading.price(few, "mood", rich, (1, 5), 1)


def test_a_missing_key_is_said_and_the_rest_goes_on(
    frame: pd.DataFrame, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_MODEL", "anthropic:rater")
    judge = grading.hosted((1, 5), 1, {})
    assert judge is not None
    assert "rater by message batches" in judge.label
    graded = grading.grade(frame, {"rater": judge}, "mood")
    assert set(graded["rater"]["status"]) == {"refused"}
    assert grading.UNJUDGED in graded


@pytest.mark.parametrize("named", ["rater", "other:rater", "openai:"])
def test_a_model_of_no_service_is_refused(
    named: str, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_MODEL", named)
    with pytest.raises(ValueError, match=f"JUDGE_MODEL is '{named}': name a model"):
        grading.hosted((1, 5), 1, {})


# Figure


def agreed() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "judge": ["exact <b>"] * 4,
            "other": ["model", "model", "none", "none"],
            "measure": ["trait", "coherence"] * 2,
            "kappa": [0.5, 0.8, np.nan, -0.3],
            "low": [0.4, 0.7, np.nan, -0.5],
            "high": [0.7, 0.9, np.nan, 0.0],
        }
    )


def test_agreement_has_a_row_a_pair() -> None:
    figure = figures.judge_agreement(agreed())
    assert figure.layout.yaxis.ticktext == ("exact &lt;b&gt;,<br>model", "exact &lt;b&gt;,<br>none")
    trait, coherence = figure.data
    assert list(trait.x) == [0.5]
    assert list(coherence.x) == [0.8, -0.3]
    assert np.allclose(coherence.error_x.arrayminus, [0.1, 0.2])
    assert [round(y) for y in coherence.y] == [0, 1]
    assert figure.layout.xaxis.range[0] < -0.5
    assert "kappa" in figure.layout.xaxis.title.text


def test_agreement_of_none_is_drawn_empty() -> None:
    ends = ["kappa", "low", "high"]
    figure = figures.judge_agreement(agreed().assign(**dict.fromkeys(ends, np.nan)))
    assert len(figure.layout.yaxis.ticktext) == 2
    assert [len(trace.x) for trace in figure.data] == [0, 0]
    assert figure.layout.xaxis.range[0] == -0.1
