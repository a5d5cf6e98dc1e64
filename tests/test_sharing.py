"""A shared vector comes back whole, says what it was made in, and shows if it does the same."""

import copy
import json
import math
from dataclasses import replace

import httpx
import pandas as pd
import pytest
import torch
from architectures import build, tokenizer
from huggingface_hub.errors import RepositoryNotFoundError
from test_baked import Hub
from test_ceiling import made as made_sweep

from workbench.generation.generate import generate
from workbench.keeping import shared_folder, sharing
from workbench.keeping.edit import edit
from workbench.keeping.shared_replay import verify_card
from workbench.keeping.sharing import SharedVector, share
from workbench.loading import hub
from workbench.loading.models import LM, load
from workbench.sweeps.ceiling import find_ceiling
from workbench.sweeps.planning import added_hash
from workbench.sweeps.sweep import sweep
from workbench.text import positions
from workbench.vectors.formats import load_gguf
from workbench.vectors.steering_vector import SteeringVector

NAMES = ("llama", "gpt2", "gemma2", "qwen2", "mixtral")


def vector(lm: LM, **changes) -> SteeringVector:
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(3))
    about = {
        "method": "difference",
        "layer": 1,
        "provenance": {"pairs": "wren-mood", "trait": "<i>mood</i> | `x`", "seed": 3},
        **changes,
    }
    return SteeringVector({1: direction}, {1: 5.0}, lm.name, lm.fingerprint, **about)


@pytest.fixture(scope="module")
def shared() -> SharedVector:
    lm = build("llama")
    return share(lm, vector(lm), 0.5, positions=positions.generated, prompts=sharing.PROMPTS)


@pytest.mark.parametrize("name", NAMES)
def test_saved_read_and_verified(name, tmp_path):
    lm = build(name)
    given = share(lm, vector(lm), 0.4, new_tokens=12)
    back = SharedVector.from_pretrained(given.save_pretrained(tmp_path / "mood"))
    assert torch.equal(back.vector.directions[1], given.vector.directions[1])
    assert back.card == given.card
    found = back.verify(lm)
    assert found.same
    assert found.close
    assert len(found.generations) == 8
    assert found.generations["parts_at"].isna().all()
    assert found.surroundings["same"].all()
    assert found.verified
    assert "Replay(verified: 8 of 8 texts the same" in repr(found)
    assert "differs: nothing" in repr(found)
    assert found.generations["effect"].abs().max() > 0.01


def test_the_stored_texts_are_what_it_writes(shared):
    lm = build("llama")
    steered = vector(lm).at(0.5, positions=positions.generated)
    made = generate(lm, sharing.PROMPTS, steered, new_tokens=32)
    plain = generate(lm, sharing.PROMPTS, new_tokens=32)
    kept = shared.card["generations"]
    assert [each["text"] for each in kept] == made.texts
    assert [each["unsteered"] for each in kept] == plain.texts
    assert made.texts != plain.texts
    (one,), (two,) = shared.at(), shared.at(0.1)
    assert (one.coefficient, two.coefficient) == (0.5, 0.1)
    assert one.positions is positions.generated


def test_another_machine_is_found_out(shared):
    lm = build("llama")
    model = copy.deepcopy(lm.model)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(1.05)  # type: ignore[union-attr]
    other = shared.verify(load(model, tokenizer=tokenizer()))
    assert not other.close
    assert not other.same
    assert other.surroundings.set_index("what")["same"]["tokenizer"]
    assert not other.surroundings.set_index("what")["same"]["weights"]
    row = other.generations[~other.generations["same"]].iloc[0]
    assert row["stored"] != row["here"]
    assert 0 <= row["parts_at"] < 32
    edited = edit(lm, vector(lm).at(0.2))
    assert not shared.verify(edited).close


def test_half_precision_is_named_and_how_far_it_is(shared):
    model = copy.deepcopy(build("llama").model).to(torch.bfloat16)
    found = shared.verify(load(model, tokenizer=tokenizer())).surroundings.set_index("what")
    assert not found["same"]["dtype"]
    assert (found["stored"]["dtype"], found["here"]["dtype"]) == ("float32", "bfloat16")
    assert not shared.verify(load(model, tokenizer=tokenizer())).verified


def test_another_template_or_tokenizer_is_named(shared):
    lm = build("llama")
    words = copy.deepcopy(tokenizer())
    words.chat_template = "{{ messages[0]['content'] }}"
    replay = shared.verify(load(lm.model, tokenizer=words))
    assert replay.same  # its prompts were texts: the template alone tells
    assert not replay.verified
    found = replay.surroundings.set_index("what")["same"]
    assert not found["template"]
    assert found["tokenizer"]
    words = copy.deepcopy(tokenizer())
    words.add_tokens(["story"])
    found = shared.verify(load(lm.model, tokenizer=words)).surroundings.set_index("what")["same"]
    assert not found["tokenizer"]
    assert found["template"]


def test_in_half_precision_it_is_verified_on_its_own_machine():
    model = copy.deepcopy(build("llama").model).to(torch.bfloat16)
    lm = load(model, tokenizer=tokenizer())
    given = share(lm, replace(vector(lm), fingerprint=lm.fingerprint), 0.5, new_tokens=12)
    assert given.verify(lm).verified
    card = copy.deepcopy(dict(given.card))
    for each in card["generations"]:
        each["logprobs"] = [value - 0.2 for value in each["logprobs"]]
    assert not SharedVector(given.vector, card).verify(lm).verified


def test_where_there_is_a_template_it_is_tried():
    words = copy.deepcopy(tokenizer())
    words.chat_template = "{% for m in messages %}say {{ m['content'] }} {% endfor %}"
    lm = load(build("llama").model, tokenizer=words)
    shared = share(lm, vector(lm), 0.5, new_tokens=8)
    assert shared.card["generations"][0]["prompt"] == [
        {"role": "user", "content": sharing.PROMPTS[0]}
    ]
    assert shared.verify(lm).verified
    other = copy.deepcopy(words)
    other.chat_template = "{% for m in messages %}{{ m['content'] }} and {% endfor %}"
    assert not shared.verify(load(lm.model, tokenizer=other)).close


def test_without_the_vector_nothing_is_verified(shared):
    found = verify_card(build("llama"), shared.card, ())
    assert not found.close
    assert not found.verified


def test_a_vector_of_another_effect_is_not_verified_by_likely_tokens(shared):
    """The fault: only tokens that any weights hold likely were compared."""
    card = copy.deepcopy(dict(shared.card))
    for each in card["generations"]:
        each["logprobs_unsteered"] = [value - 0.1 for value in each["logprobs_unsteered"]]
    found = SharedVector(shared.vector, card).verify(build("llama"))
    assert found.same
    assert not found.close
    assert not found.verified


def test_a_vector_of_another_width_or_vocabulary_is_refused(shared):
    wide = SteeringVector({1: torch.ones(5)}, {}, "x", "", "hand", 1)
    with pytest.raises(ValueError, match=r"5 wide"):
        replace(shared, vector=wide).verify(build("llama"))
    card = copy.deepcopy(dict(shared.card))
    card["generations"][0]["ids"][0] = 99999
    with pytest.raises(ValueError, match=r"token 99999"):
        SharedVector(shared.vector, card).verify(build("llama"))


def test_the_ceiling_gives_the_coefficient_and_its_interval(tmp_path):
    lm = build("llama")
    ceiling = find_ceiling(swept(lm, vector(lm)), bootstrap=50)
    shared = share(lm, vector(lm), ceiling=ceiling, new_tokens=4)
    assert shared.card["coefficient"] == ceiling[1].recommended.value > 0
    assert shared.card["unit"] == "norm"
    found = shared.card["ceiling"]
    marks = {(each["sign"], each["mark"]): each for each in found["marks"]}
    assert marks[1, "ceiling"]["value"] == ceiling[1].ceiling.value
    assert marks[1, "recommended"]["low"] == ceiling[1].recommended.low
    assert marks[-1, "ceiling"]["value"] is None  # no collapse in range
    folder = shared.save_pretrained(tmp_path / "mood")
    json.loads((folder / "card.json").read_text(), parse_constant=pytest.fail)
    text = (folder / "README.md").read_text()
    assert f"| + | ceiling | {ceiling[1].ceiling.value:+.3g} |" in text
    low, high = ceiling[1].recommended.low, ceiling[1].recommended.high
    size = ceiling[1].recommended.value
    assert f"Recommended coefficient: {size:+.3g}** [{low:+.3g}, {high:+.3g}] residual" in text
    assert "90% interval" in text
    assert "Over 12 of 12 prompts" in text
    assert "measured by trait, without a random control" in text
    by_hand = share(lm, vector(lm), 5.0, ceiling=ceiling, new_tokens=4)
    text = (by_hand.save_pretrained(tmp_path / "far") / "README.md").read_text()
    assert "Recommended" not in text
    assert "**Used at +5** residual norms, by hand. That lies beyond the ceiling" in text


def swept(lm: LM, given: SteeringVector, **changes) -> pd.DataFrame:
    """A sweep made by hand that says it is of this vector."""
    frame = made_sweep({1: 1.0}, {1: 0.25})
    frame.attrs = {
        "fingerprint": lm.fingerprint,
        "layers": [1],
        "positions": "everything",
        "vectors": {"vector": added_hash(given.at(1.0))},
        **changes,
    }
    return frame


@pytest.mark.parametrize(
    "changes",
    [{"fingerprint": "0"}, {"layers": [0]}, {"positions": "last"}, {"vectors": {"vector": "0"}}],
)
def test_a_ceiling_of_another_sweep_is_refused(changes):
    lm = build("llama")
    ceiling = find_ceiling(swept(lm, vector(lm), **changes), bootstrap=20)
    with pytest.raises(ValueError, match=rf"another sweep: its {next(iter(changes))}"):
        share(lm, vector(lm), ceiling=ceiling)


def test_a_real_sweep_is_taken():
    lm = load("wren")
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(0))
    given = SteeringVector({2: direction}, {2: 5.0}, lm.name, lm.fingerprint, "hand", 2)
    frame = sweep(lm, given, ["The cat", "A dog"], [0, 0.5, 1.0], new_tokens=4, progress=False)
    ceiling = find_ceiling(frame, bootstrap=20)
    shared = share(lm, given, 0.5, ceiling=ceiling, new_tokens=4)
    assert shared.card["ceiling"]["sweep"]["fingerprint"] == lm.fingerprint
    with pytest.raises(ValueError, match="another sweep: its positions"):
        share(lm, given, 0.5, ceiling=ceiling, positions=positions.generated)


def test_an_edited_model_is_refused():
    lm = build("llama")
    with pytest.raises(ValueError, match="is edited, and a card can name no edits"):
        share(edit(lm, vector(lm).at(0.2)), vector(lm), 0.5)


def test_the_control_vector_is_what_llama_cpp_adds():
    """It takes no direction 0, adds all that a file holds, and to every token."""
    lm = build("llama")
    many = SteeringVector(
        {k: torch.full((lm.width,), float(k + 1)) for k in range(2)},
        {0: 2.0, 1: 4.0},
        lm.name,
        lm.fingerprint,
        "hand",
        1,
    )
    control = share(lm, many, 0.5, layers=[1], new_tokens=2).control
    assert control is not None
    assert list(control.directions) == [1]
    assert float(control.directions[1].norm()) == pytest.approx(0.5 * 4.0)
    assert share(lm, many, 0.5, layers=[0, 1], new_tokens=2).control is None
    assert share(lm, many, 0.5, positions=positions.last, new_tokens=2).control is None


def test_the_card_is_no_markup_of_others(shared, tmp_path):
    folder = shared.save_pretrained(tmp_path / "mood")
    text = (folder / "README.md").read_text()
    assert "<i>" not in text
    assert "# Steering vector: &lt;i>mood&lt;/i> &#124; &#96;x&#96;" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 9
    assert all(row.count("|") == 4 for row in rows)
    assert "No ceiling was measured" in text
    assert not (folder / "vector.gguf").exists()
    assert "There is no control vector for llama.cpp" in text
    everywhere = share(build("llama"), shared.vector, 0.5, new_tokens=2)
    folder = everywhere.save_pretrained(tmp_path / "everywhere")
    (added,) = everywhere.at()
    found = load_gguf(folder / "vector.gguf").directions[1]
    assert torch.equal(found, added.update.direction * 0.5)  # type: ignore[union-attr]


def test_chats_are_replayed_too(tiny):
    chats = [[{"role": "user", "content": f"Tell me {n}"}] for n in range(8)]
    shared = share(tiny, vector(tiny), 0.5, prompts=chats, new_tokens=4)
    assert shared.verify(tiny).same


def test_on_the_bundled_model(tmp_path):
    lm = load("wren")
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(0))
    given = SteeringVector({2: direction}, {2: 5.0}, lm.name, lm.fingerprint, "hand", 2)
    folder = share(lm, given, 0.3, new_tokens=8).save_pretrained(tmp_path / "v")
    assert SharedVector.from_pretrained(folder).verify(lm).same


def test_a_folder_that_holds_something_stays(shared, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        shared.save_pretrained(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "holds no vector that `share` wrote"),
        ({"format": "workbench.shared/1"}, "earlier format 'workbench.shared/1'.*shared again by"),
        ({"sha256": "0" * 64}, "belongs to another vector"),
        ({"positions": "os.system"}, "is damaged"),
        ({"coefficient": "1"}, "is damaged"),
        ({"coefficient": math.nan}, "is damaged"),
        ({"layers": [7]}, "is damaged"),
        ({"unit": "sd"}, "is damaged"),
        ({"generations": [{"prompt": "a"}]}, "is damaged"),
        ({"generations": 3}, "is damaged: generations"),
        ({"generations": []}, "is damaged: generations"),
        ({"about": []}, "is damaged: about"),
        ({"ceiling": 3}, "is damaged"),
        ({"ceiling": {"marks": []}}, "is damaged: ceiling"),
        ({"recommended": True}, "is damaged: recommended"),
        ({"method": None}, "is damaged: method"),
    ],
)
def test_a_damaged_or_foreign_card_is_refused(shared, tmp_path, change, message):
    folder = shared.save_pretrained(tmp_path / "mood")
    (folder / "card.json").write_text(json.dumps({**shared.card, **change}))
    with pytest.raises(ValueError, match=message):
        SharedVector.from_pretrained(folder)


def test_missing_files_are_named(shared, tmp_path):
    folder = shared.save_pretrained(tmp_path / "mood")
    (folder / "card.json").write_text("{")
    with pytest.raises(ValueError, match=r"card\.json' is damaged"):
        SharedVector.from_pretrained(folder)
    (folder / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no card\.json"):
        SharedVector.from_pretrained(folder)
    shared.save_pretrained(tmp_path / "again")
    (tmp_path / "again" / "vector.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"not a readable safetensors file"):
        SharedVector.from_pretrained(tmp_path / "again")


def test_to_the_hub_and_back(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "HfApi", Hub)
    assert shared.push_to_hub("mood") == "https://hub/me/mood/commit/1"
    assert Hub.calls[2] == ["README.md", "card.json", "vector.safetensors"]
    folder, asked = shared.save_pretrained(tmp_path / "there"), []

    def download(name, **how):
        asked.append((name, how))
        return str(folder)

    monkeypatch.setattr(hub, "no_connection", lambda: None)
    monkeypatch.setattr(shared_folder, "snapshot_download", download)
    back = SharedVector.from_pretrained("me/mood", revision="v1", token="secret")
    assert back.card == shared.card
    ((name, how),) = asked
    assert (name, how["revision"], how["token"]) == ("me/mood", "v1", "secret")
    assert set(how["allow_patterns"]) == {"README.md", "card.json", "vector.safetensors"}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, r"give coefficient=, or ceiling=find_ceiling\(frame\)"),
        ({"coefficient": 0.0}, "no number but 0"),
        ({"coefficient": math.inf}, "the coefficient inf"),
        ({"coefficient": 1.0, "positions": positions.after("x")}, "a card can say one of"),
        ({"coefficient": 1.0, "prompts": ("a",)}, "1 prompts; give 8"),
        ({"coefficient": 1.0, "layers": [2]}, "no direction at layer 2"),
    ],
)
def test_what_a_card_cannot_say_is_refused(tiny, how, message):
    with pytest.raises(ValueError, match=message):
        share(tiny, vector(tiny), **how)
    with pytest.raises(ValueError, match=r"made on"):
        share(build("gpt2"), vector(tiny), 1.0)


def test_a_model_without_the_template_is_told_not_verified():
    lm, words = build("llama"), copy.deepcopy(tokenizer())
    words.chat_template = None
    given = share(lm, vector(lm), 0.4, new_tokens=4)
    found = given.verify(load(lm.model, tokenizer=words))
    assert not found.verified
    assert not found.same
    assert not found.close
    assert repr(found).startswith("Replay(NOT verified: the card's texts answer chats, and the")
    assert "no chat template" in found.reason
    surroundings = found.surroundings.set_index("what")["same"]
    assert surroundings["weights"]
    assert not surroundings["template"]
    assert found.generations["stored"].tolist() == [e["text"] for e in given.card["generations"]]
    assert set(found.generations["here"]) == {""}
    assert found.generations["logprob"].isna().all()


def test_a_mistyped_folder_is_told_with_names_near_to_it(shared, tmp_path, monkeypatch):
    for name in ("mood", "other"):
        shared.save_pretrained(tmp_path / "vectors" / name)
    (tmp_path / "vectors" / "moot").mkdir()  # nothing in it
    cache = tmp_path / "cache"
    copied = cache / "models--me--mood" / "snapshots" / "1"
    shared.save_pretrained(copied)
    (cache / "models--me--mood" / "refs").mkdir()
    (cache / "models--me--mood" / "refs" / "main").write_text("1")
    (cache / "models--me--mode" / "snapshots").mkdir(parents=True)  # a model
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hub, "no_connection", lambda: "no network")
    cases = {
        tmp_path / "vectors" / "mod": f"did you mean '{tmp_path / 'vectors' / 'mood'}'?",
        tmp_path / "vectors" / "mood" / "card.json": "that is a file: give the folder",
        tmp_path / "nowhere" / "mood": "no such folder",
        "me/moods": "no such folder, no copy of such a repository, and no network; did you mean "
        "'me/mood'?",
    }
    for name, said in cases.items():
        with pytest.raises(FileNotFoundError) as error:
            SharedVector.from_pretrained(name)
        assert str(error.value).startswith(f"no shared vector '{name}': ")
        assert said in str(error.value)
        assert "model" not in str(error.value).removeprefix(f"no shared vector '{name}'")
    assert str(error.value).endswith("'me/mood'?")
    monkeypatch.setattr(hub, "no_connection", lambda: None)

    def absent(name, **_):
        answer = httpx.Response(404, request=httpx.Request("GET", "https://hub"))
        raise RepositoryNotFoundError("404", response=answer)

    monkeypatch.setattr(shared_folder, "snapshot_download", absent)
    with pytest.raises(FileNotFoundError, match="no repository of the hub that this token"):
        SharedVector.from_pretrained("me/moods")
