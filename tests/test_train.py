"""train: what it trains, on which passes, how it stops, and what it refuses."""

import json
import math
import signal
import threading
from dataclasses import replace

import architectures
import pytest
import torch

from workbench.contrast import pairs
from workbench.contrast.pairs import Pair, Pairs
from workbench.extraction.extract import extract
from workbench.forward import tracing
from workbench.interventions.updates import Add
from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.loading.models import LM, load
from workbench.text import positions
from workbench.training import minibatch as training
from workbench.training.every_form import WREN, train_every_form
from workbench.training.examples import completion_logprobs, make_examples
from workbench.training.fitting import State
from workbench.training.objectives import SFT, SPLIT
from workbench.training.train import Diverged, loss_history, train
from workbench.training.trainable import FORMS, Dropped, Remove, generator
from workbench.vectors import files
from workbench.vectors.forms import LocalWeight, LoRA
from workbench.vectors.steering_vector import SteeringVector

RESULTS = {"vector": SteeringVector, "lora": LoRA, "local_weight": LocalWeight}
every_form = pytest.mark.parametrize("form", FORMS)

SENTENCES = (
    ("A girl and her dog", " went to the river.", " were sad all day."),
    ("The old fox", " looked for his brother.", " lost his crown"),
    ("Please tell me", " a story", " the name of the house near the sea."),
    ("I am", " happy there.", " very sad today, said the bird"),
    ("What is it?", " It is called Wren.", " no"),
    ("You are", " a helpful assistant.", " the wind."),
)
CHOICE = Pairs(tuple(Pair(p, n, q) for q, p, n in SENTENCES), "choice", "trait")
QUIET = {"progress": False, "quiet": True}
# Small steps of a few seconds in all; the published rates are for far larger models.
SMALL = {"epochs": 3, "batch": 2, "held_out": 0, "factors": [0.5, 1.0], **QUIET}


def tensors(result) -> list[torch.Tensor]:
    if isinstance(result, SteeringVector):
        return list(result.directions.values())
    return [t for layer in result.layers for t in result.delta(layer) if t is not None]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def gap(lm, result, m: float, which: Pairs = CHOICE) -> float:
    """L_n - L_p, nats per token, averaged over pairs: what training is to widen at +m."""
    how = {"unit": "raw"} if isinstance(result, SteeringVector) else {}
    examples = make_examples(lm, which, sub=False, reference=False)
    with torch.no_grad():
        found = completion_logprobs(lm, examples.sides, result.at(m, **how)) / examples.tokens
    return float((found[::2] - found[1::2]).mean())


# ---- what comes out -----------------------------------------------------------------------------


def test_every_form_is_trained_as_it_would_be_alone(tiny: LM) -> None:
    seen: list[dict[str, float]] = []
    found = train_every_form(
        tiny, CHOICE, "sft", rates={"lora": 0.05}, watch={"lora": seen.append}, **SMALL
    )
    assert {form: type(made) for form, made in found.items()} == RESULTS
    assert same(found["lora"], train(tiny, CHOICE, "sft", "lora", learning_rate=0.05, **SMALL))
    assert same(found["vector"], train(tiny, CHOICE, "sft", "vector", **SMALL))
    assert len(seen) == len(loss_history(found["lora"]))
    assert set(WREN) == set(FORMS)
    with pytest.raises(ValueError, match="form 'lor' is unknown; choose one of vector, lora"):
        train_every_form(tiny, CHOICE, rates={"lor": 0.05})


@every_form
@pytest.mark.parametrize("objective", ["sft", "reps", "split"])
def test_every_objective_trains_every_form(tiny, form, objective):
    made = train(tiny, CHOICE, objective, form, **SMALL | {"epochs": 6, "learning_rate": 0.05})
    assert isinstance(made, RESULTS[form])
    losses = loss_history(made)
    assert len(losses) == 36  # 12 examples, in twos, six times
    assert losses["loss"][-6:].mean() < losses["loss"][:6].mean()
    assert losses["losing"].isna().all() == (objective == "sft")
    assert made.provenance["objective"]["name"] == made.method == objective
    assert made.layers == (1,)
    if objective != "sft":
        assert gap(tiny, made, 1.0) > gap(tiny, made, 0.0) > gap(tiny, made, -1.0)


@every_form
def test_the_model_comes_back_bit_for_bit(form):
    lm = architectures.build("gemma2")
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    frozen = next(lm.model.parameters())
    frozen.requires_grad_(False)
    lm.model.train()
    try:
        train(lm, CHOICE, form=form, **SMALL)
        assert lm.model.training
        assert not frozen.requires_grad
        assert all(p.requires_grad for p in lm.model.parameters() if p is not frozen)
        assert all(p.grad is None for p in lm.model.parameters())
        after = lm.model.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    finally:
        lm.model.eval()
        frozen.requires_grad_(True)


def test_a_trained_vector_is_a_steering_vector_with_provenance(tiny, tmp_path):
    made = train(tiny, CHOICE, layers=2, seed=4, **SMALL)
    about = made.provenance
    assert (made.layer, made.method, made.origin.fingerprint) == (2, "split", tiny.fingerprint)
    assert about["trait"] == "trait"
    assert set(CHOICE.texts) == made.texts
    assert (about["seed"], about["factors"], about["layers"]) == (4, [0.5, 1.0], [2])
    assert about["complete"]
    assert about["kept"] == "last step"
    assert made.residual_norm[2] > 0
    files.save(made, tmp_path / "v.safetensors")
    back = files.load(tmp_path / "v.safetensors")
    assert same(back, made)
    assert loss_history(back).equals(loss_history(made))
    json.dumps(dict(about), allow_nan=False)


@every_form
def test_several_layers_are_trained_together(tiny, form):
    made = train(tiny, CHOICE, form=form, layers=[2, 0], **SMALL)
    assert made.layers == (0, 2)
    assert all(float(tensor.abs().max()) > 0 for tensor in tensors(made))
    alone = train(tiny, CHOICE, form=form, layers=[0], **SMALL)
    assert not torch.equal(tensors(made)[0], tensors(alone)[0])


def test_equal_seeds_equal_results(tiny):
    one, again, other = (train(tiny, CHOICE, seed=s, **SMALL) for s in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)


@every_form
def test_training_may_begin_from_a_result(tiny, form):
    first = train(tiny, CHOICE, form=form, **SMALL)
    still = train(tiny, CHOICE, form=form, start=first, **SMALL | {"learning_rate": 1e-12})
    for a, b in zip(tensors(first), tensors(still), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="start has nothing at layer 0; it has"):
        train(tiny, CHOICE, form=form, start=first, layers=0, **SMALL)
    wrong = "lora" if form != "lora" else "vector"
    with pytest.raises(ValueError, match=f"to train a {wrong} give a"):
        train(tiny, CHOICE, form=wrong, start=first, **SMALL)


def test_a_difference_of_means_has_no_losses(tiny):
    with pytest.raises(ValueError, match="was not trained here"):
        loss_history(extract(tiny, CHOICE, held_out=0, quiet=True, cache=False))


def test_on_wren_it_carries_to_pairs_that_it_never_saw():
    lm, mood = load("wren"), pairs.load("wren-mood")
    made = train(
        lm, mood[:24], form="local_weight", factors=[1.0, 2.0], epochs=2, held_out=0, **QUIET
    )
    unseen = mood[40:48]
    assert gap(lm, made, 2.0, unseen) > gap(lm, made, 0.0, unseen) + 0.02
    assert gap(lm, made, -2.0, unseen) < gap(lm, made, 0.0, unseen) - 0.02


# ---- on which passes ----------------------------------------------------------------------------


@pytest.fixture
def passes(tiny):
    """Rows of every forward of the model."""
    seen: list[int] = []
    handle = tiny.model.get_input_embeddings().register_forward_hook(
        lambda _, given, output: seen.append(output.shape[0])
    )
    yield seen
    handle.remove()


@pytest.mark.parametrize(
    ("objective", "each", "before"),
    [("sft", 2, 0), ("split", 4, 0), ("reps", 4, 12), (SPLIT(reference=0.1), 4, 12)],
)
def test_no_pass_is_wasted(tiny, passes, objective, each, before):
    """Both sides in one batch, the losing one only where it counts, the reference once if asked."""
    train(tiny, CHOICE, objective, "lora", **SMALL)
    steps = passes[-18:]
    assert steps == [each] * 18
    assert sum(passes[:-18]) == before


@pytest.fixture
def steered(monkeypatch):
    """The interventions and batches of every step."""
    seen = []

    def spy(lm, batch, edits=()):
        seen.append((batch, list(edits)))
        return completion_logprobs(lm, batch, edits)

    monkeypatch.setattr(training, "completion_logprobs", spy)
    return seen


def test_each_example_draws_a_factor_and_both_its_sides_share_it(tiny, steered):
    train(tiny, CHOICE, **SMALL | {"factors": [2.0, 3.0, 5.0]})
    drawn = []
    for batch, (edit,) in steered:
        winning, losing = edit.coefficient.chunk(2)
        assert torch.equal(winning, losing)
        drawn += winning.tolist()
        prompts = [row.text for row in batch.prompts]
        assert prompts[: len(winning)] == prompts[len(winning) :]
    assert {abs(factor) for factor in drawn} == {2.0, 3.0, 5.0}
    assert sum(factor > 0 for factor in drawn) == sum(factor < 0 for factor in drawn) == 18


def test_sub_pairs_want_the_negative_side_at_minus_m(tiny, steered):
    train(tiny, CHOICE, "sft", **SMALL | {"factors": [1.0]})
    positive = {pair.positive for pair in CHOICE}
    for batch, (edit,) in steered:
        for row, factor in enumerate(edit.coefficient.tolist()):
            completion = batch.texts[row].removeprefix(batch.prompts[row].text)
            assert (completion in positive) == (factor > 0)


def test_without_sub_all_factors_are_positive(tiny, steered):
    made = train(tiny, CHOICE, sub=None, **SMALL)
    assert all((edit.coefficient > 0).all() for _, (edit,) in steered)
    assert len(loss_history(made)) == 9


def test_sub_by_removal_takes_the_vector_out(tiny, steered):
    train(tiny, CHOICE, "reps", sub="remove", **SMALL)
    both = [(edits, batch) for batch, edits in steered if len(edits) == 2]
    assert both
    for (add, away), _ in both:
        assert torch.equal(add.coefficient == 0, away.coefficient == 1)
        assert isinstance(away.update, Remove)
    hidden, v = torch.randn(1, 3, 4), torch.tensor([2.0, 0.0, 0.0, 0.0])
    without = Remove(v)(hidden, torch.ones(1, 1, 1))
    assert torch.equal(without[..., 1:], hidden[..., 1:])
    torch.testing.assert_close(without[..., 0], hidden[..., 0].clamp_max(0))


def test_as_published_the_first_token_is_spared_and_a_number_is_trained(tiny, steered):
    made = train(tiny, CHOICE, compat=True, **SMALL)
    edits = steered[0][1]
    assert [edit.positions.__repr__() for edit in edits] == ["not_first"] * 2
    assert made.directions[1].shape == (32,)  # the number is not kept
    steered.clear()
    train(tiny, CHOICE, form="lora", compat=True, **SMALL)
    assert [edit.positions for edit in steered[0][1]] == [positions.everything]


def test_dropout_keeps_the_mean_and_a_vector_the_same_at_each_token():
    hidden, one = torch.randn(2, 5, 4000), torch.ones(2, 1, 1)
    change = Dropped(Add(torch.ones(4000)), 0.25, generator(0))(hidden, one) - hidden
    assert change.mean() == pytest.approx(1, abs=0.03)
    assert (change - change[:, :1]).abs().max() < 1e-5
    kept = (change[:, 0] > 0.5).float().mean()
    assert kept == pytest.approx(0.75, abs=0.03)
    low = AddLowRank(torch.ones(3, 1), torch.ones(1, 4000))
    change = Dropped(low, 0.25, generator(0))(hidden, one, torch.ones(2, 5, 3)) - hidden
    assert change.mean() == pytest.approx(3, abs=0.1)
    assert (change - change[:, :1]).abs().max() > 1


def test_a_partial_last_batch_is_trained_on(tiny):
    made = train(tiny, CHOICE[:5], sub=None, **SMALL)
    assert len(loss_history(made)) == 3 * 3


def test_the_rate_rises_then_falls_to_nothing(tiny):
    made = train(tiny, CHOICE, sub=None, warmup=1 / 3, learning_rate=0.3, **SMALL)
    rates = loss_history(made)["learning_rate"].tolist()
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05])


# ---- held-out pairs -----------------------------------------------------------------------------


def turned(which: Pairs) -> Pairs:
    """Other prompts whose sides are the wrong way round: what is learnt makes them worse."""
    rows = tuple(Pair(p.negative, p.positive, f"Well. {p.prompt}") for p in which)
    return Pairs(rows, "turned")


def test_training_ends_where_held_out_pairs_grow_worse(tiny):
    how = {**SMALL, "epochs": 20, "held_out": turned(CHOICE), "patience": 2, "dropout": 0.0}
    made = train(tiny, CHOICE, "split", "local_weight", **how)
    losses = loss_history(made).dropna(subset="held_out")["held_out"].tolist()
    assert len(losses) < 20
    best = min(range(len(losses)), key=losses.__getitem__)
    assert len(losses) == best + 3
    assert made.provenance["kept"] == "lowest held-out loss"
    assert made.provenance["complete"]
    # The parameters are those of the best epoch: a run that long without judges ends there.
    shorter = train(tiny, CHOICE, "split", "local_weight", **how | {"patience": None})
    assert len(loss_history(shorter)) == 20 * 6
    assert same(made, shorter)


def test_held_out_pairs_share_no_text_and_are_named(tiny):
    made = train(tiny, CHOICE, **SMALL | {"held_out": 0.34})
    assert made.provenance["made_from"] == 4
    assert "4 pairs made the vector, 2 others judged it" in made.provenance["held_out"]
    with pytest.raises(ValueError, match="share"):
        train(tiny, CHOICE, **SMALL | {"held_out": CHOICE[:1]})


def test_held_out_pairs_that_answer_the_other_way_round_are_said(tiny, capsys):
    how = {**SMALL, "epochs": 8, "patience": None, "quiet": False, "dropout": 0.0}
    made = train(tiny, CHOICE, "split", "local_weight", **how | {"held_out": turned(CHOICE)})
    assert "held out: 5 of 6 pairs answer the other way round" in made.provenance["turned"]
    assert made.provenance["turned"] in capsys.readouterr().out
    right = Pairs(tuple(Pair(p.positive, p.negative, f"Well. {p.prompt}") for p in CHOICE), "right")
    made = train(tiny, CHOICE, "split", "local_weight", **how | {"held_out": right})
    assert "held out: 1 of 6 pairs" in made.provenance["turned"]
    # Where the losing side is not read, nobody knows.
    made = train(tiny, CHOICE, "sft", **how | {"held_out": turned(CHOICE), "epochs": 1})
    assert made.provenance["turned"] is None


def test_pairs_that_contradict_each_other_are_not_trained_on(tiny):
    first = CHOICE[0]
    mixed = Pairs((*CHOICE, Pair(first.negative, first.positive, first.prompt)), "mixed")
    with pytest.raises(ValueError, match="pairs 0 and 6 of 'mixed' contradict each other"):
        train(tiny, mixed, **SMALL)


@every_form
def test_a_step_in_parts_is_the_same_step(tiny, form):
    how = {**SMALL, "batch": 5, "dropout": 0.0}
    whole = train(tiny, CHOICE, form=form, **how)
    apart = train(tiny, CHOICE, form=form, parts=2, **how)
    for a, b in zip(tensors(whole), tensors(apart), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)
    one, other = loss_history(whole), loss_history(apart)
    assert other["loss"].to_numpy() == pytest.approx(one["loss"].to_numpy(), rel=1e-4)


# ---- stopping and resuming ----------------------------------------------------------------------


@every_form
def test_a_stopped_run_goes_on_as_if_it_had_not_been(tiny, form, tmp_path):
    how = {**SMALL, "held_out": turned(CHOICE), "patience": None}
    whole = train(tiny, CHOICE, form=form, **how)
    stop = threading.Event()

    def watch(row):
        if row["step"] == 7:  # in the middle of an epoch
            stop.set()

    part = train(tiny, CHOICE, form=form, directory=tmp_path, stop=stop, watch=watch, **how)
    assert not part.provenance["complete"]
    assert part.provenance["steps"] == 8
    rest = train(tiny, CHOICE, form=form, directory=tmp_path, **how)
    assert same(rest, whole)
    assert loss_history(rest).equals(loss_history(whole))
    assert rest.provenance["complete"]


def test_a_killed_run_picks_up_at_its_checkpoint(tiny, tmp_path):
    whole = train(tiny, CHOICE, **SMALL)

    def die(row):
        if row["step"] == 15:
            raise MemoryError

    with pytest.raises(MemoryError):
        train(tiny, CHOICE, directory=tmp_path, watch=die, **SMALL)
    seen = []
    rest = train(tiny, CHOICE, directory=tmp_path, watch=lambda row: seen.append(row), **SMALL)
    assert [row["step"] for row in seen] == list(range(12, 18))
    assert same(rest, whole)
    ended = train(tiny, CHOICE, directory=tmp_path, watch=die, **SMALL)
    assert same(ended, whole)


def test_a_damaged_checkpoint_counts_as_none(tiny, tmp_path):
    whole = train(tiny, CHOICE, directory=tmp_path, **SMALL)
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    assert same(train(tiny, CHOICE, directory=tmp_path, **SMALL), whole)


def test_a_directory_is_of_one_run(tiny, tmp_path):
    train(tiny, CHOICE, directory=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="holds another run: seed"):
        train(tiny, CHOICE, directory=tmp_path, seed=1, **SMALL)


def test_ctrl_c_returns_what_is_trained_so_far(tiny):
    def interrupt(row):
        if row["step"] == 4:
            signal.raise_signal(signal.SIGINT)

    made = train(tiny, CHOICE, watch=interrupt, **SMALL)
    assert len(loss_history(made)) == 5
    assert not made.provenance["complete"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors(made))


def test_a_loss_that_is_no_number_stops_with_the_step_and_the_pairs(tiny, tmp_path, monkeypatch):
    whole = training.completion_logprobs
    seen = []

    def burst(lm, batch, edits=()):
        seen.append(1)
        return whole(lm, batch, edits) * (math.nan if len(seen) == 9 else 1)

    monkeypatch.setattr(training, "completion_logprobs", burst)
    message = (
        r"the loss is nan at step 8 \(epoch 1\), in a batch of pairs \d.*\(' .*'\).*; lower the "
        r"learning rate \(0.08\).*; the checkpoint of step 6 is kept in '"
    )
    with pytest.raises(Diverged, match=message) as caught:
        train(tiny, CHOICE, directory=tmp_path, **SMALL)
    kept = caught.value.result
    assert kept.provenance["steps"] == 6
    assert not kept.provenance["complete"]
    # And the checkpoint is sound: without the accident the run goes on from there.
    assert same(train(tiny, CHOICE, directory=tmp_path, **SMALL), train(tiny, CHOICE, **SMALL))


def test_a_rate_that_explodes_is_said(tiny):
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    with pytest.raises(
        Diverged, match=r"at step [01] \(epoch 0\).*lower the learning rate"
    ) as told:
        train(tiny, CHOICE, form="local_weight", learning_rate=3e37, **SMALL)
    assert told.value.result is None
    assert all(torch.equal(v, before[k]) for k, v in tiny.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in tiny.model.parameters())


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"objective": "dpo"}, "objective 'dpo' is unknown"),
        ({"form": "matrix"}, "form 'matrix' is unknown; choose one of vector, lora, local_weight"),
        ({"layers": 3}, "layer 3 is out of range"),
        ({"layers": []}, r"layers \[\]: name at least one"),
        ({"layers": [1, 1]}, "each once"),
        ({"epochs": 0}, "epochs 0: give a whole number of at least 1"),
        ({"batch": 2.5}, "batch 2.5: give a whole number"),
        ({"rank": 0, "form": "lora"}, "rank 0"),
        ({"parts": 0}, "parts 0: give a whole number of at least 1"),
        ({"seed": -1}, "seed -1"),
        ({"patience": 0}, "patience 0"),
        ({"learning_rate": 0}, "learning_rate 0: give a finite number above 0"),
        ({"learning_rate": math.nan}, "learning_rate nan"),
        ({"clip": -1}, "clip -1"),
        ({"warmup": 1.0}, "warmup 1.0: give a share"),
        ({"dropout": 1}, "dropout 1: give a share"),
        ({"weight_decay": -0.1}, "weight_decay -0.1"),
        ({"factors": []}, r"factors \[\]: give at least one"),
        ({"factors": [1, 0]}, r"factors \[1, 0\]: .*other than 0"),
        ({"factors": [math.inf]}, r"factors \[inf\]"),
        ({"sub": "project"}, "sub 'project' is unknown"),
        ({"sub": "remove", "form": "lora"}, "form 'lora' has none: use sub='negate'"),
        ({"positions": positions.mask(torch.ones(3))}, "a mask belongs to one batch"),
        ({"positions": positions.last_k(1)}, "is for reading"),
        ({"held_out": 1.0}, "held_out=1.0 is not a share"),
    ],
)
def test_bad_settings_are_refused_before_the_model_runs(tiny, how, message):
    ran = []
    handle = tiny.model.register_forward_pre_hook(lambda *_: ran.append(1))
    _ = tiny.inner_width(1)
    ran.clear()
    try:
        with pytest.raises(ValueError, match=message):
            train(tiny, CHOICE, **SMALL | how)
    finally:
        handle.remove()
    assert ran == []


def test_pairs_that_cannot_be_scored_are_refused_by_number(tiny, monkeypatch):
    bare = Pairs((*CHOICE, Pair("happy", "sad")), "bare")
    with pytest.raises(ValueError, match=r"pair 6 of 'bare' has no prompt.*'happy'; give Pair\("):
        train(tiny, bare, **SMALL)
    long = Pairs((*CHOICE, Pair(" yes" * 200, " no", "I am")), "long")
    with pytest.raises(ValueError, match=r"makes \d+ tokens, over the 128 of .*shorten it: 'I am'"):
        train(tiny, long, **SMALL)
    # A text of which a tokenizer makes nothing, such as a lone variation selector in some.
    from workbench.training import examples

    real = examples.encode
    monkeypatch.setattr(
        examples, "encode", lambda lm, prompts, texts: real(lm, prompts, [*texts[:-1], ()])
    )
    with pytest.raises(ValueError, match=r"pair 5 of 'choice' has an empty completion: .*You are'"):
        train(tiny, CHOICE, **SMALL)


@pytest.mark.parametrize("form", ["lora", "local_weight"])
def test_a_mixture_of_experts_takes_a_vector_only(form):
    lm = architectures.build("mixtral")
    with pytest.raises(ValueError, match="no single MLP down-projection"):
        train(lm, CHOICE, form=form, **SMALL)
    assert isinstance(train(lm, CHOICE[:2], **SMALL | {"epochs": 1}), SteeringVector)


def test_the_losses_are_those_of_a_plain_model(tiny):
    """The first loss of an unsteered start, against log-probabilities from elsewhere."""
    made = train(tiny, CHOICE, SFT(), "lora", sub=None, **SMALL | {"batch": 6, "epochs": 1})
    found = tracing.logprobs(
        tiny, tracing.to_batch(tiny, make_examples(tiny, CHOICE, sub=False, reference=False).sides)
    )[::2]
    expected = -float(found.nanmean(dim=1).mean())
    assert loss_history(made)["loss"][0] == pytest.approx(expected, abs=1e-5)


def test_a_start_of_another_model_is_refused(tiny):
    other = architectures.build("gpt2")
    weight = torch.zeros(other.inner_width(1), other.width)
    foreign = LocalWeight({1: AddLinear(weight, torch.zeros(other.width))}, "gpt2", "", "hand")
    with pytest.raises(ValueError, match="changes a map of 128 to 32"):
        train(tiny, CHOICE, form="local_weight", start=foreign, **SMALL)
    alike = architectures.build("llama", seed=5)
    made = train(alike, CHOICE, **SMALL)
    with pytest.raises(ValueError, match=r"was made on|other weights"):
        train(tiny, CHOICE, start=made, **SMALL)


def test_what_made_a_start_is_known_of_what_begins_from_it(tiny):
    first, rest = replace(CHOICE, pairs=CHOICE[:3]), replace(CHOICE, pairs=CHOICE[3:])
    start = train(tiny, first, **SMALL)
    made = train(tiny, rest, start=start, **SMALL)
    assert made.texts == {*first.texts, *rest.texts}
    assert made.provenance["start"]
    assert start.provenance["start"] is None
    with pytest.raises(ValueError, match=r"'start' and .* share"):
        train(tiny, rest, start=start, **SMALL | {"held_out": first})


def test_a_run_that_diverged_says_nothing_of_polarity(capsys):
    """The pairs are the right way round; what answers otherwise is a broken model."""
    own, which = load("wren"), pairs.load("wren-italian")[:16]
    with pytest.warns(UserWarning, match=r"training diverged.*learning rate \(1e\+12\)") as seen:
        made = train(own, which, learning_rate=1e12, epochs=1, progress=False)
    assert len(seen) == 1
    assert made.provenance["turned"] is None
    assert "other way round" not in capsys.readouterr().out


def test_held_out_pairs_alone_may_grow_worse():
    def row(epoch: float, loss: float, held_out: float) -> list[float]:
        return [0.0, epoch, loss, 1.0, 1.0, 1.0, 0.1, held_out]

    learnt = [row(0, 3.0, math.nan), row(0, 9.0, 9.0), row(1, 2.0, math.nan), row(1, 2.0, 9.0)]
    assert State({}, history=learnt).lost() is None
    lost = [*learnt[:2], row(1, 8.0, math.nan), row(1, 9.0, 7.0)]
    said = State({}, history=lost).lost()
    assert said is not None
    assert "was 3 at the first step, 8.5 in the last epoch and never below 7 on held-out" in said
    assert State({}, history=[row(0, 3.0, math.nan), row(0, 9.0, math.nan)]).lost() is None
    assert State({}).lost() is None
