"""Text classifiers as judges: their own probabilities, text by text."""

from __future__ import annotations

import copy

import pytest
import torch
from architectures import tokenizer
from transformers import BertConfig, BertForSequenceClassification, pipeline

from workbench.judges import Written
from workbench.judges.classifiers import classifier


@pytest.fixture(scope="module")
def formality():
    words = copy.deepcopy(tokenizer())
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64, pad_token_id=words.pad_token_id,
        id2label={0: "formal", 1: "casual", 2: "neither"},
        label2id={"formal": 0, "casual": 1, "neither": 2}, initializer_range=1.0,
    )  # fmt: skip
    words.model_max_length = 64
    model = BertForSequenceClassification(config).eval()
    return pipeline("text-classification", model=model, tokenizer=words, device="cpu")


TEXTS = ["yes, it is so", "no", "yes, it is so"]


@pytest.mark.parametrize("label", ["formal", "casual"])
def test_the_probability_of_a_label(formality, label: str) -> None:
    found = classifier(formality, label)([Written(text) for text in TEXTS])["probability"]
    for text, value in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            ids = formality.tokenizer(text, return_tensors="pt")
            wanted = formality.model(**ids).logits.softmax(dim=-1)[0]
        assert value == pytest.approx(float(wanted[formality.model.config.label2id[label]]))
    assert found[0] == found[2] != found[1]


def test_a_text_too_long_is_cut(formality) -> None:
    judged = classifier(formality, "formal")([Written("yes no " * 200)])
    assert judged["probability"].notna().all()


def test_a_text_that_says_nothing_is_in_no_class(formality) -> None:
    found = classifier(formality, "formal")([Written(text) for text in ("", "no", " \n")])
    assert found["probability"].isna().tolist() == [True, False, True]


def test_no_texts_give_no_rows(formality) -> None:
    assert len(classifier(formality, "formal")([])) == 0


def test_an_unknown_label_lists_those_known(formality) -> None:
    with pytest.raises(ValueError, match=r"label 'safe' is not one .* formal, casual, neither"):
        classifier(formality, "safe")


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(OSError, match="nowhere"):
        classifier("./nowhere", "formal")
