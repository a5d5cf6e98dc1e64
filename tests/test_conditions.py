"""Conditions: what they read, when they are met, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures import build
from conditioned import PROMPTS, random_vector
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench.conditions.condition import Condition, similarities
from workbench.conditions.search import find_condition_point
from workbench.forward import tracing
from workbench.loading.models import LM
from workbench.statistics.similarity import SIMILARITIES, similarity
from workbench.text import positions

RULES = [
    positions.prompt,
    positions.last_k(1),
    positions.last_k(3),
    positions.token(-2),
    positions.content,
    positions.everything,
]


def condition(lm: LM, **how: Any) -> Condition:
    return Condition.of(random_vector(lm), **{"threshold": 0.1, "layers": [0, 2], **how})


@pytest.mark.parametrize("reads", ["output", "input"])
@pytest.mark.parametrize("kind", SIMILARITIES)
def test_similarities_are_those_of_the_mean_streams(kind: Any, reads: Any) -> None:
    lm = build("llama")
    bias = {0: 0.5, 2: -1.0} if kind == "probe" else None
    found = condition(lm, similarity=kind, reads=reads, bias=bias).similarities(lm, PROMPTS[:5])
    at = [0, 2] if reads == "output" else [tracing.EMBEDDINGS, 1]
    means = wb.read(lm, PROMPTS[:5], at, positions.prompt)
    assert isinstance(means, torch.Tensor)
    assert found.dtype == torch.float64
    for column, layer in enumerate((0, 2)):
        direction = random_vector(lm).directions[layer]
        wanted = similarity(kind, means[:, column], direction, (bias or {}).get(layer, 0.0))
        torch.testing.assert_close(found[:, column], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom"])
def test_neighbours_and_padding_change_nothing(name: str, rule: positions.Positions) -> None:
    lm = build(name)
    asked = condition(lm, positions=rule)
    texts = [text for text in PROMPTS[:16] if len(text) > 15]
    together = asked.similarities(lm, texts)
    for row, text in enumerate(texts):
        alone = asked.similarities(lm, [text])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


def test_a_chat_is_read_without_its_template_where_wanted() -> None:
    lm = build("llama")
    chats = [[{"role": "user", "content": "Why is the house red?"}]]
    assert positions.preview(lm, chats[0], positions.content).touched.count(True) < len(
        positions.preview(lm, chats[0]).tokens
    )
    whole, within = (
        condition(lm, positions=rule).similarities(lm, chats)
        for rule in (positions.prompt, positions.content)
    )
    assert not torch.allclose(whole, within)


def test_the_columns_are_the_layers_that_were_asked_for() -> None:
    lm = build("llama")
    up, down = (
        similarities(lm, PROMPTS[:3], random_vector(lm), layers=layers)
        for layers in ([0, 2], [2, 0])
    )
    assert torch.equal(up, down.flip(1))
    every = similarities(lm, PROMPTS[:3], random_vector(lm))
    assert every.shape == (3, lm.layers)
    torch.testing.assert_close(every[:, [0, 2]], up)


def test_it_is_met_strictly_beyond_the_threshold_at_any_layer() -> None:
    lm = build("llama")
    seen = torch.tensor([[0.1, 0.1], [0.1, 0.2], [0.2, 0.1], [0.0, 0.1]], dtype=torch.float64)
    assert condition(lm).met(seen).tolist() == [False, True, True, False]
    assert condition(lm, fires="below").met(seen).tolist() == [False, False, False, True]


@given(st.integers(0, 1000), st.floats(-1, 1))
def test_more_layers_and_lower_thresholds_meet_more(seed: int, threshold: float) -> None:
    seen = torch.rand(6, 3, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1
    directions = {layer: torch.ones(2) for layer in range(3)}
    three, lower = (Condition(directions, value) for value in (threshold, threshold - 0.1))
    one = Condition({0: torch.ones(2)}, threshold)
    assert (three.met(seen) >= one.met(seen[:, :1])).all()
    assert (lower.met(seen) >= three.met(seen)).all()
    turned = Condition(directions, -threshold, fires="below")
    assert torch.equal(turned.met(-seen), three.met(seen))


def test_a_pass_ends_after_the_last_layer_that_is_read() -> None:
    lm, ran = build("llama"), []
    model: Any = lm.model
    handles = [
        block.register_forward_pre_hook(lambda *_, at=at: ran.append(at))
        for at, block in enumerate(model.model.layers)
    ]
    try:
        Condition.of(random_vector(lm), threshold=0.1, layers=[1]).similarities(lm, PROMPTS[:3])
    finally:
        for handle in handles:
            handle.remove()
    assert ran == [0, 1]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"threshold": float("nan")}, "threshold of a condition is nan; give a number"),
        ({"threshold": float("inf")}, "threshold of a condition is inf; give a number"),
        ({"threshold": "0.1"}, "threshold of a condition is '0.1'; give a number"),
        ({"threshold": True}, "threshold of a condition is True; give a number"),
        ({"layers": [9]}, r"no direction at \[9\]; it has \[0, 1, 2\]"),
        ({"layers": []}, "layers is empty"),
        ({"layers": 1}, r"layers 1 is not a list; give layers=\[1\]"),
        ({"fires": "larger"}, "fires 'larger' is unknown; choose one of above, below"),
        ({"similarity": "angle"}, "similarity 'angle' is unknown; choose one of cosine"),
        ({"reads": "middle"}, "reads 'middle' is unknown; choose one of output, input"),
        ({"similarity": "probe"}, r"a probe has a bias at every layer; there is none at \[0, 2\]"),
        ({"similarity": "probe", "bias": {0: 0.1}}, r"there is none at \[2\]"),
        ({"similarity": "probe", "bias": {0: 0.1, 2: float("nan")}}, "bias at layer 2 is nan"),
        (
            {"similarity": "probe", "bias": {0: 0.1, 1: 0.1, 2: 0.1}},
            r"a bias at \[1\], where nothing is read; \[0, 2\] are",
        ),
        ({"bias": {0: 0.1}}, "a bias belongs to a probe, not to 'cosine'"),
        ({"positions": positions.mask(torch.ones(3))}, "a mask belongs to one batch"),
    ],
)
def test_what_cannot_be_a_condition_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        condition(build("llama"), **how)


def test_directions_without_a_length_or_a_number_are_refused() -> None:
    with pytest.raises(ValueError, match="direction at layer 1 has length 0"):
        Condition({1: torch.zeros(4)}, 0.1)
    with pytest.raises(ValueError, match="direction at layer 1 is not finite"):
        Condition({1: torch.tensor([1.0, float("nan")])}, 0.1)
    with pytest.raises(ValueError, match="at one layer at least"):
        Condition({}, 0.1)


def test_a_point_that_was_found_makes_a_condition() -> None:
    lm = build("llama")
    vector = random_vector(lm)
    seen = similarities(lm, PROMPTS, vector)
    labels = torch.arange(len(PROMPTS)) % 2 == 0
    point = find_condition_point(seen, labels, vector.layers, most_layers=2).best
    made = Condition.at_point(vector, point)
    assert made.layers == tuple(sorted(point.layers))
    met = made.met(made.similarities(lm, PROMPTS))
    assert met.tolist() == point.met(seen, vector.layers).tolist()


def test_what_does_not_fit_the_model_is_refused() -> None:
    lm, other = build("llama"), build("gpt2")
    with pytest.raises(ValueError, match="was made on"):
        condition(other).similarities(lm, ["Oh"])
    with pytest.raises(ValueError, match=r"reads layer 7; .* has 0 … 2"):
        Condition({7: torch.ones(lm.width)}, 0.1).similarities(lm, ["Oh"])
    with pytest.raises(ValueError, match=r"has the shape \(5,\), the stream of .* is 32 wide"):
        Condition({1: torch.ones(5)}, 0.1).similarities(lm, ["Oh"])
    with pytest.raises(ValueError, match="does not contain 'zzz'"):
        condition(lm, positions=positions.after("zzz")).similarities(lm, ["Oh"])
    with pytest.raises(ValueError, match="prompts is empty"):
        condition(lm).similarities(lm, [])
