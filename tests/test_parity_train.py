"""EasyEdit's objectives, gradients, training traces and applied forms, from ../shared/golden."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from outside import SHARED
from safetensors.torch import load_file

from workbench.contrast.pairs import Pairs
from workbench.forward import tracing
from workbench.generation.generate import generate
from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.text.positions import Rule, everything
from workbench.training.examples import completion_logprobs, make_examples
from workbench.training.objectives import SFT, SPLIT, Objective, RePS
from workbench.training.train import train
from workbench.training.trainable import EXTRA, FORMS, interventions
from workbench.training.trained import loss_history
from workbench.vectors.forms import LocalWeight, LoRA
from workbench.vectors.steering_vector import SteeringVector

GOLDEN = SHARED / "golden" / "4_easyedit"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden numbers missing: {GOLDEN}")

LAYER = 2
MULTIPLIERS = (-3, -1, 0, 1, 3)
# The reference's names of the parameters, and ours.
NAMES = {
    "vector": {"v": "direction", "proj_bias": EXTRA},
    "lora": {"lora_A": "a", "lora_B": "b"},
    "local_weight": {"weight": "weight", "bias": "bias"},
}
NOT_FIRST = Rule("not_first", lambda batch: batch.attention & (batch.positions > 0), True)


def objectives() -> dict[str, Any]:
    return json.loads((GOLDEN / "objectives.json").read_text())


def cases(kind: str) -> list[dict[str, Any]]:
    """The losses of one kind; none where the golden numbers are missing."""
    if not GOLDEN.is_dir():
        return []
    found = [case for case in objectives()["results"] if "objective" in case]
    return [case for case in found if case["objective"].startswith(kind)]


def by_key(kind: str):
    return pytest.mark.parametrize("case", [pytest.param(c, id=c["key"]) for c in cases(kind)])


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    items = objectives()["items"]
    sides = [[item[name] for item in items] for name in ("matching", "not_matching", "question")]
    return Pairs.from_lists(*sides, name="golden")


@pytest.fixture(scope="module")
def numbers() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "parameters_and_gradients.safetensors")


def start(numbers: dict[str, torch.Tensor], form: str) -> dict[str, torch.Tensor]:
    """The start values under our names, ready for gradients."""
    made = {f"{LAYER}.{EXTRA}": torch.zeros(1)} if form == "vector" else {}
    for name, own in NAMES[form].items():
        if own != EXTRA:
            made[f"{LAYER}.{own}"] = numbers[f"init.{form}.{name}"]
    return {name: tensor.clone().requires_grad_() for name, tensor in made.items()}


def lowered(
    lm, pairs: Pairs, case: dict[str, Any], objective: Objective, parameters, sub: bool
) -> float:
    """The compat objective over all examples as one minibatch, its gradient in the parameters."""
    form = case["form"]
    examples = make_examples(lm, pairs, sub=sub, reference=objective.needs_reference)
    batch, rows = examples.batch(range(len(examples)), True)
    count = len(examples)
    edits = interventions(
        FORMS[form],
        parameters,
        (case["factor_m"] * examples.sign).repeat(2),
        NOT_FIRST if form == "vector" else everything,
    )
    found = completion_logprobs(lm, batch, edits)
    winning = examples.side(found[:count], rows[:count])
    losing = examples.side(found[count:], rows[count:])
    loss = objective(winning, losing, compat=True)
    loss.backward()
    return float(loss.detach())


def check_gradients(numbers, parameters, case: dict[str, Any]) -> None:
    """Of each parameter: the norm of the difference over the norm."""
    for name, own in NAMES[case["form"]].items():
        expected = numbers[f"{case['key']}.grad.{name}"]
        found = parameters[f"{LAYER}.{own}"].grad
        assert found is not None
        assert (found - expected).norm() <= 1e-4 * expected.norm(), name


@pytest.fixture
def frozen(stories):
    for parameter in stories.model.parameters():
        parameter.requires_grad_(False)
    yield stories
    for parameter in stories.model.parameters():
        parameter.requires_grad_(True)


def test_the_examples_are_the_references_tokens(stories, pairs):
    golden = load_file(GOLDEN / "batch.safetensors")
    examples = make_examples(stories, pairs, sub=True, reference=False)
    for kind, chosen in (("add", range(3)), ("sub", range(3, 6))):
        batch, _ = examples.batch(chosen, True)
        for half, side in enumerate(("winning", "losing")):
            ids = golden[f"orig_{kind}_{side}_input_ids"]
            real = golden[f"orig_{kind}_{side}_attention_mask"].bool()
            labels = golden[f"orig_{kind}_{side}_labels"] != -100
            for row in range(3):
                here = 3 * half + row
                assert torch.equal(batch.ids[here][batch.attention[here]], ids[row][real[row]])
                completion = batch.ids[here][batch.completion[here]]
                assert torch.equal(completion, ids[row][labels[row]])


@by_key("s")
def test_sft_and_split(frozen, pairs, numbers, case):
    plain = case["objective"] == "sft"
    objective = (
        SFT()
        if plain
        else SPLIT(
            winning=case["pos_loss_weight"],
            losing=case["lambda_neg_loss_weight"],
            margin=case["gamma_margin_penalty_weight"],
            threshold=case["theta_margin_threshold"],
            reference=case["ref_loss_weight"],
        )
    )
    parameters = start(numbers, case["form"])
    loss = lowered(frozen, pairs, case, objective, parameters, sub=False)
    assert loss == pytest.approx(case["float64"]["total"], abs=2e-5)
    check_gradients(numbers, parameters, case)


@by_key("reps")
def test_reps(frozen, pairs, numbers, case):
    parameters = start(numbers, case["form"])
    sub = "orig_sub" in case["preference_pairs"]
    if sub:
        # Two minibatches of three, accumulated before the step.
        losses = [loss for part in case["minibatches"] for loss in part["losses"]]
        expected = sum(losses) / len(losses)
    else:
        expected = case["float64"]["total"]
    loss = lowered(frozen, pairs, case, RePS(case["simpo_scaler"]), parameters, sub=sub)
    assert loss == pytest.approx(expected, abs=2e-5)
    check_gradients(numbers, parameters, case)


def as_result(lm, numbers, form: str):
    """The start values as a result to begin from."""
    own = {own: numbers[f"init.{form}.{name}"] for name, own in NAMES[form].items() if own != EXTRA}
    about = (lm.name, lm.fingerprint, "golden")
    if form == "vector":
        return SteeringVector({LAYER: own["direction"]}, {LAYER: 1.0}, *about, LAYER)
    if form == "lora":
        return LoRA({LAYER: AddLowRank(**own)}, *about)
    return LocalWeight({LAYER: AddLinear(**own)}, *about)


def run(lm, pairs, numbers, form: str, **how):
    settings = {
        "learning_rate": 0.01,
        "batch": 3,
        "sub": None,
        "dropout": 0.0,
        "held_out": 0,
        "compat": True,
        "progress": False,
        "quiet": True,
    }
    return train(lm, pairs, form=form, start=as_result(lm, numbers, form), **(settings | how))


def parameters_of(result, form: str) -> dict[str, torch.Tensor]:
    if form == "vector":
        return {"v": result.directions[LAYER]}
    change = result.changes[LAYER]
    return {name: getattr(change, own) for name, own in NAMES[form].items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("factor", [1, 2.5, -1.5])
def test_one_step_of_adamw(stories, pairs, numbers, form, factor):
    """The first step is the rate times the sign of the gradient, so tiny gradients do not count."""
    for name, objective in {"sft": SFT(), "spilt_margin_active": SPLIT(1, 0.5, 2, 5)}.items():
        made = run(stories, pairs, numbers, form, objective=objective, factors=[factor], epochs=1)
        for parameter, found in parameters_of(made, form).items():
            key = f"{form}.m_{factor:g}.{name}"
            gradient = numbers[f"{key}.grad.{parameter}"].abs()
            clear = gradient > 1e-3 * gradient.max()
            expected = numbers[f"{key}.after_one_step.{parameter}"]
            assert (found - expected)[clear].abs().max() < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_six_steps(stories, pairs, numbers, form):
    (golden,) = (r for r in objectives()["results"] if r["key"] == f"{form}.trace")
    objective = SPLIT(
        losing=golden["lambda_neg_loss_weight"],
        margin=golden["gamma_margin_penalty_weight"],
        threshold=golden["theta_margin_threshold"],
    )
    made = run(stories, pairs, numbers, form, objective=objective, factors=[2.0], epochs=6)
    losses = [
        high + golden["lambda_neg_loss_weight"] * low + hinge
        for high, low, hinge in zip(
            golden["L_p"], golden["L_n"], golden["margin_loss"], strict=True
        )
    ]
    assert loss_history(made)["loss"].tolist() == pytest.approx(losses, abs=1e-3)
    for name, found in parameters_of(made, form).items():
        expected = numbers[f"{form}.trace.final.{name}"]
        assert (found - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("form", FORMS)
def test_applied(stories, numbers, form):
    """Saved files in the reference's layouts, applied at all positions."""
    folder = {"vector": "vector", "lora": "lora", "local_weight": "local_weight"}[form]
    content = torch.load(GOLDEN / f"spilt_{folder}" / f"layer_{LAYER}.pt", weights_only=True)
    made = as_result(stories, numbers, form)
    if form == "vector":
        made = replace(made, directions={LAYER: content})
    elif form == "lora":
        made = replace(made, changes={LAYER: AddLowRank(content["lora_A"], content["lora_B"])})
    else:
        made = replace(made, changes={LAYER: AddLinear(content["weight"], content["bias"])})
    how = {"unit": "raw"} if form == "vector" else {}
    logits = load_file(GOLDEN / "apply_logits.safetensors")
    rows = json.loads((GOLDEN / "apply_generations.json").read_text())
    texts = [row for row in rows if row["form"] == form]
    for m in MULTIPLIERS:
        mine = [row for row in texts if row["multiplier"] == m]
        prompts, edits = [row["prompt"] for row in mine], made.at(float(m), **how)
        found = tracing.forward(
            stories, tracing.to_batch(stories, prompts[:1]), edits, lambda out: out[0, -1].detach()
        )
        assert (found - logits[f"{form}.multiplier_{m}"]).abs().max() < 1e-4
        written = generate(stories, prompts, edits, new_tokens=24, score=False)
        for row, ids in zip(mine, written.ids, strict=True):
            if row["min_margin"] > 1e-3:
                assert ids.tolist()[: len(row["new_ids"])] == row["new_ids"]
