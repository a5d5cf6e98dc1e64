"""Where an answer ends, and that nothing after it counts."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import pytest
import torch
from architectures import build, tokenizer
from torch import Tensor

from workbench.composition import answers
from workbench.composition.answers import answer_lengths, end_answers, ended
from workbench.composition.compose import compose
from workbench.composition.deltas import StepDeltas, step_deltas, step_means
from workbench.composition.in_context import Example, Examples
from workbench.composition.schedules import Fixed
from workbench.composition.study import compose_study
from workbench.composition.study_prompts import Contrast, Settings, arrange
from workbench.generation.generate import Generation, generate
from workbench.loading.models import LM, load

# A text, the answer in it, and the rest from the token on that follows the one that ends it.
TEXTS: list[tuple[str, str | None, str]] = [
    (" It is so.\n\nQ: And then?", " It is so.", "\nQ: And then?"),
    (" It is so. \nQ: And", " It is so.", "\nQ: And"),
    (" c'è\nQ:", " c'è", "Q:"),  # a letter of two tokens
    ("\nQ: And", "", "Q: And"),
    (" Q: is a letter.\nA", None, ""),
    (" It is so.\n\nQ", None, ""),
]


def tokens(lm: LM, text: str) -> list[int]:
    return lm.tokenizer(text, add_special_tokens=False)["input_ids"]


def table(lm: LM, texts: list[str]) -> tuple[Tensor, Tensor]:
    rows = [torch.tensor(tokens(lm, text)) for text in texts]
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def test_an_answer_ends_with_the_token_that_begins_the_break() -> None:
    lm = build("llama")
    ids, lengths = table(lm, [text for text, *_ in TEXTS])
    wanted = [
        len(tokens(lm, text)) - len(tokens(lm, rest)) for text, _, rest in TEXTS
    ]  # every break is of single tokens
    assert answer_lengths(lm, ids, lengths).tolist() == wanted


def test_a_token_with_words_and_break_ends_an_answer_and_is_in_it() -> None:
    lm = with_token(".\n\n")
    ids, lengths = table(lm, [" It is so.\n\nQ: And"])
    assert int(answer_lengths(lm, ids, lengths)) == len(tokens(lm, " It is so")) + 1
    made = end_answers(lm, generation(ids, lengths))[0]
    assert made.texts == [" It is so."]


def with_token(piece: str) -> Any:
    """What `answers` needs of a model, with one more token."""
    own = copy.deepcopy(tokenizer())
    own.add_tokens([piece])
    return replace_model(build("llama"), own)


def replace_model(lm: LM, own: Any) -> Any:
    class Other:
        tokenizer, model = own, lm.model

    return Other


def generation(ids: Tensor, lengths: Tensor) -> Generation:
    scores = torch.arange(ids.numel(), dtype=torch.float32).view(ids.shape)
    scores = scores.masked_fill(torch.arange(ids.shape[1]) >= lengths[:, None], math.nan)
    given: Any = {"batch": None, "logprobs_unsteered": None, "kl": scores + 1, "overflowed": None}
    return Generation(ids=ids, lengths=lengths, texts=["whole"] * len(ids),
                      logprobs_steered=scores, entropy=scores + 2, **given)  # fmt: skip


def test_all_that_a_text_has_is_cut_with_it() -> None:
    lm = build("llama")
    end: Any = lm.tokenizer.eos_token_id
    ids, lengths = table(lm, [*(text for text, *_ in TEXTS), " It is so."])
    ids[-1, lengths[-1] - 1] = end
    whole = generation(ids, lengths)
    made, ends = end_answers(lm, whole)
    assert ends == [True] * 4 + [False] * 2 + [True]
    assert made.texts == [*("whole" if said is None else said for _, said, _ in TEXTS), "whole"]
    assert made.lengths[:4].tolist() < lengths[:4].tolist()
    assert made.lengths[4:].tolist() == lengths[4:].tolist()
    assert made.logprobs_unsteered is None
    assert made.kl is not None
    for row, length in enumerate(made.lengths.tolist()):
        assert torch.equal(made.ids[row, :length], ids[row, :length])
        assert all(each == lm.tokenizer.pad_token_id for each in made.ids[row, length:].tolist())
        for own, was in ((made.logprobs_steered, whole.logprobs_steered), (made.kl, whole.kl),
                         (made.entropy, whole.entropy)):  # fmt: skip
            assert torch.equal(own[row, :length], was[row, :length])  # type: ignore[index]
            assert own[row, length:].isnan().all()


def test_composed_texts_are_cut_with_their_coefficients() -> None:
    lm = build("llama")
    ids, lengths = table(lm, [" It is so.\n\nQ: And then?"])
    values = torch.randn(3, lm.layers, lm.heads_width(0))
    properties = {"one": StepDeltas(values, tuple(range(lm.layers)))}
    whole = compose(lm, ["Oh"], properties, {"one": Fixed(0.5)}, new_tokens=ids.shape[1],
                    forced=ids)  # fmt: skip
    made, ends = end_answers(lm, whole)
    length = int(made.lengths)
    assert ends == [True]
    assert length < int(lengths)
    assert len(made.frame()) == length
    assert made.coefficients["one"][0].isnan().sum() == ids.shape[1] - length
    assert torch.equal(made.logprobs[:, :length], whole.logprobs[:, :length])
    assert made.logprobs[:, length:].isnan().all()


def test_the_published_rule_knows_single_tokens_alone() -> None:
    lm = with_token("Q:")
    ids, lengths = table(lm, [" It is so.\n\nQ: And", " It is Q: or", " no"])
    made, ends = end_answers(lm, generation(ids, lengths), compat=True)
    assert made.texts == [" It is so.\n\n", " It is ", "whole"]
    assert ends == [True, True, False]
    assert made.lengths.tolist() == [
        len(tokens(lm, text)) for text in (" It is so.\n\nQ:", " It is Q:", " no")
    ]
    two = build("llama")  # "Q" and ":" are two tokens there
    ids, lengths = table(two, [" It is so.\n\nQ: And"])
    made, ends = end_answers(two, generation(ids, lengths), compat=True)
    assert (made.lengths.tolist(), ends) == (lengths.tolist(), [False])


def test_a_text_that_the_model_ended() -> None:
    lm = load("wren")
    end = lm.tokenizer.eos_token_id
    ids = torch.tensor([[5, end, 0], [5, 6, 7], [end, 6, 7]])
    assert ended(lm, ids, torch.tensor([2, 3, 3])) == [True, False, False]


SHOWING = Examples(tuple(Example(f"{n} cats", f"yes {n}") for n in range(30)), "Do.", "ITA")
OPPOSITE = Examples(tuple(Example(f"{n} cats", f"no {n}") for n in range(30)), "Do.", "ENG")


def plainly(lm: LM, prompt: str, ids: list[int]) -> float:
    """The perplexity of ids behind a prompt, by one forward without any of our helpers."""
    before = lm.tokenizer(prompt)["input_ids"]
    with torch.no_grad():
        logits = lm.model(torch.tensor([before + ids])).logits[0, len(before) - 1 : -1]
    return math.exp(float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids))))


STEPS = 6
ONE = Contrast(SHOWING, OPPOSITE)
GIVEN = {"icl_examples": 2, "support": 3, "evaluation_size": 2, "max_new_tokens": STEPS,
         "alphas": (0.5,), "top_p": (0.5,)}  # fmt: skip


def spelled(lm: LM, row: list[int]) -> int:
    """How many tokens begin a third letter, where answers end that have two."""
    return next(n for n in range(1, STEPS + 1) if len(lm.tokenizer.decode(row[:n])) > 2)


def test_a_study_counts_no_token_after_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, settings = build("llama"), Settings(**GIVEN)
    monkeypatch.setattr(answers, "_NEXT", re.compile(r"(?s)(?<=^..)."))
    found = compose_study(lm, ONE, settings=settings)
    arranged = arrange(lm, ONE, None, None, settings)

    def until(lm: LM, ids: Tensor, lengths: Tensor) -> Tensor:
        return torch.tensor([spelled(lm, row) for row in ids.tolist()])

    deltas = {"ITA": step_deltas(lm, *arranged.contrasts["ITA"], steps=STEPS, until=until)}
    assert deltas["ITA"].steps < STEPS
    shown = generate(lm, arranged.shown, new_tokens=STEPS)
    made = compose(lm, arranged.alone, deltas, {"ITA": Fixed(0.5)}, new_tokens=STEPS)
    for row, asked in enumerate(found.questions):
        own, other = made.ids[row].tolist(), shown.ids[row].tolist()
        n, m = spelled(lm, own), spelled(lm, other)
        assert max(n, m) < STEPS
        assert asked["output"]["fixed_0.5"] == made.texts[row][:2].strip()
        assert asked["finish"]["fixed_0.5"] == asked["finish"]["icl"] == "end"
        assert asked["coefficients"]["fixed_0.5"]["ITA"] == [0.5] * n
        assert len(asked["kl"]["dynamic_p0.5"]) == len(asked["coefficients"]["dynamic_p0.5"]["ITA"])
        behind = arranged.shown.prompts[row].text
        said = asked["perplexity"]["fixed_0.5"]
        assert said["shown_by_shown"] == pytest.approx(plainly(lm, behind, other[:m]), rel=1e-4)
        assert said["steered_by_shown"] == pytest.approx(plainly(lm, behind, own[:n]), rel=1e-4)
        steered = math.exp(-float(made.logprobs[row, :n].mean()))
        assert said["steered_by_steered"] == pytest.approx(steered, rel=1e-4)
        forced = compose(lm, [arranged.alone.prompts[row].text], deltas, {"ITA": Fixed(0.5)},
                         new_tokens=m, forced=shown.ids[row : row + 1, :m])  # fmt: skip
        expected = math.exp(-float(forced.logprobs.mean()))
        assert said["shown_by_steered"] == pytest.approx(expected, rel=1e-4)


def test_the_published_study_ends_texts_and_no_deltas(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, settings = build("llama"), Settings(**GIVEN, compat=True)
    arranged = arrange(lm, ONE, None, None, settings)
    deltas = {"ITA": step_deltas(lm, *arranged.contrasts["ITA"], steps=STEPS)}
    made = compose(lm, arranged.alone, deltas, {"ITA": Fixed(0.5)}, new_tokens=STEPS)
    asks = str(lm.tokenizer.decode([int(made.ids[0, 2])]))
    first = next(n for n, token in enumerate(made.ids[0].tolist(), 1)
                 if asks in str(lm.tokenizer.decode([token])))  # fmt: skip
    monkeypatch.setattr(answers, "_QUESTION", asks)
    # Ours would end everything after two letters.
    monkeypatch.setattr(answers, "_NEXT", re.compile(r"(?s)(?<=^..)."))
    asked = compose_study(lm, ONE, settings=settings).questions[0]
    said = str(lm.tokenizer.decode(made.ids[0, : first - 1].tolist()))
    assert asked["output"]["fixed_0.5"] == said.strip()
    assert asked["coefficients"]["fixed_0.5"]["ITA"] == [0.5] * first
    steered = math.exp(-float(made.logprobs[0, :first].mean()))
    found = asked["perplexity"]["fixed_0.5"]["steered_by_steered"]
    assert found == pytest.approx(steered, rel=1e-4)


def test_means_are_over_answers_alone() -> None:
    """Of two texts of which one counts for a step and the other for three."""
    lm, prompts = build("llama"), ["The old fox", "A girl and her dog went"]
    whole, _ = step_means(lm, prompts[1:], STEPS, [0, 2])
    first, _ = step_means(lm, prompts[:1], 1, [0, 2])
    means, alive = step_means(lm, prompts, STEPS, [0, 2], until=lambda *given: torch.tensor([1, 3]))
    assert alive.tolist() == [2, 1, 1]
    torch.testing.assert_close(means[0], (whole[0] + first[0]) / 2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(means[1:], whole[1:3], atol=1e-5, rtol=1e-4)
    made = step_deltas(
        lm, prompts, prompts[1:], steps=STEPS,
        until=lambda _lm, ids, _lengths: torch.tensor([1, 3] if len(ids) == 2 else [2]),
    )  # fmt: skip
    assert made.steps == 2
    assert made.alive is not None
    assert made.alive.tolist() == [[2, 1], [1, 1]]
