"""One text under several models: what each says of every token, and how that is drawn."""

import pytest
import torch
from architectures import build

from workbench import figures
from workbench.anatomy.token_scores import token_scores
from workbench.interventions.updates import Add, Intervention
from workbench.keeping.edit import edit


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
