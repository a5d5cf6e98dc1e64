"""Training wren: its kernels are exact, a stopped run goes on as if it had not been stopped."""

import json
import math
import os
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from workbench.wren import batches
from workbench.wren import tokenizer as tokenizers
from workbench.wren import train as training
from workbench.wren.batches import Batch, as_batch, bundle, one_hot
from workbench.wren.kernels import CHUNK, causal_attention, linear_cross_entropy
from workbench.wren.recipe import CONTEXT, Recipe, make_config, rate_at, start_copying
from workbench.wren.train import HERE, language_hash, texts_of, train

TINY = Recipe(
    width=32,
    layers=2,
    heads=2,
    intermediate=48,
    vocabulary=320,
    steps=14,
    tokens_per_step=2048,
    rate=3e-3,
    matrix_rate=1e-2,
)

# Unit roundoff of bfloat16: 8 bits of significand, rounded to nearest.
ROUNDOFF = 2.0**-8


# --- kernels -------------------------------------------------------------------------------


def sparse(tokens: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places, tokens and odds of targets: one to four tokens a place, none twice."""
    counts = [1 + place % 4 for place in range(tokens)]
    chosen = [torch.randperm(vocabulary)[:count] for count in counts]
    odds = [torch.rand(count).softmax(0) for count in counts]
    places = torch.arange(tokens).repeat_interleave(torch.tensor(counts))
    return places, torch.cat(chosen), torch.cat(odds)


def dense(targets: tuple[Tensor, Tensor, Tensor], vocabulary: int) -> Tensor:
    places, tokens, odds = targets
    matrix = torch.zeros(int(places[-1]) + 1, vocabulary)
    matrix[places, tokens] = odds
    return matrix


def with_gradients(
    loss: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    value = loss(hidden, weight)
    (3 * value).backward()  # a gradient other than 1 comes in, as from a scaled loss
    assert hidden.grad is not None
    assert weight.grad is not None
    return value.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("tokens", [1, CHUNK, CHUNK + 7])
def test_linear_cross_entropy_is_that_of_float_logits(tokens: int) -> None:
    torch.manual_seed(3)
    vocabulary, width = 400, 48
    # Exact in bfloat16, so that only the arithmetic differs.
    hidden = torch.randn(tokens, width).bfloat16().float()
    weight = (torch.randn(vocabulary, width) * 0.4).bfloat16().float()
    targets = sparse(tokens, vocabulary)
    wanted = dense(targets, vocabulary)
    expected = with_gradients(lambda h, w: cross_entropy(h @ w.T, wanted), hidden, weight)
    found = with_gradients(lambda h, w: linear_cross_entropy(h, w, *targets), hidden, weight)
    largest = float((hidden @ weight.T).abs().max())
    assert abs(float(found[0] - expected[0])) <= ROUNDOFF * largest
    for got, true in zip(found[1:], expected[1:], strict=True):
        assert got.dtype == torch.float32
        assert float((got - true).norm() / true.norm()) <= 2 * ROUNDOFF


def test_linear_cross_entropy_over_many_tokens_has_no_bias() -> None:
    torch.manual_seed(4)
    hidden, weight = torch.randn(4000, 32).bfloat16().float(), torch.randn(100, 32) * 0.3
    weight, targets = weight.bfloat16().float(), sparse(4000, 100)
    expected = cross_entropy(hidden @ weight.T, dense(targets, 100))
    # Rounding errors of single logits average out.
    assert float(linear_cross_entropy(hidden, weight, *targets)) == pytest.approx(
        float(expected), rel=ROUNDOFF / 20
    )


def test_linear_cross_entropy_keeps_the_type_of_the_hidden_states() -> None:
    hidden = torch.randn(5, 8).bfloat16().requires_grad_()
    weight = torch.randn(11, 8).requires_grad_()
    linear_cross_entropy(hidden, weight, *sparse(5, 11)).backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("length", [1, 2, 33])
def test_causal_attention_is_that_of_torch(length: int) -> None:
    torch.manual_seed(5)
    query, key, value = (torch.randn(2, 3, length, 16) for _ in range(3))
    for tensor in (query, key, value):
        tensor.requires_grad_()
    outward = torch.randn(2, length, 3, 16)
    found, weights = causal_attention(torch.nn.Module(), query, key, value, None, 0.21)
    expected = scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.21)
    expected = expected.transpose(1, 2)  # (B, T, H, D)
    assert weights is None
    assert torch.allclose(found, expected, atol=2e-6)
    inputs = (query, key, value)
    ours = torch.autograd.grad(found, inputs, outward)
    theirs = torch.autograd.grad(expected, inputs, outward)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=5e-6)


def test_a_token_sees_nothing_after_it() -> None:
    query, key, value = (torch.randn(1, 1, 6, 4) for _ in range(3))
    before, _ = causal_attention(torch.nn.Module(), query, key, value, None, 0.5)
    key[:, :, 4:], value[:, :, 4:] = 9.0, -9.0
    after, _ = causal_attention(torch.nn.Module(), query, key, value, None, 0.5)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


# --- runs ----------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 24 documents, written by a thread; few documents for tokenizer and held-out."""
    monkeypatch.setattr(training, "texts_of", lambda seed, n: texts_of(seed, min(n, 24)))
    monkeypatch.setattr(batches, "DOCUMENTS_PER_SHARD", 24)
    monkeypatch.setattr(batches, "ProcessPoolExecutor", ThreadPoolExecutor)


def weights(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / "model.safetensors")


@pytest.mark.usefixtures("small")
def test_a_killed_run_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses: list[float] = []
    real_loss = training.loss_of

    def recorded(model: LlamaForCausalLM, batch: Batch) -> Tensor:
        loss = real_loss(model, batch)
        if torch.is_grad_enabled():
            losses.append(loss.item())
        return loss

    monkeypatch.setattr(training, "loss_of", recorded)
    train(tmp_path / "whole", TINY)
    whole, losses[:] = list(losses), []
    assert len(whole) == TINY.steps

    def killed(model: LlamaForCausalLM, batch: Batch) -> Tensor:
        if len(losses) == 11:
            raise KeyboardInterrupt
        return recorded(model, batch)

    monkeypatch.setattr(training, "loss_of", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", TINY, minutes_between_checkpoints=0)
    assert losses == whole[:11]
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    saved = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)
    assert 0 < saved["step"] < 11

    losses.clear()
    monkeypatch.setattr(training, "loss_of", recorded)
    capsys.readouterr()
    train(tmp_path / "killed", TINY, minutes_between_checkpoints=0)
    assert f"resumed at step {saved['step']}\n" in capsys.readouterr().out
    assert losses == whole[saved["step"] :]
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


@pytest.mark.usefixtures("small")
def test_a_trained_model_is_a_plain_llama(tmp_path: Path) -> None:
    recipe = Recipe(**{**vars(TINY), "steps": 2})
    train(tmp_path, recipe)
    record = json.loads((tmp_path / "training.json").read_text())
    assert (record["recipe"], record["language"]) == (vars(recipe), language_hash())
    assert "wren-training" not in (tmp_path / "config.json").read_text()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).float().eval()
    assert model.config._attn_implementation == "sdpa"
    rows = tokenizer(texts_of("plain llama", 3), add_special_tokens=False)["input_ids"]
    row = torch.tensor([rows[0][:200]])
    twin = LlamaForCausalLM(make_config(recipe, tokenizers.load(tmp_path))).eval()
    twin.load_state_dict(model.state_dict())
    assert twin.config._attn_implementation == "wren-training"
    with torch.no_grad():
        assert torch.allclose(model(row).logits, twin(row).logits, atol=1e-4)
    made = model.generate(row[:, :5], max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert made.shape[1] <= 9


def checkpoint_of(recipe: Recipe, language: str, path: Path) -> Path:
    torch.save({"recipe": vars(recipe), "language": language}, path / "checkpoint.pt")
    return path


@pytest.mark.parametrize("changed", ["recipe", "language"])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, changed: str) -> None:
    recipe = Recipe(**{**vars(TINY), "steps": 15}) if changed == "recipe" else TINY
    language = "0" * 64 if changed == "language" else language_hash()
    directory = checkpoint_of(recipe, language, tmp_path)
    with pytest.raises(ValueError, match="belongs to another recipe or language") as error:
        train(directory, TINY)
    assert repr(str(tmp_path / "checkpoint.pt")) in str(error.value)
    assert f"'steps': {recipe.steps}" in str(error.value)
    assert "delete it to train from nothing" in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_the_rate_warms_up_stays_and_falls_to_nothing() -> None:
    recipe = Recipe(steps=1000, cooldown=0.4)
    assert rate_at(0, recipe) == pytest.approx(1 / 50)
    assert [rate_at(step, recipe) for step in (49, 300, 600)] == [1, 1, 1]
    assert rate_at(800, recipe) == pytest.approx(0.5)
    assert rate_at(1000, recipe) == 0


def batches_of(rows: list[list[int]]) -> list[Batch]:
    return list(map(as_batch, bundle([one_hot(ids) for ids in rows], size=24, pad=0)))


def test_a_bundle_keeps_every_document_once() -> None:
    rows = [list(range(1, 1 + n)) for n in (3, 700, 12, 9, 10, 1)]
    made = batches_of(rows)
    kept = sorted([t for t in row if t] for batch in made for row in batch.rows.tolist())
    assert kept == sorted(ids[:CONTEXT] for ids in rows)
    assert all(len(batch.rows) == 1 or batch.rows.numel() <= 24 for batch in made)


def test_a_batch_wants_what_follows_and_nothing_after_the_end() -> None:
    for batch in batches_of([list(range(1, 1 + n)) for n in (3, 12, 9, 10, 2, 1)]):
        flat = batch.rows.flatten()
        assert flat[batch.places[batch.wanted_at] + 1].equal(batch.wanted)
        assert len(batch.places) == int((flat > 0).sum()) - len(batch.rows)
        assert batch.probabilities.eq(1).all()


def test_a_batch_holds_the_probabilities_of_every_place() -> None:
    soft = [[{5: 1.0}, {6: 0.75, 2: 0.25}, {7: 0.5, 3: 0.5}], [{8: 1.0}, {9: 1.0}]]
    (batch,) = map(as_batch, bundle([([5, 6, 7], soft[0]), ([8, 9], soft[1])], size=24, pad=0))
    assert batch.rows.tolist() == [[8, 9, 0], [5, 6, 7]]
    assert batch.places.tolist() == [0, 3, 4]
    assert batch.wanted_at.tolist() == [0, 1, 1, 2, 2]
    assert batch.wanted.tolist() == [9, 6, 2, 7, 3]
    assert batch.probabilities.tolist() == [1, 0.75, 0.25, 0.5, 0.5]


@pytest.mark.usefixtures("small")
def test_a_shard_comes_out_of_its_process_without_holding_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian lets a process open 1,024 files; tensors of another process would need one each."""
    monkeypatch.setattr(batches, "ProcessPoolExecutor", ProcessPoolExecutor)
    tokenizers.build(texts_of("shard", 24), size=320).save_pretrained(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(os.listdir("/proc/self/fd"))
    made = batches.stream(tmp_path, Recipe(tokens_per_step=64), 0)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (held + 40, limits[1]))
        first = [next(made)[1] for _ in range(20)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        made.close()
    assert all(len(batch.wanted) for batch in first)


# --- how it starts -------------------------------------------------------------------------


def test_attention_starts_as_the_mean_of_what_came_before() -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=11,
            hidden_size=24,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=3,
            attn_implementation="wren-training",  # pyright: ignore[reportCallIssue]
        )
    )
    start_copying(model)
    states = torch.randn(1, 7, 24)
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.data.zero_()  # looks everywhere alike
        angles = model.model.rotary_emb(states, torch.arange(7)[None])
        written, _ = layer.self_attn(states, position_embeddings=angles, attention_mask=None)
        past = states.cumsum(1) / torch.arange(1, 8)[None, :, None]
        torch.testing.assert_close(written, past, atol=1e-5, rtol=0)


# --- what ships ----------------------------------------------------------------------------


def test_the_shipped_weights_speak_the_language_as_it_is_now() -> None:
    record = json.loads((HERE / "model" / "training.json").read_text())
    assert record["language"] == language_hash(), (
        "the language's files changed after the shipped model was trained: "
        "run python -m workbench.wren.train"
    )


def test_the_shipped_weights_come_from_the_default_recipe() -> None:
    record = json.loads((HERE / "model" / "training.json").read_text())
    assert record["recipe"] == vars(Recipe())


def test_the_shipped_weights_are_small_bfloat16() -> None:
    file = HERE / "model" / "model.safetensors"
    shipped = load_file(file)
    assert {tensor.dtype for tensor in shipped.values()} == {torch.bfloat16}
    assert file.stat().st_size <= 16e6
    assert 3e6 <= sum(math.prod(tensor.shape) for tensor in shipped.values()) <= 8e6
