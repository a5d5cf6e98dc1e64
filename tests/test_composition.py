"""Several properties at once: exactly what running the whole text again would give."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import pytest
import torch
from architectures import SENTENCES, build

from workbench import extract
from workbench.composition import compose as composition
from workbench.composition.compose import Same, compose
from workbench.composition.deltas import StepDeltas, step_deltas, step_means
from workbench.composition.schedules import Bounded, Budget, Dynamic, Fixed, Given, Start
from workbench.contrast.pairs import Pairs
from workbench.forward.steering import Plan
from workbench.generation.generate import generate
from workbench.interventions.updates import Add, Intervention
from workbench.loading.models import LM
from workbench.statistics.distributions import likely_kl
from workbench.text import positions
from workbench.text.tokens import Batch, encode

ARCHITECTURES = ("llama", "gpt2", "gpt_neox", "mistral", "qwen2", "gemma2", "opt", "bloom", "phi")
PROMPTS = [" ".join(each.split()[:n]) for each, n in zip(SENTENCES * 2, (3, 5, 4, 6), strict=False)]
STEPS = 5
PUBLISHED = Dynamic(0.6, divided=True)  # as the uncached loop has it


def random_deltas(lm: LM, seed: int, size: float = 0.3) -> StepDeltas:
    generator = torch.Generator().manual_seed(seed)
    width = lm.heads_width(0)
    values = size * torch.randn(STEPS, lm.layers, width, generator=generator)
    return StepDeltas(values, tuple(range(lm.layers)))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_cached_and_batched_is_one_prompt_after_the_other_without_a_cache(
    name: str, benchmark_script
) -> None:
    lm, uncached = build(name), benchmark_script("uncached")
    both = {"one": random_deltas(lm, 0), "two": random_deltas(lm, 1)}
    made = compose(lm, PROMPTS, both, dict.fromkeys(both, PUBLISHED), new_tokens=STEPS)
    for row, prompt in enumerate(encode(lm, PROMPTS).prompts):
        values = {key: each.values for key, each in both.items()}
        ids, used = uncached.written(lm, prompt.ids, values, 0.6, STEPS)
        length = int(made.lengths[row])
        assert made.ids[row, :length].tolist() == ids[:length]
        for key, coefficients in used.items():
            own = made.coefficients[key][row, :length]
            assert 0 < own.max() <= 2
            torch.testing.assert_close(own, torch.tensor(coefficients[:length]), atol=2e-4, rtol=0)


@pytest.mark.parametrize("prompts", [["The"], ["The", "The cat sat on"]])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_prompt_may_be_one_token_alone_or_beside_longer_ones(
    name: str, prompts: list[str], benchmark_script
) -> None:
    lm, uncached = build(name), benchmark_script("uncached")
    one = {"one": random_deltas(lm, 0)}
    encoded = encode(lm, prompts).prompts
    assert len(encoded[0].ids) == 1
    made = compose(lm, prompts, one, {"one": PUBLISHED}, new_tokens=STEPS)
    for row, prompt in enumerate(encoded):
        ids, used = uncached.written(lm, prompt.ids, {"one": one["one"].values}, 0.6, STEPS)
        length = int(made.lengths[row])
        assert made.ids[row, :length].tolist() == ids[:length]
        own = made.coefficients["one"][row, :length]
        torch.testing.assert_close(own, torch.tensor(used["one"][:length]), atol=2e-4, rtol=0)


def test_a_prompt_is_run_once_but_for_its_last_token(monkeypatch) -> None:
    lm, sizes = build("llama"), []
    real = composition.decoding.advance

    def noted(lm: LM, batch: Batch, steered: Plan, cache: object, columns: int) -> torch.Tensor:
        sizes.append((len(batch), columns))
        return real(lm, batch, steered, cache, columns)

    monkeypatch.setattr(composition.decoding, "advance", noted)
    both = {"one": random_deltas(lm, 0), "two": random_deltas(lm, 1)}
    made = compose(lm, PROMPTS, both, dict.fromkeys(both, Dynamic()), new_tokens=2)
    rows = len(PROMPTS)
    assert sizes == [(rows, made.batch.width - 1), *[(3 * rows, 1), (rows, 1)] * 2]


def test_passes_are_one_row_more_than_properties_and_one_at_last() -> None:
    lm = build("llama")
    both = {"one": random_deltas(lm, 0), "two": random_deltas(lm, 1)}
    dynamic = dict.fromkeys(both, Dynamic())
    rows = len(PROMPTS)
    made = compose(lm, PROMPTS, both, dynamic, new_tokens=STEPS)
    assert made.passes == made.ids.shape[1] * rows * (3 + 1)
    # What comes out may go into a computation with gradients.
    assert made.kl is not None
    kept = [made.ids, made.logprobs, made.kl, *made.coefficients.values()]
    assert not any(each.is_inference() for each in kept)
    made = compose(lm, PROMPTS, both, {"one": Dynamic(), "two": Fixed(1.0)}, new_tokens=STEPS)
    assert made.passes == made.ids.shape[1] * rows * (2 + 1)
    made = compose(lm, PROMPTS, both, dict.fromkeys(both, Fixed(1.0)), new_tokens=STEPS)
    assert made.passes == made.ids.shape[1] * rows
    assert made.kl is None


def test_nothing_added_is_plain_generation_and_a_vector_is_its_own() -> None:
    lm = build("llama")
    plain = generate(lm, PROMPTS, new_tokens=STEPS)
    deltas = {"one": random_deltas(lm, 0)}
    none = compose(lm, PROMPTS, deltas, {"one": Fixed(0.0)}, new_tokens=STEPS)
    assert none.texts == plain.texts
    vector = Intervention(1, Add(torch.ones(lm.width)), 0.4, positions.last)
    at_start = generate(lm, PROMPTS, [vector], new_tokens=STEPS)
    made = compose(lm, PROMPTS, {"v": Same([vector])}, {"v": Start(1.0)}, new_tokens=STEPS)
    assert made.texts == at_start.texts != plain.texts
    torch.testing.assert_close(made.logprobs, at_start.logprobs_steered, equal_nan=True)


def test_sampled_rows_do_not_depend_on_their_neighbours() -> None:
    lm = build("llama")
    deltas = {"one": random_deltas(lm, 0)}
    how = {"new_tokens": STEPS, "temperature": 0.8, "seed": 3}
    together = compose(lm, PROMPTS, deltas, {"one": Dynamic()}, **how)
    for row, prompt in enumerate(PROMPTS):
        alone = compose(lm, [prompt], deltas, {"one": Dynamic()}, **how, streams=[row])
        length = int(alone.lengths[0])
        assert alone.ids[0, :length].tolist() == together.ids[row, :length].tolist()


def test_texts_are_told_as_they_grow_and_a_stop_leaves_what_is_there() -> None:
    lm, stop = build("llama"), threading.Event()
    given = {"one": random_deltas(lm, 0)}, {"one": Dynamic(0.6)}
    how = {"new_tokens": STEPS, "temperature": 1.0, "seed": 3}
    told: list[composition.Composed] = []
    whole = compose(lm, PROMPTS, *given, **how, on_token=told.append)
    assert len(told) == whole.ids.shape[1] > 2
    for step, each in enumerate(told, 1):
        assert each.ids.tolist() == whole.ids[:, :step].tolist()
        own = each.coefficients["one"]
        torch.testing.assert_close(own, whole.coefficients["one"][:, :step], equal_nan=True)
    cut = compose(
        lm, PROMPTS, *given, **how, stop=stop,
        on_token=lambda so_far: stop.set() if so_far.ids.shape[1] == 2 else None,
    )  # fmt: skip
    assert cut.ids.tolist() == whole.ids[:, :2].tolist()


def test_a_forced_text_is_scored_as_it_was_written(benchmark_script) -> None:
    """Another text than the model would write, by whole forwards with plain hooks."""
    lm, uncached = build("llama"), benchmark_script("uncached")
    deltas = {"one": random_deltas(lm, 0), "two": random_deltas(lm, 1)}
    values = {name: each.values for name, each in deltas.items()}
    strengths = {name: torch.rand(len(PROMPTS), STEPS) for name in deltas}
    given = {name: Given(each) for name, each in strengths.items()}
    own = compose(lm, PROMPTS, deltas, given, new_tokens=STEPS)
    forced = torch.randint(10, lm.vocabulary, own.ids.shape)
    found = compose(lm, PROMPTS, deltas, given, new_tokens=STEPS, forced=forced)
    assert torch.equal(found.ids, forced)
    for row, prompt in enumerate(encode(lm, PROMPTS).prompts):
        ids, expected = list(prompt.ids), []
        for step, token in enumerate(forced[row].tolist()):
            used = {name: each[row, : step + 1].tolist() for name, each in strengths.items()}
            logits = uncached._next(lm, ids, len(prompt.ids), used, values)
            expected.append(float(logits.log_softmax(-1)[token]))
            ids.append(token)
        assert found.logprobs[row].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_budget_is_nearly_kept() -> None:
    """The square law of a small step misjudges, and the next steps take it back."""
    lm = build("llama")
    deltas = {"one": random_deltas(lm, 0)}
    made = compose(lm, PROMPTS, deltas, {"one": Budget(0.05)}, new_tokens=STEPS)
    assert made.kl is not None
    spent = made.kl.nansum(dim=1)
    assert (spent[made.lengths == STEPS] < 0.08).all()
    assert spent.max() > 0.02


def test_the_frame_has_a_row_per_text_property_and_step() -> None:
    lm = build("llama")
    deltas = {"one": random_deltas(lm, 0), "two": random_deltas(lm, 1)}
    made = compose(lm, PROMPTS, deltas, dict.fromkeys(deltas, Dynamic()), new_tokens=STEPS)
    frame = made.frame()
    assert len(frame) == 2 * int(made.lengths.sum())
    row = frame[(frame["row"] == 1) & (frame["property"] == "two") & (frame["step"] == 0)]
    assert row["coefficient"].item() == pytest.approx(float(made.coefficients["two"][1, 0]))


def test_deltas_are_differences_of_means_over_texts_that_go_on() -> None:
    lm = build("gpt2")
    made = step_deltas(lm, PROMPTS[:2], PROMPTS[2:], steps=3, layers=[0, 2])
    (one, alive), (other, _) = (
        step_means(lm, side, 3, [0, 2]) for side in (PROMPTS[:2], PROMPTS[2:])
    )
    assert made.values.shape == (3, 2, lm.heads_width(0))
    torch.testing.assert_close(made.values, one - other)
    assert alive.tolist() == made.alive[0].tolist()
    assert torch.equal(made.averaged().values[0], made.averaged().values[2])
    torch.testing.assert_close(made.averaged().values[1], made.values.mean(dim=0))
    assert made.at(3) == []
    stream = step_deltas(lm, PROMPTS[:2], PROMPTS[2:], steps=3, layers=[1], site="residual")
    assert stream.values.shape == (3, 1, lm.width)


def test_a_text_that_has_ended_takes_no_part_in_a_mean(monkeypatch) -> None:
    """The first text ends at a token that the second never writes."""
    lm, prompts = build("llama"), PROMPTS[:2]
    free = generate(lm, prompts, new_tokens=3, score=False).ids.tolist()
    end = free[0][1]
    assert end not in free[1]
    assert end != free[0][0]
    monkeypatch.setattr(lm.model.generation_config, "eos_token_id", end)
    means, alive = step_means(lm, prompts, 3, [0, 2])
    assert alive.tolist() == [2, 2, 1]
    read = [
        heads_read(lm, [*prompt.ids, *made[:2]], len(prompt.ids) - 1)
        for prompt, made in zip(encode(lm, prompts).prompts, free, strict=True)
    ]
    for place, layer in enumerate((0, 2)):
        one, other = (each[layer] for each in read)
        expected = torch.stack([(one[0] + other[0]) / 2, (one[1] + other[1]) / 2, other[2]])
        torch.testing.assert_close(means[:, place], expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="all 1 texts ended after 2 tokens"):
        step_means(lm, prompts[:1], 3, [0])


def heads_read(lm: LM, ids: list[int], start: int) -> list[torch.Tensor]:
    """What each layer's attention output projection reads from column `start` on: plain hooks."""
    read: list[torch.Tensor] = []
    blocks = list(lm.model.get_submodule(lm.layer_path).children())
    handles = [
        block.get_submodule(lm.attention_name(layer)).register_forward_pre_hook(
            lambda _module, given: read.append(given[0][0, start:])
        )
        for layer, block in enumerate(blocks)
    ]
    with torch.no_grad():
        lm.model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return read


def test_it_works_with_what_an_extraction_gives() -> None:
    """A step of a vector at every token from the prompt's last on, by plain hooks."""
    lm = build("llama")
    pairs = Pairs.from_lists(["yes yes", "so so", "a b"], ["no no", "but but", "c d"])
    vector = extract(lm, pairs, layer=1, held_out=0, quiet=True)
    made = compose(
        lm, PROMPTS, {"v": Same(vector.at(3.0))}, {"v": Dynamic(probe=1.0)}, new_tokens=3
    )
    block = list(lm.model.get_submodule(lm.layer_path).children())[1]
    direction = vector.at(1.0)[0].update.direction  # type: ignore[union-attr]

    def log_probabilities(ids: Sequence[int], strengths: list[float]) -> torch.Tensor:
        def add(_module, _given, out):
            stream = out[0] if isinstance(out, tuple) else out
            for place, strength in enumerate(reversed(strengths), 1):
                stream[0, -place] += 3.0 * strength * direction

        handle = block.register_forward_hook(add)
        with torch.no_grad():
            logits = lm.model(torch.tensor([list(ids)])).logits[0, -1]
        handle.remove()
        return logits.log_softmax(-1)

    found = []
    for row, prompt in enumerate(encode(lm, PROMPTS).prompts):
        length = int(made.lengths[row])
        used = made.coefficients["v"][row, :length].tolist()
        for step in range(length):
            ids = [*prompt.ids, *made.ids[row, :step].tolist()]
            clean = log_probabilities(ids, [])
            probed = log_probabilities(ids, [1.0] * (step + 1))
            expected = likely_kl(clean[None], probed[None], 0.5).clamp(0, 2).item()
            assert used[step] == pytest.approx(expected, abs=2e-4)
            steered = log_probabilities(ids, used[: step + 1])
            assert int(made.ids[row, step]) == int(steered.argmax())
            found.append(expected)
    assert any(0.01 < each < 2 for each in found)


def test_every_step_and_row_is_checked_before_the_model_runs(monkeypatch) -> None:
    lm = build("llama")
    monkeypatch.setattr(composition.decoding, "advance", None)
    fits, wide = random_deltas(lm, 0), StepDeltas(torch.ones(2, 1, 7), (0,))

    class Late:
        def at(self, step: int) -> composition.Added:
            return (fits if step < 2 else wide).at(0)

    with pytest.raises(ValueError, match="has width 7"):
        compose(lm, PROMPTS, {"one": Late()}, {"one": Fixed(1.0)}, new_tokens=3)
    for schedule in (Given(torch.ones(3, STEPS)), Bounded(Given(torch.ones(3, STEPS)), float)):
        with pytest.raises(ValueError, match="schedule of 'one' is for 3 rows, and there are 4"):
            compose(lm, PROMPTS, {"one": fits}, {"one": schedule}, new_tokens=3)


def test_a_schedule_that_gives_another_number_of_rows_is_named() -> None:
    lm = build("llama")
    bounded = Bounded(Fixed(1.0), lambda step: torch.ones(2 if step else 4))
    with pytest.raises(ValueError, match=r"'one' gave .* shape \(2,\) at step 1; give one, or 4"):
        compose(lm, PROMPTS, {"one": random_deltas(lm, 0)}, {"one": bounded}, new_tokens=3)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Dynamic(), r"with one are NaN or infinite at step 0, in rows \[0, 1, 2, 3\]"),
        (Fixed(6.0), r"all properties, at most as strong as \{'one': 6.0\} are NaN or infinite"),
    ],
)
def test_logits_that_are_no_numbers_are_refused_where_they_arise(schedule, message: str) -> None:
    lm = build("llama")
    huge = {"one": random_deltas(lm, 0, size=5e37)}
    with pytest.raises(ValueError, match=message):
        compose(lm, PROMPTS, huge, {"one": schedule}, new_tokens=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedules": {}}, "give one schedule for each property"),
        ({"properties": {}, "schedules": {}}, "one property at least"),
        ({"new_tokens": 0}, "new_tokens"),
        ({"forced": torch.zeros(1, 3)}, r"forced ids \(1, 3\); give"),
        ({"streams": [0]}, "1 streams for 4 rows"),
        ({"prompts": [""]}, "empty"),
    ],
)
def test_bad_input_is_refused_before_the_model_runs(change, message: str, monkeypatch) -> None:
    lm = build("llama")
    monkeypatch.setattr(composition.decoding, "advance", None)
    given = {
        "prompts": PROMPTS,
        "properties": {"one": random_deltas(lm, 0)},
        "schedules": {"one": Fixed(1.0)},
        "new_tokens": STEPS,
    }
    with pytest.raises(ValueError, match=message):
        compose(lm, **{**given, **change})


def test_deltas_of_another_model_and_width_are_refused() -> None:
    lm, other = build("llama"), build("gpt2")
    own = step_deltas(other, PROMPTS[:1], PROMPTS[1:2], steps=1)
    with pytest.raises(ValueError, match="this delta was made on"):
        compose(lm, PROMPTS, {"one": own}, {"one": Fixed(1.0)}, new_tokens=2)
    wide = StepDeltas(torch.ones(2, 1, 7), (0,))
    with pytest.raises(ValueError, match="has width"):
        compose(lm, PROMPTS, {"one": wide}, {"one": Fixed(1.0)}, new_tokens=2)
    with pytest.raises(ValueError, match=r"deltas have the shape \(2, 2, 7\)"):
        StepDeltas(torch.ones(2, 2, 7), (0,))
    with pytest.raises(ValueError, match="of finite numbers"):
        StepDeltas(torch.full((2, 1, 7), math.nan), (0,))
    with pytest.raises(ValueError, match="is not one number"):
        Same([Intervention(0, Add(torch.ones(4)), torch.ones(2))])
