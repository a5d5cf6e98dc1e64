"""Reading pairs and making vectors of them."""

import copy
import json
import os
import re
from importlib import import_module

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from workbench.contrast.pairs import Pair, Pairs
from workbench.contrast.templating import from_templates
from workbench.extraction import methods
from workbench.extraction.layer_scores import d_prime_interval
from workbench.forward import reading, tracing
from workbench.forward.reading import read_pairs
from workbench.loading.models import LM, load
from workbench.support import store
from workbench.text.positions import everything, generated, last, last_k, mask, token
from workbench.text.tokens import encode
from workbench.vectors import files, formats
from workbench.vectors.controls import random_like

ex = import_module("workbench.extraction.extract")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def some(count: int = 12) -> Pairs:
    """Pairs of many lengths, with prompts."""
    rows = [
        Pair(
            " is happy" + " and glad" * (i % 3),
            " is sad",
            f"the dog number {i}" + " runs" * (i % 7),
        )
        for i in range(count)
    ]
    return Pairs(tuple(rows), "dogs", "mood")


def forwards(monkeypatch) -> list[int]:
    """Counts how many batches the model reads."""
    calls: list[int] = []
    real = tracing.activations

    def counted(lm, batch, *args, **kwargs):
        calls.append(len(batch))
        return real(lm, batch, *args, **kwargs)

    monkeypatch.setattr(tracing, "activations", counted)
    return calls


def test_positions_are_means_of_the_right_tokens(tiny):
    pairs = some(4)
    rules = {last_k(1): slice(-1, None), last_k(3): slice(-3, None), everything: slice(None)}
    for positions in (*rules, generated, token(0)):
        found = read_pairs(tiny, pairs, positions)
        for i, pair in enumerate(pairs):
            for values, text in ((found.positive, pair.positive), (found.negative, pair.negative)):
                batch = encode(tiny, [pair.prompt], [text])
                (stream,) = tracing.read(tiny, batch, range(tiny.layers), everything, pool=None)
                start = int(batch.starts[0])
                own = rules.get(
                    positions, slice(start, start + 1 if positions == token(0) else None)
                )
                assert torch.allclose(values[i], stream[own].mean(0), atol=2e-6)


def test_small_batches_read_the_same(tiny, monkeypatch):
    whole = read_pairs(tiny, some(), cache=False)
    monkeypatch.setattr(reading, "TOKENS", 40)
    calls = forwards(monkeypatch)
    parts = read_pairs(tiny, some(), cache=False)
    assert len(calls) > 3
    assert sum(calls) == 24
    assert torch.allclose(whole.positive, parts.positive, atol=2e-6)
    assert torch.allclose(whole.negative, parts.negative, atol=2e-6)
    assert torch.allclose(whole.residual_norm, parts.residual_norm, atol=2e-6)


def test_batches_are_sorted_complete_and_within_budget(tiny):
    texts = ["the dog" * (1 + i % 5) for i in range(17)]
    batch = encode(tiny, texts)
    seen: list[int] = []
    for part, rows in reading.batches(batch, 30):
        assert part.ids.numel() <= 30 or len(rows) == 1
        assert bool(part.attention[0].all())
        for row, index in enumerate(rows):
            assert torch.equal(
                part.ids[row][part.attention[row]], batch.ids[index][batch.attention[index]]
            )
        seen += rows
    assert sorted(seen) == list(range(17))


def test_residual_norm_is_the_median_without_first_tokens_and_padding(tiny):
    pairs = some(3)
    lengths = [[] for _ in range(tiny.layers)]
    for pair in pairs:
        for text in (pair.positive, pair.negative):
            batch = encode(tiny, [pair.prompt], [text])
            (stream,) = tracing.read(tiny, batch, range(tiny.layers), everything, pool=None)
            for layer in range(tiny.layers):
                lengths[layer] += stream[1:, layer].norm(dim=-1).tolist()
    expected = torch.tensor([np.median(own) for own in lengths]).float()
    assert torch.allclose(read_pairs(tiny, pairs).residual_norm, expected, rtol=1e-5)
    texts = [pair.prompt + pair.positive for pair in pairs]
    measured = reading.residual_norms(tiny, texts, [1])
    assert list(measured) == [1]
    one = [tracing.norms(tiny, encode(tiny, [text]), [1])[0, 1:, 0].tolist() for text in texts]
    assert measured[1] == pytest.approx(np.median(np.concatenate(one)), rel=1e-5)


def test_one_pass_then_everything_is_free(tiny, monkeypatch, own_cache):
    calls = forwards(monkeypatch)
    vectors = [
        ex.extract(tiny, some(), method, layers=layers, seed=seed, quiet=True)
        for method, layers, seed in [
            ("mean_difference", [1], 0),
            ("lda", None, 0),
            ("logistic", None, 1),
            ("pca_diff", [0, 2], 2),
            ("pca_center", None, 2),
        ]
    ]
    assert len(calls) == 1
    assert vectors[0].layers == (1,)
    ex.extract(tiny, some(), positions=everything, quiet=True)
    ex.extract(tiny, some(11), quiet=True)
    assert len(calls) == 3
    (path, *_) = (own_cache / "activations").iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    fresh = read_pairs(tiny, some(), cache=False)
    calls.clear()
    for positions in (last_k(1), everything):
        read_pairs(tiny, some(), positions)
    read_pairs(tiny, some(11))
    assert len(calls) == 1  # the damaged one alone was read again
    assert torch.equal(read_pairs(tiny, some()).positive, fresh.positive)
    assert len(store.cache_directory().parts) > 1


def test_another_tokenizer_or_chat_template_is_read_anew(tiny, monkeypatch, own_cache):
    """The cache is keyed by what the model sees: weights, ids and the tokens that are read."""

    def kept() -> int:
        return len(list((own_cache / "activations").iterdir()))

    def with_tokenizer(change) -> LM:
        words = copy.deepcopy(tiny.tokenizer)
        change(words)
        return load(copy.deepcopy(tiny.model), tokenizer=words)

    calls = forwards(monkeypatch)
    chat = some().as_chat()
    plain = read_pairs(tiny, chat, generated)
    read_pairs(with_tokenizer(lambda words: None), chat, generated)
    assert (len(calls), kept()) == (1, 1)
    template = "{% for m in messages %}({{ m['content'] }}){% endfor %}"
    other = with_tokenizer(lambda words: setattr(words, "chat_template", template))
    found = read_pairs(other, chat, generated)
    assert (len(calls), kept()) == (2, 2)
    assert not torch.allclose(found.positive, plain.positive)


def test_rules_are_told_apart_by_the_tokens_that_they_touch(tiny, monkeypatch):
    """Rules of one name that touch other tokens never share what was read; rules that touch the
    same tokens do."""

    class Named:
        generated = True

        def __init__(self, first):
            self.first = first

        def __call__(self, lm, batch):
            return batch.attention & (batch.positions >= self.first)

        def __repr__(self):
            return "named"

    calls = forwards(monkeypatch)
    one, two = read_pairs(tiny, some(), Named(0)), read_pairs(tiny, some(), Named(1))
    assert len(calls) == 2
    assert torch.equal(one.positive, read_pairs(tiny, some(), everything).positive)
    assert len(calls) == 2
    assert not torch.allclose(one.positive, two.positive)


def test_layers_without_cache_stop_early(tiny, monkeypatch):
    seen = []
    real = tracing.activations
    monkeypatch.setattr(
        tracing,
        "activations",
        lambda lm, batch, layers, *a, **k: seen.append(layers) or real(lm, batch, layers, *a, **k),
    )
    part = read_pairs(tiny, some(), layers=[1, 0], cache=False)
    assert seen == [(0, 1)]
    whole = read_pairs(tiny, some())
    assert part.layers == (1, 0)
    assert torch.equal(part.positive[:, 0], whole.positive[:, 1])
    assert part.residual_norm[1] == whole.residual_norm[0]


def planted(gap: float, count: int = 40, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Two clouds, `gap` apart along the first axis; pairs share a large common part."""
    noise = torch.Generator().manual_seed(0)
    common = 3 * torch.randn(count, width, generator=noise)
    common[:, 0] = 0
    high = common + 0.1 * torch.randn(count, width, generator=noise)
    low = common + 0.1 * torch.randn(count, width, generator=noise)
    high[:, 0] += gap
    return high, low


@pytest.mark.parametrize("method", ["mean_difference", "pca_center", "logistic", "lda"])
def test_methods_find_a_planted_direction(method):
    high, low = planted(2.0)
    direction = methods.METHODS[method](high, low)
    assert direction.shape == (8,)
    assert float(direction.norm()) == pytest.approx(1.0, abs=1e-12)
    assert float(direction[0]) > 0.97
    assert torch.allclose(methods.METHODS[method](low, high), -direction, atol=1e-6)


@pytest.mark.parametrize("method", list(methods.METHODS))
def test_methods_do_not_see_scale(method):
    high, low = planted(2.0)
    direction = methods.METHODS[method](high, low)
    assert torch.allclose(methods.METHODS[method](high * 1e4, low * 1e4), direction, atol=1e-5)


def test_pca_diff_is_centred_and_signed_by_the_majority():
    high, low = planted(0.0)
    high[:, 1] += torch.linspace(-1, 2, 40)  # varies along axis 1, and mostly upwards
    direction = methods.pca_diff(high, low)
    plain = PCA(n_components=1).fit((high - low).double().numpy()).components_[0]
    assert np.abs(np.abs(direction.numpy()) - np.abs(plain)).max() < 1e-9
    assert float(direction[1]) > 0.9
    assert float(methods.pca_diff(low, high)[1]) < -0.9
    # The shift that all pairs share is no part of it.
    high[:, 0] += 100
    assert abs(float(methods.pca_diff(high, low)[0])) < 0.1


def test_pca_diff_of_equal_differences_is_refused():
    """One shift for all pairs, in float32: what varies is only how the sums were rounded."""
    low = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    shift = torch.ones(8) / 3
    with pytest.raises(ValueError, match=r"all pair differences are equal"):
        methods.pca_diff(low + shift, low)
    high = low + shift
    high[0, 2] += 1e-3  # a difference that is no rounding
    assert abs(float(methods.pca_diff(high, low)[2])) > 0.999


def test_pca_global_follows_what_varies_most_by_side_or_not():
    high, low = planted(2.0)
    apart = methods.pca_global(high, low)
    plain = PCA(n_components=1).fit(torch.cat([high, low]).double().numpy()).components_[0]
    assert np.abs(np.abs(apart.numpy()) - np.abs(plain)).max() < 1e-9
    assert abs(float(apart[0])) < 0.5  # pairs share more than they differ in
    assert float(methods.pca_global(high + 50 * torch.eye(8)[0], low)[0]) > 0.99


@pytest.mark.parametrize("method", ["pca_diff", "pca_center", "pca_global"])
def test_explained_variance_is_scikit_learns_ratio(method):
    high, low = (side.double() for side in planted(1.0, count=9))
    half = (high - low) / 2
    samples = {
        "pca_diff": high - low,
        "pca_center": torch.cat([half, -half]),
        "pca_global": torch.cat([high, low]),
    }[method]
    expected = PCA().fit(samples.numpy()).explained_variance_ratio_[0]
    direction = methods.METHODS[method](high, low)
    for size in (1.0, -3.0):  # neither the length nor the sign of the direction matters
        found = methods.explained_variance(method, size * direction, high, low)
        assert found == pytest.approx(expected, abs=1e-12)


def test_explained_variance_travels_with_the_vector_and_not_with_what_is_derived(tiny, tmp_path):
    made = ex.extract(tiny, some(), "pca_center", layers=[0, 2], quiet=True)
    assert set(made.explained_variance) == {0, 2}
    assert all(0 < share <= 1 for share in made.explained_variance.values())
    made.save(tmp_path / "v.safetensors")
    formats.save_gguf(made, tmp_path / "v.gguf")
    for back in (files.load(tmp_path / "v.safetensors"), formats.load_gguf(tmp_path / "v.gguf")):
        assert back.explained_variance == made.explained_variance
    assert (-2.0 * made).explained_variance == made.explained_variance
    assert random_like(made, 0).explained_variance == {}
    assert (made + made).explained_variance == {}
    assert ex.extract(tiny, some(), "lda", quiet=True).explained_variance == {}


def test_sign_ties_stay():
    direction = torch.tensor([1.0, 0.0])
    high = torch.tensor([[1.0, 0.0], [-5.0, 0.0]])
    assert torch.equal(methods.oriented(direction, high, torch.zeros(2, 2)), direction)
    high = torch.tensor([[1.0, 0.0], [-0.1, 0.0], [-0.1, 0.0]])
    assert torch.equal(methods.oriented(direction, high, torch.zeros(3, 2)), -direction)


def test_d_prime_and_accuracies_by_hand():
    two = d_prime_interval(np.array([3.0, 5.0]), np.array([0.0, 2.0]))
    assert two.value == pytest.approx(3 / np.sqrt(2))
    assert np.isnan(d_prime_interval(np.array([3.0]), np.array([0.0])).value)
    axis = torch.tensor([1.0, 0.0])

    def pair_activations(high, low):
        rows = [torch.tensor([[[float(v), 0.0]] for v in side]) for side in (high, low)]
        return reading.PairActivations(rows[0], rows[1], torch.ones(1), (3,))

    table = ex.separate(
        {3: axis},
        pair_activations([2, 4], [0, 0]),
        pair_activations([2, 1, 1], [0, 0, 1]),
        {3: 2.0},
    )
    (row,) = table.to_dict("records")
    assert row["layer"] == 3
    assert row["pairs"] == 3
    assert row["gap"] == 1.5  # means 3 and 0 apart, norm 2
    assert row["pair_accuracy"] == pytest.approx(2.5 / 3)
    # midpoint 1.5: one high side above it, all low sides below
    assert row["accuracy"] == pytest.approx(4 / 6)


def test_held_out_pairs_choose_the_layer_and_it_is_said(tiny, capsys):
    vector = ex.extract(tiny, some(20))
    table = vector.separation
    assert list(table["layer"]) == [0, 1, 2]
    assert set(table["pairs"]) == {4}
    assert vector.layer == int(table.loc[table["d_prime"].idxmax(), "layer"])
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"dogs: layer {vector.layer}: highest d' of 3 layers" in said
    assert "16 pairs made the vector, 4 others judged it" in said
    assert "highest d'" in repr(vector)
    assert vector.provenance["made_from"] == 16
    json.dumps(dict(vector.provenance))
    same = ex.extract(tiny, some(20), quiet=True)
    other = ex.extract(tiny, some(20), seed=1, quiet=True)
    assert capsys.readouterr().out == ""
    assert all(torch.equal(same.directions[k], v) for k, v in vector.directions.items())
    assert not torch.equal(other.directions[0], vector.directions[0])


def test_equal_layers_go_to_the_lower():
    import pandas as pd

    table = pd.DataFrame(
        {"layer": [2, 0, 1], "d_prime": [1.0, 0.5, 1.0], "pair_accuracy": 1.0, "pairs": 4}
    )
    assert ex._choose(None, (2, 0, 1), table)[0] == 1
    table["d_prime"] = np.nan
    assert ex._choose(None, (0, 1, 2), table) == (
        1,
        "the middle one, as no held-out pairs could judge",
    )


def test_given_held_out_pairs_must_be_others(tiny):
    splits = some(20).split()
    vector = ex.extract(tiny, splits.extract, held_out=splits.select, layer=1, quiet=True)
    assert vector.layer == 1
    assert set(vector.separation["pairs"]) == {4}
    assert vector.provenance["made_from"] == len(splits.extract)
    assert vector.texts == set(splits.extract.texts)
    assert set(vector.provenance["held_out_texts"]) == set(splits.select.texts)
    with pytest.raises(ValueError, match=r"share .* text"):
        ex.extract(tiny, some(20), held_out=splits.select)


def test_a_prompt_that_all_share_does_not_forbid_holding_out(tiny):
    pairs = Pairs.from_lists(
        [f" yes {i}" for i in range(10)], [f" no {i}" for i in range(10)], ["the dog"] * 10
    )
    vector = ex.extract(tiny, pairs, quiet=True)
    assert "no text (though prompts) in common" in vector.provenance["held_out"]
    assert set(vector.separation["pairs"]) == {2}


def test_few_pairs_or_no_share_use_all(tiny):
    for pairs, held_out in ((some(4), None), (some(12), 0)):
        vector = ex.extract(tiny, pairs, held_out=held_out, quiet=True)
        assert vector.separation is None
        assert vector.layer == 1
        assert vector.provenance["made_from"] == len(pairs)


def test_vector_fits_its_model_and_steers(tiny):
    vector = ex.extract(tiny, some(), quiet=True)
    vector.check(tiny)
    assert all(abs(vector.norm(layer) - 1) < 1e-6 for layer in vector.layers)
    batch = encode(tiny, ["the dog"])
    plain = tracing.read(tiny, batch, [vector.layer])
    steered = tracing.read(tiny, batch, [vector.layer], interventions=vector.at(2.0))
    moved = (steered - plain)[0, 0]
    expected = 2 * vector.residual_norm[vector.layer] * vector.directions[vector.layer]
    assert torch.allclose(moved, expected, atol=1e-5)


def test_shuffled_labels_are_a_control(tiny):
    true = ex.extract(tiny, some(40), held_out=0, layer=1, quiet=True)
    control = ex.extract(tiny, some(40), held_out=0, layer=1, shuffle_labels=5, quiet=True)
    again = ex.extract(tiny, some(40), held_out=0, layer=1, shuffle_labels=5, quiet=True)
    assert torch.equal(control.directions[1], again.directions[1])
    assert control.norm(1) == pytest.approx(true.norm(1), rel=1e-6)
    assert abs(float(control.directions[1] @ true.directions[1])) < 0.4
    assert control.method == "mean_difference (labels shuffled)"


def test_with_norms_serves_imported_vectors(tiny):
    from workbench.vectors.steering_vector import SteeringVector

    bare = SteeringVector({1: torch.ones(tiny.width)}, {}, "x", "", "imported", 1)
    measured = ex.with_norms(bare, tiny, ["the dog runs", "a cat"])
    assert list(measured.residual_norm) == [1]
    assert len(measured.at(1.0)) == 1
    wrong = SteeringVector({1: torch.ones(5)}, {}, "x", "", "imported", 1)
    with pytest.raises(ValueError, match=f"5 wide .* is {tiny.width} wide"):
        ex.with_norms(wrong, tiny, ["the dog"])


def long_pairs() -> Pairs:
    return Pairs.from_lists(["dog " * 500, "a"], ["b", "c"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "pca"}, "method 'pca' is unknown; choose one of mean_difference"),
        ({"layers": [7]}, "layer 7 is out of range"),
        ({"layers": [-1]}, "layer -1 is out of range"),
        ({"layers": []}, "layers is empty"),
        ({"layer": 3}, "layer 3 is not among the layers (0, 1, 2)"),
        ({"held_out": 1.0}, "held_out=1.0 is not a share"),
        ({"held_out": -0.1}, "held_out=-0.1 is not a share"),
        ({"positions": mask(torch.ones(3))}, "a mask belongs to one batch"),
    ],
)
def test_refused_before_the_model_runs(tiny, monkeypatch, arguments, message):
    calls = forwards(monkeypatch)
    with pytest.raises(ValueError, match=re.escape(message)):
        ex.extract(tiny, some(), **arguments)
    assert calls == []


def test_refused_texts(tiny, monkeypatch):
    calls = forwards(monkeypatch)
    whole = Pairs.from_lists(["the dog"] * 2, ["the cat"] * 2)
    with pytest.raises(ValueError, match=r"touches no token of 'the dog'.*`last_k\(k\)`"):
        ex.extract(tiny, whole, positions=generated, held_out=0)
    with pytest.raises(ValueError, match=f"over the {tiny.context} of"):
        ex.extract(tiny, long_pairs(), held_out=0)
    chat = Pairs.from_lists(["a", "b"], ["c", "d"], ["p", "q"]).as_chat()
    with pytest.raises(ValueError, match=r"hold chats"):
        ex.extract(tiny, chat, compat=True)
    with pytest.raises(ValueError, match=r"all share a text"):
        ex.extract(tiny, Pairs.from_lists(["a"] * 6, ["b"] * 6))
    assert calls == []


def test_sides_that_look_the_same(tiny):
    from workbench.text.positions import prompt

    for rule in (prompt, last):
        with pytest.raises(ValueError, match=rf"{rule} reads only the prompts of 'dogs'"):
            ex.extract(tiny, some(), positions=rule)
    high = torch.randn(9, 4)
    for method in methods.METHODS.values():
        with pytest.raises(ValueError, match=r"read other positions|no principal component"):
            method(high, high + 1e-8)
    same = Pairs.from_lists(["the dog", "the dog"], ["the cat", "the cat"])
    with pytest.raises(ValueError, match=r"no principal component"):
        ex.extract(tiny, same, "pca_diff", held_out=0)
    with pytest.raises(ValueError, match=r"at least 2 pairs, got 1"):
        ex.extract(tiny, same[:1], "pca_diff", held_out=0)


def test_cache_lies_where_the_environment_says(tiny, own_cache):
    ex.extract(tiny, some(), quiet=True)
    assert len(list((own_cache / "activations").iterdir())) == 1
    assert os.environ["WORKBENCH_CACHE"] == str(own_cache)


def test_chats_with_personas(tiny):
    chat = [{"role": "system", "content": "{persona}"}, {"role": "user", "content": "the dog"}]
    pairs = from_templates(chat, ["kind", "glad"], ["cruel", "sad"], [" runs"])
    vector = ex.extract(tiny, pairs, positions=generated, held_out=0, quiet=True)
    assert vector.layers == (0, 1, 2)


def test_compat_last_layer_is_after_the_final_norm(tiny):
    pairs = some(3)
    found = read_pairs(tiny, pairs, compat=True)
    ids = tiny.tokenizer(pairs[0].prompt + pairs[0].positive, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        states = tiny.model(input_ids=ids, output_hidden_states=True).hidden_states
    for layer in range(tiny.layers):
        assert torch.allclose(found.positive[0, layer], states[layer + 1][0, -1], atol=2e-6)
    assert not torch.allclose(
        read_pairs(tiny, pairs).positive[0, -1], found.positive[0, -1], atol=1e-3
    )
