"""repeng's numbers: activations and directions from ../shared/golden, and repeng itself."""

import json

import pytest
import torch
from outside import SHARED
from safetensors.torch import load_file

from workbench.contrast.pairs import Pairs
from workbench.extraction.extract import extract
from workbench.forward.reading import read_pairs

GOLDEN = SHARED / "golden" / "1_repeng"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden numbers missing: {GOLDEN}")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))


@pytest.fixture
def pairs() -> Pairs:
    rows = json.loads((GOLDEN / "pairs.json").read_text())["pairs"]
    return Pairs.from_lists(
        [row["positive"] for row in rows], [row["negative"] for row in rows], name="golden"
    )


def test_activations(stories, pairs):
    golden = load_file(GOLDEN / "hidden_last_token.safetensors")
    found = read_pairs(stories, pairs, compat=True)
    for layer in range(5):
        expected = golden[f"hidden.{layer}"]
        assert (found.positive[:, layer] - expected[::2]).abs().max() < 2e-5
        assert (found.negative[:, layer] - expected[1::2]).abs().max() < 2e-5
    # Without compat the last layer is the block's own output.
    plain = read_pairs(stories, pairs)
    assert torch.equal(plain.positive[:, :4], found.positive[:, :4])
    assert (plain.positive[:, 4] - golden["hidden.4"][::2]).abs().max() > 1


@pytest.mark.parametrize("method", ["pca_diff", "pca_center"])
def test_directions(stories, pairs, method):
    golden = load_file(GOLDEN / f"directions_{method}.safetensors")
    conditioning = json.loads((GOLDEN / "conditioning.json").read_text())[method]
    vector = extract(stories, pairs, method, held_out=0, compat=True, quiet=True)
    assert vector.layers == (0, 1, 2, 3, 4)
    for layer in vector.layers:
        known = conditioning[str(layer)]
        tolerance = 2e-5 if known["second_over_first_singular_value"] > 0.95 else 1e-5
        expected = golden[f"direction.{layer}"]
        assert (vector.directions[layer] - expected).abs().max() < tolerance
        # The sign by which more positives project higher.
        found = read_pairs(stories, pairs, compat=True)
        gaps = (found.positive[:, layer] - found.negative[:, layer]) @ vector.directions[layer]
        share = known["fraction_pairs_with_positive_projection_larger"]
        assert float((gaps > 0).float().mean()) == pytest.approx(share)


def test_directions_of_repeng_itself(stories, pairs):
    repeng = pytest.importorskip("repeng", reason="repeng is not installed")
    few = pairs[:16]
    entries = [repeng.DatasetEntry(pair.positive, pair.negative) for pair in few]
    control = repeng.ControlVector.train(stories.model, stories.tokenizer, entries)
    vector = extract(stories, few, "pca_diff", held_out=0, compat=True, quiet=True)
    assert sorted(control.directions) == [1, 2, 3, 4]  # repeng leaves layer 0 out
    for layer, direction in control.directions.items():
        assert (vector.directions[layer] - torch.from_numpy(direction)).abs().max() < 2e-5
