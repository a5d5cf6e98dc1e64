"""What must hold on every architecture, and a planted fault that makes each property fail.

Each property is a function from a model to a number that must be small (or to two things that
must be equal), so that the same code judges the sound package and the faulty one.
"""

import dataclasses
from importlib import import_module

import architectures
import pytest
import torch

from workbench.forward import decoding, tracing, visits
from workbench.generation import sampling
from workbench.interventions.updates import Add, Intervention, Place
from workbench.loading.models import LM
from workbench.text import positions
from workbench.text.tokens import Batch, encode

generation = import_module("workbench.generation.generate")

TOLERANCE = 1e-4
PROMPTS = (
    "A girl and her dog",
    "The old fox walked slowly through the snow and looked",
    "I am",
    "What is the name of the red house near the sea? It is",
)
COMPLETIONS = (" went to the river.", " for", " very sad today, said the bird", " called Wren.")
COEFFICIENTS = (2.0, -1.0, 0.0, 3.0)

every_architecture = pytest.mark.parametrize("name", architectures.NAMES)


def direction(lm: LM, seed: int = 7) -> torch.Tensor:
    return torch.randn(lm.width, generator=torch.Generator().manual_seed(seed))


def steering(lm: LM, rows: slice = slice(None), rule: positions.Positions = positions.everything):
    """Two layers, one coefficient per row, and one that also depends on the step."""
    values = torch.tensor(COEFFICIENTS)[rows]
    return (
        Intervention(0, Add(direction(lm)), values, rule),
        Intervention(2, Add(direction(lm, 8)), lambda step: values * (1 + step % 3), rule),
    )


# ---- the properties -----------------------------------------------------------------------------


def batched_against_alone(lm: LM) -> float:
    """Log-probabilities and activations of four rows at once, against one row at a time."""
    batch = encode(lm, PROMPTS, COMPLETIONS)
    together = tracing.logprobs(lm, batch, steering(lm))
    streams = tracing.read(
        lm, batch, [0, 1, 2], positions.everything, pool=None, interventions=steering(lm)
    )
    worst = 0.0
    for row in range(len(PROMPTS)):
        here = slice(row, row + 1)
        single = encode(lm, PROMPTS[here], COMPLETIONS[here])
        alone = tracing.logprobs(lm, single, steering(lm, here))
        (stream,) = tracing.read(
            lm, single, [0, 1, 2], positions.everything, pool=None, interventions=steering(lm, here)
        )
        worst = max(worst, distance(together[row, -single.width :], alone[0]))
        worst = max(worst, distance(streams[row], stream))
    return worst


def padded(lm: LM, batch: Batch, by: int) -> Batch:
    """The batch with `by` more columns of padding on the left."""

    def widen(values: torch.Tensor, fill: int) -> torch.Tensor:
        return torch.nn.functional.pad(values, (by, 0), value=fill)

    return dataclasses.replace(
        batch,
        ids=widen(batch.ids, 5),
        attention=widen(batch.attention, False),
        starts=batch.starts + by,
    )


def padded_against_unpadded(lm: LM) -> float:
    """One row by itself, and the same row after eleven columns of padding."""
    plain = encode(lm, PROMPTS[:1], COMPLETIONS[:1])
    wide = padded(lm, plain, 11)
    first = slice(0, 1)
    scored = [tracing.logprobs(lm, batch, steering(lm, first))[0] for batch in (plain, wide)]
    written = [
        generation.generate(lm, batch, steering(lm, first), new_tokens=6) for batch in (plain, wide)
    ]
    return max(
        distance(scored[0], scored[1][11:]),
        distance(written[0].logprobs_steered, written[1].logprobs_steered),
        distance(written[0].logprobs_unsteered, written[1].logprobs_unsteered),
    )


def cached_against_uncached(lm: LM) -> float:
    """Log-probabilities recorded while decoding with a cache, against one teacher-forced pass."""
    worst = 0.0
    for rule in (positions.everything, positions.prompt, positions.generated, positions.last):
        edits = steering(lm, rule=rule)
        made = generation.generate(lm, PROMPTS, edits, new_tokens=6, score=False)
        again = tracing.logprobs(lm, made.batch.extend(made.ids, made.lengths), edits)
        worst = max(worst, distance(made.logprobs_steered, again[:, -6:]))
    return worst


def sampled_alone_and_together(lm: LM) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts sampled in one batch, and the same streams sampled one at a time."""
    how = {"new_tokens": 8, "temperature": 1.0, "seed": 3, "score": False}
    together = generation.generate(lm, PROMPTS, steering(lm), streams=[4, 5, 6, 7], **how)
    alone = [
        generation.generate(
            lm, PROMPTS[r : r + 1], steering(lm, slice(r, r + 1)), streams=[4 + r], **how
        )
        for r in range(len(PROMPTS))
    ]
    return together.ids, torch.cat([one.ids for one in alone])


def zero_and_unsteered(lm: LM, update=None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Logits, texts and log-probabilities of a row whose coefficient is 0, beside neighbours that
    are steered, and of the same row where nothing is steered.

    Experts multiply the tokens of all rows that chose them as one matrix, so there a steered
    neighbour changes the order of a sum: with experts every row's coefficient is 0.
    """
    update = update or Add(direction(lm))
    batch = encode(lm, PROMPTS)
    if lm.model.config.model_type in architectures.MIXTURES_OF_EXPERTS:
        coefficient = torch.zeros(len(PROMPTS))
    else:
        coefficient = torch.tensor(COEFFICIENTS)

    def look(edits) -> list[torch.Tensor]:
        made = generation.generate(lm, batch, edits, new_tokens=5, score=False)
        seen = [architectures.steered_logits(lm, batch, edits), made.ids, made.logprobs_steered]
        return [values[2] for values in seen]

    return look([Intervention(1, update, coefficient)]), look(())


def change_at_padding(lm: LM) -> float:
    """How far steering every token, seen by the rule as every column, moves padding."""
    batch = encode(lm, PROMPTS)
    careless = positions.Rule("careless", lambda b: torch.ones_like(b.attention), generated=True)

    def stream(edits) -> torch.Tensor:
        plan = tracing.plan(lm, batch, edits)
        with torch.no_grad(), lm.traced.trace(**tracing.model_inputs(lm.model, batch)):
            hidden = tracing.visit(lm.blocks[0], plan.get(Place(0), []), batch.width).save()
        return hidden

    edits = [Intervention(0, Add(direction(lm)), torch.tensor(COEFFICIENTS), careless)]
    moved = (stream(edits) - stream(())).abs()
    assert moved[batch.attention].max() > 1  # real tokens are steered
    return float(moved[~batch.attention].max())


def distance(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    """Largest difference; the same entries must be NaN."""
    assert a is not None
    assert b is not None
    assert a.shape == b.shape
    assert torch.equal(a.isnan(), b.isnan())
    assert not a.isnan().all()
    return float((a - b).nan_to_num().abs().max())


def state(lm: LM) -> dict:
    """Everything about a model that a call must leave alone."""
    model = lm.model
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "hooks": [len(getattr(m, h)) for m in model.modules() for h in hooks],
        "training": [m.training for m in model.modules()],
        "grad": [p.requires_grad for p in model.parameters()],
        "gradients": [p.grad is None for p in model.parameters()],
        "generation": model.generation_config.to_dict(),
        "config": model.config.to_dict(),
        "traces": (len(lm.traced.interleaver.mediators), lm.traced.interleaver.interleaving),
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "enabled": torch.is_grad_enabled(),
    }


def changed(before: dict, after: dict) -> list[str]:
    weights = before["weights"].keys() == after["weights"].keys() and all(
        torch.equal(v, after["weights"][k]) for k, v in before["weights"].items()
    )
    others = [k for k in before if k != "weights" and before[k] != after[k]]
    return others + ([] if weights else ["weights"])


class Interrupt:
    """A stopping criterion that is Ctrl-C at the third step."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, input_ids, scores, **kwargs):
        self.steps += 1
        if self.steps == 3:
            raise KeyboardInterrupt
        return torch.zeros(len(input_ids), dtype=torch.bool)


def use_everything(lm: LM) -> None:
    edits = steering(lm)
    batch = encode(lm, PROMPTS)
    tracing.read(lm, batch, [0, 1], interventions=edits)
    tracing.logprobs(lm, batch, edits)
    generation.generate(lm, batch, edits, new_tokens=4, kl=True)
    with pytest.raises(KeyboardInterrupt):
        generation.generate(lm, batch, edits, new_tokens=6, stopping=[Interrupt()])


# ---- they hold everywhere -----------------------------------------------------------------------


@every_architecture
def test_the_logits_differ_enough_to_show_a_fault(name):
    lm = architectures.build(name)
    batch = encode(lm, PROMPTS)
    assert architectures.steered_logits(lm, batch)[batch.attention].std() >= 1


@every_architecture
def test_batched_equals_alone(name):
    assert batched_against_alone(architectures.build(name)) < TOLERANCE


@every_architecture
def test_padded_equals_unpadded(name):
    assert padded_against_unpadded(architectures.build(name)) < TOLERANCE


@every_architecture
def test_cached_equals_uncached(name):
    assert cached_against_uncached(architectures.build(name)) < TOLERANCE


@every_architecture
def test_sampled_alone_equals_sampled_in_a_batch(name):
    together, alone = sampled_alone_and_together(architectures.build(name))
    assert torch.equal(together, alone)


@every_architecture
def test_coefficient_zero_is_unsteered_bit_for_bit(name):
    zero, unsteered = zero_and_unsteered(architectures.build(name))
    assert all(torch.equal(a, b) for a, b in zip(zero, unsteered, strict=True))


@every_architecture
def test_padding_is_never_touched(name):
    assert change_at_padding(architectures.build(name)) == 0


@every_architecture
def test_the_model_comes_back_unchanged_even_after_an_interrupt(name):
    lm = architectures.build(name)
    lm.model.train()
    try:
        before = state(lm)
        use_everything(lm)
        assert changed(before, state(lm)) == []
    finally:
        lm.model.eval()
    assert batched_against_alone(lm) < TOLERANCE


# ---- and each can fail --------------------------------------------------------------------------


@pytest.fixture
def columns_for_positions(monkeypatch):
    """The fault: position ids counted over columns, padding included."""
    sound = tracing.model_inputs

    def faulty(model, batch):
        inputs = sound(model, batch)
        inputs["position_ids"] = torch.arange(batch.width).expand(batch.ids.shape)
        return inputs

    for module in (tracing, decoding):
        monkeypatch.setattr(module, "model_inputs", faulty)


@pytest.mark.usefixtures("columns_for_positions")
@pytest.mark.parametrize("holds", [batched_against_alone, padded_against_unpadded])
def test_wrong_position_ids_are_caught(holds):
    # Absolute positions; rotary ones only see differences, which this fault keeps.
    assert holds(architectures.build("gpt2")) > 100 * TOLERANCE


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2", "falcon", "phi"])
def test_positions_that_ignore_the_token_are_caught_on_rotary_models(name, monkeypatch):
    sound = tracing.model_inputs

    def faulty(model, batch):
        inputs = sound(model, batch)
        if len(batch) > 1:
            inputs["position_ids"] = torch.zeros_like(batch.ids)
        return inputs

    for module in (tracing, decoding):
        monkeypatch.setattr(module, "model_inputs", faulty)
    assert batched_against_alone(architectures.build(name)) > 100 * TOLERANCE


@pytest.mark.parametrize("name", ["bloom", "mpt", "llama"])
def test_attention_to_padding_is_caught(name, monkeypatch):
    sound = tracing.model_inputs

    def faulty(model, batch):
        inputs = sound(model, batch)
        return {**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])}

    for module in (tracing, decoding):
        monkeypatch.setattr(module, "model_inputs", faulty)
    assert batched_against_alone(architectures.build(name)) > 100 * TOLERANCE


def test_a_stale_cache_is_caught(monkeypatch):
    """The fault: the prompt's cache comes from the unsteered model."""
    sound = visits.columns

    def faulty(updates, start, stop):
        kept = sound(updates, start, stop)
        return [(u, s * 0) for u, s in kept] if start == 0 else kept

    monkeypatch.setattr(visits, "columns", faulty)
    assert cached_against_uncached(architectures.build("llama")) > 100 * TOLERANCE


def test_unsteered_decoding_steps_are_caught(monkeypatch):
    """The fault of a bare edit in nnsight's generate: only the prompt pass is steered."""
    monkeypatch.setattr(decoding, "last_step", lambda steered, width: 0)
    assert cached_against_uncached(architectures.build("llama")) > 100 * TOLERANCE


def test_noise_that_depends_on_the_neighbours_is_caught(monkeypatch):
    sound = sampling.gumbel

    def faulty(seed, streams, step, vocabulary):
        return sound(seed, range(len(streams)), step, vocabulary)

    monkeypatch.setattr(sampling, "gumbel", faulty)
    together, alone = sampled_alone_and_together(architectures.build("llama"))
    assert not torch.equal(together, alone)


class Rounding:
    """h + m v by way of a detour that is exact in real numbers and not in float32."""

    width = None
    origin = None

    def __init__(self, direction: torch.Tensor) -> None:
        self.direction = direction

    def __call__(self, hidden: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return (hidden * 3 + 3 * scale * self.direction) / 3 * 1.0000001


def test_an_update_that_rounds_is_unsteered_at_zero_all_the_same():
    lm = architectures.build("llama")
    zero, unsteered = zero_and_unsteered(lm, Rounding(direction(lm)))
    assert all(torch.equal(a, b) for a, b in zip(zero, unsteered, strict=True))


def test_a_coefficient_zero_that_rounds_is_caught(monkeypatch):
    def faulty(hidden, updates, read=None):
        for update, scale in updates:
            hidden = update(hidden, scale[..., None])
        return hidden

    monkeypatch.setattr(visits, "steer", faulty)
    lm = architectures.build("llama")
    zero, unsteered = zero_and_unsteered(lm, Rounding(direction(lm)))
    assert not torch.equal(zero[0], unsteered[0])


def test_a_steered_pad_is_caught(monkeypatch):
    monkeypatch.setattr(
        "workbench.forward.steering.select", lambda lm, batch, rule: rule(lm, batch)
    )
    assert change_at_padding(architectures.build("llama")) > 1


def test_each_kind_of_change_to_the_model_is_caught():
    lm = architectures.build("opt", seed=1)
    first = next(lm.model.parameters())

    def weights():
        first.data.mul_(1.001)

    def hooks():
        lm.model.register_forward_hook(lambda *_: None)

    def training():
        lm.model.train()

    def grad():
        first.requires_grad_(False)

    def generation_settings():
        lm.model.generation_config.max_length = 99

    faults = {
        "weights": weights,
        "hooks": hooks,
        "training": training,
        "grad": grad,
        "generation": generation_settings,
    }
    for name, fault in faults.items():
        before = state(lm)
        fault()
        assert name in changed(before, state(lm))
