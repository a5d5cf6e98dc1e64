"""Gates: verdicts row by row, as a frame and in the log, and what they make of coefficients."""

import logging
from typing import Any

import pytest
import torch
from architectures import build
from conditioned import PROMPTS, half_met, random_vector

from workbench.conditions import gates
from workbench.conditions.condition import Condition
from workbench.conditions.gates import Gate, gated
from workbench.conditions.logic import parse
from workbench.forward.mean_streams import mean_streams
from workbench.interventions.updates import Add, Intervention, schedule
from workbench.loading.models import LM
from workbench.text import positions
from workbench.text.tokens import encode

RULES = ["if odd and not long then push", "if long then push * 2, turn"]


def gate(lm: LM) -> Gate:
    """Two conditions that read different layers and tokens, and one that no rule uses."""
    odd = half_met(lm).conditions["odd"]
    read = {"layers": [0, 2], "positions": positions.last_k(1)}
    long = Condition.of(random_vector(lm, 2), threshold=0.2, **read)
    idle = Condition.of(random_vector(lm, 3), threshold=0.0)
    conditions = {"odd": odd, "long": long, "idle": idle}
    return Gate(conditions, parse(RULES, list(conditions), ["push", "turn"]))


def test_rules_add_up_row_by_row() -> None:
    lm = build("llama")
    found = gate(lm).judge(lm, encode(lm, PROMPTS[:24]))
    odd, long = found.met["odd"], found.met["long"]
    assert list(found.met) == ["odd", "long"]
    kinds = {(bool(a), bool(b)) for a, b in zip(odd, long, strict=True)}
    assert len(kinds) == 4
    assert torch.equal(found.strengths["push"], (odd & ~long).double() + 2 * long.double())
    assert torch.equal(found.strengths["turn"], long.double())
    for name, condition in gate(lm).used.items():
        assert torch.equal(found.met[name], condition.met(found.similarities[name]))
        alone = condition.similarities(lm, PROMPTS[:24])
        torch.testing.assert_close(found.similarities[name], alone, atol=1e-6, rtol=0)


def test_the_frame_has_a_row_for_each_prompt_condition_and_layer() -> None:
    lm = build("llama")
    found = gate(lm).judge(lm, encode(lm, PROMPTS[:5]))
    frame = found.frame()
    assert list(frame.columns) == [
        "row", "prompt", "condition", "layer", "similarity", "met", "strength push",
        "strength turn",
    ]  # fmt: skip
    assert frame.index.tolist() == list(range(15))
    assert frame["row"].tolist() == [row for row in range(5) for _ in range(3)]
    assert frame["condition"].tolist() == ["odd", "long", "long"] * 5
    assert frame["layer"].tolist() == [1, 0, 2] * 5
    for each in frame.itertuples(index=False):
        assert each.prompt == PROMPTS[each.row]
        assert each.met == bool(found.met[each.condition][each.row])
        column = {("odd", 1): 0, ("long", 0): 0, ("long", 2): 1}[each.condition, each.layer]
        assert each.similarity == float(found.similarities[each.condition][each.row, column])
    assert frame["strength push"].tolist() == found.strengths["push"].repeat_interleave(3).tolist()


def test_verdicts_are_logged_and_the_logger_is_silent_otherwise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lm = build("llama")
    batch = encode(lm, PROMPTS[:2])
    gate(lm).judge(lm, batch)
    assert not caplog.records
    with caplog.at_level(logging.INFO, "workbench.conditions.gates"):
        found = gate(lm).judge(lm, batch)
    assert [each.name for each in caplog.records] == ["workbench.conditions.gates"] * 2
    said = caplog.records[1].getMessage()
    assert said.startswith(f"row 1 {PROMPTS[1]!r}: ")
    assert repr(found.similarities["long"][1].tolist()) in said
    assert repr(bool(found.met["odd"][1])) in said


def test_strengths_multiply_every_kind_of_coefficient() -> None:
    strengths = torch.tensor([0.0, 1.0, -0.5], dtype=torch.float64)
    add = Add(torch.ones(2))

    def scales(coefficient: object, steps: int = 1) -> torch.Tensor:
        (one,) = gated([Intervention(0, add, coefficient)], strengths)  # pyright: ignore
        return schedule(one.coefficient, 3, steps)

    assert scales(3.0)[:, 0].tolist() == [0.0, 3.0, -1.5]
    assert scales(torch.tensor([1.0, 2.0, 4.0]))[:, 0].tolist() == [0.0, 2.0, -2.0]
    assert scales(lambda step: 2.0 * step, 3).tolist() == [[0, 0, 0], [0, 2, 4], [0, -1, -2]]
    # No wider than the coefficient was: float64 does not exist on every device.
    assert scales(0.1).dtype == torch.float32
    assert scales(0.1)[1, 0] == torch.tensor(0.1)
    assert scales(torch.tensor(0.1, dtype=torch.float64)).dtype == torch.float64


def test_coefficients_of_another_batch_are_refused() -> None:
    two = Intervention(0, Add(torch.ones(2)), torch.ones(2))
    with pytest.raises(ValueError, match="2 coefficients for a batch of 3 rows"):
        gated([two], torch.ones(3))


def test_a_rule_about_a_condition_that_is_not_there_is_refused() -> None:
    lm = build("llama")
    rules = parse("if odd then push", ["odd"], ["push"])
    with pytest.raises(ValueError, match=r"no condition 'odd'; there are \['even'\]"):
        Gate({"even": half_met(lm).conditions["odd"]}, rules)


def test_a_similarity_that_is_no_number_is_refused_and_not_read_as_not_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = build("llama")
    gate = half_met(lm).gate

    def broken(*given: Any, **how: Any) -> list[torch.Tensor]:
        return [means * torch.nan for means in mean_streams(*given, **how)]

    monkeypatch.setattr(gates, "mean_streams", broken)
    with pytest.raises(ValueError, match=r"similarity of '.*Oh' with 'odd' is \[nan"):
        gate.judge(lm, encode(lm, ["Oh"]))
