"""What must be the same for a sweep to resume."""

import copy

import torch

from workbench.loading.models import LM, load
from workbench.sweeps.planning import lay_out, provenance
from workbench.text.tokens import encode
from workbench.vectors.steering_vector import SteeringVector

CHATS = [[{"role": "user", "content": text}] for text in ("The fox", "A girl and her dog")]


def token_ids(lm: LM, prompts=CHATS, prompted=()) -> str:
    vector = SteeringVector({1: torch.ones(lm.width)}, {1: 1.0}, lm.name, lm.fingerprint, "hand", 1)
    rows = lay_out(vector, prompts, [-1.0, 1.0], "norm", None, ("vector",), prompted)
    made = provenance(
        lm,
        vector,
        rows,
        encode(lm, [*prompts, *prompted]),
        prompts=prompts,
        prompted=prompted,
        added={"vector": vector.at(1.0)},
        settings={},
    )
    return made["token_ids"]


def test_a_plan_tells_what_the_model_sees_of_the_prompts(tiny: LM) -> None:
    words = copy.deepcopy(tiny.tokenizer)
    same = load(copy.deepcopy(tiny.model), tokenizer=words)
    assert token_ids(same) == token_ids(tiny)
    words.chat_template = "{% for m in messages %}({{ m['content'] }}){% endfor %}"
    other = load(copy.deepcopy(tiny.model), tokenizer=words)
    assert other.fingerprint == tiny.fingerprint
    found = [
        token_ids(tiny),
        token_ids(other),
        token_ids(tiny, CHATS[::-1]),
        token_ids(tiny, prompted=[CHATS[0]]),
    ]
    assert len(set(found)) == 4
