"""A condition made of texts: the layer that carries over, and a vector of what was read there."""

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.conditions import behaviours
from workbench.conditions import condition as conditions
from workbench.conditions import making as condition_making
from workbench.conditions.data import Examples
from workbench.conditions.folds import directions
from workbench.contrast.pairs import Pair, Pairs
from workbench.extraction.extract import extract
from workbench.forward.mean_streams import mean_streams
from workbench.loading.models import LM
from workbench.text import positions

READ = positions.last_k(1)


@pytest.fixture
def examples() -> Examples:
    """Texts that end on their class, in three folds, with twice as many of one."""
    rows = [
        (f"{word} and {fold} {i}, {'yes' if inside else 'no'}", inside, "making", fold)
        for fold, word in enumerate(("soup", "bread", "net"))
        for inside in (True, False)
        for i in range(2 if inside else 4)
    ]
    table = pd.DataFrame(rows, columns=["text", "inside", "part", "fold"])
    return Examples("yes", table.assign(prompt=table["text"]), ("yes", "no"))


def test_the_vector_is_the_direction_between_the_classes(tiny: LM, examples: Examples) -> None:
    made = condition_making.make(tiny, examples, READ, "mean_difference")
    table = examples.table
    (means,) = mean_streams(tiny, table["text"].tolist(), [([*range(tiny.layers)], READ)])
    along = directions(means.double().numpy(), table["inside"], "mean_difference")
    for layer, direction in enumerate(along):
        cosine = torch.cosine_similarity(made.vector.directions[layer].double(), direction, dim=0)
        assert cosine == pytest.approx(1, abs=1e-5)
    assert made.vector.layer == made.layer
    best = made.layers.set_index("layer")[condition_making.LEFT_OUT]
    assert made.layer == best.idxmax()
    seen = conditions.similarities(tiny, table["text"].tolist(), made.vector, positions=READ)
    inside = table["inside"].to_numpy()
    assert seen[inside, made.layer].mean() > seen[~inside, made.layer].mean()


def test_both_classes_are_repeated_to_one_size() -> None:
    labels = np.array([True, False, False, True, False])
    pairs = condition_making.contrast(list("abcde"), labels, "vowel")
    assert sorted(pair.positive for pair in pairs) == sorted("ad" * 3)
    assert sorted(pair.negative for pair in pairs) == sorted("bce" * 2)


def test_a_behaviour_of_any_model_is_its_pairs_difference_of_means(tiny: LM) -> None:
    pairs = Pairs(
        tuple(Pair(f"yes {n}", f"no {n}", f"Say {n}: ") for n in range(40)), "choice", "trait"
    )
    (step,) = behaviours.trait_of(tiny, pairs, 1, seed=3, coefficient=0.5)
    vector = extract(tiny, pairs.split(seed=3).extract, held_out=0, layer=1, quiet=True)
    (same,) = vector.at(0.5)
    assert torch.equal(step.update.direction, same.update.direction)  # type: ignore[union-attr]
    assert step.layer == 1
