"""Manifolds of ordinary text: what is collected, what distance means, and that it is calibrated."""

from collections.abc import Iterator
from random import Random

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import SENTENCES
from corruptions import CORRUPTIONS

import workbench as wb
from workbench.forward import tracing
from workbench.forward.reference import collect, read_tokens
from workbench.geometry import manifold
from workbench.geometry.manifold import KINDS, Manifolds
from workbench.geometry.manifold_checks import (
    auc,
    centre_in_words,
    false_alarms,
    sensitivity,
    spoiled,
    towards_centre,
)
from workbench.geometry.ordinary import from_file, from_grammar, from_model
from workbench.loading.models import LM
from workbench.text.positions import content, everything, generated, mask
from workbench.text.tokens import encode
from workbench.wren.batches import documents

LETTERS = 160  # of a document, in these tests


def mixed(count: int, seed: int = 0) -> list[str]:
    """Texts of a few sentences, cut anywhere."""
    rng = Random(seed)
    return [" ".join(rng.sample(SENTENCES, 2))[: rng.randint(40, 90)] for _ in range(count)]


@pytest.fixture(scope="module")
def wren() -> LM:
    return wb.load("wren")


@pytest.fixture(scope="module")
def small(tiny: LM) -> Manifolds:
    """All kinds, of a random model."""
    return manifold.fit(tiny, mixed(80), sample=300, clusters=(2,), cache=False, progress=False)


# ---- what is collected --------------------------------------------------------------------------


def test_moments_are_those_of_every_token_of_a_word(tiny: LM) -> None:
    texts = mixed(20)
    found = collect(tiny, texts, [0, 2], unit=False, folds=2, sample=40, progress=False)
    batch = encode(tiny, texts)
    whole = tracing.activations(tiny, batch, [0, 2], content)
    rows = np.repeat(np.arange(20), whole.counts)
    for index, layer in enumerate((0, 2)):
        values = whole.values[:, index].double().numpy()
        moments = found.moments(layer)
        assert moments.count == len(values) == found.provenance["tokens"]
        np.testing.assert_allclose(moments.mean, values.mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(moments.covariance(), np.cov(values.T), rtol=1e-3, atol=1e-4)
        assert found.folds[layer][1].count == int((rows % 2 == 1).sum())
    assert found.samples[2].shape == (40, tiny.width)
    assert found.provenance["texts"] == 20
    assert found.provenance["weights"] == tiny.fingerprint


def test_texts_may_come_one_by_one(tiny: LM) -> None:
    texts, asked = mixed(90), []

    def stream() -> Iterator[str]:
        for text in texts:
            asked.append(text)
            yield text

    one = collect(tiny, stream(), [1], sample=30, progress=False)
    other = collect(tiny, texts, [1], sample=30, progress=False)
    assert asked == texts
    np.testing.assert_array_equal(one.samples[1], other.samples[1])
    np.testing.assert_array_equal(one.documents, other.documents)


def test_first_tokens_are_left_out_and_shown(wren: LM) -> None:
    """They are outliers on a real model, and manifolds never see them."""
    found = collect(wren, from_grammar(60, "first"), progress=False)
    assert found.skip == found.positions.min() == 2
    table = found.lengths
    last = table[(table["layer"] == 5) & (table["position"] < 2)]
    assert last["left_out"].all()
    assert (last["ratio"] > 3).all()
    kept = table[~table["left_out"] & (table["position"] < 16)]
    assert np.exp(np.log(kept["ratio"]).abs()).max() < 1.6
    assert found.positions.max() > 60
    later = collect(wren, from_grammar(40, "first"), [5], skip=4, progress=False)
    assert later.positions.min() == later.skip == 4


def test_special_tokens_are_read_only_if_asked_for(tiny: LM) -> None:
    texts = [f"{text}</s><s>{text}" for text in mixed(8)]
    counts = {
        rule: sum(len(r.documents) for r in read_tokens(tiny, texts, [0], rule, progress=False))
        for rule in (content, everything)
    }
    assert counts[everything] == counts[content] + 2 * 8


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"texts": []}, "no ordinary text"),
        ({"texts": "a single text"}, "is one text"),
        ({"layers": [7]}, "layer 7 is out of range"),
        ({"layers": []}, "layers is empty"),
        ({"positions": mask(torch.ones(3))}, "belongs to one batch"),
        ({"skip": -1}, "skip -1"),
        ({"folds": 1}, "folds 1"),
        ({"sample": 0}, "sample 0"),
        ({"texts": mixed(3)}, "3 documents leave a part of 4 without tokens"),
    ],
)
def test_bad_input_is_refused(tiny: LM, wrong: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        collect(tiny, **{"texts": mixed(8), "progress": False, **wrong})


def test_a_rule_without_tokens_is_refused(tiny: LM) -> None:
    with pytest.raises(ValueError, match="without tokens"):
        collect(tiny, mixed(8), positions=generated, progress=False)


# ---- ordinary text ------------------------------------------------------------------------------


def test_a_file_is_cut_into_paragraphs_and_pieces(tiny: LM, tmp_path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(["short", SENTENCES[0], " ".join(SENTENCES)]))
    pieces = list(from_file(tiny, path, tokens=24))
    assert "short" not in pieces
    assert len(pieces) > 4
    assert encode(tiny, pieces).width <= 25  # a piece that is cut within a word may grow by one
    joined = " ".join(pieces)
    assert all(word in joined for word in ("fox", "crown", "Wren"))
    with pytest.raises(FileNotFoundError, match=r"no text file at '.*none.txt'"):
        from_file(tiny, tmp_path / "none.txt")
    with pytest.raises(ValueError, match="tokens 4"):
        from_file(tiny, path, tokens=4)


def test_own_texts_begin_with_their_prompts_and_differ(tiny: LM) -> None:
    texts = from_model(tiny, ["The old fox"] * 4, tokens=6)
    assert len(set(texts)) == 4
    assert all(text.startswith("The old fox") for text in texts)
    assert from_model(tiny, ["The old fox"] * 4, tokens=6) == texts


# ---- distances ----------------------------------------------------------------------------------


def test_every_layer_has_every_kind(small: Manifolds, tiny: LM) -> None:
    assert small.layers == (0, 1, 2)
    assert small.kinds == KINDS
    hidden = torch.randn(2, 5, tiny.width)
    for each in small:
        assert each.distance(hidden).shape == (2, 5)
        assert (each.distance(hidden) >= 0).all()
        assert each.threshold(0.5) < each.threshold(0.95)
    assert small.at(1) is small.at(1, "principal")
    assert set(small.choices["layer"]) == {0, 1, 2}


def test_only_direction_counts_at_unit_length(small: Manifolds, tiny: LM) -> None:
    hidden = torch.randn(6, tiny.width)
    for each in small:
        np.testing.assert_allclose(each.distance(7 * hidden), each.distance(hidden), rtol=1e-3)


def test_a_single_one_is_one_of_many(small: Manifolds, tiny: LM) -> None:
    hidden = torch.randn(4, tiny.width)
    for each in small:
        alone = torch.stack([each.distance(one) for one in hidden])
        np.testing.assert_allclose(alone, each.distance(hidden), rtol=1e-4)
        assert each.distance(hidden[:0]).shape == (0,)


def test_shares_of_a_change(small: Manifolds, tiny: LM) -> None:
    here = small.at(2)
    basis = here.tangent.float()
    np.testing.assert_allclose(here.share_inside(basis), 1, rtol=1e-5)
    across = torch.linalg.svd(here.tangent)[2][-1].float()
    assert here.share_inside(across) < 1e-6
    change = torch.randn(2000, tiny.width)
    assert float(here.share_inside(change).mean()) == pytest.approx(here.chance, abs=0.02)
    both = here.inside(change)
    np.testing.assert_allclose(here.inside(both), both, atol=1e-5)


def test_they_are_shown_by_layers_and_kinds(small: Manifolds) -> None:
    assert repr(small) == f"Manifolds(layers {[*small.layers]}, kinds {[*small.kinds]})"


def test_what_is_not_there_is_named(small: Manifolds) -> None:
    with pytest.raises(ValueError, match=r"layers \[0, 1, 2\]"):
        small.at(9)
    with pytest.raises(ValueError, match="no 'flat' manifold"):
        small.at(0, "flat")
    with pytest.raises(ValueError, match="this manifold is 32 wide"):
        small.at(0).distance(torch.zeros(3, 8))


def test_bad_fits_are_refused(tiny: LM) -> None:
    with pytest.raises(ValueError, match="8 documents cannot fit"):
        manifold.fit(tiny, mixed(8))
    with pytest.raises(ValueError, match="some of principal, neighbours, clusters"):
        manifold.fit(tiny, mixed(50), kinds=["sphere"])
    with pytest.raises(ValueError, match="give a list"):
        manifold.fit(tiny, mixed(50), kinds="principal")  # type: ignore[arg-type]
    bare = manifold.estimate(collect(tiny, mixed(8), [1], progress=False), kinds=["principal"])
    with pytest.raises(ValueError, match="not calibrated"):
        bare.at(1).threshold()


# ---- the claims ---------------------------------------------------------------------------------


def openings(count: int, seed: str) -> list[str]:
    """How documents of the grammar begin: many short ones tell more than few long ones."""
    return [text[:LETTERS].rsplit(" ", 1)[0] for text in from_grammar(count, seed)]


def assert_calibrated(table: pd.DataFrame) -> None:
    assert table["tokens"].between(0.04, 0.06).all(), table
    # Of some twenty 95 % intervals one misses by chance; three do so in one case of twenty.
    assert (table["documents_low"] > 0.05).sum() <= 2, table
    assert (table["documents_high"] > 0.02).all(), table


def test_ordinary_text_passes_the_95_quantile_in_4_to_6_percent_on_wren(wren: LM) -> None:
    made = manifold.fit(
        wren, openings(1600, "fit"), sample=2000, clusters=(8,), cache=False, progress=False
    )
    table = false_alarms(wren, made, openings(800, "test"), progress=False)
    assert len(table) == 6 * 3
    assert_calibrated(table)


def test_ordinary_text_passes_the_95_quantile_in_4_to_6_percent_on_stories(stories: LM) -> None:
    """Ordinary text is what the model itself writes. The prompt's tokens are the same in all."""
    texts = from_model(stories, ["Once upon a time"] * 900, tokens=40)
    made = manifold.fit(
        stories, texts[:600], skip=6, sample=2000, clusters=(8,), cache=False, progress=False
    )
    table = false_alarms(stories, made, texts[600:], progress=False)
    assert len(table) == 5 * 3
    assert_calibrated(table)


def test_spoiled_text_lies_further_away(wren: LM) -> None:
    """By direction. In their own length streams of spoiled text lie *nearer*: the model is less
    sure of it."""
    bodies = [d for d in documents("spoiled", 160) if d.kind == "plain"][:20]
    texts = [d.text.removeprefix("<s>") for d in bodies]
    rng = Random(0)

    def spoil(name: str) -> list[str]:
        whole = zip(texts, (d.completions[0] for d in bodies), strict=True)
        return [t.replace(b, " " + CORRUPTIONS[name](b.strip(), 0.5, rng)) for t, b in whole]

    words = ("random tokens", "shuffled words")
    broken = {name: spoil(name) for name in words}
    options = {
        "kinds": ["neighbours", "principal"],
        "progress": False,
        "sample": 2000,
        "cache": False,
    }
    found = {
        unit: sensitivity(
            wren,
            manifold.fit(wren, from_grammar(160, "fit"), [4], unit=unit, **options),
            texts,
            broken,
            progress=False,
        ).set_index(["kind", "spoiled"])
        for unit in (True, False)
    }
    by_direction = found[True]["auc"]
    assert by_direction["neighbours", "random tokens"] > 0.95
    assert by_direction["neighbours", "shuffled words"] > 0.6
    assert found[True].loc[("neighbours", "random tokens"), "low"] > 0.9
    assert found[False]["auc"]["principal", "random tokens"] < 0.2


def test_auc_of_separate_equal_and_empty_sides() -> None:
    rng = np.random.default_rng(0)
    assert auc(np.zeros(20), np.ones(20)) == (1, 1, 1)
    value, low, high = auc(rng.standard_normal(60), rng.standard_normal(60))
    assert low < 0.5 < high
    assert low < value < high
    assert np.isnan(auc(np.zeros(0), np.ones(3))).all()


# ---- what is kept -------------------------------------------------------------------------------


def test_a_second_fit_reads_nothing(tiny: LM, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    texts, options = mixed(44, seed=5), {"kinds": ["principal"], "progress": False}
    first = manifold.fit(tiny, texts, [1], **options)
    read = []
    monkeypatch.setattr(manifold, "collect", lambda *a, **k: read.append("collect"))
    monkeypatch.setattr(manifold, "distances", lambda *a, **k: read.append("distances"))
    again = manifold.fit(tiny, texts, [1], **options)
    assert read == []
    hidden = torch.randn(5, tiny.width)
    assert torch.equal(first.at(1).distance(hidden), again.at(1).distance(hidden))
    assert first.at(1).threshold() == again.at(1).threshold()
    assert again.provenance["calibrated_on"] == 22
    for other in ({"layers": [2]}, {"seed": 1}, {"skip": 3}, {"texts": mixed(44, seed=6)}):
        with pytest.raises(AttributeError):  # `collect` gives None, of which nothing can be kept
            manifold.fit(tiny, **{"texts": texts, "layers": [1], **options, **other})
    assert read == ["collect"] * 4
    with pytest.raises(AttributeError):
        manifold.fit(tiny, texts, [1], cache=False, **options)


def test_random_tokens_look_more_like_the_mean_of_ordinary_text(wren: LM) -> None:
    """Why distance takes them for ordinary: of wren, whose ordinary text differs from token to
    token."""
    fitted = manifold.fit(wren, from_grammar(80, "fit"), [3], kinds=("principal",), progress=False)
    fresh = from_grammar(12, "fresh")
    broken = {"random tokens": spoiled(wren, fresh, seed=0)["random tokens"]}
    table = towards_centre(wren, fitted, {"ordinary": fresh, **broken})
    found = table.set_index("text")
    assert found.loc["random tokens", "low"] > found.loc["ordinary", "high"]
    assert (found["low"] <= found["cosine"]).all()
    assert "nearer to the mean stream" in centre_in_words(table)
    turned = table.assign(text=table["text"].to_numpy()[::-1])
    assert "no nearer" in centre_in_words(turned)
