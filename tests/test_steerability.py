"""Slopes of log-odds by layer, against a plain computation with hooks."""

from dataclasses import replace

import architectures
import pandas as pd
import pytest
import torch

from workbench.contrast.pairs import Pairs
from workbench.extraction.controls import shuffled
from workbench.extraction.extract import extract
from workbench.extraction.steerability import (
    at_steepest,
    steepest_layer,
    steerability,
    steering_vector,
)
from workbench.loading.models import LM
from workbench.text.positions import generated, last
from workbench.vectors.steering_vector import SteeringVector

PAIRS = Pairs.from_lists(
    [" was very happy.", " laughed.", " sang all day long."],
    [" was very sad.", " wept.", " said nothing."],
    ["The old fox", "A girl and her dog", "The king"],
    name="moods",
)


def made(lm: LM) -> SteeringVector:
    generator = torch.Generator().manual_seed(1)
    directions = {layer: torch.randn(lm.width, generator=generator) for layer in range(lm.layers)}
    norms = dict.fromkeys(directions, 3.0)
    return SteeringVector(directions, norms, lm.name, lm.fingerprint, "random", 0)


def plainly(lm: LM, layer: int, step: torch.Tensor, prompt: str, text: str) -> float:
    """log P(text | prompt), one row, steered by a forward hook on all tokens."""
    ids = lm.tokenizer(prompt)["input_ids"]
    more = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    block = lm.model.get_submodule(lm.layer_path)[layer]  # type: ignore[index]

    def add(_module: object, _inputs: object, output: object) -> object:
        if isinstance(output, tuple):
            return (output[0] + step, *output[1:])
        return output + step  # type: ignore[operator]

    handle = block.register_forward_hook(add)
    try:
        with torch.no_grad():
            table = lm.model(input_ids=torch.tensor([[*ids, *more]])).logits[0].log_softmax(-1)
    finally:
        handle.remove()
    return sum(float(table[len(ids) + i - 1, token]) for i, token in enumerate(more))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_slopes_equal_a_plain_computation(name: str) -> None:
    lm = architectures.build(name)
    vector = made(lm)
    table = steerability(lm, vector, PAIRS, coefficient=0.5)
    assert table["layer"].tolist() == list(range(lm.layers))
    for layer in (0, lm.layers - 1):
        direction = vector.directions[layer]
        step = 0.5 * 3.0 * direction / direction.norm()
        slopes = [
            sum(
                sign * (plainly(lm, layer, sign * step, str(pair.prompt), pair.positive)
                        - plainly(lm, layer, sign * step, str(pair.prompt), pair.negative))
                for sign in (1, -1)
            )
            for pair in PAIRS
        ]  # fmt: skip
        row = table.set_index("layer").loc[layer]
        assert row["slope"] == pytest.approx(sum(slopes) / 3, abs=1e-3)
        assert row["agree"] == pytest.approx(sum(slope > 0 for slope in slopes) / 3)
        assert row["low"] < row["slope"] < row["high"]


def test_what_lies_below_is_run_once_for_all_layers() -> None:
    lm = architectures.build("llama")
    ran = []
    block = lm.model.get_submodule(f"{lm.layer_path}.0.mlp")
    handle = block.register_forward_hook(lambda *_: ran.append(1))
    try:
        steerability(lm, made(lm), PAIRS)
    finally:
        handle.remove()
    assert len(ran) == 1


def test_turning_the_vector_turns_the_slopes() -> None:
    lm = architectures.build("llama")
    there, back = (steerability(lm, vector, PAIRS) for vector in (made(lm), -made(lm)))
    assert there["slope"].tolist() == pytest.approx((-back["slope"]).tolist(), abs=1e-3)


def test_the_steepest_layer_comes_with_its_reason() -> None:
    table = pd.DataFrame(
        {"layer": [0, 1, 2], "slope": [1.0, 4.0, 4.0], "low": [0.0, 3.0, 1.0]}
    ).assign(high=6.0, agree=0.75, agree_low=0.4, agree_high=0.9, pairs=8)
    layer, why = steepest_layer(table)
    assert layer == 1
    assert why == (
        "steepest log-odds of 3 layers on 8 held-out pairs "
        "(+4.0 nats per residual norm [+3.0, +6.0], 75% [40%, 90%] of the pairs agree)"
    )


def test_the_steepest_layer_becomes_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    lm = architectures.build("llama")
    vector = made(lm)
    table = steerability(lm, vector, PAIRS)
    chosen = at_steepest(lm, vector, PAIRS)
    assert chosen.layer == table["slope"].idxmax()
    assert capsys.readouterr().out.startswith(f"moods: layer {chosen.layer}: steepest log-odds")
    assert set(chosen.provenance["held_out_texts"]) == set(PAIRS.texts)
    assert all(bool((chosen.directions[k] == vector.directions[k]).all()) for k in vector.layers)


def test_a_vector_is_made_from_one_part_and_its_layer_chosen_on_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lm = architectures.build("llama")
    many = Pairs(
        tuple(
            replace(pair, prompt=f"{pair.prompt} {i}", positive=f" {i}{pair.positive}",
                    negative=f" {i}{pair.negative}")
            for i in range(6) for pair in PAIRS
        ),
        "many",
    )  # fmt: skip
    splits = many.split(seed=1)
    vector = steering_vector(lm, splits)
    plain = extract(lm, splits.extract, positions=generated, held_out=splits.select, quiet=True)
    table = steerability(lm, plain, splits.select)
    assert vector.layer == table["slope"].idxmax()
    assert capsys.readouterr().out.startswith(f"many/select: layer {vector.layer}: steepest")
    assert all(bool((vector.directions[k] == plain.directions[k]).all()) for k in plain.layers)
    assert vector.texts == set(splits.extract.texts)
    assert vector.held_out_texts == set(splits.select.texts)
    other = steering_vector(lm, splits, "logistic", quiet=True)
    assert other.method == "logistic"
    assert not capsys.readouterr().out

    placebo = shuffled(lm, vector, splits.extract, 3)
    assert placebo.layer == vector.layer
    assert placebo.method == "mean_difference (labels shuffled)"
    assert placebo.provenance["made_from"] == len(splits.extract)
    same, third = (shuffled(lm, vector, splits.extract, seed) for seed in (3, 4))
    layer = vector.layer
    assert torch.equal(same.directions[layer], placebo.directions[layer])
    assert not torch.equal(third.directions[layer], placebo.directions[layer])
    with pytest.raises(ValueError, match="'many/select' did not make this vector"):
        shuffled(lm, vector, splits.select, 3)
    with pytest.raises(ValueError, match="but the vector was made by 'logistic'"):
        shuffled(lm, other, splits.extract, 3)
    with pytest.raises(ValueError, match="but the vector was read at"):
        shuffled(lm, vector, splits.extract, 3, positions=last)


def test_bad_input_is_refused_before_any_work() -> None:
    lm = architectures.build("llama")
    vector = made(lm)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"coefficient {wrong!r}"):
            steerability(lm, vector, PAIRS, coefficient=wrong)
    with pytest.raises(ValueError, match="too few"):
        steerability(lm, vector, PAIRS[:1])
    with pytest.raises(ValueError, match="'whole' are whole texts"):
        steerability(lm, vector, Pairs.from_lists(["a", "b"], ["c", "d"], name="whole"))
    own = replace(vector, provenance={"texts": sorted(PAIRS.texts)})
    with pytest.raises(ValueError, match="moods"):
        steerability(lm, own, PAIRS)
