"""The rules that detector.py compares, their errors and the truth, on curves whose end is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

GRID = np.concatenate([[0.0], np.geomspace(0.08, 1.6, 16)])
PROMPTS = 12


@pytest.fixture(scope="module")
def modules(benchmark_script: Callable[[str], Any]) -> dict[str, Any]:
    names = ("keeping", "studies", "curves", "detectors", "truth", "errors")
    return {name: benchmark_script(name) for name in names}


def study(ceiling: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A sweep, as the study keeps it, of which half of the prompts have broken at `ceiling` on the
    positive side and none on the other; every signal is steep there."""
    rows = []
    breaks = ceiling * np.exp(np.linspace(-0.1, 0.1, PROMPTS))
    for prompt in range(PROMPTS):
        for c in np.concatenate([-GRID[:0:-1], GRID]):
            broken = c > breaks[prompt]
            rows.append(
                {
                    "prompt_index": prompt,
                    "coefficient_norm": c,
                    "tokens": 48,
                    "logprob_unsteered": -4.0 if broken else -0.5,
                    "excess": 3.0 if broken else 0.0,
                    "alert": -4.0 if broken else -9.0,
                    "distinct_2": 0.4 if broken else 0.95,
                    "longest_repeat": 3,
                    "empty": False,
                    "coherence": 0.1 if broken else 1.0,
                }
            )
    side = np.concatenate([-GRID[:0:-1], GRID])
    # The KL passes a nat at the ceiling, quadratic in c as it is for small steps.
    kl = np.where(side > 0, (side / ceiling) ** 2, 0.0)
    rivals = pd.DataFrame(
        {"coefficient_norm": side, "kl_95": kl, "kl_first": kl, "corpus_loss": 0.5 + kl}
    )
    return pd.DataFrame(rows), rivals


def distances(ceiling: float) -> pd.DataFrame:
    """Of fixed texts: 0.7 of the bound unsteered, and the bound at the ceiling, on a line."""
    side = np.concatenate([-GRID[:0:-2], GRID[::2]])
    seen = pd.DataFrame({"coefficient_norm": side})
    for kind in ("principal", "neighbours", "raw"):
        seen[kind] = 0.7 + 0.3 * np.abs(side) / ceiling
    return pd.concat([seen.assign(place=place) for place in ("steered", "last")])


def told(ceiling: float) -> pd.DataFrame:
    """What `ceiling_from_geometry` says of both sides."""
    rows = [(rule, sign, ceiling) for rule in ("rise", "beyond") for sign in (1, -1)]
    return pd.DataFrame(rows, columns=["rule", "sign", "ceiling"])


@pytest.mark.parametrize("ceiling", [0.2, 0.55, 1.1])
def test_every_rule_finds_the_end_of_curves_that_are_steep_there(
    modules: dict[str, Any], ceiling: float
) -> None:
    rules = modules["detectors"]
    halves = pd.DataFrame({"sign": [1, -1], "preference": ceiling, "utility": ceiling})
    curves = rules.Curves.of(*study(ceiling), 1, halves, distances(ceiling), told(ceiling))
    fitting = {
        "share intact": 0.5,
        "mean excess": 1.5,
        "ALERT as coded, no step back": 0.3,
        "ALERT as meant": 0.5,
        "likelihood": 1.75,
        "iso-KL": 1.0,
        "first-token KL": 1.0,
        "corpus loss": 1.0,
        "distinct-2": 0.3,
        "change point": 0.0,
        "utility half-life": 1.0,
        "preference half-life": 1.0,
        "constant": ceiling,
        "geometry, steered layer": 1.0,
        "geometry, last layer": 1.0,
        "geometry, neighbours": 1.0,
        "geometry, own length": 1.0,
        "geometry, rise in own length": 1.0 / 0.7,
        "geometry, shipped: Rise": 0.0,
        "geometry, shipped: Beyond": 0.0,
    }
    step = GRID[-1] / GRID[-2]
    for name, threshold in fitting.items():
        found = rules.RULES[name](curves, threshold)
        assert found == pytest.approx(ceiling, rel=step - 1), name
    back = rules.RULES["ALERT as coded"](curves, 0.3)
    assert back < rules.RULES["ALERT as coded, no step back"](curves, 0.3)
    assert set(fitting) | {"ALERT as coded"} == set(rules.RULES) == set(rules.CHOICES)


@pytest.mark.parametrize("ceiling", [0.2, 0.55, 1.1])
def test_a_search_finds_the_same_end_with_fewer_coefficients(
    modules: dict[str, Any], ceiling: float
) -> None:
    rules = modules["detectors"]
    curves = rules.Curves.of(*study(ceiling), 1)
    found, count = rules.sought(curves, 0.5, 0.2)
    assert found == pytest.approx(rules.share_intact(curves, 0.5), rel=0.05)
    assert 3 <= count <= 8
    holds = rules.Curves.of(*study(ceiling), -1)
    # Outwards by doubling from a quarter of the range, on a grid that no doubling meets exactly.
    assert rules.sought(holds, 0.5, 0.2) == (math.inf, 4)


def test_a_rule_that_sees_no_end_says_so(modules: dict[str, Any]) -> None:
    rules = modules["detectors"]
    nowhere = pd.DataFrame({"sign": [1, -1], "preference": math.nan, "utility": math.nan})
    never = told(math.inf)
    curves = rules.Curves.of(*study(0.5), -1, nowhere, distances(math.inf), never)
    for name, rule in rules.RULES.items():
        if name not in ("constant", "change point"):
            assert rule(curves, 3.0 if "geometry" in name else 0.3) == math.inf, name


def test_what_was_not_studied_is_not_said(modules: dict[str, Any]) -> None:
    rules = modules["detectors"]
    curves = rules.Curves.of(*study(0.5), 1)
    for name in ("geometry, last layer", "geometry, shipped: Rise", "utility half-life"):
        assert math.isnan(rules.RULES[name](curves, 1.0))


def test_the_truth_is_where_half_of_the_texts_no_longer_hold(modules: dict[str, Any]) -> None:
    rules, truths = modules["detectors"], modules["truth"]
    texts, rivals = study(0.5)
    curves = rules.Curves.of(texts, rivals, 1)
    truth = truths.truth_of(curves)
    assert truth == pytest.approx(0.5, rel=0.1)
    assert truths.truth_of(rules.Curves.of(texts, rivals, -1)) == math.inf
    lost = texts.assign(coherence=0.0)
    assert math.isnan(truths.truth_of(rules.Curves.of(lost, rivals, 1)))
    rng = np.random.default_rng(0)
    assert 0 < truths.noise_floor(curves, truth, rng) < 0.1
    alike = curves.of_prompts([0] * PROMPTS)
    assert truths.noise_floor(alike, truths.truth_of(alike), rng) == 0


def test_a_threshold_never_saw_what_it_is_judged_on(modules: dict[str, Any]) -> None:
    choose = modules["errors"].held_out_choice
    groups = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    # Threshold 0 is best on trait x and on no other, threshold 1 on trait y.
    errors = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert choose(errors, groups, 1).tolist() == [1, 0, 1, 0]
    assert choose(errors[:, ::-1], groups, 1).tolist() == [0, 1, 0, 1]
    by_model = np.array([[0.0, 0.3], [0.0, 0.3], [0.3, 0.0], [0.3, 0.0]])
    assert choose(by_model, groups, 0).tolist() == [1, 1, 0, 0]


def test_the_study_has_every_trait_layer_method_and_seed_once(modules: dict[str, Any]) -> None:
    studies = modules["studies"]
    found = list(studies.cases(6))
    assert len(set(map(str, found))) == len(found) == 6 * 2 * (3 * 3 + 2)
    assert {case.layer for case in found} == {0, 3, 5}
    assert {case.layer for case in studies.cases(3)} == {0, 1, 2}
    small = modules["keeping"].smaller(pd.DataFrame({"a": [0.1], "b": [1], "c": ["x"]}))
    assert [str(dtype) for dtype in small.dtypes[:2]] == ["float32", "int64"]
