"""Sweeps, searches and ceilings of LoRA and local weight, and their random controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from edited import edited, make

from workbench import figures, judges, pairs, seek, sweep, train
from workbench.alert import alert_as_meant
from workbench.ceiling import find_ceiling
from workbench.controls import as_strong_as, random_like
from workbench.forms import LocalWeight, LoRA
from workbench.generate import generate
from workbench.models import LM, load
from workbench.updates import Intervention
from workbench.vectors import SteeringVector

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
    twisted = {
        "lora": lambda: LoRA({key: change.changes[key].times(1.001)}, tiny.name, "", "x"),
        "local_weight": lambda: LocalWeight({key: change.changes[key].times(1.001)}, "", "", "x"),
    }[form]()
    one, other = (run(tiny, each, coefficients=[0.0]) for each in (change, twisted))
    assert one.attrs["vectors"] != other.attrs["vectors"]


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
    with pytest.raises(ValueError, match="controls is one vector"):
        run(tiny, weight, controls=weight)
    with pytest.raises(ValueError, match="has length 0 at layer 1"):
        run(tiny, weight, controls={"none": weight * 0})
    with pytest.raises(ValueError, match="no random control"):
        random_like(tiny, 0)  # type: ignore[type-var]


def test_prompts_that_trained_a_change_cannot_judge_it(tiny: LM) -> None:
    from workbench.splits import text_hash

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
        parts.extract[:24],
        "split",
        form,
        epochs=4,
        held_out=0,
        progress=False,
        quiet=True,
    )
    prompts = parts.select.prompts[:8]
    options: dict[str, Any] = {
        "new_tokens": 16,
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
