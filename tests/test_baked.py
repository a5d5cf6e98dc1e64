"""What leaves the house: whole folders or none, a card that says what is in them, an upload."""

import errno
import json
import resource
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from architectures import build
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from test_bake import SHORT, vector

from workbench import baked as module
from workbench import hub, store
from workbench.bake import bake
from workbench.baked import Baked
from workbench.formats import load_gguf
from workbench.models import load


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
    assert f"{done.check.same} of {done.check.written} greedily written" in text
    assert f"{done.check.kl_bfloat16:.2g} nats a token" in text
    assert "- pairs: wren-mood" in text
    assert "<b>" not in text


def test_a_control_vector_lies_beside_it_for_the_base_model(done, tmp_path):
    folder = done.save(tmp_path / "model")
    control = load_gguf(folder / "control-vector.gguf")
    own = vector(build("llama")).at(0.5)[0]
    torch.testing.assert_close(control.directions[1], 0.5 * own.update.direction)  # type: ignore[union-attr]
    assert "would act twice" in " ".join((folder / "README.md").read_text().split())


def test_llama_cpp_has_no_place_for_the_first_layer(tiny, tmp_path):
    folder = bake(tiny, vector(tiny, 0).at(0.5), **SHORT).save(tmp_path / "model")
    assert not (folder / "control-vector.gguf").exists()
    assert "control-vector" not in (folder / "README.md").read_text()


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
    with pytest.raises(OSError, match=r"0\.00 GB are free; nothing was written"):
        done.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(done, tmp_path):
    """The system itself refuses to write more than so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"nothing of it is left"):
            done.save(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


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


class Hub:
    """The hub's client up to its network calls."""

    calls: tuple = ()

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, *, private, exist_ok):
        return SimpleNamespace(repo_id=f"me/{repo_id}", private=private)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        names = sorted(each.name for each in Path(folder_path).iterdir())
        Hub.calls = (repo_id, self.token, names)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_an_upload_is_the_saved_folder(done, monkeypatch):
    monkeypatch.setattr(hub, "HfApi", Hub)
    assert done.push_to_hub("steered", token="secret") == "https://hub/me/steered/commit/1"
    repo, token, names = Hub.calls
    assert (repo, token) == ("me/steered", "secret")
    assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= set(names)


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
