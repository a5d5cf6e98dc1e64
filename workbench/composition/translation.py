"""Texts into English, for judges that read English only, by a translation model of transformers.

A text that is in English already stays as it is, as in the published code of Scalena et al. 2024,
https://arxiv.org/abs/2406.17563, whose translator is `PUBLISHED`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm import tqdm

from workbench.judges.language import probabilities

PUBLISHED = "facebook/nllb-200-distilled-1.3B"
#: English, as the translators call it that know many languages: NLLB, mBART-50, M2M-100.
_ENGLISH = ("eng_Latn", "en_XX", "en")
_ROWS = 16


def translator(
    name: str, source: str | None = None, *, device: str | None = None
) -> Callable[[Sequence[str]], list[str]]:
    """Texts to as many in English, by a sequence-to-sequence model; those that are English, more
    likely than not, or hold no letter are given back.

    name    a path or hub id, such as "Helsinki-NLP/opus-mt-it-en", or `PUBLISHED`
    source  the texts' language, as a model of many languages calls it, such as "ita_Latn"; others
            have none

    What a model has no room for is cut from a text's end. Decoding is as the model's own settings
    have it, at most twice as many tokens as the longest text has, and a few. Raises ValueError for
    a model that is no translator and for a source that it does not know, or needs, ImportError
    without a language detector or a package that its tokenizer needs, and OSError for a model that
    is not there.
    """
    probabilities(["a"], "en")  # is the detector there?
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

    config = AutoConfig.from_pretrained(name)
    if not config.is_encoder_decoder:
        raise ValueError(
            f"{name!r} ({config.model_type}) is no sequence-to-sequence model: give a translator, "
            f"such as {PUBLISHED!r}"
        )
    # An encoder may count positions from the first column.
    tokenizer: Any = AutoTokenizer.from_pretrained(name, padding_side="right")
    settings = _languages(name, tokenizer, source)
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(name).to(device or "cpu").eval()
    room = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or 512)

    @torch.no_grad()
    def translate(texts: Sequence[str]) -> list[str]:
        english = probabilities(texts, "en") > 0.5
        foreign = [
            text
            for text, is_english in zip(texts, english, strict=True)
            if not is_english and any(map(str.isalpha, text))
        ]
        # Texts of like length together: little is padding.
        ordered = sorted(dict.fromkeys(foreign), key=len)
        made: dict[str, str] = {}
        with tqdm(total=len(ordered), desc="translating", unit="text", delay=2, leave=False) as bar:
            for start in range(0, len(ordered), _ROWS):
                own = ordered[start : start + _ROWS]
                given = tokenizer(
                    own, return_tensors="pt", padding=True, truncation=True, max_length=room
                ).to(model.device)
                given.pop("token_type_ids", None)
                most = min(2 * given["input_ids"].shape[1] + 16, room - 1)
                ids = model.generate(**given, **settings, max_length=None, max_new_tokens=most)
                said = tokenizer.batch_decode(ids, skip_special_tokens=True)
                made |= zip(own, map(str.strip, said), strict=True)
                bar.update(len(own))
        return [made.get(text, text) for text in texts]

    return translate


def _languages(name: str, tokenizer: Any, source: str | None) -> dict[str, int]:
    """Tell a tokenizer of many languages which one it reads; what `generate` needs to write
    English."""
    many = getattr(tokenizer, "src_lang", None) is not None or hasattr(tokenizer, "lang_code_to_id")
    if not many:
        if source is not None:
            raise ValueError(f"{name!r} translates one language: leave {source!r} out")
        return {}
    if source is None:
        raise ValueError(f"{name!r} translates many languages: say which, such as 'ita_Latn'")
    known = tokenizer.get_vocab()
    # M2M-100 writes its languages' tokens as __en__.
    places = {code: known.get(f"__{code}__", known.get(code)) for code in (source, *_ENGLISH)}
    if places[source] is None:
        raise ValueError(f"language {source!r} is unknown to {name!r}")
    tokenizer.src_lang = source
    return {"forced_bos_token_id": next(i for c in _ENGLISH if (i := places[c]) is not None)}
