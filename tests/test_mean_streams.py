"""Mean streams of several choices from one pass: each as if it were read alone."""

import pytest
import torch
from architectures import build
from conditioned import PROMPTS

import workbench as wb
from workbench.forward import mean_streams as module
from workbench.forward import tracing
from workbench.forward.mean_streams import mean_streams
from workbench.text import positions
from workbench.text.tokens import encode

WANTED = [
    ([1], positions.prompt),
    ([2, tracing.EMBEDDINGS], positions.last_k(2)),
    ([0, 1], positions.content),
    ([2], positions.last),
]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_each_is_what_it_is_alone(name: str) -> None:
    lm = build(name)
    found = mean_streams(lm, PROMPTS[:12], WANTED)
    for (layers, rule), means in zip(WANTED, found, strict=True):
        for row, text in enumerate(PROMPTS[:12]):
            alone = wb.read(lm, [text], layers, rule)
            torch.testing.assert_close(means[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_one_pass_serves_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, passes = build("llama"), []
    read = tracing.activations

    def counted(*args: object, **how: object) -> object:
        passes.append(args[2])
        return read(*args, **how)  # pyright: ignore

    monkeypatch.setattr(tracing, "activations", counted)
    mean_streams(lm, PROMPTS[:5], WANTED)
    assert passes == [[tracing.EMBEDDINGS, 0, 1, 2]]


def test_rows_come_back_in_their_order_from_many_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = build("llama")
    whole = mean_streams(lm, PROMPTS, WANTED)
    monkeypatch.setattr(module, "tokens_at_once", lambda *_: 60)
    for one, many in zip(whole, mean_streams(lm, PROMPTS, WANTED), strict=True):
        torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-5)


def test_completions_are_read_where_a_rule_says_so() -> None:
    lm = build("llama")
    batch = encode(lm, PROMPTS[:3], [" and so", " but", " or not at all"])
    (both, only) = mean_streams(
        lm, batch, [([1], positions.everything), ([1], positions.generated)]
    )
    torch.testing.assert_close(both, wb.read(lm, batch, [1], positions.everything))
    torch.testing.assert_close(only, wb.read(lm, batch, [1], positions.generated))
    assert not torch.allclose(both, only)


def test_a_row_of_which_nothing_is_chosen_is_refused() -> None:
    lm = build("llama")
    with pytest.raises(ValueError, match=r"generated chooses no token of row 0: 'Oh"):
        mean_streams(lm, ["Oh no"], [([1], positions.prompt), ([1], positions.generated)])
    assert mean_streams(lm, ["Oh no"], []) == []
