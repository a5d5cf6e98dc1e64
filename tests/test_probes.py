"""Probes of a model's streams: what is read, what is told, the directions, and bad input."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import NAMES, SENTENCES, build, tokenizer
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    PredefinedSplit,
    StratifiedGroupKFold,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from workbench import figures, load
from workbench.contrast import pairs
from workbench.contrast.pairs import Pair, Pairs
from workbench.forward import tracing
from workbench.forward.reading import residual_norms
from workbench.forward.token_streams import read_tokens, touched_by
from workbench.generation.generate import generate
from workbench.probing.labelled_texts import label_texts
from workbench.probing.linear_probes import STRENGTHS, deal
from workbench.probing.probes import probe
from workbench.probing.word_probes import told_by_words, words_so_far
from workbench.text.positions import generated, last_k, mask
from workbench.text.tokens import encode
from workbench.wren.judge import coherences, trait_scores

WORDS = ("fox", "girl", "king", "bird", "house", "river", "story", "nest", "crown", "dog")
QUIET = {"quiet": True, "shuffles": 1, "kind": "lda"}


def stories(count: int = 24) -> Pairs:
    """Pairs of many lengths, each with a prompt of its own."""
    rows = [
        Pair(
            f" The {WORDS[i % 10]} was happy" + " and went on" * (i % 3),
            f" The {WORDS[i % 10]} was sad" + " and went on" * (i % 3),
            f"Number {i}.",
        )
        for i in range(count)
    ]
    return Pairs(tuple(rows), "moods", "mood")


def streams(lm, text: str) -> torch.Tensor:
    """The stream after each block of one text that is read alone, (T, L, D), by plain hooks."""
    seen: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(
            lambda _m, _i, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        for block in lm.blocks
    ]
    batch = encode(lm, [text])
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention.long()}
    if "position_ids" in inspect.signature(type(lm.model).forward).parameters:
        inputs["position_ids"] = batch.positions
    try:
        with torch.no_grad():
            lm.model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([each[0] for each in seen], dim=1)


@pytest.mark.parametrize("name", NAMES[:12])
def test_tokens_are_read_as_plain_hooks_see_them(name, monkeypatch):
    lm = build(name)
    texts = [sentence[: 12 + 9 * i] for i, sentence in enumerate(SENTENCES)]
    batch = encode(lm, texts)
    monkeypatch.setattr("workbench.forward.reading.TOKENS", 40)
    touched = touched_by(lm, batch, [0, 9, -1, -12])
    rule = touched_by(lm, batch, last_k(3))
    assert list(rule) == ["last_k(3)"]
    values, norms = read_tokens(lm, batch, [2, 0], [*touched.values(), *rule.values()])
    assert values.shape == (5, len(texts), 2, lm.width)
    short, lengths = 0, []
    for row, text in enumerate(texts):
        alone = streams(lm, text)[:, [2, 0]]
        lengths.append(alone[1:].norm(dim=-1))
        for place, at in enumerate((0, 9, -1, -12)):
            if not -len(alone) <= at < len(alone):
                assert values[place, row].isnan().all()
                assert not touched[at][row].any()
                short += 1
                continue
            torch.testing.assert_close(values[place, row], alone[at], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(values[4, row], alone[-3:].mean(0), rtol=1e-4, atol=1e-4)
    assert 0 < short < 2 * len(texts)
    median = np.median(torch.cat(lengths).double().numpy(), axis=0)
    np.testing.assert_allclose(norms.numpy(), median, rtol=1e-4)


def test_the_table_is_that_of_plain_cross_validation(tiny):
    """Activations by plain hooks, folds and scaling by scikit-learn; groups are shared prompts."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(60) < 36)
    texts = [
        f"{WORDS[i % 10]} {i} " + rng.choice(["gold", "red"], p=p)
        for i, p in enumerate(np.where(labels[:, None], [0.85, 0.15], [0.15, 0.85]))
    ]
    groups = [f"part {i % 20}" for i in range(60)]
    told = probe(
        tiny,
        texts,
        labels,
        layers=[2, 0],
        positions=[-1, 0],
        groups=groups,
        folds=4,
        seed=3,
        **QUIET,
    ).table
    assert told[["layer", "position"]].to_numpy().tolist() == [[2, -1], [2, 0], [0, -1], [0, 0]]
    assert (told["texts"] == 60).all()
    assert (told["groups"] == 20).all()
    assert (told["chance"] == 0.6).all()
    number = np.arange(60) % 20
    for layer in (2, 0):
        values = np.stack([streams(tiny, text)[-1, layer].double().numpy() for text in texts])
        right = np.zeros(60, dtype=bool)
        dealer = StratifiedGroupKFold(4, shuffle=True, random_state=3)
        for train, test in dealer.split(values, labels, number):
            plain = make_pipeline(
                StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
            ).fit(values[train], labels[train])
            right[test] = plain.predict(values[test]) == labels[test]
        row = told[(told["layer"] == layer) & (told["position"] == -1)].iloc[0]
        assert row["accuracy"] == right.mean()
        assert 0.6 < row["accuracy"] < 1


def test_one_pass_reads_every_layer_and_position(tiny, monkeypatch):
    rows, real = [], tracing.activations

    def counted(lm, batch, *args, **kwargs):
        rows.append(len(batch))
        return real(lm, batch, *args, **kwargs)

    monkeypatch.setattr(tracing, "activations", counted)
    told = probe(tiny, stories(), positions=range(-4, 0), folds=3, **QUIET).table
    assert len(told) == 3 * 4
    assert rows == [48]


def test_what_all_texts_share_tells_nothing(tiny, monkeypatch):
    """A first token is the same in every text, but for rounding, which may follow the class."""
    texts = [f"The {WORDS[i % 10]} was {('sad', 'happy')[i % 2]} {i}" for i in range(40)]
    real = read_tokens

    def rounded(*args, **kwargs):
        values, norms = real(*args, **kwargs)
        values[0, 1::2] *= 1 + 2e-7
        return values, norms

    monkeypatch.setattr("workbench.probing.probes.read_tokens", rounded)
    found = probe(tiny, texts, [i % 2 for i in range(40)], positions=[0, -1], **QUIET)
    table = found.table.set_index(["position", "layer"])
    assert (table.loc[0][["accuracy", "auc"]] == 0.5).all(axis=None)
    assert (table.loc[-1]["accuracy"] > 0.5).all()
    with pytest.raises(ValueError, match=r"no direction at the position 0; there are some at \[-1"):
        found.vector(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_huge_coordinate_hides_no_other(dtype, monkeypatch):
    """As in models with massive activations: 8 eps of the huge one exceed all the others."""
    lm = load(copy.deepcopy(build("llama").model), tokenizer=tokenizer(), dtype=dtype)
    rng = np.random.default_rng(0)
    texts, labels = [f"the {WORDS[i % 10]} {i}" for i in range(40)], np.arange(40) % 2 == 1
    streams = torch.from_numpy(rng.normal(size=(40, lm.width))).float()
    streams[:, 3] += 4 * torch.from_numpy(labels).float()
    streams[:, 7] = 3e7 * (1 + 2 * torch.finfo(dtype).eps * torch.from_numpy(labels).float())

    def made(_lm, batch, *_args, **_kwargs):
        return streams[None, :, None], torch.ones(1)

    monkeypatch.setattr("workbench.probing.probes.read_tokens", made)
    found = probe(lm, texts, labels, layers=[1], **QUIET)
    row = found.table.iloc[0]
    # What the huge one says is within rounding, and left out; the others speak.
    assert row["coordinates"] == lm.width - 1
    assert row["accuracy"] > 0.8
    direction = found.vector().directions[1]
    assert direction[7] == 0
    assert int(direction.abs().argmax()) == 3


def test_what_words_alone_tell_is_asked_of_the_same_texts_and_folds(tiny):
    """Moods differ by one word; at -3 some texts have not said it yet."""
    data = stories(30)
    found = probe(tiny, data, layers=[0, 2], positions=[-1, 0], folds=3, words=True, **QUIET)
    table = found.table.set_index(["position", "layer"])
    assert table.loc[-1, "words"].tolist() == [1, 1]
    assert (table.loc[0, "words"] == 0.5).all()
    assert (table.loc[-1, "length"] < 1).all()
    for name in ("words", "length"):
        beyond = table["accuracy"] - table[name]
        np.testing.assert_allclose(table[f"beyond_{name}"], beyond, atol=1e-12)
        assert (table[f"beyond_{name}_low"] <= beyond + 1e-12).all()
    # By hand: the same folds, counts and regression by scikit-learn.
    made = label_texts(tiny, data, None, None)
    fold = deal(made.groups, made.labels, 3, 0)
    cut = [text.rpartition(" ")[0] for text in made.batch.texts]
    numbers = made.batch.attention.sum(dim=1).numpy()
    told = told_by_words(cut, numbers, made.labels, fold)
    bag = make_pipeline(CountVectorizer(token_pattern=r"\w+"), LogisticRegression(max_iter=2000))
    expected = cross_val_predict(bag, cut, made.labels, cv=PredefinedSplit(fold))
    assert (told["words"] == (expected == made.labels)).all()
    assert 0 < told["words"].mean() < 1
    drawn = figures.probe_map(found.table, value="beyond_words")
    assert drawn.data[0].zmax == 0.5
    with pytest.raises(ValueError, match="no map of 'beyond_words'"):
        figures.probe_map(found.table.drop(columns="beyond_words"), value="beyond_words")


def test_words_are_read_up_to_the_token_that_is_probed(tiny):
    batch = encode(tiny, ["The fox was sad.", "A dog"], [" Then it slept", " ran home again."])
    touched = touched_by(tiny, batch, [-2, 20])
    said, count = words_so_far(tiny, batch, touched[-2])
    lengths = batch.attention.sum(dim=1)
    assert count.tolist() == (lengths - 1).tolist()
    for row, text in enumerate(batch.texts):
        ids = batch.ids[row][batch.attention[row]][:-1].tolist()
        assert said[row].strip() == tiny.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert text.startswith(said[row].strip())
    nothing, none = words_so_far(tiny, batch, touched[20] & False)
    assert (nothing, none.tolist()) == (["", ""], [0, 0])


@pytest.mark.parametrize("kind", ["lda", "logistic"])
def test_the_direction_is_in_the_units_of_the_stream(tiny, kind):
    data = stories(20)
    found = probe(tiny, data, layers=[0, 1], kind=kind, folds=3, shuffles=1, quiet=True)
    vector = found.vector(-1, layer=1)
    sides = [
        np.stack([streams(tiny, pair.prompt + text)[-1].double().numpy() for pair, text in which])
        for which in (
            [(pair, pair.positive) for pair in data],
            [(pair, pair.negative) for pair in data],
        )
    ]
    for layer in (0, 1):
        up, down = sides[0][:, layer], sides[1][:, layer]
        direction = vector.directions[layer].double().numpy()
        assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-6)
        assert up.mean(0) @ direction > down.mean(0) @ direction
        if kind == "lda":
            # Whitened difference of means: each class's covariance shrunk, in standard deviations.
            size = np.concatenate([up, down]).std(axis=0)
            spread = np.zeros((tiny.width, tiny.width))
            for side in (up, down):
                own = side.std(axis=0)
                spread += ledoit_wolf((side - side.mean(0)) / own)[0] * np.outer(own, own) / 2
            expected = np.linalg.solve(spread, up.mean(0) - down.mean(0))
            assert size.min() > 0
        else:
            values = np.stack([up, down], axis=1).reshape(40, -1)  # as the texts are ordered
            search = GridSearchCV(
                make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky")),
                {"logisticregression__C": list(STRENGTHS)},
                scoring="neg_log_loss",
                cv=StratifiedGroupKFold(3, shuffle=True, random_state=0),
            ).fit(values, np.tile([True, False], 20), groups=np.repeat(np.arange(20), 2))
            best = search.best_estimator_
            expected = best[1].coef_[0] / best[0].scale_
        cosine = direction @ expected / np.linalg.norm(expected)
        assert cosine == pytest.approx(1, abs=1e-4)
    texts = [pair.prompt + text for pair in data for text in (pair.positive, pair.negative)]
    assert vector.residual_norm == pytest.approx(residual_norms(tiny, texts, [0, 1]), rel=1e-5)
    assert (vector.layer, vector.method) == (1, f"{kind} probe")
    assert vector.texts == frozenset(data.texts)
    assert vector.provenance["trait"] == "mood"
    vector.check(tiny)


def test_short_texts_are_left_out_where_asked_and_the_map_says_so(tiny):
    found = probe(tiny, stories(), positions=[-30, -20, -9, -1], fewest=20, folds=3, **QUIET)
    table = found.table
    counts = table[table["layer"] == 0].set_index("position")["texts"]
    lengths = encode(
        tiny,
        [p.prompt for p in stories() for _ in "12"],
        [t for p in stories() for t in (p.positive, p.negative)],
    ).attention.sum(1)
    for at, count in counts.items():
        assert count == int((lengths >= -at).sum())
    assert counts[-30] < 20 < counts[-20] < counts[-1] == 48
    blank = table["accuracy"].isna()
    assert (table.loc[blank, "position"] == -30).all()
    assert blank.sum() == 3
    assert found.vector(-9).layers == (0, 1, 2)

    drawn = figures.probe_map(table)
    (heat,) = drawn.data
    assert list(heat.x) == ["−30", "−20", "−9", "−1"]
    assert list(heat.y) == ["0", "1", "2"]
    wide = table.pivot(index="layer", columns="position", values="accuracy")
    np.testing.assert_array_equal(np.asarray(heat.z, dtype=float), wide.to_numpy())
    assert (heat.zmin, heat.zmax) == (0.5, 1)
    assert heat.colorbar.title.text == "Held-out accuracy"
    assert drawn.layout.annotations[0].text.startswith("chance: 50% to")
    assert heat.customdata[0][0].startswith(f"too few, {counts[-30]} texts")
    assert f"{counts[-20]} texts in" in heat.customdata[2][1]
    assert drawn.layout.xaxis.title.text.startswith("Token, counted from the end")
    assert (heat.text[0][0], drawn.layout.plot_bgcolor != "white") == ("", True)
    with pytest.raises(ValueError, match="no map of 'f1'; choose one of 'accuracy'"):
        figures.probe_map(table, value="f1")


BAD = {
    "one class": ({"labels": [1] * 12}, "all 12 texts are labelled True; a probe needs"),
    "no labels": ({"labels": None}, "texts need labels"),
    "other length": ({"labels": [0, 1]}, r"shape \(2,\); give one per text, \(12,\)"),
    "three classes": (
        {"labels": [0, 1, 2] * 4},
        "text 2 is 2; give True .* one against the others",
    ),
    "NaN": ({"labels": [0, float("nan")] * 6}, "label of text 1 is nan"),
    "kind": ({"kind": "svm"}, "kind 'svm' is unknown; choose one of 'logistic', 'lda'"),
    "layer": ({"layers": [3]}, "layer 3 is out of range"),
    "one layer": ({"layers": np.int64(1)}, r"layers .*1.* is not a list; give layers="),
    "truth": ({"positions": True}, "position True: give a whole number"),
    "no layer": ({"layers": []}, r"layers \[\]: name at least one"),
    "outside": ({"positions": -40}, r"position -40 lies outside of text 0, which has \d+ tokens"),
    "twice": ({"positions": [-1, -1]}, r"positions \[-1, -1\]: name at least one, and each once"),
    "half": ({"positions": [0.5]}, r"position 0.5: give a whole number"),
    "mask": ({"positions": mask(torch.ones(3))}, "a mask belongs to one batch"),
    "folds": ({"folds": 7}, r"7 folds of 12 groups .*fewer: 6\).*give fewer folds"),
    "one fold": ({"folds": 1}, "folds 1: give a whole number of at least 2"),
    "no shuffle": ({"shuffles": 0}, "shuffles 0: give a whole number of at least 1"),
    "fewest": ({"fewest": 3}, "fewest 3: give a whole number of at least 4"),
    "too few": ({"fewest": 13}, "at none of the positions .* 2 folds be dealt from 13 texts"),
    "nothing": ({"positions": generated}, "generated touches no token of 'the fox 0'"),
    "groups": ({"groups": range(3)}, "3 groups for 12 texts"),
    "group NaN": ({"groups": [float("nan")] * 12}, "text 0 is of the group nan: name one"),
    "straddling": (
        {"groups": [0] * 10 + [1, 2], "labels": [0, 1] * 5 + [1, 1]},
        r"2 folds of 3 groups \(of the class with fewer: 1\) leave one without texts of both",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_the_model_runs(tiny, case, monkeypatch):
    def run(*_args, **_kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(tracing, "activations", run)
    given, message = BAD[case]
    texts = [f"the {WORDS[i % 10]} {i}" for i in range(12)]
    with pytest.raises(ValueError, match=message):
        probe(tiny, texts, **{"labels": [0, 1] * 6, "folds": 2, **QUIET, **given})


def test_pairs_of_one_prompt_need_groups(tiny):
    rows = tuple(Pair(f" {w} is happy", f" {w} is sad", "The") for w in WORDS)
    data = Pairs(rows, "one prompt")
    with pytest.raises(ValueError, match=r"5 folds of 1 groups.*groups=range\(len\(pairs\)\)"):
        probe(tiny, data, **QUIET)
    told = probe(tiny, data, layers=[1], groups=range(10), **QUIET).table
    assert told["groups"].tolist() == [10]
    with pytest.raises(ValueError, match="pairs say themselves which side is positive"):
        probe(tiny, data, [1] * 20, **QUIET)


def test_texts_that_share_a_prompt_or_a_question_are_one_group(tiny):
    ask = {"role": "user", "content": "Who?"}
    texts = ["a fox", "a fox ", "a dog", [ask], [{"role": "system", "content": "Be kind."}, ask]]
    made = label_texts(tiny, texts, [1, 1, 0, 0, 0], None)
    assert made.groups.tolist() == [0, 0, 1, 2, 2]
    batch = encode(tiny, ["The", "The", "A"], [" fox", " dog", " dog"])
    assert label_texts(tiny, batch, [1, 0, 0], None).groups.tolist() == [0, 0, 1]
    assert label_texts(tiny, batch, [1, 0, 0], "xyx").groups.tolist() == [0, 1, 0]


def test_streams_that_are_not_finite_are_named(tiny, monkeypatch):
    real = read_tokens

    def broken(*args, **kwargs):
        values, norms = real(*args, **kwargs)
        values[:, 5] = torch.inf
        return values, norms

    monkeypatch.setattr("workbench.probing.probes.read_tokens", broken)
    with pytest.raises(
        ValueError, match="5-th text that is read at layer 0, position -1 is not fi"
    ):
        probe(tiny, stories(), folds=3, **QUIET)


def test_a_probe_of_wren_reads_mood_and_its_direction_steers_it():
    wren, data = load("wren"), pairs.load("wren-mood")
    found = probe(wren, data[:80], layers=[4], positions=generated, **QUIET)
    row = found.table.iloc[0]
    assert row["accuracy_low"] > 0.8
    assert row["selectivity_low"] > 0.3
    vector = found.vector()
    prompts = list(data[80:].prompts)[:12]
    means = []
    for coefficient in (-0.5, 0.5):
        made = generate(wren, prompts, vector.at(coefficient), new_tokens=40, score=False)
        means.append(np.mean(trait_scores(made.texts, "mood")))
        assert np.mean(coherences(made.texts)) > 0.8
    assert means[0] < -0.7
    assert means[1] > 0.7


def test_numbers_of_numpy_name_positions_and_layers(tiny):
    texts = [f"the {WORDS[i % 10]} {i}" for i in range(12)]
    how = {"labels": [0, 1] * 6, "folds": 2, **QUIET}
    plain = probe(tiny, texts, positions=[-1], layers=[1], **how)
    for positions in (np.int64(-1), np.array([-1])):
        found = probe(tiny, texts, positions=positions, layers=np.array([1]), **how)
        pd.testing.assert_frame_equal(found.table, plain.table)
    vector = plain.vector(np.int64(-1), layer=np.int64(1))
    assert type(vector.layer) is int
    with pytest.raises(ValueError, match="layer True: give a whole number"):
        plain.vector(layer=True)
