"""Conditional steering's own library again: ../shared/golden holds what it gives."""

import json
from typing import Any

import pytest
import torch
from outside import SHARED
from safetensors.torch import load_file

import workbench as wb
from workbench.conditions.condition import similarities
from workbench.conditions.conditional_reference import (
    ReferenceBehaviour,
    reference_condition,
    reference_interventions,
    reference_respond,
)
from workbench.forward import tracing
from workbench.loading.models import LM
from workbench.text.positions import everything, last_k
from workbench.text.tokens import to_batch
from workbench.vectors.svec import load_svec

GOLDEN = SHARED / "golden" / "2_cast"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden numbers missing: {GOLDEN}")


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def configurations() -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Every configuration with its ten prompts."""
    found: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    for each in golden("conditional_generations.json"):
        key = json.dumps(each["config"], sort_keys=True)
        found.setdefault(key, (each["config"], []))[1].append(each)
    return list(found.values())


CONFIGURATIONS = configurations() if GOLDEN.is_dir() else []
LOGITS = load_file(GOLDEN / "prefill_logits.safetensors") if GOLDEN.is_dir() else {}


@pytest.fixture(scope="module")
def stories() -> LM:
    return wb.load(SHARED / "models" / "stories260K")


def vector(name: str) -> wb.SteeringVector:
    return load_svec(GOLDEN / name, layer=2)


@pytest.mark.parametrize(("mode", "positions"), [("mean", everything), ("last", last_k(1))])
def test_similarities(stories: LM, mode: str, positions: Any) -> None:
    given = golden("condition_similarities.json")
    found = similarities(
        stories,
        given["positive"] + given["negative"],
        vector("condition.svec"),
        layers=given["layers"],
        similarity="unsigned",
        reads="input",
        positions=positions,
    )
    wanted = torch.tensor(given[f"similarities_{mode}"], dtype=torch.float64)
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < 1e-5


def as_many(config: dict[str, Any]) -> dict[str, list[Any]]:
    """A configuration with one condition or none, as one with several of each."""
    if config["kind"] == "multisteer":
        return config
    several = {
        "behavior_vectors": [config["behavior_vector"]],
        "behavior_layer_ids": [config["behavior_layer_ids"]],
        "behavior_vector_strengths": [config["behavior_vector_strength"]],
        "condition_vectors": [],
        "condition_layer_ids": [],
        "condition_vector_thresholds": [],
        "condition_comparator_threshold_is": [],
        "rules": [],
    }
    if config.get("use_c", True):
        several |= {
            "condition_vectors": [config["condition_vector"]],
            "condition_layer_ids": [config["condition_layer_ids"]],
            "condition_vector_thresholds": [config["condition_vector_threshold"]],
            "condition_comparator_threshold_is": [config["condition_comparator_threshold_is"]],
            "rules": ["if C1 then B1"],
        }
    return config | several


@pytest.mark.parametrize(
    ("config", "wanted"),
    CONFIGURATIONS,
    ids=[f"{config['kind']}-{cases[0]['id']}" for config, cases in CONFIGURATIONS],
)
def test_verdicts_and_tokens(
    stories: LM, config: dict[str, Any], wanted: list[dict[str, Any]]
) -> None:
    conditions, behaviours, rules = {}, {}, []
    if config["kind"] != "unsteered":
        many = as_many(config)
        rules = many["rules"]
        for index, name in enumerate(many["condition_vectors"]):
            conditions[f"C{index + 1}"] = reference_condition(
                vector(name),
                many["condition_layer_ids"][index],
                many["condition_vector_thresholds"][index],
                many["condition_comparator_threshold_is"][index],
                config.get("condition_threshold_comparison_mode", "mean"),
            )
        for index, name in enumerate(many["behavior_vectors"]):
            behaviours[f"B{index + 1}"] = ReferenceBehaviour(
                vector(name),
                tuple(many["behavior_layer_ids"][index]),
                many["behavior_vector_strengths"][index],
            )
    how: dict[str, bool] = {
        "on_prompt": config.get("apply_behavior_on_first_call", True),
        "keep_norm": config.get("use_ooi_preventive_normalization", False),
    }
    prompts = [case["prompt"] for case in wanted]
    made, met = reference_respond(
        stories, prompts, conditions, behaviours, rules or None, new_tokens=24, **how
    )
    for row, case in enumerate(wanted):
        said = case["condition_met"]
        for index, name in enumerate(conditions):
            assert bool(met[name][row]) == said[str(index)], (row, name)
        # No step of any of them is closer than 9e-4 between its two likeliest tokens.
        assert case["min_margin"] > 5e-4
        assert made.ids[row][: int(made.lengths[row])].tolist() == case["new_ids"], row
    # They are kept of a single condition, up to the layer that was met.
    if any(case["condition_similarities"] for case in wanted):
        (condition,) = conditions.values()
        found = condition.similarities(stories, prompts)
        for row, case in enumerate(wanted):
            for layer, value in case["condition_similarities"].items():
                column = condition.layers.index(int(layer))
                assert float(found[row, column]) == pytest.approx(value, abs=1e-5)
    batch = to_batch(stories, prompts)
    steered, _ = reference_interventions(
        stories, batch, conditions, behaviours, rules or None, **how
    )
    with torch.no_grad():
        logits = tracing.forward(stories, batch, steered, lambda found: found[:, -1], keep=1)
    for row in (0, 5):
        wanted_logits = LOGITS[str(wanted[row]["id"])]
        assert float((logits[row] - wanted_logits).abs().max()) < 1e-4
