"""A study that was stopped goes on; parts of its questions are as all of them together."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from architectures import build
from kills import in_child
from test_composition_study import FEW, ONE, TWO

from workbench.composition import study as composition_study
from workbench.composition.results import Results, judge_again, load_results
from workbench.composition.study import compose_study
from workbench.composition.study_prompts import Settings

GIVEN = Settings(
    icl_examples=2, support=2, evaluation_size=3, max_new_tokens=3, alphas=(1.0,), top_p=(0.5,)
)


@pytest.fixture(scope="module")
def whole() -> Results:
    return compose_study(build("llama"), ONE, TWO, settings=GIVEN)


def same(one: Any, other: Any) -> None:
    """Nested results that differ by rounding at most."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for each in zip(one, other, strict=True):
            same(*each)
    else:
        close = isinstance(one, float)
        assert one == (pytest.approx(other, rel=1e-4, abs=1e-5, nan_ok=True) if close else other)


@pytest.mark.parametrize("compat", [False, True])
def test_parts_are_as_all_together(whole: Results, compat: bool) -> None:
    lm, few = build("llama"), replace(GIVEN, compat=compat)
    together = compose_study(lm, ONE, settings=few) if compat else whole
    second = None if compat else TWO
    rows = composition_study.parts(lm, *two_batches(lm), 3, 2, 1)
    assert [len(range(3)[each]) for each in rows] == [1] * 3
    apart = compose_study(lm, ONE, second, settings=few, memory=1)
    same(apart.questions, together.questions)
    assert apart.about == together.about


def two_batches(lm):
    arranged = composition_study.arrange(lm, ONE, TWO, None, GIVEN)
    return arranged.alone, arranged.shown


def test_a_killed_study_goes_on(whole: Results, tmp_path: Path, monkeypatch) -> None:
    lm, path = build("llama"), tmp_path / "deep" / "results.json"

    def study() -> int:
        compose_study(lm, ONE, TWO, settings=GIVEN, path=path)
        return 0

    _, status = os.waitpid(in_child(study, die_at=4), 0)
    assert os.WIFSIGNALED(status)
    held = load_results(path)
    assert held.about["complete"] is False
    made = list(held.questions[0]["output"])
    assert made == held.about["strategies"][:5]  # no_icl and icl at once, and one after another
    assert judge_again(path, {"length": lambda texts: [1] * len(texts)}).shape[0] == 15
    composed: list[str] = []
    answer = composition_study._answer

    def counted(lm, questions, each, part, settings) -> None:
        composed.append(each.name)
        answer(lm, questions, each, part, settings)

    monkeypatch.setattr(composition_study, "_answer", counted)
    found = compose_study(lm, ONE, TWO, settings=GIVEN, path=path)
    assert composed == held.about["strategies"][5:]
    judged = [asked.pop("judged")["length"] for asked in found.questions]
    assert set(judged[0]) == set(made)
    frame = load_results(path).frame().drop(columns="length_value")
    assert frame["strategy"].tolist() == whole.frame()["strategy"].tolist()
    same([asked["output"] for asked in found.questions], [q["output"] for q in whole.questions])
    same(
        [asked["coefficients"] for asked in found.questions],
        [asked["coefficients"] for asked in whole.questions],
    )
    assert found.about["complete"] is True
    monkeypatch.setattr(composition_study, "step_deltas", None)
    again = compose_study(lm, ONE, TWO, settings=GIVEN, path=path)
    assert again.about == load_results(path).about


def test_another_study_is_refused_by_what_differs(tmp_path: Path, monkeypatch) -> None:
    lm, path = build("llama"), tmp_path / "results.json"
    compose_study(lm, ONE, settings=FEW, path=path)
    before = path.read_bytes()
    monkeypatch.setattr(composition_study, "step_deltas", None)
    with pytest.raises(ValueError, match=r"settings\.top_p is \[0\.5\] there and \[0\.9\] here"):
        compose_study(lm, ONE, settings=replace(FEW, top_p=(0.9,)), path=path)
    with pytest.raises(ValueError, match=r"fingerprint is '.*' there and '.*' here"):
        compose_study(build("gpt2"), ONE, settings=FEW, path=path)
    path.write_text('[{"output": {"icl": "a"}}]')
    with pytest.raises(ValueError, match="is not of this package"):
        compose_study(lm, ONE, settings=FEW, path=path)
    path.write_bytes(before)


def test_texts_that_the_model_no_longer_writes_are_not_gone_on_with(
    tmp_path: Path, monkeypatch
) -> None:
    lm, path = build("llama"), tmp_path / "results.json"
    with monkeypatch.context() as broken:
        broken.setattr(composition_study, "_answer", None)
        with pytest.raises(TypeError):
            compose_study(lm, ONE, settings=FEW, path=path)
    path.write_text(path.read_text().replace('"icl": "', '"icl": "x', 1))
    with pytest.raises(ValueError, match="without steering the model answers"):
        compose_study(lm, ONE, settings=FEW, path=path)


def test_a_contrast_of_both_that_ends_early_is_left_out(monkeypatch) -> None:
    real = composition_study.step_deltas
    calls: list[int] = []

    def short(lm, *sides, **settings: Any):
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("all 2 texts ended after 1 tokens")
        return real(lm, *sides, **settings)

    monkeypatch.setattr(composition_study, "step_deltas", short)
    found = compose_study(build("llama"), ONE, TWO, settings=FEW)
    assert found.about["left_out"] == {"manual": "all 2 texts ended after 1 tokens"}
    names = set(found.frame()["strategy"])
    assert "dynamic_p0.5" in names
    assert not any(name.startswith("manual") for name in names)
    calls[:] = [1]
    with pytest.raises(ValueError, match="property 'bad': all 2 texts ended after 1 tokens"):
        compose_study(build("llama"), ONE, TWO, settings=FEW)


def test_prompts_of_each_mean_are_kept(whole: Results) -> None:
    alive = whole.about["alive"]
    assert set(alive) == {"ITA", "bad", "manual"}
    assert [len(side) for side in alive["ITA"]] == [3, 3]
