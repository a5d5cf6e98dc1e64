"""judges: wren's exact judge, and what a sweep asks of any judge."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

from workbench import judges, wren
from workbench.planning import check_judges


@pytest.fixture(scope="module")
def stories_of_wren() -> list[str]:
    return [text for _, text, _ in wren.trait_pairs("mood", 4, 3)]


def test_exact_agrees_with_the_grammar(stories_of_wren: list[str]) -> None:
    prompts = [prompt for prompt, _, _ in wren.trait_pairs("mood", 4, 3)]
    frame = judges.exact(stories_of_wren, prompts, "mood")
    assert list(frame.columns) == ["coherence", "trait", "fit"]
    assert frame["coherence"].tolist() == [wren.coherence(text) for text in stories_of_wren]
    assert frame["trait"].tolist() == [wren.trait(text, "mood") for text in stories_of_wren]
    expected = [wren.fit(p, t).share for p, t in zip(prompts, stories_of_wren, strict=True)]
    np.testing.assert_array_equal(frame["fit"], expected)
    assert (frame["trait"] == 1).all()  # the positive side of mood pairs


def test_exact_sees_collapse(stories_of_wren: list[str]) -> None:
    words = stories_of_wren[0].split() * 3
    random.Random(0).shuffle(words)
    frame = judges.exact([stories_of_wren[0], " ".join(words)], ["", ""], "mood")
    assert frame["coherence"][0] == 1.0
    assert frame["coherence"][1] < 0.5


def test_exact_of_nothing_has_its_columns() -> None:
    frame = judges.exact([], [], "mood")
    assert len(frame) == 0
    assert list(frame.columns) == ["coherence", "trait", "fit"]


def test_exact_refuses_an_unknown_trait_before_any_text() -> None:
    with pytest.raises(
        ValueError, match=r"trait 'charm' cannot be judged in wren's language; .*mood"
    ):
        judges.exact([], [], "charm")


def test_exact_refuses_counts_that_differ() -> None:
    with pytest.raises(ValueError, match="2 texts for 1 prompts"):
        judges.exact(["a", "b"], ["c"], "mood")


def test_judges_may_not_share_columns() -> None:
    def double(texts, prompts, trait) -> pd.DataFrame:
        return pd.DataFrame({"coherence": [1.0] * len(texts)})

    def own(texts, prompts, trait) -> pd.DataFrame:
        return pd.DataFrame({"alert": [1.0] * len(texts)})

    with pytest.raises(ValueError, match="'coherence', which is taken"):
        check_judges([judges.exact, double], "mood")
    with pytest.raises(ValueError, match="'alert', which is taken"):
        check_judges([own], "")
    check_judges([double], "")
