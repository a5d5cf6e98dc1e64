"""Delta-perplexity against the published code's own numbers, and against plain forwards."""

from __future__ import annotations

import json
import math

import pytest
import torch
from architectures import SENTENCES, build
from outside import SHARED
from safetensors.torch import load_file

from workbench.composition.compose import compose
from workbench.composition.deltas import StepDeltas
from workbench.composition.fluency import fluency, perplexity
from workbench.composition.schedules import Dynamic, Fixed, Schedule
from workbench.generation.generate import generate
from workbench.loading.models import LM

FOLDER = SHARED / "golden" / "3_dac"
STEPS = 5
QUESTIONS = [SENTENCES[0], " ".join(SENTENCES[1].split()[:3])]
SHOWN = [f"{SENTENCES[2]} {each}" for each in QUESTIONS]


def deltas(lm: LM, size: float = 0.3) -> dict[str, StepDeltas]:
    generator = torch.Generator().manual_seed(0)
    values = size * torch.randn(STEPS, lm.layers, lm.heads_width(0), generator=generator)
    return {"one": StepDeltas(values, tuple(range(lm.layers)))}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/golden/3_dac is missing")
@pytest.mark.parametrize("mode", ["controlled_fixed", "controlled_dynamic"])
def test_published_delta_perplexities(stories: LM, mode: str) -> None:
    runs = json.loads((FOLDER / "runs.json").read_text())
    held = load_file(FOLDER / "activations.safetensors")["delta1"].flatten(2)
    shown_runs = {tuple(run["new_ids"]): run for run in runs if run["mode"] == "icl"}
    checked = 0
    for run in runs:
        if run["mode"] != mode:
            continue
        own = shown_runs[tuple(run["new_ids"])]
        values = run["delta_scale"] * held
        properties = {"1": StepDeltas(values, tuple(range(stories.layers)))}
        dynamic = mode == "controlled_dynamic"
        schedules = {"1": Dynamic(run["top_p"], divided=True) if dynamic else Fixed(run["alpha"])}
        made = compose(stories, [run["prompt"]], properties, schedules, new_tokens=16)
        shown = generate(stories, [own["prompt"]], new_tokens=16)
        assert shown.ids[0].tolist() == run["new_ids"]
        found = fluency(stories, made, shown, properties, schedules, compat=True).iloc[0]
        ppl, baseline = (math.exp(sum(each["nlls"]) / 16) for each in (run, own))
        assert found["shown_by_shown"] == pytest.approx(baseline, rel=1e-4)
        assert found["delta_perplexity"] == pytest.approx(ppl - baseline, rel=1e-4, abs=1e-3)
        checked += 1
    assert checked == 10


def plainly(lm: LM, prompt: str, ids: list[int]) -> float:
    """The perplexity of ids behind a prompt, by one forward without any of our helpers."""
    before = lm.tokenizer(prompt)["input_ids"]
    with torch.no_grad():
        logits = lm.model(torch.tensor([before + ids])).logits[0, len(before) - 1 : -1]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids))
    return math.exp(float(loss))


def test_each_text_under_each_model_of_an_unsteered_run() -> None:
    lm = build("llama")
    schedules: dict[str, Schedule] = {"one": Fixed(0.0)}
    made = compose(lm, QUESTIONS, deltas(lm), schedules, new_tokens=STEPS)
    shown = generate(lm, SHOWN, new_tokens=STEPS + 2)
    found = fluency(lm, made, shown, deltas(lm), schedules)
    for row, (question, prompt) in enumerate(zip(QUESTIONS, SHOWN, strict=True)):
        own = made.ids[row, : made.lengths[row]].tolist()
        other = shown.ids[row, : shown.lengths[row]].tolist()
        expected = [plainly(lm, *each) for each in (
            (prompt, other), (question, other), (question, own), (prompt, own))]  # fmt: skip
        assert found.iloc[row, :4].tolist() == pytest.approx(expected, rel=1e-4)
        forth, back = expected[1] - expected[0], expected[3] - expected[2]
        assert found["delta_perplexity"][row] == pytest.approx(forth, rel=1e-3, abs=1e-3)
        symmetric = found["delta_perplexity_symmetric"][row]
        assert symmetric == pytest.approx((forth + back) / 2, rel=1e-3, abs=1e-3)
        nats = math.log(expected[1] / expected[0] * expected[3] / expected[2]) / 2
        assert found["delta_nats_symmetric"][row] == pytest.approx(nats, abs=1e-4)


def test_the_same_model_on_both_sides_differs_by_nothing() -> None:
    lm = build("gpt2")
    schedules: dict[str, Schedule] = {"one": Fixed(0.0)}
    made = compose(lm, QUESTIONS, deltas(lm), schedules, new_tokens=STEPS)
    shown = generate(lm, QUESTIONS, new_tokens=STEPS)
    found = fluency(lm, made, shown, deltas(lm), schedules)
    assert found["delta_perplexity"].abs().max() < 1e-3
    assert found["delta_perplexity_symmetric"].abs().max() < 1e-3


def test_steering_that_breaks_texts_costs_in_both_measures() -> None:
    lm = build("llama")
    found = {}
    shown = generate(lm, SHOWN, new_tokens=STEPS)
    for size in (0.0, 8.0):
        schedules: dict[str, Schedule] = {"one": Fixed(size)}
        made = compose(lm, QUESTIONS, deltas(lm), schedules, new_tokens=STEPS)
        found[size] = fluency(lm, made, shown, deltas(lm), schedules).mean()
    assert found[8.0]["delta_perplexity"] > found[0.0]["delta_perplexity"]
    assert found[8.0]["delta_perplexity_symmetric"] > found[0.0]["delta_perplexity_symmetric"]


@pytest.mark.parametrize("compat", [True, False])
def test_a_schedule_that_looks_is_asked_again_but_for_compat(monkeypatch, compat: bool) -> None:
    lm = build("llama")
    from workbench.composition import fluency as module

    schedules: dict[str, Schedule] = {"one": Dynamic(0.6)}
    made = compose(lm, QUESTIONS, deltas(lm), schedules, new_tokens=STEPS)
    again = []

    def spied(*given, **settings):
        again.append(compose(*given, **settings))
        return again[-1]

    monkeypatch.setattr(module, "compose", spied)
    shown = generate(lm, SHOWN, new_tokens=STEPS)
    fluency(lm, made, shown, deltas(lm), schedules, compat=compat)
    steps = min(made.ids.shape[1], STEPS)
    found, wanted = (each.coefficients["one"][:, :steps] for each in (again[0], made))
    assert torch.equal(found, wanted.nan_to_num(0.0)) == compat


def test_tokens_after_a_texts_end_do_not_count() -> None:
    assert perplexity(torch.tensor([[-1.0, -3.0, math.nan]])).item() == pytest.approx(math.e**2)


def test_numbers_of_texts_that_differ_are_refused() -> None:
    lm = build("llama")
    schedules: dict[str, Schedule] = {"one": Fixed(0.0)}
    made = compose(lm, QUESTIONS, deltas(lm), schedules, new_tokens=2)
    shown = generate(lm, SHOWN[:1], new_tokens=2)
    with pytest.raises(ValueError, match="2 steered texts and 1 of in-context prompting"):
        fluency(lm, made, shown, deltas(lm), schedules)
