"""Many schedules in one call: each as if it ran alone."""

import pandas as pd
import pytest
import torch

from workbench.composition.blocks import Setting, run
from workbench.composition.compose import Composed, compose
from workbench.composition.deltas import StepDeltas
from workbench.composition.examples import over_text
from workbench.composition.schedules import Budget, Dynamic, Fixed, Schedule, Start
from workbench.loading.models import LM, load
from workbench.wren import open_prompts

TOKENS = 6


@pytest.fixture(scope="module")
def wren() -> LM:
    return load("wren")


@pytest.fixture(scope="module")
def properties(wren: LM) -> dict[str, StepDeltas]:
    torch.manual_seed(0)
    return {
        name: StepDeltas(torch.randn(TOKENS, wren.layers, 192), tuple(range(wren.layers)))
        for name in ("one", "other")
    }


def schedules() -> list[tuple[str, Schedule, Schedule]]:
    return [
        ("unsteered", Fixed(0.0), Fixed(0.0)),
        ("start", Start(1.5), Fixed(0.2)),
        ("dynamic", Dynamic(0.7, divided=True), Dynamic(0.5, clip=(0, 0.5), probe=0.5)),
        ("budget", Budget(2.0, probe=0.5), Dynamic(0.9, divided=True)),
    ]


def test_settings_side_by_side_are_as_if_alone(wren: LM, properties: dict[str, StepDeltas]) -> None:
    prompts = open_prompts("mood", 3, seed=1)
    settings = [Setting(name, 1.0, {"one": a, "other": b}) for name, a, b in schedules()]
    found = run(wren, prompts, properties, settings, new_tokens=TOKENS)
    assert found["schedule"].tolist() == [name for name, *_ in schedules() for _ in prompts]
    for name, one, other in schedules():
        mine = found[found["schedule"] == name]
        alone = compose(wren, prompts, properties, {"one": one, "other": other}, new_tokens=TOKENS)
        assert mine["text"].tolist() == alone.texts
        for which, table in alone.coefficients.items():
            assert mine[f"coefficient {which}"].to_numpy() == pytest.approx(
                table.double().nanmean(dim=1).numpy(), abs=1e-5
            )
        if alone.kl is not None:
            kl = alone.kl.double().nanmean(dim=1).numpy()
            assert mine["kl"].to_numpy() == pytest.approx(kl, abs=1e-4)
    assert found.loc[found["schedule"] == "unsteered", "kl"].abs().max() < 1e-6


def test_what_is_handed_in_becomes_columns(wren: LM, properties: dict[str, StepDeltas]) -> None:
    prompts = open_prompts("mood", 2, seed=1)
    settings = [Setting("fixed", a, dict.fromkeys(properties, Fixed(a))) for a in (0.1, 0.2)]
    found = run(
        wren, prompts, properties, settings, new_tokens=TOKENS,
        judge=lambda texts, ends: {"length": [len(text) for text in texts], "ends": ends},
        fluency=lambda ids, lengths: {"sum": (ids.sum(dim=1) + lengths).tolist()},
    )  # fmt: skip
    assert found["length"].tolist() == [len(text) for text in found["text"]]
    assert not found["ends"].any()
    assert len(found["sum"]) == 4


def test_coefficients_over_a_text(wren: LM, properties: dict[str, StepDeltas]) -> None:
    prompt = open_prompts("mood", 1, seed=1)[0]
    drawn = {"fixed": Fixed(0.1), "start": Start(1.0)}
    found = over_text(wren, prompt, properties, drawn, new_tokens=TOKENS)
    assert isinstance(found, pd.DataFrame)
    start = found[(found["schedule"] == "start") & (found["property"] == "one")]
    assert start["coefficient"].tolist() == [1.0, *[0.0] * (TOKENS - 1)]
    made: Composed = compose(
        wren, [prompt], properties, dict.fromkeys(properties, Start(1.0)), new_tokens=TOKENS
    )
    assert "".join(start["text"]).replace(" ", "") == made.texts[0].replace(" ", "")
