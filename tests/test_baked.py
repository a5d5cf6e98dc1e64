"""What leaves the house: whole folders or none, a card that says what is in them, an upload."""

import copy
import errno
import json
import resource
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import gguf
import pytest
import safetensors.torch
import torch
from architectures import build
from edited import make
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import filter_repo_objects
from test_bake import SHORT, vector

from workbench.interventions.updates import Add, Intervention
from workbench.keeping import baked as module
from workbench.keeping.bake import bake
from workbench.keeping.baked import Baked
from workbench.keeping.baked_changes import records
from workbench.keeping.baked_check import logits_of, written
from workbench.loading import hub
from workbench.loading.models import load
from workbench.support import store


@pytest.fixture(scope="module")
def done() -> Baked:
    lm = build("llama")
    given = vector(lm)
    about = {"trait": "<b>mood</b>", "pairs": "wren-mood", "seed": 3, "texts": ["a" * 64]}
    return bake(lm, given.at(0.5), about=about, **SHORT)


def test_shards_tokenizer_card_and_provenance(done, tmp_path):
    folder = done.save(tmp_path / "deep" / "model", max_shard_size="40KB")
    names = {each.name for each in folder.iterdir()}
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert {"model.safetensors.index.json", "config.json", "tokenizer.json", "README.md"} <= names
    assert not list(folder.glob("*.bin"))
    again = load(folder)
    weights = dict(again.model.named_parameters())
    for name, each in done.model.named_parameters():
        assert torch.equal(weights[name], each)
    known = json.loads((folder / "provenance.json").read_text())
    assert known["about"]["texts"] == ["a" * 64]
    assert known["fingerprint"] == build("llama").fingerprint
    assert known["changes"][0]["coefficient"] == 0.5
    assert set(known["versions"]) >= {"torch", "transformers"}


def test_the_card_says_what_a_reader_needs(done, tmp_path):
    text = (done.save(tmp_path / "model") / "README.md").read_text()
    assert text.startswith("---\n")
    assert "library_name: transformers" in text
    assert "every token of every text, the first token included" in text
    assert "LlamaForCausalLM with mlp_bias=True" in text
    assert "model.layers.1.mlp.down_proj.bias" in text
    assert "the same 64 of 64 tokens without ever another" in text
    assert "on 65 tokens of 1 text: 1 of prompts" in text
    assert f"in bfloat16 the divergence is {done.check.kl_bfloat16:.2g} nats a token" in text
    assert f"from the base model unchanged it is {done.check.moved:.2g}" in text
    assert "- pairs: wren-mood" in text
    assert "<b>" not in text


def as_llama_cpp_reads(path: Path, layers: int) -> dict[int, torch.Tensor]:
    """What llama.cpp adds to the output of each block, by the rules of its own loader: names are
    `direction.k` with k at least 1, one F32 dimension, all as long; k counts blocks from 0, and
    there is no place for block 0 (`common_control_vector_load_one` in common/common.cpp,
    `llama_adapter_cvec::init` and `apply` in src/llama-adapter.cpp)."""
    reader = gguf.GGUFReader(path)
    flat: dict[int, torch.Tensor] = {}
    for tensor in reader.tensors:
        prefix, _, index = tensor.name.partition(".")
        assert prefix == "direction"
        assert int(index) >= 1, "invalid (zero) direction tensor layer index"
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert len(tensor.shape) == 1
        flat[int(index) - 1] = torch.from_numpy(tensor.data.copy())  # the row of its buffer
    assert len({len(each) for each in flat.values()}) == 1
    return {block: flat[block - 1] for block in range(1, layers) if block - 1 in flat}


def test_a_control_vector_is_the_whole_change_for_the_base_model(tmp_path):
    lm = build("llama")
    given = [*vector(lm).at(0.5), *vector(lm, 2).at(-0.3, unit="raw")]
    baked = bake(lm, given, **SHORT)
    folder = baked.save(tmp_path / "model")
    added = as_llama_cpp_reads(folder / "control-vector.gguf", lm.layers)
    assert sorted(added) == [1, 2]

    def add(value):
        return lambda _module, _given, output: output + value

    base = copy.deepcopy(lm.model)
    for block, value in added.items():
        base.model.layers[block].register_forward_hook(add(value))
    ids = torch.arange(20)[None]
    with torch.no_grad():
        expected = base(input_ids=ids).logits
        torch.testing.assert_close(baked.model(input_ids=ids).logits, expected, atol=1e-4, rtol=0)
    card = " ".join((folder / "README.md").read_text().split())
    assert "times its coefficients already" in card
    assert "would act twice" in card


@pytest.mark.parametrize(
    "more",
    [
        lambda lm: vector(lm, 0).at(0.5),
        lambda lm: make(lm, "lora").at(0.5),
        lambda lm: [Intervention(2, Add(torch.ones(lm.width)), 0.5, site="mlp")],
    ],
)
def test_what_is_only_a_part_is_no_control_vector(more, tmp_path):
    """The first layer has no place in llama.cpp; a LoRA and an MLP's output have none at all."""
    lm = build("gpt2")
    folder = bake(lm, [*vector(lm).at(0.5), *more(lm)], **SHORT).save(tmp_path / "model")
    assert not (folder / "control-vector.gguf").exists()
    assert "control-vector" not in (folder / "README.md").read_text()


def test_the_card_says_how_much_was_added(tmp_path):
    lm = build("gpt2")
    baked = bake(lm, vector(lm).at(0.5), **SHORT)  # half a residual norm of 5, it says
    (change,) = baked.changes
    assert change.length == pytest.approx(2.5, rel=1e-5)
    streams = []
    block = lm.model.transformer.h[1]
    batch = written(lm, SHORT["prompts"], vector(lm).at(0.5))
    hook = block.register_forward_hook(lambda _module, _given, out: streams.append(out))
    logits_of(lm.model, batch)
    hook.remove()
    hidden = streams[0][0] if isinstance(streams[0], tuple) else streams[0]
    norms = hidden[0, 1:].norm(dim=-1)  # the first token of a text is left out
    assert change.share == pytest.approx(2.5 / float(norms.double().quantile(0.5)), rel=1e-4)
    text = (baked.save(tmp_path / "model") / "README.md").read_text()
    assert f"| vector | 1 | residual | 0.5 | 2.5 | {change.share:.0%} |" in text


def test_a_second_bake_does_not_hide_the_first(tmp_path):
    first = build("qwen2")
    change = make(first, "lora").at(0.5)
    once = load(bake(first, change, **SHORT).save(tmp_path / "once"))
    baked = bake(once, vector(once, 2).at(0.5), **SHORT)
    assert baked.rewritten == "LlamaForCausalLM with mlp_bias=True"  # a config of another kind
    again = replace(baked, about={"trait": "mood"})  # says nothing twice
    folder = again.save(tmp_path / "twice")
    known = json.loads((folder / "config.json").read_text())["baked"]
    assert [(each["kind"], each["base"]) for each in known] == [
        ("LoRA", "Qwen2ForCausalLM"),
        ("vector", "once"),
    ]
    text = (folder / "README.md").read_text()
    assert "| LoRA | 1 | mlp | 0.5 | – | – |" in text
    assert "| vector | 2 | residual | 0.5 |" in text
    assert "`once` had the first 1 of these in its weights already" in text
    provenance = json.loads((folder / "provenance.json").read_text())
    assert [each["kind"] for each in provenance["baked"]] == ["LoRA", "vector"]
    with pytest.raises(ValueError, match=r"this LoRA is baked into 'twice' already"):
        bake(load(folder), replace(make(first, "lora"), fingerprint="").at(0.1), **SHORT)


def test_what_is_there_stays(done, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds something already"):
        done.save(folder)
    assert [each.name for each in folder.iterdir()] == ["mine.txt"]
    with pytest.raises(FileExistsError):
        done.save(folder / "mine.txt")
    (tmp_path / "empty").mkdir()
    done.save(tmp_path / "empty")


def test_a_disk_that_is_too_small_is_told_before(done, tmp_path, monkeypatch):
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"0\.00 GB are free; nothing was written") as e:
        done.save(tmp_path / "model")
    assert e.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(done, tmp_path):
    """The system itself refuses to write more than so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"nothing of it is left: free some space") as e:
            done.save(tmp_path / "model")
        assert e.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_full_disk_is_not_called_one(done, tmp_path, monkeypatch):
    def missing(*_, **__):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module.AutoModelForCausalLM, "from_pretrained", missing)
    with pytest.raises(OSError, match=r"Permission denied\); nothing of it is left$") as e:
        done.save(tmp_path / "model")
    assert e.value.errno == errno.EACCES
    assert list(tmp_path.iterdir()) == []


def test_home_is_told_from_a_folder_called_so(done, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert done.save("~/model") == tmp_path / "model"
    assert (tmp_path / "model" / "config.json").is_file()


def test_a_late_failure_and_an_interrupt_leave_nothing(done, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "card", full)
    with pytest.raises(OSError, match=r"No space left"):
        done.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "card", stopped)
    with pytest.raises(KeyboardInterrupt):
        done.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_loads_as_another_model_is_not_left(done, tmp_path, monkeypatch):
    write = type(done.model).save_pretrained

    def losing(self, place, **how):
        write(self, place, **how)
        settings = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps({**settings, "mlp_bias": False}))

    monkeypatch.setattr(type(done.model), "save_pretrained", losing)
    with pytest.raises(ValueError, match=r"is not on disk what it is in memory"):
        done.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_weights_must_be_on_disk_bit_by_bit(done, tmp_path, monkeypatch):
    """What the logits of a few tokens would not show."""
    write = type(done.model).save_pretrained

    def rounding(self, place, **how):
        write(self, place, **how)
        weights = safetensors.torch.load_file(place / "model.safetensors")
        weights["model.norm.weight"] *= 1 + 1e-6
        safetensors.torch.save_file(weights, place / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(type(done.model), "save_pretrained", rounding)
    with pytest.raises(ValueError, match=r"weights that differ: 'model\.norm\.weight'"):
        done.save(tmp_path / "model")


class Hub:
    """The hub's client up to its network calls."""

    calls: tuple = ()
    deleted: list | None = None
    private = True

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, *, private, exist_ok):
        return SimpleNamespace(repo_id=f"me/{repo_id}", private=private)

    def repo_info(self, repo_id):
        return SimpleNamespace(private=Hub.private)

    def upload_folder(self, *, repo_id, folder_path, commit_message, delete_patterns):
        names = sorted(each.name for each in Path(folder_path).iterdir())
        Hub.calls, Hub.deleted = (repo_id, self.token, names), delete_patterns
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_an_upload_is_the_saved_folder(done, monkeypatch):
    monkeypatch.setattr(hub, "HfApi", Hub)
    assert done.push_to_hub("steered", token="secret") == "https://hub/me/steered/commit/1"
    repo, token, names = Hub.calls
    assert (repo, token) == ("me/steered", "secret")
    assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= set(names)


def test_an_upload_deletes_what_an_earlier_one_left(done, tmp_path, monkeypatch):
    """Weights in one file and in shards would both lie there, and transformers takes the one."""
    monkeypatch.setattr(hub, "HfApi", Hub)
    done.push_to_hub("steered")
    whole = {each.name for each in done.save(tmp_path / "whole").iterdir()}
    shards = {each.name for each in done.save(tmp_path / "s", max_shard_size="40KB").iterdir()}
    assert Hub.deleted
    old = set(filter_repo_objects(whole | shards | {"mine.txt"}, allow_patterns=Hub.deleted))
    assert old >= whole ^ shards
    assert not old & {"mine.txt", "README.md", "config.json"}


def test_a_public_repository_does_not_become_private(done, monkeypatch):
    monkeypatch.setattr(hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "private", False)
    monkeypatch.setattr(Hub, "calls", ())
    with pytest.raises(ValueError, match=r"'me/steered' is public already.* private=False"):
        done.push_to_hub("steered")
    assert Hub.calls == ()
    done.push_to_hub("steered", private=False)
    assert Hub.calls[0] == "me/steered"


def test_the_hubs_own_client_asks_for_a_private_repository(done, monkeypatch):
    """The real client against a server of our own, which refuses."""
    asked = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            asked.append((self.path, json.loads(self.rfile.read(length))))
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub, "HfApi", partial(HfApi, endpoint=endpoint))
    try:
        with pytest.raises(HfHubHTTPError, match=r"403"):
            done.push_to_hub("me/steered", token="secret")
    finally:
        server.shutdown()
        server.server_close()
    ((path, body),) = asked
    assert path == "/api/repos/create"
    assert (body["name"], body["organization"]) == ("steered", "me")
    assert body.get("private", body.get("visibility") == "private")


RECORD = {
    "kind": "vector", "layer": 1, "site": "residual", "coefficient": 0.5, "sha256": "0" * 64,
    "made_on": "base", "sketch": [0.1] * 8, "length": 1.0, "share": None, "base": "base",
}  # fmt: skip


@pytest.mark.parametrize("foreign", [True, "yes", {"kind": "cake"}, ["yes", {"kind": "cake"}]])
def test_what_another_program_calls_baked_is_no_bake(foreign, tmp_path):
    lm = load(copy.deepcopy(build("llama").model), tokenizer=build("llama").tokenizer)
    lm.model.config.baked = foreign
    baked = bake(lm, make(lm, "lora").at(0.5), **SHORT)
    assert [each["kind"] for each in baked.model.config.baked] == ["LoRA"]
    assert baked.facts()["baked"] == baked.model.config.baked
    assert lm.model.config.baked == foreign


def test_a_record_is_one_of_ours_or_none():
    assert records(SimpleNamespace(baked=["cake", RECORD])) == [RECORD]
    earlier = {key: RECORD[key] for key in RECORD if key not in ("sketch", "length", "share")}
    assert records(SimpleNamespace(baked=[earlier])) == [earlier]
    assert records(SimpleNamespace()) == []
    for wrong in (
        {"layer": "1"},
        {"layer": True},
        {"kind": None},
        {"coefficient": None},
        {"coefficient": "much"},
        {"sketch": [0.1]},
        {"sketch": ["a"] * 8},
        {"sketch": 3},
        {"share": "half"},
    ):
        assert records(SimpleNamespace(baked=[RECORD | wrong, 3, None])) == []
