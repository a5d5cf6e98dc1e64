"""Sweeps, searches and ceilings of LoRA and local weight, and their random controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from edited import edited, make

from workbench import figures, judges, seek, sweep, train
from workbench.contrast import pairs
from workbench.forward.reading import residual_norms
from workbench.generation.generate import generate
from workbench.interventions.updates import Intervention
from workbench.loading.models import LM, load
from workbench.sweeps.alert import alert_as_meant
from workbench.sweeps.ceiling import find_ceiling
from workbench.text.tokens import encode
from workbench.vectors.controls import as_strong_as, random_like
from workbench.vectors.forms import LoRA, tensors_of
from workbench.vectors.relative_size import relative_size
from workbench.vectors.steering_vector import SteeringVector

PROMPTS = ["The old fox", "A girl and her dog went to the river and", "I am"]
COEFFICIENTS = [-1.0, 0.0, 0.5, 1.5]
FORMS = ("lora", "local_weight")

both = pytest.mark.parametrize("form", FORMS)


def run(lm: LM, change: Any, **options: Any) -> pd.DataFrame:
    coefficients = options.pop("coefficients", COEFFICIENTS)
    return sweep(lm, change, PROMPTS, coefficients, new_tokens=8, progress=False, **options)


def vector_for(lm: LM, **changes: Any) -> SteeringVector:
    return SteeringVector(
        {1: torch.ones(lm.width)}, {1: 5.0}, lm.name, lm.fingerprint, "hand", 1, **changes
    )


@both
def test_texts_are_those_of_the_model_with_edited_weights(tiny: LM, form: str) -> None:
    change = make(tiny, form, layers=(0, 2))
    frame = run(tiny, change)
    assert frame["coefficient"].tolist() == COEFFICIENTS * len(PROMPTS)
    assert frame["coefficient_norm"].isna().all()
    assert frame.attrs["unit"] == "raw"
    assert frame.attrs["layers"] == [0, 2]
    for m in COEFFICIENTS:
        texts = generate(edited(tiny, change, m), PROMPTS, new_tokens=8).texts
        assert frame.loc[frame["coefficient"] == m, "text"].tolist() == texts
    assert frame.groupby("prompt_index")["text"].nunique().max() > 1  # else anything would do


@both
def test_m_of_zero_is_the_unsteered_model(tiny: LM, form: str) -> None:
    none = run(tiny, make(tiny, form)).query("coefficient == 0")
    plain = generate(tiny, PROMPTS, new_tokens=8)
    assert none["text"].tolist() == plain.texts
    assert (none["kl"] == 0).all()
    np.testing.assert_allclose(none["logprob_steered"], none["logprob_unsteered"], atol=1e-5)


@both
def test_a_sweep_of_a_change_resumes_and_refuses_another(
    tiny: LM, form: str, tmp_path: Path
) -> None:
    first = run(tiny, make(tiny, form), controls=("random",), directory=tmp_path)
    again = run(tiny, make(tiny, form), controls=("random",), directory=tmp_path)
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    with pytest.raises(ValueError, match="another"):
        run(tiny, make(tiny, form, seed=1), controls=("random",), directory=tmp_path)


@both
def test_each_tensor_of_a_change_counts_in_its_hash(tiny: LM, form: str) -> None:
    change = make(tiny, form)
    (key,) = change.changes
    tensors = tensors_of(change.changes[key])
    one = run(tiny, change, coefficients=[0.0]).attrs["vectors"]
    for name, tensor in tensors.items():
        twisted = replace(change.changes[key], **{name: tensor * 1.001})
        other = run(tiny, replace(change, changes={key: twisted}), coefficients=[0.0])
        assert one != other.attrs["vectors"], name


@both
def test_a_random_change_has_the_same_shape_and_norm(tiny: LM, form: str) -> None:
    change = make(tiny, form, layers=(0, 2))
    control = random_like(change, 0)
    assert type(control) is type(change)
    assert control.layers == (0, 2)
    assert control.method == "random"
    for layer in change.layers:
        assert control.norm(layer) == pytest.approx(change.norm(layer), rel=1e-5)
        ours, theirs = change.delta(layer), control.delta(layer)
        assert torch.linalg.matrix_rank(ours[0]) == torch.linalg.matrix_rank(theirs[0])
        cosine = torch.nn.functional.cosine_similarity(*(d[0].flatten() for d in (ours, theirs)), 0)
        assert abs(float(cosine)) < 0.2
        if ours[1] is not None:
            assert float(theirs[1].norm()) == pytest.approx(float(ours[1].norm()), rel=1e-5)
    first = control.tensors()
    assert all(torch.equal(first[k], v) for k, v in random_like(change, 0).tensors().items())
    for other in (
        random_like(change, 1),
        random_like(change, 0, draw=1),
        random_like(change * 2, 0),
    ):
        assert not all(torch.equal(first[k], v) for k, v in other.tensors().items())


def test_the_norm_counts_weight_and_bias(tiny: LM) -> None:
    change = make(tiny, "local_weight")
    weight, bias = change.delta(1)
    assert bias is not None
    expected = float((weight.square().sum() + bias.square().sum()).sqrt())
    assert change.norm(1) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="no change at layer 0"):
        change.norm(0)


@both
def test_controls_are_brought_to_the_same_norm(tiny: LM, form: str) -> None:
    change = make(tiny, form, layers=(0, 2))
    given = make(tiny, form, layers=(0, 1, 2), seed=5) * 7
    control = as_strong_as(change, given, "other")
    assert control.layers == control.default_layers == (0, 2)
    for layer in (0, 2):
        assert control.norm(layer) == pytest.approx(change.norm(layer), rel=1e-5)
    other = run(tiny, change, controls={"other": given}).query("vector == 'other'")
    alone = run(tiny, control).query("coefficient != 0")
    assert other["text"].tolist() == alone["text"].tolist()


def test_what_cannot_be_swept_is_refused_before_work(tiny: LM) -> None:
    lora, weight = (make(tiny, form) for form in FORMS)
    for given in (torch.ones(tiny.width), [Intervention(1, lambda h, s: h)], None):
        with pytest.raises(ValueError, match="cannot be swept: give a SteeringVector, LoRA or"):
            run(tiny, given)
    with pytest.raises(ValueError, match=r"the coefficient of a LoRA is m, .* use unit='raw'"):
        run(tiny, lora, unit="norm")
    with pytest.raises(ValueError, match="'w' is a LocalWeight, what is swept a LoRA"):
        run(tiny, lora, controls={"w": weight})
    with pytest.raises(ValueError, match="'v' is a SteeringVector, what is swept a LocalWeight"):
        run(tiny, weight, controls={"v": vector_for(tiny)})
    with pytest.raises(ValueError, match="controls is a single one"):
        run(tiny, weight, controls=weight)
    with pytest.raises(ValueError, match="has size 0 at layer 1"):
        run(tiny, weight, controls={"none": weight * 0})
    with pytest.raises(ValueError, match="no random control"):
        random_like(tiny, 0)  # type: ignore[type-var]


def test_prompts_that_trained_a_change_cannot_judge_it(tiny: LM) -> None:
    from workbench.text.splits import text_hash

    for key in ("texts", "held_out_texts"):
        change = LoRA(
            make(tiny, "lora").changes, "", "", "x", {key: [text_hash(PROMPTS[0])], "trait": "calm"}
        )
        if key == "texts":
            with pytest.raises(ValueError, match="texts that made the vector"):
                run(tiny, change)
        else:
            assert run(tiny, change, coefficients=[0.0]).attrs["trait"] == "calm"
            with pytest.raises(ValueError, match="texts that chose the layer"):
                run(tiny, change, split="report", apart_from=_chose())


def _chose() -> pd.DataFrame:
    frame = pd.DataFrame()
    frame.attrs["prompt_hashes"] = ["0" * 16]
    return frame


@pytest.fixture(scope="module")
def wren() -> LM:
    return load("wren")


@both
def test_the_ceiling_of_a_trained_change_is_in_units_of_m(wren: LM, form: str) -> None:
    """On wren: trained, searched, judged exactly; half of the texts break at the ceiling."""
    parts = pairs.load("wren-mood").split()
    change = train(
        wren,
        parts.extract[:16],
        "split",
        form,
        epochs=2,
        learning_rate=0.02,
        held_out=0,
        progress=False,
        quiet=True,
    )
    prompts = parts.select.prompts[:6]
    options: dict[str, Any] = {
        "new_tokens": 48,
        "temperature": 1.0,
        "judges": [judges.exact],
        "progress": False,
        "kl": False,
    }
    frame = seek(wren, change, prompts, reach=24.0, controls=("random",), **options)
    assert frame.attrs["unit"] == "raw"
    ceiling = find_ceiling(frame)
    assert ceiling.unit == "raw"
    side = ceiling[1]
    assert side.collapses
    assert 0 < side.ceiling.value < 24
    assert side.ceiling.raw == side.ceiling
    held = frame[frame["vector"] == "vector"].groupby("coefficient")["coherence"].mean()
    assert held[0.0] > 0.9
    assert held[max(held.index)] < 0.6
    assert alert_as_meant(frame, sign=1).coefficients[0] == 0
    drawn = figures.sweep_curves(frame, ceiling=ceiling.marks())
    assert "raw" in str(drawn.layout)
    report = sweep(
        wren,
        change,
        parts.report.prompts[:4],
        [0.0, side.ceiling.value],
        apart_from=frame,
        **options,
    )
    assert report.attrs["split"] == "report"


def test_the_relative_size_of_a_vector_is_the_inverse_of_a_norm(tiny: LM) -> None:
    norms = residual_norms(tiny, PROMPTS, [1])
    vector = SteeringVector({1: torch.ones(tiny.width) * 3}, norms, tiny.name, "", "hand", 1)
    size = relative_size(tiny, vector, PROMPTS)
    assert size[1] == pytest.approx(vector.norm(1) / norms[1], rel=0.05)  # of other medians


@both
def test_the_relative_size_of_a_change_is_what_an_edited_weight_adds(tiny: LM, form: str) -> None:
    change = make(tiny, form, layers=(0, 2))
    size = relative_size(tiny, change, PROMPTS)
    assert set(size) == {0, 2}
    batch = encode(tiny, PROMPTS)
    later = batch.attention & (batch.positions > 0)
    alone = type(change)({2: change.changes[2]}, tiny.name, tiny.fingerprint, "one")
    models = (tiny.model, edited(tiny, alone, 1.0).model)
    with torch.no_grad():
        plain, moved = (_last_stream(model, batch)[later] for model in models)
    expected = ((moved - plain).norm(dim=-1) / plain.norm(dim=-1)).median()
    assert size[2] == pytest.approx(float(expected), rel=1e-4)
    assert relative_size(tiny, change * 2, PROMPTS)[2] == pytest.approx(2 * size[2], rel=1e-4)
    with pytest.raises(ValueError, match="no change at layer 1"):
        relative_size(tiny, change, PROMPTS, [1])


def _last_stream(model: Any, batch: Any) -> torch.Tensor:
    seen: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        seen.append(output if isinstance(output, torch.Tensor) else output[0])

    handle = model.model.layers[-1].register_forward_hook(keep)
    try:
        model(
            batch.ids,
            attention_mask=batch.attention.long(),
            position_ids=batch.positions,
            use_cache=False,
        )
    finally:
        handle.remove()
    return seen[0]
