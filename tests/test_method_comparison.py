"""Methods side by side, on made-up texts whose means, winners and noise are known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from workbench import figures
from workbench.statistics.harmonic import scored
from workbench.studies import method_findings
from workbench.studies.method_comparison import at_the_end, cells, differences, table
from workbench.studies.method_findings import by_trait, edges, headline, verdict

TRAITS = ("power", "mood", "formality", "callous")
# How far each way shows the trait, and its coherence.
WAYS = {
    ("vanilla", ""): (0.0, 1.0),
    ("prompting", ""): (0.9, 0.95),
    ("difference of means", "vector"): (0.2, 0.9),
    ("sft", "vector"): (0.4, 0.9),
    ("split", "vector"): (0.7, 0.9),
    ("sft", "lora"): (0.8, 0.8),
    ("split", "lora"): (0.8, 0.8),
}


def texts(seeds: int = 5, noise: float = 0.05, prompts: int = 6) -> pd.DataFrame:
    """A cell's own level is shared by all ways, much larger than what is between them."""
    rng, rows = np.random.default_rng(0), []
    for trait in TRAITS:
        for seed in range(seeds):
            level = rng.normal(0, 0.2)
            for (method, form), (shown, coherence) in WAYS.items():
                for prompt in range(prompts):
                    here = np.clip(shown + level + rng.normal(0, noise), -1, 1)
                    for rule, m in (("recommended", 1.0), ("best", 2.0)):
                        rows.append(
                            {
                                "trait": trait,
                                "seed": seed,
                                "method": method,
                                "form": form,
                                "rule": rule,
                                "m": m if form else 0.0,
                                "unit": "norm" if method == "difference of means" else "raw",
                                "prompt_index": prompt,
                                "shown": here if rule == "recommended" else 1.0,
                                "coherence": coherence,
                            }
                        )
    return pd.DataFrame(rows)


def test_scores_of_texts() -> None:
    frame = pd.DataFrame(
        {"shown": [1.0, 0.0, -1.0, math.nan, 1.0], "coherence": [1.0, 0.5, 1.0, 0.0, math.nan]}
    )
    found = scored(frame)
    assert found["score"].tolist() == [1.0, 0.5, 0.0, 0.0, 1.0]
    assert found["harmonic"].tolist()[:4] == [1.0, 0.5, 0.0, 0.0]
    assert math.isnan(found["harmonic"].iloc[4])
    for column, value in (("shown", 1.5), ("coherence", -0.1)):
        with pytest.raises(ValueError, match=f"{column} "):
            scored(frame.assign(**{column: value}))


def test_a_table_has_the_means_of_cells() -> None:
    frame = texts()
    found = table(frame)
    assert list(zip(found["method"], found["form"], strict=True)) == list(WAYS)
    assert (found["cells"] == 20).all()
    split = found.set_index(["method", "form"]).loc["split", "vector"]
    own = scored(frame[(frame["rule"] == "recommended") & (frame["method"] == "split")])
    means = own[own["form"] == "vector"].groupby(["trait", "seed"])["harmonic"].mean()
    assert split["harmonic"] == pytest.approx(means.mean())
    assert split["harmonic_low"] < means.mean() < split["harmonic_high"]
    assert (split["m"], split["idle"]) == (1.0, 0)
    assert table(frame, "best").set_index(["method", "form"]).loc["split", "vector"]["m"] == 2.0


def test_unequal_numbers_of_prompts_do_not_weigh_cells() -> None:
    frame = texts(noise=0.0)
    first = (frame["trait"] == "power") & (frame["seed"] == 0)
    fewer = frame[~first | (frame["prompt_index"] == 0)]
    pd.testing.assert_frame_equal(table(frame), table(fewer))


def test_cells_that_do_not_steer_are_counted_and_have_no_coefficient() -> None:
    frame = texts()
    frame.loc[(frame["method"] == "split") & (frame["seed"] < 2), "m"] = 0.0
    found = table(frame).set_index(["method", "form"])
    assert found.loc[("split", "vector"), "idle"] == 8
    assert found.loc[("split", "vector"), "m_low"] == 1.0
    assert found.loc[("vanilla", ""), "idle"] == 0


def test_splits_differences_are_within_cells() -> None:
    """Levels of cells, five times larger than the difference, drop out."""
    found = differences(texts()).set_index(["form", "rival", "outcome"])
    wins = found.loc[("vector", "sft", "harmonic")]
    assert wins["verdict"] == "ahead"
    assert wins["high"] - wins["low"] < 0.1
    assert wins["low"] < wins["difference"] < wins["high"]
    assert (wins["traits_ahead"], wins["traits"], wins["cells"]) == (4, 4, 20)
    assert found.loc[("vector", "prompting", "harmonic"), "verdict"] == "behind"
    assert found.loc[("lora", "sft", "harmonic"), "verdict"] == "not told apart"
    assert found.loc[("vector", "sft", "coherence"), "difference"] == pytest.approx(0)
    rivals = found.xs("lora")["difference"].index.get_level_values("rival").unique()
    assert list(rivals) == ["vanilla", "prompting", "difference of means", "sft"]


def test_no_claim_is_made_where_none_could_be() -> None:
    found = differences(texts(seeds=2))
    assert (found["verdict"] == "too few seeds").all()
    assert "2 seeds of a trait are too few for a claim" in verdict(found)
    assert "too few" in headline(found)


def test_equal_methods_are_rarely_told_apart() -> None:
    """The whole family of comparisons errs in no more than about 5 of 100 studies, for the mean and
    for the traits."""
    rng, wrong = np.random.default_rng(1), 0
    base = texts(prompts=1)
    for _ in range(20):
        shown = np.clip(rng.normal(0, 0.3, len(base)), -1, 1)
        found = differences(base.assign(shown=shown, coherence=0.9))
        own = found[found["outcome"] == "harmonic"]
        wrong += bool((own["verdict"] != "not told apart").any())
    assert wrong <= 4


def test_a_mean_of_opposite_differences_is_no_tie() -> None:
    """Ahead on two traits and behind on the two others, by as much."""
    frame = texts()
    turned = frame["trait"].isin(TRAITS[:2]) & (frame["method"] == "split")
    frame["shown"] = frame["shown"].clip(-0.5, 0.5)
    frame.loc[turned & (frame["form"] == "lora"), "shown"] -= 0.4
    other = ~frame["trait"].isin(TRAITS[:2]) & (frame["method"] == "sft")
    frame.loc[other & (frame["form"] == "lora"), "shown"] -= 0.4
    found = differences(frame).set_index(["form", "rival", "outcome"])
    row = found.loc[("lora", "sft", "score")]
    assert row["verdict"] == "differs by trait"
    assert row["least"] < 0 < row["most"]
    assert row["by_trait"] < 0.001


def test_words() -> None:
    frame = texts()
    said = method_findings.shown(table(frame))
    row = said.set_index(["method", "form"]).loc[("difference of means", "vector")]
    assert row["coefficient m, median (range)"] == "1 (1 to 1) norms"
    assert row["left at 0"] == "0 of 20"
    assert row["coherence"] == "0.90 (all equal)"
    assert said["coefficient m, median (range)"].iloc[0] == "–"
    apart = method_findings.shown_differences(differences(frame))
    assert apart["p (Holm)"].iloc[0] == "<0.001"
    assert apart["by trait"].iloc[0].startswith("+")
    words = verdict(differences(frame))
    assert "ahead: unsteered (vector: +" in words
    assert "behind: asked in the prompt (vector: −" in words
    assert "20 cells of 4 traits, 8 comparisons allowed for" in words
    told = headline(differences(frame))
    assert told.startswith("SPLIT wins against SFT and RePS in its own form: in harmonic mean")
    assert "ahead in 1 of 2 comparisons" in told
    assert "difference of means (ahead as vector and LoRA)" in told
    assert "asked in the prompt (behind as vector and LoRA)" in told
    assert "SPLIT does not win" in headline(differences(frame), "coherence")
    shown = by_trait(frame)
    assert list(shown.columns) == ["method", "form", *TRAITS]


def test_cells_at_the_end_of_what_was_tried_are_counted() -> None:
    frame = texts()
    ours = (frame["method"] == "sft") & (frame["form"] == "lora") & (frame["seed"] == 0)
    frame.loc[ours, "m"] = 5
    trials = pd.DataFrame(
        {
            "method": ["vanilla", "sft", "sft", "sft"],
            "form": ["", "lora", "lora", "vector"],
            "coefficients": ["[0.0]", "[0, 1, 5]", "[0, 5]", "[0, 1, 7]"],
        }
    )
    found = at_the_end(frame, trials)
    assert found.to_dict("records") == [
        {"method": "sft", "form": "lora", "largest": 4, "cells": 20},
        {"method": "sft", "form": "vector", "largest": 0, "cells": 20},
    ]
    assert "SFT as LoRA 4 of 20" in edges(found)
    assert "SFT as vector" not in edges(found)
    told = method_findings.sentences(frame, trials)
    assert told["edges"] == edges(found)
    assert told["wins_best"] == headline(differences(frame, "best"))
    assert edges(found[found["largest"] == 0]).startswith("In no cell")


def test_refused() -> None:
    with pytest.raises(ValueError, match="rule 'worst' is unknown"):
        cells(texts(), "worst")
    frame = texts()
    short = frame[(frame["method"] != "sft") | (frame["seed"] > 0)]
    with pytest.raises(ValueError, match=r"\('sft', .*\) has 16 cells where others have 20"):
        table(short)


def test_the_figure_has_a_panel_a_form_and_a_point_a_method() -> None:
    found = table(texts())
    figure = figures.methods_compared(found, title="made up <b>")
    assert [a.text for a in figure.layout.annotations][:2] == ["Vector", "LoRA"]
    assert "made up &lt;b&gt;" in figure.layout.title.text
    points = [t for t in figure.data if t.mode == "markers"]
    assert [t.name for t in points if t.showlegend] == [
        "unsteered", "asked in the prompt", "difference of means", "SFT", "SPLIT",
    ]  # fmt: skip
    split = next(t for t in points if t.name == "SPLIT")
    row = found.set_index(["method", "form"]).loc[("split", "vector")]
    assert split.x[0] == row["score"]
    assert split.error_y.array[0] == pytest.approx(row["coherence_high"] - row["coherence"])
    assert figure.layout.xaxis.title.text == "Trait (0 to 1)"
    with pytest.raises(ValueError, match="no form to draw"):
        figures.methods_compared(found[found["form"] == ""])
