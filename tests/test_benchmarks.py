"""The benchmarks: arguments, the last line, and peers that write the same texts as we do."""

import json
import math

import pytest
import torch


@pytest.fixture(scope="module")
def modules(benchmark_script):
    """timing, peers and the scripts, imported as they import one another."""
    names = ("timing", "peers", "sweep", "extract", "odds", "train")
    return {name: benchmark_script(name) for name in names}


@pytest.fixture(scope="module")
def setting(modules):
    """A random GPT-2 of 3 layers, as the benchmark makes its large one."""
    return modules["sweep"].gpt2_setting(
        vocab_size=300, n_embd=32, n_layer=3, n_head=2, n_positions=64, initializer_range=0.3
    )


@pytest.fixture(scope="module")
def size(modules):
    return modules["sweep"].Size((-1.0, 0.0, 0.5, 1.0), 3, 6, 1, 5, 1)


@pytest.mark.parametrize("script", ["sweep", "extract", "odds", "train"])
def test_arguments(modules, script):
    parser = modules[script].arguments()
    given = parser.parse_args([])
    assert (given.quick, given.model, given.threads) == (False, "wren", 2)
    assert parser.parse_args(["--quick", "--threads", "1"]).quick
    with pytest.raises(SystemExit):
        parser.parse_args(["--fast"])


def last_line(capsys) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=refuse)


def test_last_line(modules, capsys):
    timing = modules["timing"]
    targets = {"speed": timing.at_least(4), "cost": timing.at_most(1.1)}
    status = timing.finish("x", {"speed": 4.0, "cost": 1.1, "beside": None}, targets, {"quick": 1})
    line = last_line(capsys)
    assert status == 0
    assert line["ok"] is True
    assert (line["speed"], line["cost"], line["beside"], line["quick"]) == (4.0, 1.1, None, 1)
    assert line["targets"]["cost"] == {"target": "at most 1.1", "met": True}


@pytest.mark.parametrize("speed", [3.99, None, math.nan, math.inf])
def test_a_target_missed_or_not_measured(modules, capsys, speed):
    timing = modules["timing"]
    targets = {"speed": timing.at_least(4), "memory": timing.at_most(math.inf)}
    assert timing.finish("x", {"speed": speed, "memory": 12.0}, targets, {}) == 1
    line = last_line(capsys)
    assert line["ok"] is False
    assert line["speed"] in (3.99, None)
    assert line["targets"]["memory"] == {"target": "measured", "met": True}


def test_a_figure_that_is_missing_is_null(modules, capsys):
    timing = modules["timing"]
    assert timing.finish("x", {}, {"same": timing.at_least(1)}, {}) == 1
    line = last_line(capsys)
    assert line["same"] is None
    assert line["ok"] is False


def test_same_tokens_must_be_true(modules, capsys):
    timing = modules["timing"]
    assert timing.finish("x", {"same": True}, {"same": timing.at_least(1)}, {}) == 0
    assert timing.finish("x", {"same": False}, {"same": timing.at_least(1)}, {}) == 1


def test_contestants_take_turns_and_their_time_is_scaled(modules):
    timing, order = modules["timing"], []
    made = {
        "a": timing.Contestant(lambda: order.append("a") or "A"),
        "b": timing.Contestant(lambda: order.append("b"), scale=1e6),
    }
    times = timing.interleave(made, 3)
    assert "".join(order) == "abbaab"
    assert times["a"].result == "A"
    assert len(times["b"].wall) == len(times["b"].cpu) == 3
    assert timing.ratio(times, "a", "missing") is None
    fixed = {
        "a": timing.Times((2.0, 9.0, 4.0), (1.0,) * 3),
        "b": timing.Times((1.0, 3.0, 4.0), (2.0,) * 3),
    }
    assert timing.ratio(fixed, "a", "b") == 2.0
    assert timing.ratio(fixed, "a", "b", cpu=True) == 0.5


def test_peak_growth_sees_what_was_held_for_a_moment(modules):
    grown = modules["timing"].peak_growth(lambda: torch.ones(1 << 24).sum())  # 64 MiB
    if grown is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert grown > 60


def test_agreement_counts_close_calls_apart(modules):
    agreement = modules["peers"].agreement

    def margins(index, ids):
        return [1.0, 1e-4, 1.0] if index == 1 else [1.0, 1.0, 1e-4]

    ours = [[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2]]
    theirs = [[1, 2, 3], [1, 9, 9], [1, 9, 9], [1, 2, 3]]
    found = agreement(ours, theirs, margins)
    # Text 1 parts at its close step 1, text 2 at step 1 before its close step, text 3 at step 2.
    assert (found.same, found.close_calls, found.different) == (1, 2, 1)


def test_peers_write_and_score_the_same_texts(modules, setting, size):
    """Ours, the hook by hand and repeng's loop, scored in one pass and prefix by prefix."""
    pytest.importorskip("repeng", reason="repeng is not installed")
    sweep = modules["sweep"]
    written = sweep.write(setting, size)
    made = sweep.contestants(setting, size, written)
    assert set(made) == set(sweep.NOTES)
    results = {name: made[name].run() for name in ("sweep", "by hand", "repeng")}
    found = sweep.same_tokens(setting, size, written, results)
    assert {name: each.same for name, each in found.items()} == {"by hand": 12, "repeng": 5}
    once = results["repeng"]
    chosen = sweep.spread(12, 5)[:2]
    prefixes = modules["peers"].repeng_loop(
        setting.plain, setting.tokenizer, setting.task(size), chosen, every_prefix=True
    )
    assert prefixes.ids == once.ids[:2]
    assert prefixes.scores == pytest.approx(once.scores[:2], abs=1e-5)
    # Steering changes texts, or the agreement would mean nothing.
    assert len({tuple(ids) for ids in results["by hand"].ids[:4]}) > 1


def test_a_peer_that_writes_other_texts_is_seen(modules, setting, size):
    sweep, peers = modules["sweep"], modules["peers"]
    written = sweep.write(setting, size)
    results = {"sweep": sweep.contestants(setting, size, written)["sweep"].run()}
    honest = peers.by_hand(setting.plain, setting.tokenizer, setting.task(size))
    other = [[(token + 1) % 299 for token in ids] for ids in honest.ids]
    liar = peers.Written(other, honest.scores, ["other"] * len(other))
    found = sweep.same_tokens(setting, size, written, {**results, "by hand": liar})
    assert found["by hand"].different > 6
    wrong = peers.Written(honest.ids, [s + 0.01 for s in honest.scores], honest.texts)
    with pytest.raises(ValueError, match="the sweep"):
        sweep.same_tokens(setting, size, written, {**results, "by hand": wrong})


def test_the_model_of_the_peers_is_left_as_it_was(modules, setting, size):
    peers = modules["peers"]
    pytest.importorskip("repeng", reason="repeng is not installed")
    before = [type(block).__name__ for block in peers.layer_list(setting.plain)]
    peers.repeng_loop(setting.plain, setting.tokenizer, setting.task(size), [0])
    peers.by_hand(setting.plain, setting.tokenizer, setting.task(size))
    blocks = peers.layer_list(setting.plain)
    assert [type(block).__name__ for block in blocks] == before
    assert not any(block._forward_hooks for block in blocks)


def test_extract_contestants_run(modules, stories):
    pytest.importorskip("repeng", reason="repeng is not installed")
    from workbench.contrast.pairs import Pairs

    given = Pairs.from_lists(
        [f"The dog was happy and ran {n} times." for n in range(6)],
        [f"The dog was sad and sat {n} times." for n in range(6)],
        name="six",
    )
    extract = modules["extract"]
    size = extract.Size(6, 3, 1)
    made = extract.contestants(stories, stories.model, given, size)
    assert set(made) == set(extract.NOTES)
    assert made["repeng"].scale == 2
    assert made["extract"].run().layers == (0, 1, 2, 3, 4)
    made["forward"].run()
    made["repeng"].run()


def test_log_odds_of_all_contestants_are_the_same(modules, setting):
    bench = modules["odds"]
    size = bench.Size(2, 1, (-1.0, 0.0, 0.5))
    given = bench.gpt2_pairs(2, vocabulary=299)
    made, order = bench.contestants(setting, given, size)
    assert set(made) == set(bench.NOTES)
    times = modules["timing"].interleave(made, 1)
    assert bench.apart(times, order) < 1e-4
    before = setting.plain.config.num_hidden_layers
    assert before == len(setting.plain.transformer.h) == 3


def test_log_odds_that_differ_are_seen(modules, setting):
    bench = modules["odds"]
    made, order = bench.contestants(
        setting, bench.gpt2_pairs(1, vocabulary=299), bench.Size(1, 1, (0.0, 1.0))
    )
    times = modules["timing"].interleave(made, 1)
    times["ideal"].result.numpy()[0, 1] += 1
    assert bench.apart(times, order) > 0.9
