"""sweep: every number against the plain way to get it, chunking, controls, splits, stopping."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import SENTENCES

from workbench.contrast.pairs import Pairs
from workbench.forward import decoding, tracing
from workbench.generation import scoring
from workbench.generation.generate import generate
from workbench.judges import Written
from workbench.loading.models import LM
from workbench.sweeps import assembly, planning, running
from workbench.sweeps.alert import alert_as_meant
from workbench.sweeps.planning import chunk_rows, lay_out, row_bytes
from workbench.sweeps.slopes import slopes
from workbench.sweeps.sweep import sweep
from workbench.text.positions import Rule
from workbench.text.splits import PromptSet, text_hash
from workbench.text.tokens import Batch, encode
from workbench.vectors.controls import random_like
from workbench.vectors.steering_vector import SteeringVector

PROMPTS = ["The old fox", "A girl and her dog went to the river and", "I am"]
COEFFICIENTS = [0.5, -0.5, 0.0, 1.0]


def vector_for(lm: LM, **provenance: Any) -> SteeringVector:
    generator = torch.Generator().manual_seed(1)
    directions = {layer: torch.randn(lm.width, generator=generator) for layer in range(lm.layers)}
    return SteeringVector(
        directions,
        {layer: 5.0 + layer for layer in directions},
        lm.name,
        lm.fingerprint,
        "test",
        layer=1,
        provenance={"trait": "calm", **provenance},
    )


def run(lm: LM, prompts: Sequence[Any] = PROMPTS, **options: Any) -> pd.DataFrame:
    options = {"coefficients": COEFFICIENTS, "new_tokens": 6, "progress": False, **options}
    coefficients = options.pop("coefficients")
    vector = options.pop("vector", None) or vector_for(lm)
    return sweep(lm, vector, prompts, coefficients, **options)


def letters(written: Sequence[Written], trait: str) -> pd.DataFrame:
    """A judge: how many letters, and the length of the prompt."""
    return pd.DataFrame(
        {"trait": [len(w.text) / 10 for w in written], "asked": [len(w.prompt) for w in written]},
        dtype=float,
    )


@pytest.fixture(scope="module")
def frame(tiny: LM) -> pd.DataFrame:
    return run(tiny, judges=[letters])


def test_one_row_per_prompt_and_coefficient_in_order(frame: pd.DataFrame) -> None:
    assert len(frame) == 12
    assert frame["prompt_index"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert frame["coefficient_norm"].tolist() == sorted(COEFFICIENTS) * 3
    assert frame["prompt"].tolist() == [p for p in PROMPTS for _ in COEFFICIENTS]
    assert set(frame["vector"]) == {"vector"}
    assert frame.attrs["complete"] is True


def test_units(tiny: LM, frame: pd.DataFrame) -> None:
    vector = vector_for(tiny)
    np.testing.assert_allclose(
        frame["coefficient"], frame["coefficient_norm"] * 6.0 / vector.norm(1), rtol=1e-6
    )
    raw = run(tiny, coefficients=[0, 2.0], unit="raw", kl=False)
    assert raw["coefficient"].tolist() == [0, 2.0] * 3
    np.testing.assert_allclose(raw["coefficient_norm"][1], 2 * vector.norm(1) / 6.0, rtol=1e-6)


def test_numbers_are_those_of_one_text_at_a_time(tiny: LM, frame: pd.DataFrame) -> None:
    """Batching along coefficients changes nothing: each row alone, scored by the plain model."""
    vector = vector_for(tiny)
    for row in frame.itertuples():
        interventions = vector.at(row.coefficient_norm)
        alone = generate(tiny, [row.prompt], interventions, new_tokens=6, kl=True)
        assert alone.texts[0] == row.text
        count = int(alone.lengths[0])
        assert row.tokens == count
        assert alone.logprobs_unsteered is not None
        assert alone.kl is not None
        pairs = {
            "logprob_unsteered": alone.logprobs_unsteered,
            "logprob_steered": alone.logprobs_steered,
            "entropy": alone.entropy,
            "kl": alone.kl,
        }
        for name, values in pairs.items():
            assert getattr(row, name) == pytest.approx(float(values.nanmean()), abs=1e-4), name

        start = encode(tiny, [row.prompt]).ids
        ids = torch.cat([start, alone.ids[:, :count]], dim=1)
        with torch.no_grad():
            table = tiny.model(ids).logits[0].double().log_softmax(-1)
        echo = table.gather(-1, ids[0][:, None]).mean()
        assert row.alert == pytest.approx(float(echo), abs=1e-4)
        before = table[start.shape[1] - 1 : -1]
        surprisal = -before.gather(-1, alone.ids[0, :count, None])[:, 0]
        entropy = -(before.exp() * before).sum(-1)
        assert row.excess == pytest.approx(float((surprisal - entropy).mean()), abs=1e-4)


def test_coefficient_zero_is_the_unsteered_model(frame: pd.DataFrame) -> None:
    none = frame[frame["coefficient"] == 0]
    assert (none["kl"] == 0).all()
    np.testing.assert_allclose(none["logprob_steered"], none["logprob_unsteered"], atol=1e-5)
    assert (frame.loc[frame["coefficient"] != 0, "kl"] > 0).all()


def test_excess_of_own_samples_is_about_zero(tiny: LM) -> None:
    """The scale's zero: texts that the model samples itself."""
    batch = generate(tiny, [SENTENCES[0]] * 64, new_tokens=24, temperature=1.0, score=False)
    written = batch.batch.extend(batch.ids, batch.lengths, batch.texts)
    scores = scoring.score(tiny, written)
    each = -scores.logprobs - scores.entropy
    torch.testing.assert_close(scores.excess, each.double().nanmean(dim=1))
    known = each[~each.isnan()]  # uncorrelated, each of mean 0
    assert abs(float(known.mean())) < 3 * float(known.std()) / len(known) ** 0.5
    greedy = generate(tiny, [SENTENCES[0]], new_tokens=24, score=False)
    written = greedy.batch.extend(greedy.ids, greedy.lengths, greedy.texts)
    assert float(scoring.score(tiny, written).excess) < 0


def test_echoes_and_logprobs_differ_by_the_shift(tiny: LM) -> None:
    batch = encode(tiny, ["The fox"], ["walked to the river"])
    scores = scoring.score(tiny, batch)
    np.testing.assert_allclose(
        scores.logprobs[0], tracing.logprobs(tiny, batch)[0, -scores.logprobs.shape[1] :], atol=1e-5
    )
    assert float((scores.echoes - scores.logprobs).abs().max()) > 0.1


def test_chunks_change_nothing_but_rounding(tiny: LM, frame: pd.DataFrame) -> None:
    small = run(tiny, judges=[letters], memory=chunk_memory(tiny, 2))
    assert small.drop(columns=["text"]).shape == frame.drop(columns=["text"]).shape
    assert small["text"].tolist() == frame["text"].tolist()
    numbers = frame.select_dtypes("number").columns
    np.testing.assert_allclose(small[numbers], frame[numbers], atol=1e-4)
    assert small.dtypes.equals(frame.dtypes)


def chunk_memory(lm: LM, rows: int) -> int:
    """A budget that holds so many rows of the longest prompt."""
    longest = max(len(encode(lm, [p]).ids[0]) for p in PROMPTS)
    return int(row_bytes(lm, np.array([longest]), 6, True)[0]) * rows


def test_chunks_keep_the_budget_and_hold_every_row_once(tiny: LM) -> None:
    rows = lay_out(vector_for(tiny), PROMPTS, COEFFICIENTS, "norm", None, ("vector", "random"), [])
    lengths = np.array([5, 14, 3])
    memory = chunk_memory(tiny, 3)
    chunks = chunk_rows(tiny, rows, lengths, 6, memory, True)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(24 - 3))  # a control has none at 0
    for chunk in chunks:
        need = row_bytes(tiny, lengths[rows.prompt[chunk]], 6, True)
        assert need.max() * len(chunk) <= memory
    assert len(chunks) > 5


def test_sampling_is_shared_between_coefficients_and_free_of_chunks(tiny: LM) -> None:
    whole = run(tiny, temperature=1.0, seed=5, coefficients=[-1e-9, 0, 1e-9], kl=False)
    parts = run(
        tiny,
        temperature=1.0,
        seed=5,
        coefficients=[-1e-9, 0, 1e-9],
        kl=False,
        memory=chunk_memory(tiny, 2),
    )
    assert whole["text"].tolist() == parts["text"].tolist()
    assert (whole.groupby("prompt_index")["text"].nunique() == 1).all()
    other = run(tiny, temperature=1.0, seed=6, coefficients=[0.0], kl=False)
    assert other["text"].tolist() != whole[whole["coefficient"] == 0]["text"].tolist()


def test_controls_have_equal_norm_and_their_own_rows(tiny: LM) -> None:
    vector = vector_for(tiny)
    shuffled = random_like(vector, 9) * 17.0  # of any length: it is brought to the vector's
    frame = run(
        tiny,
        coefficients=[0.0, 1.0],
        controls={"random": random_like(vector, 0), "shuffled": shuffled},
        prompted=["Be calm. I am"],
        kl=False,
    )
    assert frame["vector"].value_counts().to_dict() == {
        "vector": 6,
        "random": 3,  # not at 0, where it is the unsteered model again
        "shuffled": 3,
        "prompted": 1,
    }
    steered = random_like(vector, 9).at(1.0)
    alone = generate(tiny, [PROMPTS[1]], steered, new_tokens=6)
    row = frame[frame["vector"] == "shuffled"].iloc[1]
    assert row["text"] == alone.texts[0]
    asked = frame[frame["vector"] == "prompted"].iloc[0]
    assert (asked["prompt"], asked["coefficient"]) == ("Be calm. I am", 0.0)
    assert asked["text"] == generate(tiny, ["Be calm. I am"], new_tokens=6).texts[0]


def test_the_word_random_makes_the_control(tiny: LM) -> None:
    named = run(tiny, coefficients=[1.0], controls=("random",), seed=4, kl=False)
    given = run(
        tiny,
        coefficients=[1.0],
        controls={"random": random_like(vector_for(tiny), 4)},
        seed=4,
        kl=False,
    )
    assert named["text"].tolist() == given["text"].tolist()


def test_judges_see_completions_prompts_and_the_trait(tiny: LM) -> None:
    seen: list[tuple[int, str]] = []
    ends: list[str] = []

    def judge(written: Sequence[Written], trait: str) -> pd.DataFrame:
        seen.append((len(written), trait))
        ends.extend(w.finish for w in written)
        return letters(written, trait)

    frame = run(tiny, judges=[judge], memory=chunk_memory(tiny, 2))
    assert seen == [(0, "calm"), (12, "calm")]  # asked first, then once for all chunks
    assert ends == frame["finish"].tolist()
    assert frame["trait"].tolist() == [len(t) / 10 for t in frame["text"]]
    assert frame["asked"].tolist() == [len(p) for p in frame["prompt"]]


def test_provenance(tiny: LM, frame: pd.DataFrame) -> None:
    attrs = frame.attrs
    assert attrs["fingerprint"] == tiny.fingerprint
    assert (attrs["layer"], attrs["method"], attrs["seed"]) == (1, "test", 0)
    assert attrs["split"] == "select"
    assert attrs["prompt_hashes"] == sorted(text_hash(p) for p in PROMPTS)
    assert attrs["judges"] == ["test_sweep.letters"]
    assert attrs["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert [found["vector"] for found in attrs["slopes"]] == ["vector"]
    assert attrs["slopes"][0]["mean"] == slopes(frame).attrs["mean"]
    assert json.loads(json.dumps(attrs, allow_nan=False)) == attrs


def test_the_model_comes_back_as_it_went_in(tiny: LM) -> None:
    handler = signal.getsignal(signal.SIGINT)
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    run(tiny, coefficients=[1.0], kl=False)
    after = tiny.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert signal.getsignal(signal.SIGINT) is handler


# ---- splits -------------------------------------------------------------------------------------


def test_prompts_that_made_the_vector_are_refused(tiny: LM) -> None:
    pairs = Pairs.from_lists([" ran", " hid"], [" sat", " ate"], ["The old fox", "A cat"])
    vector = vector_for(tiny, texts=sorted(pairs.texts))
    with pytest.raises(ValueError, match=r"share 1 text\(s\), first 'The old fox'"):
        run(tiny, vector=vector)


def test_roles_must_agree(tiny: LM) -> None:
    chosen = PromptSet(tuple(PROMPTS), "mine", "report")
    with pytest.raises(ValueError, match="a 'report' set, but the sweep says split='select'"):
        run(tiny, chosen, split="select")
    with pytest.raises(ValueError, match="split 'extract': prompts of a sweep choose"):
        run(tiny, PromptSet(tuple(PROMPTS), "mine", "extract"))
    assert run(tiny, chosen, coefficients=[0.0], kl=False).attrs["split"] == "report"


def test_reporting_on_the_prompts_that_chose_is_refused(tiny: LM, frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"share 1 text\(s\)"):
        run(tiny, ["I am", "We are"], split="report", apart_from=frame)
    reported = run(tiny, ["We"], split="report", apart_from=frame, coefficients=[0.0], kl=False)
    assert reported.attrs["split"] == "report"


def test_prompts_that_ask_for_the_trait_are_kept_apart_too(tiny: LM) -> None:
    asking = ["Be calm. I am"]
    chose = run(tiny, ["The"], coefficients=[0.0], prompted=asking, kl=False)
    assert chose.attrs["prompt_hashes"] == sorted(map(text_hash, ["The", *asking]))
    with pytest.raises(ValueError, match=r"share 1 text\(s\), first 'Be calm. I am'"):
        run(tiny, ["We"], prompted=asking, split="report", apart_from=chose)


def test_reporting_on_pairs_that_chose_the_layer_is_refused(tiny: LM) -> None:
    vector = vector_for(tiny, held_out_texts=[text_hash("I am")])
    prompts = PromptSet(tuple(PROMPTS), "mine", "report")
    with pytest.raises(ValueError, match="'texts that chose the layer' and 'report prompts'"):
        run(tiny, prompts, vector=vector)


# ---- resuming and stopping ----------------------------------------------------------------------


def test_resuming_gives_the_identical_frame(tiny: LM, tmp_path: Path) -> None:
    memory = chunk_memory(tiny, 3)
    whole = run(tiny, judges=[letters], directory=tmp_path, memory=memory)
    chunks = sorted(tmp_path.glob("chunk-*"))
    assert len(chunks) >= 4
    chunks[1].unlink()
    chunks[2].write_bytes(chunks[2].read_bytes()[:-7])  # damaged: counts as missing
    again = run(tiny, judges=[letters], directory=tmp_path, memory=memory)
    pd.testing.assert_frame_equal(again, whole, check_exact=True)
    assert again.attrs == whole.attrs
    without = run(tiny, judges=[letters], memory=memory)
    pd.testing.assert_frame_equal(without, whole, check_exact=True)


def test_a_rule_of_the_same_name_that_touches_others_is_another_run(
    tiny: LM, tmp_path: Path
) -> None:
    run(tiny, positions=Rule("mine", lambda batch: batch.attention, True), directory=tmp_path)
    same = Rule("mine", lambda batch: batch.attention.clone(), True)
    run(tiny, positions=same, directory=tmp_path)
    for other in (
        Rule("mine", lambda batch: torch.zeros_like(batch.attention), True),
        Rule("mine", lambda batch: batch.attention, False),
    ):
        with pytest.raises(ValueError, match="another run: touched differ"):
            run(tiny, positions=other, directory=tmp_path)


class Unnamed:
    """A rule whose repr tells where it lies in memory, as that of most objects does."""

    generated = True

    def __call__(self, lm: LM, batch: Batch) -> torch.Tensor:
        return batch.attention


def test_a_rule_without_a_name_resumes(tiny: LM, tmp_path: Path) -> None:
    first, second = Unnamed(), Unnamed()
    assert repr(first) != repr(second)
    whole = run(tiny, positions=first, directory=tmp_path)
    again = run(tiny, positions=second, directory=tmp_path)
    pd.testing.assert_frame_equal(again, whole, check_exact=True)
    assert again.attrs["positions"] == repr(second)


def test_prompts_are_encoded_once_before_the_chunks(
    tiny: LM, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[list[Any]] = []

    def counted(lm: LM, prompts: Any, *given: Any, **options: Any) -> Batch:
        encoded.append(list(prompts))
        return encode(lm, prompts, *given, **options)

    for module in (sys.modules["workbench.sweeps.sweep"], running, planning):
        monkeypatch.setattr(module, "encode", counted, raising=False)
    stop = threading.Event()
    stop.set()
    run(tiny, prompted=["Be calm. I am"], stop=stop)
    assert encoded == [[*PROMPTS, "Be calm. I am"]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"judges": letters}, r"judges is .*letters.*; give a list: judges=\[letters\]"),
        ({"judges": "exact"}, r"judges is 'exact'; give a list"),
        ({"judges": [letters, "exact"]}, r"the judge 'exact' is not a function"),
        ({"layers": [1, 1]}, r"layers \[1, 1\]: 1 stands twice; give each once"),
        ({"layers": 1}, r"layers 1 is not a list; give layers=\[1\]"),
        ({"prompts": [[{"role": "user"}]]}, r"\{'role': 'user'\} is not a chat message"),
        ({"prompts": [{"role": "user", "content": "I am"}]}, r"is one message; a chat is a list"),
        ({"prompted": [[{"role": "user"}]]}, r"\{'role': 'user'\} is not a chat message"),
    ],
)
def test_what_a_sweep_cannot_take_is_refused_before_anything_is_written(
    tiny: LM, tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run(tiny, **{"prompts": PROMPTS, "directory": tmp_path, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_bare_vector_is_no_set_of_controls(tiny: LM) -> None:
    control = random_like(vector_for(tiny), 0)
    with pytest.raises(ValueError, match=r"controls is a single one.*controls=\{'random': it\}"):
        run(tiny, controls=control)


def test_the_plan_of_chunks_is_on_disk_before_any_runs(
    tiny: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "score", broken)
    with contextlib.suppress(KeyboardInterrupt):
        run(tiny, directory=tmp_path, memory=chunk_memory(tiny, 3))
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert len(plan["chunks"]) == plan["count"] > 1
    assert sorted(row for chunk in plan["chunks"] for row in chunk) == list(range(12))


@pytest.mark.parametrize(
    "wrong",
    [{"new_tokens": 0}, {"new_tokens": 2.0}, {"temperature": -1.0}, {"seed": -1}, {"seed": 1.5}],
)
def test_a_refused_sweep_leaves_its_directory_alone(
    tiny: LM, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} {next(iter(wrong.values()))!r}"):
        run(tiny, directory=tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_nothing_runs_when_all_is_there(
    tiny: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny, directory=tmp_path)
    monkeypatch.setattr(tracing, "forward", None)
    monkeypatch.setattr(decoding, "decode", None)
    pd.testing.assert_frame_equal(run(tiny, directory=tmp_path), whole, check_exact=True)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"new_tokens": 5}, "new_tokens"),
        ({"kl": False}, "kl"),
        ({"prompts": ["Else"]}, "prompt_hashes, prompts"),
        ({"coefficients": [0.0, 1.0]}, "coefficients"),
    ],
)
def test_resuming_something_else_is_refused(
    tiny: LM, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    stop = threading.Event()
    stop.set()
    run(tiny, directory=tmp_path, stop=stop)
    with pytest.raises(ValueError, match=f"holds another run: .*{named}.* differ"):
        run(tiny, **{"prompts": PROMPTS, "directory": tmp_path, **changed})


def test_another_vector_is_named(tiny: LM, tmp_path: Path) -> None:
    run(tiny, directory=tmp_path, coefficients=[0.0])
    turned, longer = -vector_for(tiny), vector_for(tiny) * 2.0  # the longer adds the same steps
    for other, named in ((turned, "vectors"), (longer, "length")):
        with pytest.raises(ValueError, match=f"holds another run: {named} differ"):
            run(tiny, directory=tmp_path, coefficients=[0.0], vector=other)


def test_judges_are_asked_anew_on_resuming(
    tiny: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambdas share a name, so a stored verdict could be another judge's: none is stored."""
    ones = run(
        tiny,
        directory=tmp_path,
        judges=[lambda written, trait: pd.DataFrame({"trait": [1.0] * len(written)})],
    )
    monkeypatch.setattr(tracing, "forward", None)
    monkeypatch.setattr(decoding, "decode", None)
    twos = run(
        tiny,
        directory=tmp_path,
        judges=[lambda written, trait: pd.DataFrame({"trait": [2.0] * len(written)})],
        trait="joy",
    )
    assert ones["trait"].tolist() == [1.0] * 12
    assert twos["trait"].tolist() == [2.0] * 12
    assert (ones.attrs["trait"], twos.attrs["trait"]) == ("calm", "joy")
    assert twos["text"].tolist() == ones["text"].tolist()
    assert "trait" not in (tmp_path / "chunk-00000.json").read_text()


def test_a_chunk_with_the_rows_of_another_is_done_again(tiny: LM, tmp_path: Path) -> None:
    memory = chunk_memory(tiny, 3)
    whole = run(tiny, directory=tmp_path, memory=memory)
    chunks = sorted(tmp_path.glob("chunk-*"))
    chunks[1].write_bytes(chunks[0].read_bytes())  # sound by its own hash
    again = run(tiny, directory=tmp_path, memory=memory)
    pd.testing.assert_frame_equal(again, whole, check_exact=True)


class StopAt(threading.Event):
    """A stop button that is pressed when it has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_stop_drops_the_chunk_that_it_cuts(
    tiny: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    score = scoring.score

    def counted(lm: LM, written: Any, **options: Any) -> Any:
        scored.append(len(written))
        return score(lm, written, **options)

    monkeypatch.setattr(running, "score", counted)
    options: dict[str, Any] = {
        "judges": [letters],
        "directory": tmp_path,
    }
    options["memory"] = chunk_memory(tiny, 3)
    # Looks: once at the start, and per chunk once before it and at each of its 6 tokens.
    part = run(tiny, **options, stop=StopAt(1 + 7 + 4))
    kept = len(list(tmp_path.glob("chunk-*")))
    assert kept == len(scored) == 1  # the second chunk was cut: neither scored nor kept
    assert len(part) == sum(scored)
    assert part.attrs["complete"] is False
    assert part.attrs["rows_planned"] == 12
    gaps = assembly.missing(part)
    assert sum(map(len, gaps["prompts"])) + len(part) == 12
    whole = run(tiny, **options)
    assert whole.attrs["complete"] is True
    assert whole.attrs["missing"] == []
    same = whole.merge(part[["prompt_index", "coefficient"]])
    pd.testing.assert_frame_equal(same, part, check_exact=True)


def test_a_stop_keeps_the_chunk_that_is_written_to_its_end(tiny: LM, tmp_path: Path) -> None:
    """Pressed at the last token, or while the texts are scored: nothing finished is lost."""
    memory = chunk_memory(tiny, 3)
    run(tiny, directory=tmp_path, memory=memory, stop=StopAt(1 + 6))
    assert len(list(tmp_path.glob("chunk-*"))) == 1


def test_only_whole_prompts_count_after_a_stop(tiny: LM, frame: pd.DataFrame) -> None:
    part = run(tiny, judges=[letters], memory=chunk_memory(tiny, 3), stop=StopAt(1 + 2 * 7))
    whole = assembly.whole_prompts(part)
    assert 0 < whole["prompt_index"].nunique() < 3
    assert (whole.groupby("prompt_index")["coefficient"].nunique() == 4).all()
    with pytest.warns(UserWarning, match=rf"slopes are of the {len(whole)} of {len(part)} texts"):
        found = slopes(part)
    assert part.attrs["slopes"][0]["prompts"] == len(found) == whole["prompt_index"].nunique()
    with pytest.raises(
        ValueError, match=rf"stopped: {len(part)} of 12 texts; coefficients without"
    ):
        alert_as_meant(part)


def test_a_stop_before_the_first_chunk_returns_an_empty_frame(tiny: LM) -> None:
    stop = threading.Event()
    stop.set()
    frame = run(tiny, stop=stop)
    assert len(frame) == 0
    assert {"text", "logprob_unsteered", "longest_repeat"} <= set(frame.columns)
    assert frame.attrs["complete"] is False


def test_ctrl_c_returns_what_is_done(tiny: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    score = scoring.score

    def interrupted(*given: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return score(*given, **options)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(running, "score", interrupted)
    part = run(tiny, judges=[letters], memory=chunk_memory(tiny, 3))
    assert part.attrs["complete"] is False
    assert calls == 2
    assert 0 < len(part) < 12
    assert part["trait"].notna().all()
    assert signal.getsignal(signal.SIGINT) is handler


def test_raw_steps_at_layers_of_different_norms_have_no_norm(tiny: LM) -> None:
    """The same raw step is another share of the norm at each of them, so that only raw stands."""
    directions = {layer: torch.ones(tiny.width) for layer in (1, 3)}
    vector = SteeringVector(directions, {1: 4.0, 3: 10.0}, tiny.name, tiny.fingerprint, "hand", 1)
    raw = lay_out(vector, PROMPTS, [0.0, 2.0], "raw", [1, 3], ("vector",), ())
    assert np.isnan(raw.norm).all()
    assert raw.raw.tolist()[:2] == [0.0, 2.0]
    one = lay_out(vector, PROMPTS, [0.0, 2.0], "raw", [3], ("vector",), ())
    assert np.isfinite(one.norm).all()


def test_a_coefficient_that_is_too_large_is_warned_of_once_and_kept(tiny: LM) -> None:
    memory = chunk_memory(tiny, 3)
    with pytest.warns(UserWarning, match="6 texts mean nothing") as seen:
        found = run(tiny, coefficients=[-1e24, 0.0, 1.0, 1e24], memory=memory)
    assert len(seen) == 1
    assert "at the coefficients -1e+24, 1e+24 the model overflows" in str(seen[0].message)
    assert len(found) == 4 * len(PROMPTS)
    usual = run(tiny, coefficients=[0.0, 1.0], memory=memory)
    kept = found[found["coefficient_norm"].abs() < 2].reset_index(drop=True)
    assert kept["text"].tolist() == usual["text"].tolist()
