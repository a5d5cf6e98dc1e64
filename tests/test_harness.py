"""The harness's own code for Hugging Face models gives the same figures, steered and not."""

import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra 'harness')")

import copy
import json

import torch
from architectures import SENTENCES, build, tokenizer
from lm_eval.api.instance import Instance
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from workbench.interventions.updates import Add, Intervention
from workbench.keeping.bake import bake
from workbench.keeping.edit import edit
from workbench.keeping.harness import Harness
from workbench.loading.models import LM
from workbench.text import positions

PAIRS = [
    ("A girl and her dog", " went to the river."),
    ("Please tell me", " a story about a king who lost his crown"),
    ("I am", " very sad"),
    ("", "The old fox"),
    ("ends in a space ", "yes"),
]


def steer(lm: LM, rule=positions.everything) -> list[Intervention]:
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(0))
    return [Intervention(1, Add(direction), 0.8, rule)]


def reference(lm: LM, interventions=()) -> HFLM:
    model = bake(lm, interventions, prompts=("The",)).model if interventions else lm.model
    model = copy.deepcopy(model)
    return HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer()), batch_size=1, device="cpu")


def asked(kind: str, arguments) -> list[Instance]:
    return [Instance(kind, {}, each, i) for i, each in enumerate(arguments)]


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom"])
@pytest.mark.parametrize("steered", [False, True])
def test_scores_are_the_harnesss_own(name, steered):
    lm = build(name)
    own = Harness(edit(lm, steer(lm)) if steered else lm)
    theirs = reference(lm, steer(lm) if steered else ())
    requests = asked("loglikelihood", PAIRS)
    found, expected = own.loglikelihood(requests), theirs.loglikelihood(requests)
    for one, two in zip(found, expected, strict=True):
        assert one[0] == pytest.approx(two[0], abs=1e-3)
        assert one[1] == two[1]
    texts = asked("loglikelihood_rolling", [(each,) for each in SENTENCES[:3]])
    assert own.loglikelihood_rolling(texts) == pytest.approx(
        theirs.loglikelihood_rolling(texts), abs=1e-3
    )


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_texts_are_the_harnesss_own(name):
    lm = build(name)
    how = {"until": ["e"], "max_gen_toks": 12, "do_sample": False}
    requests = asked("generate_until", [(each[:20], dict(how)) for each in SENTENCES])
    theirs = reference(lm, steer(lm)).generate_until(requests)
    assert Harness(edit(lm, steer(lm))).generate_until(requests) == theirs


def test_what_is_greedy_is_told():
    lm = build("llama")
    own = Harness(lm)
    ids = tokenizer().encode("A girl and her dog")
    with torch.no_grad():
        for _ in range(3):
            ids.append(int(lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
    best = [(None, ids[:-3], ids[-3:]), (None, ids[:-3], [*ids[-3:-1], (ids[-1] + 1) % 300])]
    assert [greedy for _, greedy in own._loglikelihood_tokens(best)] == [True, False]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_what_is_longer_than_the_context_is_cut_as_the_harness_cuts_it(name):
    """gpt2 has a learned embedding for each position and none beyond: no row may be longer."""
    lm = build(name)
    own, theirs = Harness(edit(lm, steer(lm))), reference(lm, steer(lm))
    assert own.most == theirs.max_length == lm.context
    ids = tokenizer().encode(" ".join(SENTENCES * 6))
    assert len(ids) > 2 * lm.context
    # Below the context, filling it, one over, and two windows and a token.
    lengths = (lm.context - 1, lm.context, lm.context + 1, 2 * lm.context, len(ids))
    texts = [tokenizer().decode(ids[:n]) for n in lengths]
    rolling = asked("loglikelihood_rolling", [(text,) for text in texts])
    found, expected = own.loglikelihood_rolling(rolling), theirs.loglikelihood_rolling(rolling)
    assert found == pytest.approx(expected, abs=1e-3)
    # Their whole texts differ: the harness scores those that are the same only once.
    places = ((lm.context, 1), (lm.context - 1, 3), (200, 5), (9, lm.context))
    pairs = [(None, ids[:n], ids[n : n + k]) for n, k in places]
    scores, known = own._loglikelihood_tokens(pairs), theirs._loglikelihood_tokens(pairs)
    assert [s for s, _ in scores] == pytest.approx([s for s, _ in known], abs=1e-3)
    how = {"until": [], "max_gen_toks": 9, "do_sample": False}
    for text in texts:
        request = asked("generate_until", [(text, dict(how))])
        assert own.generate_until(request) == theirs.generate_until(request)


def test_whole_texts_are_not_steered_at_a_prompt():
    lm = build("llama")
    text = asked("loglikelihood_rolling", [(SENTENCES[0],)])
    for rule in (positions.prompt, positions.last, positions.token(-1), positions.nth(0)):
        own = Harness(edit(lm, steer(lm, rule)))
        with pytest.raises(ValueError, match=r"whole texts have no prompt"):
            own.loglikelihood_rolling(text)
    steered, plain = Harness(edit(lm, steer(lm, positions.generated))), Harness(lm)
    (one,), (two,) = steered.loglikelihood_rolling(text), plain.loglikelihood_rolling(text)
    assert abs(one - two) > 0.1


def test_positions_are_counted_in_the_tokens_that_the_harness_gives():
    lm = build("llama")
    requests = asked("loglikelihood", PAIRS[:2])
    last, counted = (
        Harness(edit(lm, steer(lm, rule))).loglikelihood(requests)
        for rule in (positions.last, positions.token(-1))
    )
    assert counted == last
    first = Harness(edit(lm, steer(lm, positions.nth(0)))).loglikelihood(requests)
    assert first != last


def test_sampled_texts_follow_the_seed():
    lm = build("llama")
    how = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    requests = asked("generate_until", [(each[:20], dict(how)) for each in SENTENCES])
    one, two = (Harness(lm, seed=3).generate_until(requests) for _ in range(2))
    assert one == two != Harness(lm, seed=4).generate_until(requests)


def test_a_task_made_here_runs_from_end_to_end(tmp_path, monkeypatch):
    """Offline: the questions are a file, the answers are what the steered model says most."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    rows = [{"question": text[:24], "choices": [" yes", " no"], "answer": 0} for text in SENTENCES]
    data = tmp_path / "test.json"
    data.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "made.yaml").write_text(
        "task: made_here\n"
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {data}}}}}\n"
        "test_split: test\n"
        "output_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\n'
        'doc_to_choice: "{{choices}}"\n'
        "doc_to_target: answer\n"
        "metric_list: [{metric: acc}]\n"
    )
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    lm = build("llama")
    how = {"tasks": ["made_here"], "task_manager": tasks, "bootstrap_iters": 0}
    own = simple_evaluate(Harness(edit(lm, steer(lm))), **how)
    theirs = simple_evaluate(reference(lm, steer(lm)), **how)
    assert own is not None
    assert theirs is not None
    figure = own["results"]["made_here"]["acc,none"]
    assert figure == theirs["results"]["made_here"]["acc,none"]
    assert own["n-samples"]["made_here"]["effective"] == len(rows)


def test_what_the_harness_cannot_say_is_refused():
    lm = build("llama")
    with pytest.raises(ValueError, match=r"may look at the text"):
        Harness(edit(lm, steer(lm, positions.after("x"))))
    how = {"until": [], "max_gen_toks": lm.context}
    with pytest.raises(ValueError, match=r"leaves no room for a prompt"):
        Harness(lm).generate_until(asked("generate_until", [("a", how)]))
    with pytest.raises(ValueError, match=r"\['top_k'\] are not known"):
        Harness(lm).generate_until(asked("generate_until", [("a", {"until": [], "top_k": 3})]))
    with pytest.raises(ValueError, match=r"200 tokens; it has 1 at least, and at most"):
        Harness(lm)._loglikelihood_tokens([(None, [1], [2] * 200)])
