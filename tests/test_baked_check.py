"""What a check sees: a change that was not written, where two models part, what bfloat16 costs."""

import gc
import weakref

import pytest
import torch
from architectures import build, config, tokenizer
from test_bake import SHORT, draw, vector
from transformers import AutoModelForCausalLM

import workbench.keeping.bake as baking
from workbench.interventions.updates import Add, Intervention
from workbench.keeping import baked_check as module
from workbench.keeping.bake import bake
from workbench.keeping.baked_card import card
from workbench.keeping.baked_check import compare, kl, logits_of, written
from workbench.loading.models import load


def half(name="gpt2"):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(name), dtype=torch.bfloat16)
    return load(model, tokenizer=tokenizer())


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 0.3), ("float32", 1e-5)])
def test_a_weak_change_that_was_not_written_is_seen(dtype, size, monkeypatch):
    """Both are within the absolute bounds."""
    lm = half() if dtype == "bfloat16" else build("gpt2")
    given = [Intervention(1, Add(draw(lm, 0)), size)]
    right = bake(lm, given, **SHORT).check
    assert right.kl <= 0.02 * right.moved
    monkeypatch.setattr(baking, "_write", lambda *_: None)
    seen = []
    monkeypatch.setattr(baking, "require_equal", lambda check, _: seen.append(check))
    bake(lm, given, **SHORT)
    (check,) = seen
    assert check.kl <= 0.01
    assert dtype == "bfloat16" or check.difference < 1e-4
    assert check.kl == pytest.approx(check.moved)
    assert not check.equal


def test_a_change_below_what_half_precision_tells_is_refused_and_float32_takes_it():
    lm = half()
    given = [Intervention(1, Add(draw(lm, 0)), 1e-3)]
    with pytest.raises(ValueError, match=r"in bfloat16, where the change itself .* in float32"):
        bake(lm, given, **SHORT)
    assert bake(build("gpt2"), given, **SHORT).check.equal


def test_where_they_part_is_where_free_writing_does():
    """Against the steered model, which writes other texts than the unsteered one does."""
    lm = build("llama")
    model = bake(lm, vector(lm).at(0.5), **SHORT).model
    batch = written(lm, ["The old fox", "A girl"], ())
    check = compare(lm, logits_of(lm.model, batch), model, batch)
    same, parted = 0, []
    for row in range(2):
        ids = batch.ids[row][batch.attention[row]]
        start = int(batch.prompt[row].sum())
        made = model.generate(
            input_ids=ids[None, :start],
            attention_mask=torch.ones(1, start, dtype=torch.long),
            do_sample=False,
            max_new_tokens=64,
            pad_token_id=0,
        )[0]
        agree = [a == b for a, b in zip(ids[start:].tolist(), made[start:].tolist(), strict=False)]
        count = agree.index(False)
        same += count
        parted.append(count + 1)
    assert (check.same, check.parted) == (same, min(parted))
    assert check.written == int(batch.completion.sum())
    assert check.prompts == ("The old fox", "A girl")


def test_bfloat16_is_the_checkpoint_loaded_so(tmp_path):
    """A Llama's rotary frequencies stay in float32 there; `.to(bfloat16)` would cast them."""
    lm = build("llama")
    given = vector(lm).at(0.5)
    baked = bake(lm, given, **SHORT)
    batch = written(lm, SHORT["prompts"], given)
    here = batch.attention
    coarse = AutoModelForCausalLM.from_pretrained(baked.save(tmp_path / "m"), dtype=torch.bfloat16)
    apart = kl(logits_of(baked.model, batch)[here], logits_of(coarse, batch)[here])
    assert baked.check.kl_bfloat16 == pytest.approx(float(apart.mean()), rel=1e-3)
    assert baked.check.kl_bfloat16_largest == pytest.approx(float(apart.max()), rel=1e-3)
    cast = coarse.to(torch.bfloat16)
    cast.model.rotary_emb.inv_freq = cast.model.rotary_emb.inv_freq.bfloat16()
    other = kl(logits_of(baked.model, batch)[here], logits_of(cast, batch)[here])
    assert float(other.mean()) != pytest.approx(float(apart.mean()), rel=1e-2)


def test_divergences_are_by_the_formula():
    one, two = torch.randn(2, 3, 7)
    p, q = one.double().softmax(-1), two.double().softmax(-1)
    torch.testing.assert_close(kl(one, two), (p * (p / q).log()).sum(-1))


def test_a_model_in_half_precision_has_no_second_number_for_it():
    baked = bake(half(), [Intervention(1, Add(draw(half(), 0)), 2.0)], **SHORT)
    assert baked.check.kl_bfloat16 is None
    text = card(baked.facts(), False)
    assert "while it runs, in bfloat16" in text
    assert "Loaded in bfloat16" not in text


def test_one_copy_is_gone_before_the_next_is_made(monkeypatch):
    made = []

    def noted(*given, **named):
        gc.collect()
        assert all(each() is None for each in made)
        found = twin(*given, **named)
        made.append(weakref.ref(found))
        return found

    twin = module.twin
    monkeypatch.setattr(module, "twin", noted)
    lm = build("gpt2")
    bake(lm, vector(lm).at(0.5), **SHORT)
    assert len(made) == 2
