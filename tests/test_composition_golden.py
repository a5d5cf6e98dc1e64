"""Per-step deltas and composed texts against the published code's own numbers."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from outside import SHARED
from safetensors.torch import load_file

from workbench.composition.compose import compose
from workbench.composition.deltas import StepDeltas, step_means
from workbench.composition.schedules import Diminishing, Dynamic, Fixed, Given, Schedule, Start
from workbench.loading.models import LM

FOLDER = SHARED / "golden" / "3_dac"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/golden/3_dac is missing")
CLOSE, ALPHA = 5e-6, 5e-5  # of its README


@cache
def golden(name: str) -> Any:
    path = FOLDER / name
    return load_file(path) if path.suffix == ".safetensors" else json.loads(path.read_text())


@pytest.mark.parametrize("name", "ABCD")
def test_means_of_every_step(stories: LM, name: str) -> None:
    prompts = golden("prompts.json")
    texts = [prompts["prompts"][name][index] for index in prompts["support_indices"]]
    found, alive = step_means(stories, texts, prompts["n_steps"], range(stories.layers))
    expected = golden("activations.safetensors")[f"mean.{name}"].flatten(2)
    torch.testing.assert_close(found, expected, atol=CLOSE, rtol=0)
    assert alive.tolist() == [30] * 16


def deltas(scale: float, layers: int) -> dict[str, StepDeltas]:
    values = golden("activations.safetensors")
    return {
        name: StepDeltas(scale * values[f"delta{name}"].flatten(2), tuple(range(layers)))
        for name in "12"
    }


def schedules(run: dict[str, Any]) -> dict[str, Schedule]:
    mode = run["mode"]
    if mode == "start":
        return {"1": Start(run["alpha"])}
    if mode == "dim":
        return {"1": Diminishing(run["alpha"])}
    if mode in ("fixed", "controlled_fixed"):
        return {"1": Fixed(run["alpha"])}
    if mode == "composition_fixed":
        return {"1": Fixed(run["alpha_1"]), "2": Fixed(run["alpha_2"])}
    if mode == "controlled_dynamic":  # it is given the coefficients of another run
        return {"1": Given(torch.tensor(run["alphas"]))}
    return {
        name: Dynamic(run["top_p"], divided=True)
        for name in ("12" if "composition" in mode else "1")
    }


MODES = (
    "start", "fixed", "dim", "dynamic", "composition_fixed", "composition_dynamic",
    "controlled_fixed", "controlled_dynamic",
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_texts_coefficients_and_scores(stories: LM, mode: str) -> None:
    runs = [run for run in golden("runs.json") if run["mode"] == mode]
    assert len(runs) >= 10
    for run in runs:
        every = deltas(run.get("delta_scale", 1.0), stories.layers)
        how = schedules(run)
        forced = torch.tensor([run["new_ids"]]) if "controlled" in mode else None
        made = compose(
            stories, [run["prompt"]], {name: every[name] for name in how}, how,
            new_tokens=len(run["new_ids"]), forced=forced,
        )  # fmt: skip
        assert made.ids[0].tolist() == run["new_ids"]
        keys = {"1": "alphas", "2": ""} if "alphas" in run else {"1": "alphas_1", "2": "alphas_2"}
        for name in how:
            if keys[name] in run:
                expected = torch.tensor(run[keys[name]])
                torch.testing.assert_close(made.coefficients[name][0], expected, atol=ALPHA, rtol=0)
        if "nlls" in run:
            expected = torch.tensor(run["nlls"])
            torch.testing.assert_close(-made.logprobs[0], expected, atol=ALPHA, rtol=0)
