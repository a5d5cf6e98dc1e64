"""Vectors of conditional activation steering: ../shared/golden holds what its library gives."""

import json
from typing import Any

import pytest
import torch
from outside import SHARED
from safetensors.torch import load_file

from workbench.contrast.pairs import Pairs
from workbench.contrast.templating import crossed
from workbench.extraction.extract import extract
from workbench.extraction.methods import CAST_METHODS
from workbench.forward.reading import read_pairs
from workbench.loading.models import LM
from workbench.text.positions import LastK, Positions, everything, last_k

GOLDEN = SHARED / "golden" / "2_cast"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden numbers missing: {GOLDEN}")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cast"))


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


KEYS = sorted(golden("explained_variances.json")) if GOLDEN.is_dir() else []


def made(name: str) -> Pairs:
    """The pairs of a golden data set, out of its examples and suffixes."""
    data = golden("datasets.json")[name]
    positive, negative = ([pair[side] for pair in data["examples"]] for side in (0, 1))
    if data["suffixes"] is None:
        return Pairs.from_lists(positive, negative, name=name)
    ends = [(end, end) if isinstance(end, str) else tuple(end) for end in data["suffixes"]]
    good, bad = ([pair[side] for pair in ends] for side in (0, 1))
    return crossed(positive, good, bad, negative_prompts=negative, name=name)


def tokens(lm: LM, name: str, accumulated: str) -> Positions:
    """What the library averages. Its 'suffix-only' is as many tokens, for all suffixes and both
    sides, as the first side of the first suffix has alone: of suffixes that are texts the first
    letter, and without suffixes one token."""
    if accumulated == "all":
        return everything
    if accumulated != "suffix-only":
        return last_k(int(accumulated))
    suffixes = golden("datasets.json")[name]["suffixes"]
    if suffixes is None:
        return last_k(1)
    return last_k(len(lm.tokenizer(suffixes[0][0], add_special_tokens=False)["input_ids"]))


def test_pairs_are_formed_as_the_library_forms_them(stories):
    for name, data in golden("datasets.json").items():
        pairs = made(name)
        assert [pair.full for pair in pairs] == [
            (row["positive"], row["negative"]) for row in data["formatted"]
        ]
        if data["suffix_only_token_count"] is not None:
            only = tokens(stories, name, "suffix-only")
            assert isinstance(only, LastK)
            assert only.count == data["suffix_only_token_count"]


def test_activations(stories):
    expected = load_file(GOLDEN / "accumulated_hidden.safetensors")
    seen = {key.rpartition(".layer_")[0] for key in expected}
    assert len(seen) == 9
    for case in seen:
        name, accumulated = case.split(".acc_")
        found = read_pairs(
            stories, made(name), tokens(stories, name, accumulated), compat=True, progress=False
        )
        for layer in range(stories.layers):
            rows = expected[f"{case}.layer_{layer}"]
            assert (found.positive[:, layer] - rows[::2]).abs().max() < 2e-5, case
            assert (found.negative[:, layer] - rows[1::2]).abs().max() < 2e-5, case


@pytest.mark.parametrize("key", KEYS)
def test_directions_and_explained_variances(stories, key):
    name, accumulated, method = key.replace(".acc_", ".").split(".")
    vector = extract(
        stories,
        made(name),
        CAST_METHODS[method],
        positions=tokens(stories, name, accumulated),
        held_out=0,
        compat=True,
        quiet=True,
    )
    directions = load_file(GOLDEN / "directions.safetensors")
    conditioning = golden("conditioning.json")
    shares = golden("explained_variances.json")[key]
    assert vector.layers == (0, 1, 2, 3, 4) == tuple(vector.explained_variance)
    for layer in vector.layers:
        expected = directions[f"{key}.layer_{layer}"]
        apart = (vector.directions[layer] - expected).abs().max()
        if conditioning[f"{key}.layer_{layer}"]["sign_tie"]:
            apart = min(apart, (vector.directions[layer] + expected).abs().max())
        assert apart < 2e-5, layer
        assert vector.explained_variance[layer] == pytest.approx(shares[str(layer)], abs=1e-6)


def test_names_of_methods_are_not_taken_for_each_other(stories):
    """Its pca_center is not repeng's, and its pca_pairwise is unknown here but explained."""
    pairs = made("tuple_suffixes")
    ours, theirs = (
        extract(stories, pairs, method, held_out=0, compat=True, quiet=True).directions[1]
        for method in ("pca_center", CAST_METHODS["pca_center"])
    )
    assert abs(float(torch.dot(ours, theirs))) < 0.99
    with pytest.raises(ValueError, match=r"'pca_pairwise' is unknown; .*is 'pca_center' here\)"):
        extract(stories, pairs, "pca_pairwise")
