"""Trait against coherence: what counts, and where the recommended point lies."""

import numpy as np
import pandas as pd
import pytest
from made_up import made_up

import workbench as wb
from workbench.figures import trait_against_coherence
from workbench.studies.tradeoff_findings import grids_said
from workbench.sweeps import tradeoff


def texts(prompts: int = 6) -> pd.DataFrame:
    rows = [
        {
            "prompt_index": prompt,
            "vector": "vector",
            "coefficient_norm": c,
            "trait": -0.5 if c == 0 else 1.0,
            "coherence": 0.2 if c == 1.0 else 1.0,
        }
        for prompt in range(prompts)
        for c in (0.0, 0.5, 1.0)
    ]
    return pd.DataFrame(rows)


def gained(frame: pd.DataFrame | None = None, sign: int = 1) -> pd.DataFrame:
    frame = texts() if frame is None else frame
    return tradeoff.gains(frame, frame, sign)


def test_broken_texts_gain_nothing() -> None:
    table = tradeoff.curve(gained(), "a way", 0.5).set_index("coefficient")
    assert table["gain"].tolist() == [0.0, 1.5, 0.0]
    assert table["coherence"].tolist() == [1.0, 1.0, 0.2]
    assert table["product"].tolist() == [0.0, 1.5, 0.0]
    assert table["recommended"].tolist() == [False, True, False]


def test_texts_that_all_agree_leave_an_interval() -> None:
    """Six that gain nothing do not show that none ever would."""
    table = tradeoff.curve(gained(), "a way").set_index("coefficient")
    assert table.loc[0.0, "gain_low"] < 0 < table.loc[0.0, "gain_high"]


def test_gains_are_counted_the_way_the_sign_says() -> None:
    table = tradeoff.curve(gained(sign=-1), "a way").set_index("coefficient")
    assert table["gain"].tolist() == [0.0, -1.5, 0.0]


def test_prompts_that_break_unsteered_are_left_out_and_so_are_unknown_texts() -> None:
    frame = texts()
    frame.loc[(frame["prompt_index"] == 0) & (frame["coefficient_norm"] == 0), "coherence"] = 0.1
    frame.loc[(frame["prompt_index"] == 1) & (frame["coefficient_norm"] == 0.5), "coherence"] = None
    table = tradeoff.curve(gained(frame), "a way").set_index("coefficient")
    assert table["prompts"].tolist() == [5, 4, 5]


def test_other_prompts_gain_over_the_mean_unsteered_text() -> None:
    own = texts()
    own.loc[(own["prompt_index"] == 0) & (own["coefficient_norm"] == 0), "trait"] = 0.1
    asked = own[own["coefficient_norm"] == 0.5].assign(coefficient_norm=0.0, prompt_index=99)
    found = tradeoff.gains(asked, own, 1, same=False)
    assert np.allclose(found["gain"], 1.0 - (0.1 - 5 * 0.5) / 6)


def test_the_best_in_hindsight_is_best_for_the_sign() -> None:
    """An unsteered trait of the other kind, however strong, is not what steering gives."""
    frame = texts().assign(coefficient_norm=lambda f: -f["coefficient_norm"])
    frame["trait"] = np.where(frame["coefficient_norm"] == 0, 1.0, -0.5)
    words = tradeoff.said(tradeoff.curve(gained(frame, -1), "a way").assign(trait_name="x"))
    assert words["best gain × coherence, in hindsight"].tolist() == ["1.50 at -0.50"]


def test_a_method_without_a_recommendation_has_no_point() -> None:
    assert not tradeoff.curve(gained(), "a way")["recommended"].any()


def test_every_way_is_measured_on_prompts_that_chose_nothing() -> None:
    lm = wb.load("wren")
    vector = made_up(lm, trait="mood")
    choosing = ["Marta & Benno:", "Kaspar & Felix:", "Nora & Dennis:"]
    settings = {"judge": wb.judges.exact, "new_tokens": 40}
    found = tradeoff.tradeoff(
        lm,
        {"one": vector, "same": vector},
        choosing,
        ["Greta & Selma:", "Petra & Carmen:", "Nestor & Pascal:"],
        [0.0, 0.15, 0.3],
        asking=["<|user|> Tell me a story about Petra, Vera and the letter.</s><|assistant|>"],
        **settings,
    )
    methods = found.groupby("method")["coefficient"].apply(list).to_dict()
    assert methods == {
        "one": [0.0, 0.15, 0.3],
        "same": [0.0, 0.15, 0.3],
        tradeoff.RANDOM: [0.0, 0.15, 0.3],
        tradeoff.PROMPTED: [0.0],
        tradeoff.BOTH: [0.0, 0.15, 0.3],
    }
    one, same = (found[found["method"] == name] for name in ("one", "same"))
    assert np.allclose(one["gain"], same["gain"])
    for wrong in ([0.3, 0.5], [-0.3, 0.0, 0.3]):
        with pytest.raises(ValueError, match="one sign and 0"):
            tradeoff.tradeoff(lm, {"one": vector}, choosing, choosing, wrong, **settings)
    with pytest.raises(ValueError, match="share 3 text"):
        tradeoff.tradeoff(lm, {"one": vector}, choosing, choosing, [0.0, 0.3], **settings)


def drawn() -> pd.DataFrame:
    rows = []
    for method, recommended in (("one", 0.5), (tradeoff.RANDOM, np.nan), ("<b>two</b>", np.nan)):
        rows.append(tradeoff.curve(gained(), method, recommended))
    asked = gained()
    asked = asked[asked["coefficient_norm"] == 0.5].assign(coefficient_norm=0.0)
    rows.append(tradeoff.curve(asked, tradeoff.PROMPTED))
    return pd.concat(rows, ignore_index=True).assign(trait_name="mood")


def test_table_in_words() -> None:
    words = tradeoff.said(drawn()).set_index("method")
    assert words.loc["one", "recommended"] == "0.50"
    assert words.loc["one", "gain there"].startswith("+1.50 [")
    assert words.loc["<b>two</b>", "gain there"] == "–"
    assert words.loc[tradeoff.PROMPTED, "coherence there"].startswith("1.00 [")
    assert words.loc["one", "best gain × coherence, in hindsight"] == "1.50 at 0.50"


def test_figure_marks_recommended_points_and_escapes_names() -> None:
    figure = trait_against_coherence(drawn())
    assert not any("<b>" in (trace.name or "") for trace in figure.data)
    points = [trace for trace in figure.data if trace.mode == "markers"]
    names = {trace.name: list(trace.x) for trace in points}
    assert names["one"] == [1.5]
    assert names["unsteered"] == [0.0]
    assert "&lt;b&gt;two&lt;/b&gt;" not in names
    curves = [trace for trace in figure.data if trace.mode == "lines+markers"]
    looks = {trace.name: (trace.line.width, trace.marker.symbol) for trace in curves}
    assert looks["one"][0] > looks["&lt;b&gt;two&lt;/b&gt;"][0]  # what lies below is seen
    assert len({symbol for _, symbol in looks.values()}) == len(looks)


def test_it_is_said_on_what_grid_the_methods_are_compared() -> None:
    tables = [
        tradeoff.curve(gained(), method, chosen).assign(trait_name="mood", chosen_on=6)
        for method, chosen in (("first", 0.5), ("second", 1.0))
    ]
    table = pd.concat(tables, ignore_index=True)
    assert grids_said(table) == (
        "Here coefficients are chosen on 6 prompts, in steps of 0.5 residual norms, the same for "
        "all methods (first: +0.50 for mood)."
    )
    none = table.assign(recommended=False)
    assert grids_said(none).endswith("the same for all methods.")
