"""The card: exact figures of texts whose truth is known, and honest verdicts."""

import json
import math
from pathlib import Path
from random import Random

import pytest
import torch

from workbench.generation.generate import generate
from workbench.loading import models
from workbench.statistics.intervals import Interval, wilson
from workbench.text.tokens import Batch
from workbench.wren import card, measure, realism, scorecard, write
from workbench.wren.contrast import asking_prompts
from workbench.wren.grammar import Document
from workbench.wren.judge import read
from workbench.wren.measure import Completion
from workbench.wren.prompts import read_prompt
from workbench.wren.realism import summary
from workbench.wren.scorecard import OBEYED, STRATA, Row, applies, asking, opening, shares, table
from workbench.wren.traits import LANGUAGE_SCORES, traits


def whole(*texts: str) -> list[Completion]:
    return [Completion(text, "end", False) for text in texts]


def written(kinds: tuple[str, ...], n: int, asked: dict[str, str]) -> list[Completion]:
    """What the grammar itself answers."""
    rng = Random(f"{kinds} {asked}")
    documents = (write(rng, kind=kinds[i % len(kinds)], asked=asked) for i in range(n))
    return [completion for document in documents for completion in whole(*document.completions)]


# --- verdicts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.97, 0.96, 0.98, "met"),
        (0.97, 0.94, 0.98, "met, interval crosses"),
        (0.95, 0.95, 0.95, "met"),
        (0.949, 0.94, 0.97, "missed"),
        (math.nan, 0.0, 1.0, "missed"),
    ],
)
def test_verdict_on_a_lower_bound(value: float, low: float, high: float, verdict: str) -> None:
    assert Row("obeys", "tasks", Interval(value, low, high, 9), low=0.95).verdict == verdict


def test_verdict_on_two_bounds_and_without_any() -> None:
    def verdict(value: float, low: float, high: float) -> str:
        return Row("share", "tasks", Interval(value, low, high, 9), 0.35, 0.65).verdict

    assert verdict(0.5, 0.4, 0.6) == "met"
    assert verdict(0.6, 0.5, 0.66) == verdict(0.4, 0.34, 0.5) == "met, interval crosses"
    assert verdict(0.66, 0.5, 0.7) == verdict(0.34, 0.3, 0.5) == "missed"
    assert Row("loss", "documents", Interval(0.3, 0.2, 0.4, 9)).verdict == ""


def test_none_of_five_hundred_refused_settles_one_per_cent() -> None:
    rows = [Row("refused", "harmless", wilson(hits, 500), high=0.01) for hits in (0, 5, 6)]
    assert [row.verdict for row in rows] == ["met", "met, interval crosses", "missed"]


def test_the_table_and_tally_say_all_verdicts() -> None:
    rows = [
        Row("a", "all", Interval(0.5, 0.4, 0.6, 7), 0.35, 0.65),
        Row("b", "all", Interval(0.5, 0.3, 0.6, 7), 0.35, 0.65),
        Row("c", "all", Interval(0.5, 0.4, 0.6, 7), low=0.9),
        Row("d", "all", Interval(0.5, 0.4, 0.6, 7)),
    ]
    frame = table(rows)
    assert frame["verdict"].tolist() == ["met", "met, interval crosses", "missed", ""]
    assert frame["target"].tolist() == ["0.35 to 0.65", "0.35 to 0.65", "at least 0.9", ""]
    assert card.tally(rows) == (
        "Of 3 targets 1 are met, 1 more are met with an interval that crosses, 1 are missed."
    )


# --- figures of the grammar's own texts ----------------------------------------------------


@pytest.mark.parametrize(("name", "sign"), OBEYED)
def test_the_grammar_obeys_itself(name: str, sign: int) -> None:
    language = name in LANGUAGE_SCORES
    trait = "language" if language else name
    value = LANGUAGE_SCORES[name] if language else traits[name].values[0 if sign > 0 else 1]
    for stratum in ("stories asked for", "questions", "tasks"):
        kinds = tuple(kind for kind in STRATA[stratum][0] if kind in traits[trait].kinds)
        if not kinds:
            assert not applies(name, STRATA[stratum][0])
            continue
        texts = written(kinds, 12, {trait: value})
        found = measure.obedience(texts, name, sign)
        assert found.value == 1, (stratum, found)
        assert found.count >= 5
        if not language:
            assert measure.obedience(texts, name, -sign).value == 0


def test_shares_of_the_grammar_meet_their_targets_for_each_kind_of_prompt() -> None:
    texts = {stratum: written(kinds, 400, {}) for stratum, (kinds, _) in STRATA.items()}
    rows = shares(texts)
    assert {row.verdict for row in rows} <= {"met", "met, interval crosses"}
    strata = [row.prompts for row in rows if row.name == "share of mood"]
    assert strata == ["titled stories", "stories asked for"]
    assert [row.prompts for row in rows if row.name == "share of power"] == ["questions"]


def test_texts_that_show_nothing_disobey_unless_they_are_whole() -> None:
    yes = written(("task",), 1, {"refusal": "refuse"})
    found = measure.obedience([*yes, *whole("Xyzzy plugh.")], "refusal", 1)
    assert (found.value, found.count) == (0.5, 2)
    assert measure.obedience([*yes, *whole("So no.")], "refusal", 1).count == 1


def test_sentences_that_parse_are_counted_one_by_one() -> None:
    clean = written(("plain",), 40, {})
    total = sum(len(read(one.text).sentences) for one in clean)
    found = measure.sentences_that_parse(clean)
    assert (found.value, found.high, found.count) == (1, 1, 40)
    assert found.low == pytest.approx(wilson(total, total).low)  # a bootstrap has no width here
    spoilt = measure.sentences_that_parse([*clean, *whole("Xyzzy plugh. Xyzzy.")])
    assert spoilt.value == total / (total + 2)
    assert spoilt.low < spoilt.value < spoilt.high
    unfinished = [*clean, Completion("So no. And then", "end", False)]
    assert measure.sentences_that_parse(unfinished).value == (total + 1) / (total + 2)


def test_wholeness_uses_how_a_text_ends() -> None:
    text = written(("plain",), 1, {})[0].text
    cut = text[: text.rindex(" ")]
    for finish in ("length", "end"):
        found = measure.wholeness([Completion(cut, finish, True)] * 2)  # pyright: ignore
        assert (found["coherence"].value == 1) == (finish == "length")
        assert found["roles kept"].value == 1
        assert found["texts that loop"].value == 1


# --- prompts -------------------------------------------------------------------------------


def test_prompts_are_of_their_kind_and_ask_what_they_should() -> None:
    for prompt in asking("formality", -1, ("power", "callous"), 12, 1):
        found = read_prompt("<s>" + prompt)
        assert (found.asked, found.kind in ("power", "callous")) == (
            {"formality": "informal"},
            True,
        )
    for prompt in asking("french", 1, ("task",), 6, 1):
        assert read_prompt("<s>" + prompt).asked == {"language": "fr"}
    assert {read_prompt("<s>" + p).kind for p in opening(("power", "task"), 6, 2)} == {
        "power",
        "task",
    }
    assert all(not read_prompt("<s>" + p).asked for p in opening(("plain", "task"), 10, 2))


def test_asking_for_a_trait_where_it_cannot_show_is_refused() -> None:
    with pytest.raises(ValueError, match="mood shows in none of task"):
        asking_prompts("mood", "positive", 3, 0, ("task",))


# --- models --------------------------------------------------------------------------------


def test_completions_know_why_they_end_and_whether_they_loop(stories: models.LM) -> None:
    made = generate(stories, ["Once upon a time", "One day"], new_tokens=12, score=False)
    assert [one.finish for one in measure.completions(stories, made)] == ["length", "length"]
    end = stories.tokenizer.eos_token_id
    made.ids[0, 5], made.lengths[0] = end, 6
    made.ids[1, :12] = torch.tensor([300, 301, 302] * 4)
    found = measure.completions(stories, made)
    assert [one.finish for one in found] == ["end", "length"]
    assert found[1].loops
    made.ids[1, :12] = torch.arange(300, 312)
    assert not measure.loops(made)[1]


def test_realism_of_another_model(stories: models.LM) -> None:
    found = summary(stories, count=8)
    assert len(found.by_layer) == stories.layers
    assert all(norm > 0 for norm in found.by_layer)
    assert found.first > 0
    assert 0 < found.dimensions <= 1
    assert 1 < found.tokens_per_word < 6
    assert 0 <= found.loops <= 1
    assert list(found.norms()) == ["model", *(f"layer {i}" for i in range(stories.layers))]


def test_a_card_is_written_beside_another_model(
    stories: models.LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realism, "DOCUMENTS", 300)
    monkeypatch.setattr(realism, "ambiguity", lambda: "said in words")
    monkeypatch.setattr(realism, "summary", lambda model: summary(model, count=8))
    few = {stratum: (kinds, 4) for stratum, (kinds, _) in STRATA.items()}
    monkeypatch.setattr(scorecard, "STRATA", few)
    lm = models.load(Path(card.__file__).parent / "model")
    met = card.write_card(lm, tmp_path, [stories], scale=0.0)
    record = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    verdicts = [row["verdict"] for row in record["figures"]]
    assert met == ("missed" not in verdicts)
    assert (record["fingerprint"], record["scale"]) == (lm.fingerprint, 0)
    asked = [row for row in record["figures"] if row["figure"].startswith("obeys")]
    assert len(asked) == 36
    assert {row["prompts"] for row in asked} == {"stories asked for", "questions", "tasks"}
    assert [row["model"] for row in record["realism"]] == [lm.name, stories.name]
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"Of {sum(map(bool, verdicts))} targets {verdicts.count('met')} are met" in readme
    assert "said in words" in readme
    assert "| greedy coherence | all |" in readme


def test_the_shipped_card_is_that_of_the_shipped_weights() -> None:
    directory = Path(card.__file__).parent / "model"
    record = json.loads((directory / "card.json").read_text(encoding="utf-8"))
    assert record["fingerprint"] == models.load(directory).fingerprint, (
        "run python -m workbench.wren.card"
    )
    assert record.get("scale") == 1, (
        "the card's samples were shrunk: run python -m workbench.wren.card"
    )


def test_the_loss_is_compared_with_what_the_grammar_says_of_the_same_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that finds every document 1.25 times as unlikely in nats as the grammar does."""
    known: dict[str, float] = {}

    def remembered(rng: Random) -> Document:
        document = write(rng)
        known[document.text.removeprefix("<s>")] = document.log_probability + document.ambiguity
        return document

    def logprobs(lm: models.LM, batch: Batch) -> torch.Tensor:
        real = batch.attention & (batch.positions > 0)
        totals = torch.tensor([1.25 * known[text] for text in batch.texts])
        each = (totals / real.sum(1))[:, None].expand(real.shape)
        return each.masked_fill(~real, torch.nan)

    monkeypatch.setattr(measure.grammar, "write", remembered)
    monkeypatch.setattr(measure, "logprobs", logprobs)
    lm = models.load("wren")
    over, per_token = measure.loss_ratio(lm, 60, 5)
    assert over.value == pytest.approx(1.25, rel=1e-5)
    assert over.count == per_token.count == 60
    texts = [text for text in known if len(lm.tokenizer(text)["input_ids"]) <= 512][:60]
    tokens = sum(len(lm.tokenizer(text)["input_ids"]) - 1 for text in texts)
    assert per_token.value == pytest.approx(-1.25 * sum(known[t] for t in texts) / tokens, rel=1e-5)
