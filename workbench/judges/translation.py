"""Texts into English, for judges that read English only, by a translation model of transformers.

A text that is in English already stays as it is, as in the published code of Scalena et al. 2024,
https://arxiv.org/abs/2406.17563, whose translator is `PUBLISHED`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from workbench.judges.language import probabilities

PUBLISHED = "facebook/nllb-200-distilled-1.3B"
#: English, as the translators call it that know many languages: NLLB, mBART-50, M2M-100.
_ENGLISH = ("eng_Latn", "en_XX", "en")
#: English, as the translators of one pair of languages call what they write: Marian, FSMT.
_INTO_ENGLISH = ("en", "eng")
# A code of a language among a tokenizer's special tokens, such as ita_Latn; some write __ita__.
_CODE = re.compile(r"(?:__)?([a-z]{2,3}(?:_[A-Za-z]{2,4})?)(?:__)?")
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
    a model that is no translator or writes no English, and for a source that it does not know, or
    needs, ImportError without a language detector or a package that its tokenizer needs, and
    OSError for a model that is not there.
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
    known = _codes(tokenizer)
    if not known:
        _check_pair(name, tokenizer, source)
        return {}
    has = f"its languages are {', '.join(sorted(known))}"
    english = [known[code] for code in _ENGLISH if code in known]
    if not english:
        raise ValueError(f"{name!r} writes no English ({', '.join(_ENGLISH)}): {has}")
    if source is None:
        raise ValueError(f"{name!r} translates many languages: say which; {has}")
    if source not in known:
        raise ValueError(f"language {source!r} is unknown to {name!r}: {has}")
    tokenizer.src_lang = source
    return {"forced_bos_token_id": english[0]}


def _codes(tokenizer: Any) -> Mapping[str, int]:
    """Language -> the token that stands for it; empty of a tokenizer of one pair of languages."""
    if getattr(tokenizer, "lang_code_to_id", None):  # mBART, M2M-100
        return tokenizer.lang_code_to_id
    if getattr(tokenizer, "src_lang", None) is None:
        return {}
    # NLLB keeps its languages as special tokens, beside which stand <s>, <pad> and their like.
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {code[1]: index for text, index in special if (code := _CODE.fullmatch(text))}


def _check_pair(name: str, tokenizer: Any, source: str | None) -> None:
    """Raise ValueError for another source than the one that a translator of one language reads, and
    where it is known to write another language than English."""
    both = (("src_lang", "source_lang"), ("tgt_lang", "target_lang"))  # FSMT, Marian
    reads, writes = (
        next((v for k in names if (v := getattr(tokenizer, k, None))), "") for names in both
    )
    if writes and writes not in _INTO_ENGLISH:
        raise ValueError(
            f"{name!r} writes no English: it translates {reads or 'one language'!r} into {writes!r}"
        )
    if source is not None and source != reads:
        own = f", {reads!r}" if reads else ""
        raise ValueError(f"{name!r} translates one language{own}: leave {source!r} out")
