"""Log-odds over multiples: the same as one plain forward each, exact where 1 - P is not."""

import json
import math
import sys
import warnings
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import NAMES, build

from workbench.contrast.pairs import Pair, Pairs
from workbench.forward import tracing
from workbench.interventions.updates import Add, Intervention
from workbench.interventions.weight_updates import AddLowRank
from workbench.loading.models import LM
from workbench.preference import coupling, multiples
from workbench.preference.logodds import score_rows, utility, utility_of_means
from workbench.preference.odds import against, odds, unrelated_loss
from workbench.text.positions import generated, mask
from workbench.text.tokens import encode
from workbench.training.train import train
from workbench.vectors.steering_vector import SteeringVector

GRID = (-2.0, -0.5, 0.0, 1.0, 1.5)
PAIRS = Pairs(
    (
        Pair(" The dog was happy there.", " Sad", "A girl"),
        Pair(" He lost his crown", " He was sad and lost his red nest today", "Please tell me"),
        Pair(" yes", " no", "Answer the question:"),
    ),
    "three",
)


def edits(lm: LM) -> list[Intervention]:
    drawn = torch.Generator().manual_seed(0)
    up, down = torch.randn(2, lm.width, generator=drawn)
    return [Intervention(1, Add(up), 0.75, generated), Intervention(2, Add(down), -0.25)]


def plainly(
    lm: LM, interventions: list[Intervention], m: float, pairs: Pairs = PAIRS
) -> np.ndarray:
    """(n, 2) losses by one forward under the interventions times m."""
    batch = encode(
        lm,
        [prompt for pair in pairs for prompt in pair.prompts],
        [text for pair in pairs for text in (pair.positive, pair.negative)],
    )
    scaled = [replace(each, coefficient=each.coefficient * m) for each in interventions]
    found = tracing.logprobs(lm, batch, scaled if m else ())
    return -found.double().nansum(dim=1).numpy().reshape(-1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_a_plain_forward_for_every_multiple(name: str) -> None:
    lm = build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the upper half must not fall back to whole forwards
        frame = odds(lm, edits(lm), PAIRS, GRID, quiet=True)
    for m, own in frame.groupby("m"):
        losses = plainly(lm, edits(lm), float(m))  # type: ignore[arg-type]
        ours = own[["loss_positive", "loss_negative"]].to_numpy()
        assert np.abs(ours - losses).max() < 1e-5
        probabilities = np.exp(-losses)
        formula = np.log(probabilities.sum(axis=1) / (1 - probabilities.sum(axis=1)))
        assert np.abs(own["utility"] - formula).max() < 1e-5
        assert np.allclose(own["preference"], losses[:, 1] - losses[:, 0], atol=1e-5)
    assert np.ptp(frame["preference"].to_numpy().reshape(3, -1), axis=1).min() > 0.1  # it steers


@pytest.mark.parametrize("layer", [0, 2])
def test_a_lora_acts_within_its_block(tiny: LM, layer: int) -> None:
    """The stream that is kept is that before the block; at the first one there is none."""
    drawn = torch.Generator().manual_seed(1)
    into = tiny.inner_width(layer)
    a = torch.randn(into, 2, generator=drawn)
    b = torch.randn(2, tiny.width, generator=drawn)
    lora = [Intervention(layer, AddLowRank(a, b), 0.5, site="mlp")]
    frame = odds(tiny, lora, PAIRS, GRID, quiet=True)
    for m, own in frame.groupby("m"):
        losses = plainly(tiny, lora, float(m))  # type: ignore[arg-type]
        ours = own[["loss_positive", "loss_negative"]].to_numpy()
        assert np.abs(ours - losses).max() < 1e-5
    assert np.ptp(frame["preference"].to_numpy().reshape(3, -1), axis=1).min() > 0.01


def test_zero_is_the_unsteered_model_to_the_bit(tiny: LM) -> None:
    frame = odds(tiny, edits(tiny), PAIRS, GRID, quiet=True)
    own = frame[frame["m"] == 0][["loss_positive", "loss_negative"]].to_numpy()
    assert (own == plainly(tiny, edits(tiny), 0)).all()


def test_small_memory_changes_nothing(tiny: LM) -> None:
    whole = odds(tiny, edits(tiny), PAIRS, GRID, quiet=True)
    pieces = odds(tiny, edits(tiny), PAIRS, GRID, quiet=True, memory=1e5)
    pd.testing.assert_frame_equal(whole, pieces, rtol=1e-5)


def test_several_changes_at_once_are_each_alone(tiny: LM) -> None:
    """In any order of their layers, one of them within the first block, in small pieces too."""
    batch = encode(tiny, ["The old fox", "A girl", "The king"], [" ran away.", " sang.", " wept."])
    up = torch.ones(tiny.width)
    several = [
        [Intervention(1, Add(up))],
        [Intervention(0, Add(-up)), Intervention(1, Add(up))],
        [Intervention(0, Add(up), site="mlp")],
    ]
    grid = np.array([-1.0, 0.0, 0.5])
    for memory in (1 << 30, 1e5):
        together = multiples.multiples(tiny, batch, several, grid, memory=memory)
        for change, found in zip(several, together, strict=True):
            (alone,) = multiples.multiples(tiny, batch, [change], grid)
            torch.testing.assert_close(found, alone, equal_nan=True, rtol=1e-5, atol=1e-5)


def test_lower_blocks_run_once_a_text(tiny: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    block = tiny.model.get_submodule(f"{tiny.layer_path}.1.mlp")
    handle = block.register_forward_hook(lambda *_: ran.append(1))
    try:
        odds(tiny, [Intervention(1, Add(torch.ones(tiny.width)))], PAIRS, GRID, quiet=True)
    finally:
        handle.remove()
    assert len(ran) == 1


def test_a_model_that_does_not_split_runs_whole(tiny: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    right = odds(tiny, edits(tiny), PAIRS, GRID, quiet=True)
    real = tracing.forward

    def wrong(*given, **named):
        return real(*given, **named) + (named["below"] is not None)

    monkeypatch.setattr(multiples.tracing, "forward", wrong)
    with pytest.warns(UserWarning, match="do not follow from the residual stream"):
        frame = odds(tiny, edits(tiny), PAIRS, GRID, quiet=True)
    pd.testing.assert_frame_equal(frame, right, rtol=1e-5)


def _installed_elsewhere() -> bool:
    """nnsight then finds the installed package in place of this checkout."""
    try:
        url = distribution("workbench").read_text("direct_url.json")
    except PackageNotFoundError:
        return False
    folder = urlparse(json.loads(url)["url"]).path if url else ""
    return bool(folder) and Path(folder) != Path(__file__).resolve().parents[1]


@pytest.mark.skipif(_installed_elsewhere(), reason="another checkout is installed")
def test_remote_local(tiny: LM) -> None:
    here = odds(tiny, edits(tiny), PAIRS, GRID, quiet=True)
    there = odds(tiny, edits(tiny), PAIRS, GRID, quiet=True, remote="local")
    pd.testing.assert_frame_equal(here, there, rtol=1e-5)


def test_a_function_of_the_step_is_scaled(tiny: LM) -> None:
    direction = Add(torch.randn(tiny.width))
    stepped = [Intervention(1, direction, lambda step: 0.5 if step else 0.25)]
    frame = odds(tiny, stepped, PAIRS, (0, 2), quiet=True)
    twice = [Intervention(1, direction, lambda step: 1.0 if step else 0.5)]
    same = odds(tiny, twice, PAIRS, (0, 1), quiet=True)
    assert np.allclose(frame["preference"], same["preference"], atol=1e-5)


def test_unrelated_loss_and_likelihood(tiny: LM) -> None:
    texts = ["The old fox walked slowly", "A girl and her dog went to the river."]
    frame = odds(tiny, edits(tiny), PAIRS, GRID, unrelated=texts, quiet=True)
    table = unrelated_loss(tiny, edits(tiny), texts, GRID)
    plain = tracing.logprobs(tiny, encode(tiny, texts)).double()
    own = table[table["m"] == 0]["loss"]
    assert np.allclose(own, -plain.nanmean(dim=1), atol=1e-6)
    zero = frame[frame["m"] == 0]
    assert np.allclose(zero["unrelated"], own.mean())
    per_token = zero["loss_positive"] / zero["tokens_positive"]
    per_token += zero["loss_negative"] / zero["tokens_negative"]
    assert np.allclose(zero["likelihood"], -per_token / 2)


# ---- where 1 - P loses its digits ---------------------------------------------------------------


def exact_odds(tables: list[np.ndarray], sides: tuple[list[int], list[int]]) -> tuple[float, float]:
    """Utility and preference of two answers of one length by long double sums over all others."""
    probabilities = [np.exp(t.astype(np.longdouble)) for t in tables]
    probabilities = [p / p.sum(axis=-1, keepdims=True) for p in probabilities]
    p, n = (
        np.prod([own[i, token] for i, token in enumerate(side)])
        for own, side in zip(probabilities, sides, strict=True)
    )
    # All others: at every step those that leave both answers, while these still run together.
    others, fork = (
        np.longdouble(0),
        next(i for i, (a, b) in enumerate(zip(*sides, strict=True)) if a != b),
    )
    for own, side, first in zip(probabilities, sides, (0, fork + 1), strict=True):
        reached = np.longdouble(1)
        for i, token in enumerate(side):
            gone = {token, sides[1][i]} if i == fork and first == 0 else {token}
            if i >= first:
                others += reached * sum(own[i, t] for t in range(own.shape[1]) if t not in gone)
            reached *= own[i, token]
    return float(np.log((p + n) / others)), float(np.log(p / n))


@pytest.mark.parametrize("sharp", [0.0, 5.0, 40.0, 200.0])
@pytest.mark.parametrize("length", [1, 3])
def test_utility_where_the_answers_are_nearly_sure(sharp: float, length: int) -> None:
    rng = np.random.default_rng(int(sharp) + length)
    logits = rng.normal(size=(2, length, 7))
    sides = ([1] * length, [1] * (length - 1) + [2])
    fork = length - 1
    logits[0, :, 1] += sharp
    logits[1, :fork, 1] += sharp
    logits[:, fork, 1] += sharp
    logits[:, fork, 2] = logits[:, fork, 1] - 1
    logits[1, : fork + 1] = logits[0, : fork + 1]  # one prompt, so one distribution up to the fork
    forks = (
        torch.tensor([fork, fork]),
        torch.tensor([sides[1][-1], 1]),
        torch.tensor([True, False]),
    )
    table = torch.tensor(logits)
    targets = torch.tensor(sides)
    total, leaving = score_rows(table, targets, torch.ones_like(targets).bool(), forks).numpy()
    found = utility(-total[:1], -total[1:], (leaving[:1], leaving[1:]), np.array([True]))[0]
    expected, _ = exact_odds([logits[0], logits[1]], sides)
    assert math.isfinite(found)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    if sharp >= 40:  # the formula as it stands has nothing left here
        with np.errstate(divide="ignore", invalid="ignore"):
            naive = 1 - np.exp(total).sum()
        assert naive <= 0 or abs(math.log(np.exp(total).sum() / naive) - expected) > 1e-3


def test_one_token_answers_of_a_sure_model() -> None:
    """Steered so hard towards one token that 1 - P is 0 in float32."""
    lm = build("llama", seed=64)  # of its own, as its head is changed
    lm.model.get_output_embeddings().weight.data.mul_(60)
    pairs = Pairs((Pair("a", "b", "Answer:"),), "one")
    head = lm.model.get_output_embeddings().weight.detach()
    batch = encode(lm, ["Answer:"] * 2, ["a", "b"])
    first, second = (int(row[own][0]) for row, own in zip(batch.ids, batch.completion, strict=True))
    steer = [Intervention(2, Add(head[first] * 9))]
    frame = odds(lm, steer, pairs, (0, 1, 4), quiet=True)
    assert (frame[["tokens_positive", "tokens_negative"]] == 1).all(axis=None)
    asked = batch.ids[:1, : int(batch.starts[0])]
    block = lm.model.model.layers[2]
    for row in frame.to_dict("records"):
        added = head[first] * 9 * row["m"]
        handle = block.register_forward_hook(lambda *given, v=added: given[2] + v)
        with handle, torch.no_grad():
            logits = lm.model(asked).logits[0, -1].double()
        rest = logits.clone()
        rest[[first, second]] = -torch.inf
        both = logits[[first, second]].logsumexp(0)
        assert row["utility"] == pytest.approx(float(both - rest.logsumexp(0)), abs=1e-4)
    assert 1 - np.float32(np.exp(-frame["loss_positive"].iloc[-1])) == 0  # nothing left of 1 - P


def test_an_answer_that_begins_like_the_other_is_said(
    tiny: LM, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = Pairs((*PAIRS, Pair(" He", " He was sad", "Tell me: ")), "four")
    frame = odds(tiny, edits(tiny), pairs, GRID)
    assert "1 of 4 pairs of 'four' have an answer that begins with all of the other" in (
        capsys.readouterr().out
    )
    assert frame.attrs["begin_alike"] == 1
    assert frame.loc[frame["begins_alike"], "pair"].unique().tolist() == [3]
    # Nothing is sure here, so that the formula as it stands is good.
    own = frame[frame["begins_alike"]]
    both = np.exp(-own["loss_positive"]) + np.exp(-own["loss_negative"])
    assert np.allclose(own["utility"], np.log(both / (1 - both)), atol=1e-5)


def test_undefined_pairs_are_counted_and_said() -> None:
    """A sure answer and its sure beginning: their probabilities add up to more than 1."""
    with np.errstate(all="raise"):
        found = utility(
            np.array([0.01, 30.0]),
            np.array([0.02, 31.0]),
            (
                np.log(-np.expm1(-np.array([0.01, 30.0]))),
                np.log(-np.expm1(-np.array([0.02, 31.0]))),
            ),
            np.array([False, False]),
        )
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(np.logaddexp(-30, -31))


def test_means_are_no_probabilities_of_texts() -> None:
    """Two losses per token under log 2 add up to more than 1: undefined."""
    with np.errstate(all="raise"):
        found = utility_of_means(np.array([0.5, 2.0]), np.array([0.6, 3.0]))
    both = math.exp(-2) + math.exp(-3)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(math.log(both / (1 - both)))


def test_undefined_is_in_the_attrs(
    tiny: LM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Losses as a model gives that is sure of its tokens, one pair of which passes 1."""
    losses = np.full((2, 6, len(GRID)), 3.0)
    losses[:, :2, -1] = 0.1
    found = torch.tensor(-losses * np.array([4, 1, 4, 8, 1, 1])[None, :, None])
    module = sys.modules["workbench.preference.odds"]
    monkeypatch.setattr(module, "multiples", lambda *_, **__: found[None])
    frame = odds(tiny, edits(tiny), PAIRS, GRID, length="mean")
    wide = frame.pivot(index="pair", columns="m", values="utility").isna()
    assert frame.attrs["undefined"] == int(wide.any(axis=1).sum())
    if frame.attrs["undefined"]:
        assert "utility is undefined at some m" in capsys.readouterr().out


# ---- polarity, and what the odds hide -----------------------------------------------------------


@pytest.fixture(scope="module")
def answering(tiny: LM) -> tuple[list[Intervention], Pairs]:
    """A vector that adds one answer's unembedding, and ten pairs that it moves."""
    prompts = [f"Question {i} is:" for i in range(10)]
    pairs = Pairs(tuple(Pair(" yes it is", " no it is not", p) for p in prompts), "ten")
    batch = encode(tiny, ["Question"] * 2, [" yes it is", " no it is not"])
    tokens = [int(batch.ids[i, int(batch.starts[i])]) for i in range(2)]
    head = tiny.model.get_output_embeddings().weight.detach()
    return [Intervention(2, Add(head[tokens[0]] - head[tokens[1]]))], pairs


def test_swapped_polarity_is_said(
    tiny: LM, answering: tuple[list[Intervention], Pairs], capsys: pytest.CaptureFixture[str]
) -> None:
    steered, pairs = answering
    right = odds(tiny, steered, pairs, (-1, 0, 1))
    assert "swapped" not in capsys.readouterr().out
    assert (against(right) < 0).all()
    swapped = replace(pairs, pairs=tuple(Pair(p.negative, p.positive, p.prompt) for p in pairs))
    frame = odds(tiny, steered, swapped, (-1, 0, 1))
    assert "100% of the pairs" in (said := capsys.readouterr().out)
    assert "positive and negative look swapped" in said
    assert any("swapped" in each for each in frame.attrs["said"])
    one = replace(pairs, pairs=(*pairs.pairs[:9], swapped[9]))
    odds(tiny, steered, one, (-1, 0, 1))
    assert "1 of 10 pairs answer the other way round, such as pair 9" in capsys.readouterr().out


def test_parts_of_the_fall_add_up(tiny: LM, answering: tuple[list[Intervention], Pairs]) -> None:
    steered, pairs = answering
    frame = odds(tiny, steered, pairs, (-4, 0, 4), unrelated=["The old fox walked"], quiet=True)
    table = coupling.survives(frame)
    for _, side in table.groupby("side"):
        value = side.set_index("part")["value"]
        parts = ("likelihood of both", "half of |preference|", "rest")
        assert value["utility"] == pytest.approx(sum(value[part] for part in parts))
        assert "unrelated text" in value
    plus = table[(table["side"] == "plus") & (table["part"] == "utility")].iloc[0]
    wide = frame.pivot(index="pair", columns="m", values="utility")
    assert plus["value"] == pytest.approx((wide[4] - wide[0]).mean())
    assert plus["low"] <= plus["value"] <= plus["high"]
    # A pair that is undefined at one end counts in no part there.
    holed = frame.assign(utility=frame["utility"].mask((frame["pair"] == 0) & (frame["m"] == 4)))
    value = coupling.survives(holed).query("side == 'plus'").set_index("part")
    assert value.loc["utility", "pairs"] == len(pairs) - 1
    assert value.loc["utility", "value"] == pytest.approx(
        sum(value.loc[part, "value"] for part in parts)
    )
    frame.attrs["length"] = "mean"
    with pytest.raises(ValueError, match="length='sum'"):
        coupling.survives(frame)


@pytest.mark.parametrize("form", ["lora", "local_weight"])
def test_whatever_one_coefficient_scales_can_be_measured(tiny: LM, form: str) -> None:
    made = train(tiny, PAIRS, form=form, epochs=1, held_out=0, progress=False, quiet=True)
    frame = odds(tiny, made, PAIRS, (-1, 0, 1), quiet=True)
    same = odds(tiny, made.at(1.0), PAIRS, (-1, 0, 1), quiet=True)
    assert frame["preference"].tolist() == same["preference"].tolist()
    assert frame.attrs["unit"] == "raw"
    assert "what steers was made from some of these texts" in frame.attrs["said"][-1]
    assert same.attrs["said"] == frame.attrs["said"][:-1]
    with pytest.raises(ValueError, match="no list of interventions"):
        odds(tiny, 3.0, PAIRS, (-1, 0, 1))  # type: ignore[arg-type]


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ((-1, 1), "lack 0 .*add it"),
        ((0, math.nan), "nan"),
        ((0, math.inf), "inf"),
        ((), "give a list of numbers"),
        (0.5, "give a list of numbers"),
        ("abc", "give a list of numbers"),
        ((0, 1, 1), "1.0 stands twice"),
    ],
)
def test_grids_that_are_refused(tiny: LM, grid, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        odds(tiny, edits(tiny), PAIRS, grid)


def test_pairs_that_are_refused(tiny: LM) -> None:
    whole = Pairs.from_lists(["The dog sat."], ["The cat sat."], name="whole")
    with pytest.raises(ValueError, match="pair 0 of 'whole' is two whole texts"):
        odds(tiny, edits(tiny), whole, GRID)
    long = Pairs((Pair(" yes" * 200, " no", "Answer:"),), "long")
    with pytest.raises(ValueError, match=r"over the 128 of .*context; shorten it: 'Answer:'"):
        odds(tiny, edits(tiny), long, GRID)


def test_an_answer_without_tokens_is_refused(tiny: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.text import tokens

    real = tokens.encode_completions

    def forgetful(tokenizer, completions):
        found = real(tokenizer, completions)
        return [((), text) if text == " no" else (ids, text) for ids, text in found]

    monkeypatch.setattr(tokens, "encode_completions", forgetful)
    with pytest.raises(ValueError, match="pair 2 of 'three': its negative answer ' no' has no tok"):
        odds(tiny, edits(tiny), PAIRS, GRID)


def test_what_is_steered_is_checked(tiny: LM) -> None:
    (one, *_) = edits(tiny)
    for steered, message in (
        ((), "nothing to multiply"),
        (one, "no list of interventions"),
        (["x"], "'x' is no Intervention"),
        ([replace(one, coefficient=torch.ones(6))], "one number per row"),
        ([replace(one, positions=mask(torch.ones(4)))], "give a position rule"),
        ([replace(one, layer=9)], "layer 9 is out of range"),
    ):
        with pytest.raises(ValueError, match=message):
            odds(tiny, steered, PAIRS, GRID)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="length 'max' is unknown"):
        odds(tiny, [one], PAIRS, GRID, length="max")  # type: ignore[arg-type]
    wrong = SteeringVector({1: torch.ones(8)}, {1: 1.0}, "other", "", "made up", 1)
    with pytest.raises(ValueError, match="8 wide"):
        odds(tiny, wrong, PAIRS, GRID)
    with pytest.raises(ValueError, match="unrelated text 0 is one token"):
        unrelated_loss(tiny, [one], ["a"], GRID)


def test_a_vector_is_steered_in_norms_and_recognised(
    tiny: LM, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = SteeringVector(
        {1: torch.ones(tiny.width)},
        {1: 3.0},
        tiny.name,
        tiny.fingerprint,
        "made up",
        1,
        provenance={"texts": sorted(PAIRS.texts)},
    )
    frame = odds(tiny, vector, PAIRS, GRID)
    assert "nothing here is held out" in capsys.readouterr().out
    assert (frame.attrs["unit"], frame.attrs["layers"]) == ("norm", [1])
    same = odds(tiny, vector.at(1.0), PAIRS, GRID, quiet=True)
    assert np.allclose(frame["utility"], same["utility"])


def test_what_lies_below_a_kept_stream_is_refused(tiny: LM) -> None:
    batch = encode(tiny, ["Answer:"], [" yes"])

    def last(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, -1]

    (kept,), _ = tracing.lower(tiny, batch, [1], last, keep=1)
    low = [Intervention(0, Add(torch.ones(tiny.width)))]
    with pytest.raises(ValueError, match=r"layer 0 is steered .*, before the stream"):
        tracing.forward(tiny, batch, low, last, keep=1, below=kept)
