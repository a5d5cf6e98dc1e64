"""Trait against coherence: what counts, and where the recommended point lies."""

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench import tradeoff
from workbench.figures import trait_against_coherence


def texts(prompts: int = 6) -> pd.DataFrame:
    rows = [
        {
            "prompt_index": prompt,
            "vector": "vector",
            "coefficient_norm": c,
            "trait": np.nan if c == 0 else 1.0,
            "coherence": 0.2 if c == 1.0 else 1.0,
        }
        for prompt in range(prompts)
        for c in (0.0, 0.5, 1.0)
    ]
    return pd.DataFrame(rows)


def test_broken_texts_show_no_trait() -> None:
    table = tradeoff.curve(tradeoff._counted(texts()), "a way", 0.5).set_index("coefficient")
    assert table["trait"].tolist() == [0.0, 1.0, 0.0]
    assert table["coherence"].tolist() == [1.0, 1.0, 0.2]
    assert table["product"].tolist() == [0.0, 1.0, 0.0]
    assert table["recommended"].tolist() == [False, True, False]


def test_a_method_without_a_recommendation_has_no_point() -> None:
    assert not tradeoff.curve(tradeoff._counted(texts()), "a way")["recommended"].any()


def test_every_way_is_measured_on_prompts_that_chose_nothing() -> None:
    lm = wb.load("wren")
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(0))
    vector = wb.SteeringVector(
        directions={1: direction},
        residual_norm={1: 30.0},
        layer=1,
        method="made up",
        model=lm.name,
        fingerprint=lm.fingerprint,
        provenance={"trait": "mood"},
    )
    choosing = ["Marta & Benno:", "Kaspar & Felix:", "Nora & Dennis:"]
    settings = {"judge": wb.judges.exact, "new_tokens": 16}
    found = tradeoff.tradeoff(
        lm,
        {"one": vector, "same": vector},
        choosing,
        ["Greta & Selma:", "Petra & Carmen:", "Nestor & Pascal:"],
        [0.0, 0.3],
        asking=["<|user|> Tell me a story about Petra, Vera and the letter.</s><|assistant|>"],
        **settings,
    )
    methods = found.groupby("method")["coefficient"].apply(list).to_dict()
    assert methods == {
        "one": [0.0, 0.3],
        "same": [0.0, 0.3],
        tradeoff.RANDOM: [0.0, 0.3],
        tradeoff.PROMPTED: [0.0],
        tradeoff.BOTH: [0.0, 0.3],
    }
    one, same = (found[found["method"] == name] for name in ("one", "same"))
    assert np.allclose(one["trait"], same["trait"])
    with pytest.raises(ValueError, match="share 3 text"):
        tradeoff.tradeoff(lm, {"one": vector}, choosing, choosing, [0.0, 0.3], **settings)


def drawn() -> pd.DataFrame:
    rows = []
    for method, recommended in (("one", 0.5), (tradeoff.RANDOM, np.nan), ("<b>two</b>", np.nan)):
        rows.append(tradeoff.curve(tradeoff._counted(texts()), method, recommended))
    asked = tradeoff._counted(texts())
    rows.append(tradeoff.curve(asked[asked["coefficient_norm"] == 0.5], tradeoff.PROMPTED))
    return pd.concat(rows, ignore_index=True).assign(trait_name="mood")


def test_table_in_words() -> None:
    words = tradeoff.said(drawn()).set_index("method")
    assert words.loc["one", "recommended"] == "0.50"
    assert words.loc["one", "trait there"].startswith("+1.00 [")
    assert words.loc["<b>two</b>", "recommended"] == "–"
    assert words.loc[tradeoff.PROMPTED, "coherence there"].startswith("1.00 [")
    assert words.loc["one", "best trait × coherence"] == "1.00 at 0.50"


def test_figure_marks_recommended_points_and_escapes_names() -> None:
    figure = trait_against_coherence(drawn())
    assert not any("<b>" in (trace.name or "") for trace in figure.data)
    points = [trace for trace in figure.data if trace.mode == "markers"]
    names = {trace.name: list(trace.x) for trace in points}
    assert names["one"] == [1.0]
    assert names["unsteered"] == [0.0]
    assert "&lt;b&gt;two&lt;/b&gt;" not in names
