"""Streams of steered rows at the steered layer and after it, against forwards of one row each."""

import numpy as np
import pytest
import torch
from architectures import NAMES, SENTENCES, build
from made_up import made_up

from workbench.forward import tracing
from workbench.geometry.downstream import Record, Seen, steered_streams
from workbench.interventions.updates import Intervention
from workbench.loading.models import LM
from workbench.text.positions import content, generated, mask, select
from workbench.text.tokens import Batch, encode

COEFFICIENTS = (-0.4, 0.0, 0.7)


def seen(lm: LM, batch: Batch, layers, touched=None, **options) -> list[Seen]:
    """Every row under every coefficient, of a made-up vector at layer 1."""
    vector = made_up(lm)
    touched = select(lm, batch, content) if touched is None else touched
    rows = torch.arange(len(batch)).repeat_interleave(len(COEFFICIENTS))
    coefficients = torch.tensor(COEFFICIENTS, dtype=torch.float64).repeat(len(batch))
    return list(
        steered_streams(lm, batch, vector.at, rows, coefficients, layers, touched, **options)
    )


def together(parts: list[Seen], name: str) -> torch.Tensor:
    return torch.cat([getattr(part, name) for part in parts])


@torch.no_grad()
def check(lm: LM, layers: tuple[int, ...]) -> None:
    batch = encode(lm, [SENTENCES[0], SENTENCES[5][:20], SENTENCES[2]])
    touched = select(lm, batch, content)
    found = seen(lm, batch, layers)
    vector = made_up(lm)
    rows, coefficients = together(found, "rows"), together(found, "coefficients")
    count = 0
    for row in range(len(batch)):
        alone, own = batch.select([row]).trimmed(), touched[[row]]
        own = own[:, -alone.width :]
        plain = tracing.activations(lm, alone, layers, mask(own)).values
        logits = tracing.forward(lm, alone, (), lambda all: all)
        for coefficient in COEFFICIENTS:
            mine = (rows == row) & (coefficients == coefficient)
            steered = vector.at(coefficient)
            exact = tracing.activations(lm, alone, layers, mask(own), interventions=steered).values
            np.testing.assert_allclose(together(found, "before")[mine], plain, atol=1e-4)
            np.testing.assert_allclose(together(found, "after")[mine], exact, atol=1e-4)
            positions = together(found, "positions")[mine]
            assert positions.tolist() == alone.positions[own].tolist()
            changed = tracing.forward(lm, alone, steered, lambda all: all)
            p, q = (each.double().log_softmax(-1)[own] for each in (changed, logits))
            kl = (p.exp() * (p - q)).sum(-1)
            np.testing.assert_allclose(together(found, "kl")[mine], kl, atol=1e-4)
            loss = -tracing.logprobs(lm, alone, steered)[0]
            exact_loss = torch.cat([loss[1:], torch.tensor([torch.nan])])[own[0]]
            np.testing.assert_allclose(together(found, "loss")[mine], exact_loss, atol=1e-4)
            count += int(mine.sum())
    assert count == len(rows)


def test_every_row_is_as_alone(tiny: LM) -> None:
    check(tiny, (1, 2))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "llama"][::4])
def test_on_other_architectures(name: str) -> None:
    check(build(name), (2,))


def test_nothing_changes_at_zero_and_only_after_the_steered_layer(tiny: LM) -> None:
    batch = encode(tiny, list(SENTENCES[:3]))
    parts = seen(tiny, batch, (1, 2))
    still = together(parts, "coefficients") == 0
    assert torch.equal(together(parts, "after")[still], together(parts, "before")[still])
    assert float(together(parts, "kl")[still].max()) == 0
    moved = together(parts, "after")[~still][:, 0] - together(parts, "before")[~still][:, 0]
    c = together(parts, "coefficients")[~still]
    np.testing.assert_allclose(moved.norm(dim=1), 30 * c.abs(), rtol=1e-4)


def test_little_memory_gives_the_same(tiny: LM) -> None:
    batch = encode(tiny, list(SENTENCES[:4]))
    one, other = (seen(tiny, batch, (2,), memory=m) for m in (1 << 28, 1 << 15))
    assert len(other) > len(one)
    for name in ("after", "kl"):
        sums = [
            sorted(together(parts, name).sum(-1).reshape(-1).tolist()) for parts in (one, other)
        ]
        np.testing.assert_allclose(*sums, atol=1e-2)


def test_only_some_rows_and_tokens(tiny: LM) -> None:
    batch = encode(tiny, list(SENTENCES[:3]), [" and so", " it", " is"])
    touched = select(tiny, batch, generated)
    (found,) = steered_streams(
        tiny,
        batch,
        made_up(tiny).at,
        torch.tensor([2, 0]),
        torch.tensor([0.5, 0.1]),
        [2],
        touched,
    )
    counts = {row: int((found.rows == row).sum()) for row in range(3)}
    assert counts == {0: int(touched[0].sum()), 1: 0, 2: int(touched[2].sum())}
    assert set(found.coefficients[found.rows == 2].tolist()) == {0.5}


def test_a_plain_function_steers_too(tiny: LM) -> None:
    batch = encode(tiny, [SENTENCES[0]])
    touched = select(tiny, batch, content)

    def halved(coefficients: torch.Tensor) -> list[Intervention]:
        return [Intervention(0, lambda hidden, scale: hidden * (1 - scale / 2), coefficients)]

    rows, ones = torch.zeros(1, dtype=torch.long), torch.ones(1)
    (found,) = steered_streams(tiny, batch, halved, rows, ones, [0, 2], touched)
    np.testing.assert_allclose(found.after[:, 0], found.before[:, 0] / 2, rtol=1e-5)
    assert not torch.allclose(found.after[:, 1], found.before[:, 1])


def test_bad_input_is_refused(tiny: LM) -> None:
    batch = encode(tiny, list(SENTENCES[:2]))
    touched = select(tiny, batch, content)
    rows, ones = torch.tensor([0, 1]), torch.ones(2)
    given = (tiny, batch, made_up(tiny).at)
    with pytest.raises(ValueError, match="from 1 on"):
        next(steered_streams(*given, rows, ones, [0, 2], touched))
    with pytest.raises(ValueError, match="name some from 1 on"):
        next(steered_streams(*given, rows, ones, [], touched))
    with pytest.raises(ValueError, match="one coefficient for each row"):
        next(steered_streams(*given, rows, ones[:1], [2], touched))
    with pytest.raises(ValueError, match="layer 3 is out of range"):
        next(steered_streams(*given, rows, ones, [3], touched))


def test_a_record_changes_nothing() -> None:
    record, hidden = Record(), torch.randn(2, 3, 4)
    assert record(hidden, torch.ones(2, 3, 1)) is hidden
    assert record.seen is hidden
