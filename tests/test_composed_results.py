"""Results files: written, judged later and again, and read when the published code wrote them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench import judges
from workbench.composition import results as composed_results
from workbench.composition.results import (
    Results,
    in_english,
    judge_again,
    load_results,
    save_results,
)
from workbench.judges import Written

QUESTIONS = [
    {
        "prompt": "Q: What?\nA:",
        "gold": "So.",
        "output": {"icl": "così è", "fixed_1.0": "it is so"},
        "finish": {"icl": "end", "fixed_1.0": "length"},
        "perplexity": {"fixed_1.0": {"delta_perplexity": 0.5, "shown_by_shown": math.nan}},
        "coefficients": {"fixed_1.0": {"one": [1.0, 1.0], "two": [0.5, 0.25]}},
        "kl": {"fixed_1.0": [0.1, np.float32(0.2)]},
    },
    {"prompt": "Q: Why?\nA:", "gold": "It.", "output": {"icl": "", "fixed_1.0": "così"}},
]


def kept(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "results.json"
    save_results(Results([dict(each) for each in QUESTIONS], {"model": "tiny"}), path)
    return path


def length(written: Sequence[Written]) -> list[int]:
    return [len(each.text) for each in written]


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    found = load_results(kept(tmp_path))
    assert found.about == {"model": "tiny"}
    assert [each["output"] for each in found.questions] == [each["output"] for each in QUESTIONS]
    frame = found.frame()
    assert frame["text"].tolist() == ["così è", "it is so", "", "così"]
    assert frame["question"].tolist() == [0, 0, 1, 1]
    assert frame["finish"].tolist() == ["end", "length", "length", "length"]
    assert frame["delta_perplexity"][1] == 0.5
    assert frame["delta_perplexity"].isna().sum() == 3
    assert frame.attrs == {"model": "tiny"}
    assert "NaN" not in (tmp_path / "deep" / "results.json").read_text()


def test_coefficients_as_a_frame(tmp_path: Path) -> None:
    traces = load_results(kept(tmp_path)).traces()
    assert list(traces) == [
        "question", "strategy", "property", "step", "coefficient", "kl",
    ]  # fmt: skip
    assert traces[traces["property"] == "two"]["coefficient"].tolist() == [0.5, 0.25]
    assert traces["kl"].tolist() == pytest.approx([0.1, 0.2, 0.1, 0.2])
    assert len(Results([{"output": {"icl": "a"}}]).traces()) == 0


def test_texts_are_judged_later_and_again(tmp_path: Path) -> None:
    path = kept(tmp_path)
    first = judge_again(path, {"length": length})
    assert first["length_value"].tolist() == [6, 8, 0, 4]
    seen: list[Written] = []

    def ends(written: Sequence[Written]) -> pd.DataFrame:
        seen.extend(written)
        nothing = [math.nan if not each.text else 1.0 for each in written]
        return pd.DataFrame({"said": nothing, "end": [each.finish for each in written]})

    again = judge_again(path, {"ends": ends, "length": lambda written: [0] * len(written)})
    assert again["length_value"].tolist() == [0, 0, 0, 0]
    assert again["ends_end"].tolist() == ["end", "length", "length", "length"]
    assert again["ends_said"].isna().tolist() == [False, False, True, False]
    assert seen[0] == Written("così è", "Q: What?\nA:", "end")
    loaded = load_results(path)
    pd.testing.assert_frame_equal(loaded.frame(), again)
    assert set(loaded.about["judges"]) == {"ends", "length"}
    assert [each["output"] for each in loaded.questions] == [each["output"] for each in QUESTIONS]


def test_a_judge_of_the_package_serves(tmp_path: Path) -> None:
    found = judge_again(kept(tmp_path), {"exact": partial(judges.exact, trait="italian")})
    assert {"exact_coherence", "exact_trait"} <= set(found)
    assert found.attrs["judges"] == {"exact": "workbench.judges.exact italian"}


def test_a_judge_that_reads_english_is_given_translations(tmp_path: Path) -> None:
    asked: list[str] = []

    def translate(texts: Sequence[str]) -> list[str]:
        asked.extend(texts)
        return [text.replace("così", "so") for text in texts]

    found = judge_again(kept(tmp_path), {"safety": in_english(length, translate)})
    assert found["safety_english"].tolist() == ["so è", "it is so", "", "so"]
    assert found["safety_value"].tolist() == [4, 8, 0, 2]
    assert found["text"].tolist() == ["così è", "it is so", "", "così"]
    assert asked == ["così è", "it is so", "così"]
    with pytest.raises(ValueError, match="translate gave 0 texts for 3"):
        judge_again(kept(tmp_path), {"safety": in_english(length, lambda texts: [])})


def test_files_of_the_published_code_are_judged_in_place(tmp_path: Path) -> None:
    path = tmp_path / "results_icl4_tok30_ITA-ENG.json"
    own = [
        {
            "prompt": "Q: Che?\nA:", "gold": "Sì.",
            "output": {"icl": "sì", "dynamic_p0.5": "sì", "edited_1.5": "no"},
            "perplexity": {"icl": 3.0, "delta_dynamic_0.5": 1.25, "delta_edited_1.5": 2.5},
            "additional": {"0.5_dynamic_alphas": [1.0]},
        }
    ]  # fmt: skip
    path.write_text(json.dumps(own), "utf-8")
    found = judge_again(path, {"length": length})
    assert found["delta_perplexity"].tolist() == [3.0, 1.25, 2.5]
    assert found["length_value"].tolist() == [2, 2, 2]
    (after,) = json.loads(path.read_text("utf-8"))
    assert after.pop("judged")
    assert after == own[0]


def test_a_judge_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = kept(tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="the judge 'few' gave 1 rows for 4 texts"):
        judge_again(path, {"length": length, "few": lambda written: [1]})
    for wrong in ({}, [length], {"length": 3}):
        with pytest.raises(ValueError, match="give a name and a function for each"):
            judge_again(path, wrong)  # type: ignore[arg-type]
    assert path.read_bytes() == before


def test_nothing_to_judge_is_seen_before_a_judge_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('[{"output": {}}]')
    with pytest.raises(ValueError, match="holds no text to judge"):
        judge_again(path, {"length": length})


@pytest.mark.parametrize(
    "content", ["", "[", "3", "{}", '[{"prompt": ""}]', '[{"output": {"icl": 3}}]',
                '{"format": "workbench.composed/1", "results": []}'],
)  # fmt: skip
def test_files_that_hold_something_else_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"results\.json"):
        load_results(path)
    with pytest.raises(FileNotFoundError, match="no file at"):
        load_results(tmp_path / "none.json")


def test_a_text_with_half_a_character_is_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    composed_results.save_results(Results([{"output": {"icl": "a\ud800"}}]), path)
    assert load_results(path).questions[0]["output"]["icl"] == "a?"
