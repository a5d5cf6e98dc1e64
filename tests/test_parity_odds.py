"""Preference and utility log-odds against float64 numbers made without this package."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from outside import SHARED
from safetensors.torch import load_file

from workbench.contrast.pairs import Pair, Pairs
from workbench.interventions.updates import Add, Intervention
from workbench.loading import models
from workbench.preference.odds import odds
from workbench.text.positions import Positions, Rule, everything
from workbench.text.tokens import Batch

GOLDEN = SHARED / "golden" / "6_pref_util"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden numbers missing: {GOLDEN}")
# Said beside the numbers: float32, and a transformers model in double, whose norms stay float32.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 2e-5}
NAMES = {
    "loss_positive": "L_p_sum",
    "loss_negative": "L_n_sum",
    "preference": "pref_odds",
    "utility": "util_odds",
}


def _end_of_prompt(batch: Batch) -> torch.Tensor:
    return torch.arange(batch.width) >= (batch.starts - 1)[:, None]


PLACES: dict[str, Positions] = {
    "all": everything,
    "from_last_prompt_token": Rule("from the prompt's last token", _end_of_prompt, generated=True),
}


@pytest.fixture(scope="module")
def items() -> dict[str, Any]:
    return json.loads((GOLDEN / "items.json").read_text())


@pytest.fixture(scope="module", params=TOLERANCE, ids=str)
def lm(request: pytest.FixtureRequest) -> models.LM:
    return models.load(SHARED / "models" / "stories260K", dtype=request.param)


@pytest.mark.parametrize("place", PLACES)
def test_log_odds(items: dict[str, Any], lm: models.LM, place: str) -> None:
    numbers = load_file(GOLDEN / "odds.safetensors")
    rows = items["items"]
    pairs = Pairs(
        tuple(Pair(row["positive"], row["negative"], row["prompt"]) for row in rows), "golden"
    )
    vector = Intervention(items["layer"], Add(numbers["vector"].float()), 1.0, PLACES[place])
    frame = odds(lm, [vector], pairs, numbers["multipliers"].numpy(), quiet=True)
    assert frame.attrs["undefined"] == 0
    for column, name in NAMES.items():
        ours = frame[column].to_numpy().reshape(len(rows), -1)
        theirs = numbers[f"{place}.{name}"].numpy()
        assert np.abs(ours - theirs).max() < TOLERANCE[lm.dtype], column


def test_mean_losses(items: dict[str, Any], stories: models.LM) -> None:
    numbers = load_file(GOLDEN / "odds.safetensors")
    rows = items["items"][:4]
    pairs = Pairs(
        tuple(Pair(row["positive"], row["negative"], row["prompt"]) for row in rows), "golden"
    )
    vector = Intervention(items["layer"], Add(numbers["vector"].float()))
    grid = numbers["multipliers"].numpy()
    frame = odds(stories, [vector], pairs, grid, length="mean", quiet=True)
    for column, name in (("loss_positive", "L_p_mean"), ("loss_negative", "L_n_mean")):
        ours = frame[column].to_numpy().reshape(4, -1)
        assert np.abs(ours - numbers[f"all.{name}"][:4].numpy()).max() < 1e-5
