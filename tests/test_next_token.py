"""What steering does to the next token, against plain PyTorch and by hand."""

import copy
import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import SENTENCES, build, tokenizer
from torch import Tensor

from workbench import figures
from workbench.anatomy.next_token import next_tokens
from workbench.forward import tracing
from workbench.interventions.keep_norm import KeepNorm
from workbench.interventions.maps import RemoveDirection, Replace
from workbench.interventions.updates import Add, Intervention
from workbench.loading.models import LM, load
from workbench.text.positions import last, mask
from workbench.text.tokens import Batch, encode
from workbench.vectors.steering_vector import SteeringVector

PROMPTS = ["The old fox", "A girl and her dog went to", SENTENCES[2]]
COEFFICIENTS = [-0.5, 0.25, 1.0]


def made(lm: LM) -> SteeringVector:
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(2))
    return SteeringVector({1: direction}, {1: 3.0}, lm.name, "", "random", layer=1)


def changed(name: str) -> LM:
    """A tiny model whose logits are scaled or capped, where its family does that."""
    model = copy.deepcopy(build(name).model)
    settings = {"cohere": ("logit_scale", 0.3), "granite": ("logits_scaling", 2.5)}
    key, value = settings.get(name, ("final_logit_softcapping", 1.5))
    setattr(model.config, key, value)
    if hasattr(model, key):
        setattr(model, key, value)
    return load(model, tokenizer=tokenizer())


def by_hand(lm: LM, prompt: str, step: Tensor | None) -> Tensor:
    """log P of the next token (V,), float64, with `step` added after block 1 by a plain hook."""

    def add(_module: object, _inputs: object, output: object) -> object:
        hidden = output[0] if isinstance(output, tuple) else output
        assert isinstance(hidden, Tensor)
        return (hidden + step, *output[1:]) if isinstance(output, tuple) else hidden + step

    block = lm.model.get_submodule(lm.layer_path)[1]  # type: ignore[index]
    handle = None if step is None else block.register_forward_hook(add)
    try:
        with torch.no_grad():
            ids = lm.tokenizer(prompt, return_tensors="pt")["input_ids"]
            return lm.model(input_ids=ids).logits[0, -1].double().log_softmax(-1)
    finally:
        if handle is not None:
            handle.remove()


def expected(lm: LM, vector: SteeringVector, prompt: str, c: float) -> tuple[Tensor, Tensor]:
    direction = vector.directions[1]
    return by_hand(lm, prompt, None), by_hand(lm, prompt, 3.0 * c * direction / direction.norm())


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "cohere", "granite", "gemma2"])
def test_numbers_are_those_of_plain_hooks(name: str) -> None:
    """With the scale of Cohere's and Granite's logits, and the cap of Gemma 2's."""
    lm = changed(name) if name in ("cohere", "granite", "gemma2") else build(name)
    if lm is not build(name):  # the setting is in what is compared with, too
        plain, own = by_hand(build(name), PROMPTS[0], None), by_hand(lm, PROMPTS[0], None)
        assert float((plain - own).abs().max()) > 0.1
    vector = made(lm)
    found = next_tokens(lm, PROMPTS, vector, COEFFICIENTS, count=5)
    assert len(found) == 3 * 3 * 5
    for (row, c), part in found.groupby(["prompt_index", "coefficient"], sort=False):
        before, after = expected(lm, vector, PROMPTS[row], c)
        p, s = before.exp(), after.exp()
        assert set(part["prompt"]) == {PROMPTS[row]}
        ids = torch.tensor(part["token_id"].to_numpy())
        change = (s - p).abs()
        np.testing.assert_allclose(change[ids], change.topk(5).values, atol=1e-5)
        np.testing.assert_allclose(part["logprob_before"], before[ids], atol=1e-4)
        np.testing.assert_allclose(part["logprob_after"], after[ids], atol=1e-4)
        np.testing.assert_allclose(part["after"], s[ids], atol=1e-5)
        for column, value in (
            ("kl", (s * (after - before)).sum()),
            ("kl_reverse", (p * (before - after)).sum()),
            ("total_variation", change.sum() / 2),
        ):
            np.testing.assert_allclose(part[column], float(value), atol=1e-4, rtol=1e-4)


def test_the_most_probable_before_or_after() -> None:
    lm, vector = build("llama"), made(build("llama"))
    found = next_tokens(lm, PROMPTS[:1], vector, 1.0, count=6, by="probability")
    before, after = expected(lm, vector, PROMPTS[0], 1.0)
    wanted = torch.maximum(before, after).topk(6).indices
    assert found["token_id"].tolist() == wanted.tolist()
    assert {int(before.argmax()), int(after.argmax())} <= set(found["token_id"])
    every = next_tokens(lm, PROMPTS[:1], vector, 1.0, count=10**6)
    assert len(every) == lm.vocabulary
    assert every["before"].sum() == pytest.approx(1, abs=1e-5)
    assert every["after"].sum() == pytest.approx(1, abs=1e-5)
    kl = (every["after"] * (every["logprob_after"] - every["logprob_before"])).sum()
    assert kl == pytest.approx(every["kl"][0], abs=1e-5)


def test_prompts_are_averaged_only_where_asked() -> None:
    lm, vector = build("gpt2"), made(build("gpt2"))
    found = next_tokens(lm, PROMPTS, vector, COEFFICIENTS, count=4, pool="mean")
    assert len(found) == 3 * 4
    assert set(found["prompt_index"]) == {-1}
    assert set(found["prompts"]) == {3}
    alone = next_tokens(lm, PROMPTS, vector, COEFFICIENTS, count=1)
    for c, part in found.groupby("coefficient"):
        both = [expected(lm, vector, prompt, float(c)) for prompt in PROMPTS]
        p, s = (torch.stack(each).exp().mean(dim=0) for each in zip(*both, strict=True))
        ids = torch.tensor(part["token_id"].to_numpy())
        np.testing.assert_allclose((s - p).abs()[ids], (s - p).abs().topk(4).values, atol=1e-5)
        np.testing.assert_allclose(part["before"], p[ids], atol=1e-5)
        np.testing.assert_allclose(part["logprob_after"], s[ids].log(), atol=1e-4)
        mean = alone[alone["coefficient"] == c][["kl", "kl_reverse", "total_variation"]].mean()
        np.testing.assert_allclose(part[mean.index].iloc[0], mean, atol=1e-5)


def test_the_same_however_it_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, vector = build("llama"), made(build("llama"))
    found = next_tokens(lm, PROMPTS, vector, COEFFICIENTS, count=3)
    pooled = next_tokens(lm, PROMPTS, vector, COEFFICIENTS, count=3, pool="mean")
    there = next_tokens(lm, PROMPTS, vector, COEFFICIENTS, count=3, remote="local")
    pd.testing.assert_frame_equal(there, found, atol=1e-5)
    monkeypatch.setattr(tracing, "TOKENS", 50)
    for frame, pool in ((found, None), (pooled, "mean")):
        again = next_tokens(lm, PROMPTS, vector, COEFFICIENTS, count=3, pool=pool, memory=1)
        pd.testing.assert_frame_equal(again, frame, atol=1e-5)


@pytest.mark.parametrize("given", ["vector", "interventions"])
def test_the_memory_bounds_every_forward(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unsteered ones too, and those of interventions that hold something for each row."""
    lm, vector = build("llama"), made(build("llama"))
    batch, generator = encode(lm, PROMPTS), torch.Generator().manual_seed(3)
    target = torch.randn(*batch.ids.shape, lm.width, generator=generator)
    share = torch.rand(3, lm.width, generator=generator)
    rows = torch.tensor([0.3, -0.2, 0.5])
    edits = [
        Intervention(0, Replace(target, share), 0.4, mask(batch.attention & (batch.ids % 2 == 0))),
        Intervention(1, KeepNorm(RemoveDirection(target[:, 0])), lambda step: rows),
        Intervention(1, Add(vector.directions[1]), rows, last),
    ]
    arguments = (vector, COEFFICIENTS) if given == "vector" else (edits,)
    sizes, real = [], tracing.forward

    def noted(lm: LM, batch: Batch, *args: object, **kwargs: object) -> Tensor:
        sizes.append(len(batch))
        return real(lm, batch, *args, **kwargs)

    monkeypatch.setattr(tracing, "forward", noted)
    for pool in (None, "mean"):
        whole = next_tokens(lm, batch, *arguments, count=3, pool=pool)
        assert max(sizes) == (9 if given == "vector" else 3)
        sizes.clear()
        for most in (1, 2):
            memory = most * 8 * lm.vocabulary
            found = next_tokens(lm, batch, *arguments, count=3, pool=pool, memory=memory)
            pd.testing.assert_frame_equal(found, whole, rtol=1e-6, atol=1e-6)
            assert max(sizes) == most
            sizes.clear()


def test_interventions_keep_their_own_coefficients() -> None:
    lm, vector = build("llama"), made(build("llama"))
    whole = next_tokens(lm, PROMPTS, vector, [0.5], count=2).drop(columns="coefficient")
    given = next_tokens(lm, PROMPTS, vector.at(0.5), count=2)
    assert given["coefficient"].isna().all()
    pd.testing.assert_frame_equal(given.drop(columns="coefficient"), whole)
    rows = Intervention(1, Add(vector.directions[1]), torch.tensor([0.0, 2.0, -1.0]))
    found = next_tokens(lm, PROMPTS, [rows], count=1)
    assert found["kl"][0] == found["kl_reverse"][0] == found["total_variation"][0] == 0
    assert (found["kl"][1:] > 0.01).all()
    nothing = next_tokens(lm, PROMPTS, vector, 0.0, count=1)
    assert (nothing[["kl", "kl_reverse", "total_variation"]] == 0).all(axis=None)


def test_bad_input_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, vector = build("llama"), made(build("llama"))

    def work(*_: object, **__: object) -> None:
        raise AssertionError("a forward was run")

    monkeypatch.setattr(tracing, "forward", work)
    for arguments, message in (
        ({"count": 0}, "count 0: give a whole number of at least 1"),
        ({"by": "kl"}, "by 'kl' is unknown"),
        ({"pool": "sum"}, "pool 'sum' is unknown"),
        ({"coefficients": []}, r"coefficients \[\]: give a list of finite numbers"),
        ({"coefficients": [math.nan]}, "give a list of finite numbers"),
        ({"coefficients": True}, "coefficients True: give a list of finite numbers"),
        ({"coefficients": ["1"]}, "give a list of finite numbers"),
        ({"coefficients": [[1.0]]}, "give a list of finite numbers"),
        ({"memory": 0}, "memory 0: give a positive number"),
        ({"memory": math.nan}, "memory nan: give a positive number"),
        ({"steered": vector.at(1.0), "coefficients": [1.0]}, "which have their own"),
        ({"steered": None}, "interventions is None"),
        ({"prompts": []}, "prompts is empty"),
        ({"prompts": "one"}, "wrap it in a list"),
    ):
        with pytest.raises(ValueError, match=message):
            next_tokens(lm, **{"prompts": PROMPTS, "steered": vector, **arguments})
    wide = SteeringVector({1: torch.ones(8)}, {1: 1.0}, "other", "", "made up", layer=1)
    with pytest.raises(ValueError, match="width 8"):
        next_tokens(lm, PROMPTS, wide)


def frame(prompts: int = 1, coefficients: tuple[float, ...] = (1.0,)) -> pd.DataFrame:
    rows = [
        {
            "prompt_index": row, "prompt": f"line {row}\n<b>", "prompts": 1, "coefficient": c,
            "token": token, "logprob_before": math.log(p), "logprob_after": math.log(s),
            "before": p, "after": s, "kl": 0.53 + row + c, "kl_reverse": 9.0,
            "total_variation": 0.25,
        }
        for row in range(prompts) for c in coefficients
        for token, p, s in ((" sad", 0.5, 0.1), ("<i>", 0.1, 0.4), ("\n", 0.2, 0.3))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_bars_are_paired_and_named() -> None:
    table = frame(coefficients=(-1.0, 1.0))
    for each in (table, pd.read_csv(io.StringIO(table.to_csv(index=False)))):
        figure = figures.next_token_bars(each)
        before, after, *_ = figure.data
        assert (before.name, list(before.x)) == ("unsteered", [0.5, 0.1, 0.2])
        assert (after.name, list(after.x)) == ("steered", [0.1, 0.4, 0.3])
        assert list(figure.layout.yaxis2.ticktext) == ["␣sad", "&lt;i&gt;", "↵"]
        assert [note.text for note in figure.layout.annotations] == [
            f"Coefficient {c}: KL(steered ‖ unsteered) {kl} nats, total variation 0.25"
            for c, kl in (("−1", "−0.47"), ("+1", "1.53"))
        ]
        assert figure.layout.title.text == "After “line 0↵&lt;b&gt;”"
    for prompt, shown in (
        ("once more " * 6 + "again", "… more " + "once more " * 4 + "again"),
        ("x" * 20 + " " + "y" * 49, "… " + "y" * 49),
        ("x" * 60, "… " + "x" * 50),
    ):
        title = figures.next_token_bars(table.assign(prompt=prompt)).layout.title.text
        assert title == f"After “{shown}”"
    assert len(figures.next_token_bars(table, coefficients=[1.0], title="mine").data) == 2


def test_bars_of_several_prompts_are_asked_about() -> None:
    several = frame(prompts=2)
    with pytest.raises(ValueError, match=r"2 prompts; draw one .* pool='mean'"):
        figures.next_token_bars(several)
    assert "2.53 nats" in figures.next_token_bars(several, prompt=1).layout.annotations[0].text
    with pytest.raises(ValueError, match="no rows of prompt 7"):
        figures.next_token_bars(several, prompt=7)
    with pytest.raises(ValueError, match=r"the frame has \[1.0\]"):
        figures.next_token_bars(frame(), coefficients=[2.0])
    with pytest.raises(ValueError, match="no token to draw"):
        figures.next_token_bars(frame()[:0])
    pooled = frame().assign(prompt_index=-1, prompt="", prompts=12, coefficient=math.nan)
    figure = figures.next_token_bars(pooled)
    assert figure.layout.title.text == "Mean over 12 prompts"
    assert figure.layout.annotations[0].text.startswith("Mean KL(steered ‖ unsteered) 1.53 nats")
