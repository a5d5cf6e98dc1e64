"""One text under several models: what each says of every token, and how that is drawn."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import build

from workbench import figures
from workbench.generation.token_scores import most_changed, token_scores
from workbench.interventions.updates import Add, Intervention
from workbench.keeping.edit import edit
from workbench.text.positions import generated


def steer(lm, size: float) -> list[Intervention]:
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(0))
    return [Intervention(1, Add(size * direction), 1.0)]


def test_each_token_is_scored_as_by_the_model_alone():
    lm = build("llama")
    prompt, text = "I am", " here now"
    models = {"plain": lm, "steered": (lm, steer(lm, 1.0)), "edited": edit(lm, steer(lm, 1.0))}
    frame = token_scores(models, prompt, text)
    ids = lm.tokenizer(prompt, return_tensors="pt")["input_ids"]
    own = lm.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    whole = torch.cat([ids, own], dim=1)
    with torch.no_grad():
        logits = lm.model(input_ids=whole).logits[0].log_softmax(-1)
    start = ids.shape[1]
    expected = [float(logits[k - 1, whole[0, k]]) for k in range(start, whole.shape[1])]
    table = frame.pivot(index="step", columns="model", values="logprob")
    torch.testing.assert_close(table["plain"].tolist(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(table["steered"].tolist(), table["edited"].tolist())
    assert (table["plain"] - table["steered"]).abs().max() > 0.01
    assert "".join(frame[frame["model"] == "plain"]["token"]) == text


def test_the_figure_draws_a_line_for_each_model():
    lm = build("llama")
    frame = token_scores({"<plain>": lm, "steered": (lm, steer(lm, 1.0))}, "I am", " here")
    figure = figures.logprobs_over_text(frame)
    assert [trace.name for trace in figure.data] == ["&lt;plain&gt;", "steered"]
    assert list(figure.data[1].y) == frame[frame["model"] == "steered"]["logprob"].tolist()


def test_models_of_other_tokenizers_are_refused(stories):
    with pytest.raises(ValueError, match="'other' cuts the completion into other tokens"):
        token_scores({"llama": build("llama"), "other": stories}, "I am", " here")
    with pytest.raises(ValueError, match="models is empty"):
        token_scores({}, "I am", " here")


def test_the_prompts_tokens_are_scored_where_asked():
    lm = build("llama")
    prompt, text = "I am not", " here now"
    # Steered on the completion alone: the prompt's tokens are as without.
    late = [replace(steer(lm, 1.0)[0], positions=generated)]
    models = {"plain": lm, "steered": (lm, late)}
    frame = token_scores(models, prompt, text, with_prompt=True)
    plain, steered = (frame[frame["model"] == name] for name in models)
    ids = lm.tokenizer(prompt)["input_ids"]
    own = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = torch.tensor([[*ids, *own]])
    with torch.no_grad():
        logits = lm.model(input_ids=whole).logits[0].log_softmax(-1)
    expected = [float(logits[k - 1, whole[0, k]]) for k in range(1, whole.shape[1])]
    torch.testing.assert_close(plain["logprob"].tolist(), expected, atol=1e-5, rtol=0)
    assert plain["step"].tolist() == list(range(1 - len(ids), len(own)))
    before = plain["step"] < 0
    gap = (plain["logprob"].to_numpy() - steered["logprob"].to_numpy()).__abs__()
    assert gap[before].max() < 1e-5
    assert gap[~before].max() > 1e-3
    alone = token_scores(models, prompt, text)
    later = frame[frame["step"] >= 0].reset_index(drop=True)
    assert later[["model", "step", "token"]].equals(alone[["model", "step", "token"]])
    torch.testing.assert_close(
        later["logprob"].tolist(), alone["logprob"].tolist(), atol=1e-5, rtol=0
    )
    only = token_scores({"plain": lm}, prompt, "", with_prompt=True)
    assert only["step"].tolist() == list(range(1 - len(ids), 0))
    torch.testing.assert_close(
        only["logprob"].tolist(), expected[: len(ids) - 1], atol=1e-5, rtol=0
    )


def test_ids_of_whatever_kind_are_taken_and_others_refused():
    lm = build("llama")
    expected = token_scores({"m": lm}, "I am", [5, 7])
    assert token_scores({"m": lm}, "I am", np.array([5, 7])).equals(expected)
    for wrong in (True, 1.0, -1, lm.vocabulary):
        with pytest.raises(ValueError, match=f"token id {wrong!r}: give a whole number from 0"):
            token_scores({"m": lm}, "I am", [5, wrong])
    for nothing in ("", []):
        with pytest.raises(ValueError, match="has no tokens to score"):
            token_scores({"m": lm}, "I am", nothing)


def test_the_token_that_changes_most_is_found() -> None:
    scores = pd.DataFrame(
        {
            "model": ["a"] * 3 + ["b"] * 3,
            "step": [0, 1, 2] * 2,
            "logprob": [-1.0, -2.0, -3.0, -1.5, -5.0, -3.0],
        }
    )
    assert most_changed(scores, "a", "b") == 1
    with pytest.raises(ValueError, match="no scores of 'c'"):
        most_changed(scores, "a", "c")
