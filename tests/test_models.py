"""Loading, layers by structure, fingerprints, and what happens without a network."""

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import architectures
import pytest
import torch
import transformers
from architectures import NAMES, build
from huggingface_hub import constants
from torch import nn
from transformers import AutoModelForCausalLM

from workbench.loading import checkpoints, hub, models
from workbench.loading.fingerprints import fingerprint
from workbench.loading.layers import find_layers


def random_llama(seed: int = 0, **changes: object) -> transformers.PreTrainedModel:
    config = architectures.config("llama")
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama in a directory, as anyone may have one."""
    folder = tmp_path_factory.mktemp("models") / "my-llama"
    random_llama().save_pretrained(folder)
    architectures.tokenizer().save_pretrained(folder)
    return folder


# ------------------------------------------------------------------ what is loaded


def test_a_directory_is_loaded_with_everything_about_it(stories: models.LM) -> None:
    assert stories.name == "stories260K"
    assert (stories.layers, stories.width, stories.vocabulary, stories.context) == (5, 64, 512, 512)
    assert (stories.layer_path, stories.dtype) == ("model.layers", torch.float32)
    assert stories.device == torch.device("cpu")
    assert len(stories.blocks) == 5
    assert stories.tokenizer.padding_side == "left"
    assert not stories.model.training


def test_a_model_in_memory_keeps_its_state_and_its_tokenizer() -> None:
    model = random_llama()
    model.train()
    model.model.layers[1].eval()
    tokenizer = architectures.tokenizer()
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side, tokenizer.pad_token = "right", None
    modes = [module.training for module in model.modules()]
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    config, generation = model.config.to_dict(), model.generation_config.to_dict()

    lm = models.load(model, tokenizer=tokenizer)

    assert lm.model is model
    assert lm.name == "LlamaForCausalLM"
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weight, weights[n]) for n, weight in model.state_dict().items())
    assert (model.config.to_dict(), model.generation_config.to_dict()) == (config, generation)
    assert not any(module._forward_hooks for module in model.modules())
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("right", None)
    assert (lm.tokenizer.padding_side, lm.tokenizer.pad_token) == ("left", "</s>")


def test_half_precision_checkpoints_are_computed_in_float32_on_the_cpu(tmp_path: Path) -> None:
    random_llama().bfloat16().save_pretrained(tmp_path)
    architectures.tokenizer().save_pretrained(tmp_path)
    assert models.load(tmp_path).dtype == torch.float32
    assert models.load(tmp_path, dtype="auto").dtype == torch.bfloat16
    assert models.load(tmp_path, dtype=torch.float16).dtype == torch.float16


def test_device_map_and_other_arguments_reach_transformers(saved: Path) -> None:
    pytest.importorskip("accelerate")
    lm = models.load(saved, device_map={"": "cpu"}, attn_implementation="eager", rms_norm_eps=0.5)
    assert lm.model.config._attn_implementation == "eager"
    assert lm.model.config.rms_norm_eps == 0.5


def test_the_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checkpoints.BUNDLED, "wren", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"python -m workbench\.wren\.train"):
        models.load("wren")
    monkeypatch.undo()
    if not (checkpoints.BUNDLED["wren"] / "config.json").is_file():
        pytest.skip("wren's weights are not in this checkout")
    assert models.load().name == "wren"


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_every_architecture(name: str) -> None:
    lm = build(name)
    texts = architectures.SENTENCES[:2]
    blocks = list(lm.model.get_submodule(lm.layer_path).children())
    seen = []
    handles = [block.register_forward_hook(lambda m, i, o: seen.append(m)) for block in blocks]
    logits = architectures.logits(lm, texts[:1])
    for handle in handles:
        handle.remove()
    assert seen == blocks
    assert len(blocks) == lm.layers == architectures.DEPTH
    assert lm.width == architectures.WIDTH
    assert lm.context == (None if name == "bloom" else architectures.CONTEXT)
    assert logits.shape[-1] == lm.vocabulary

    with torch.no_grad(), lm.traced.trace(texts[0]):
        output = lm.blocks[1].output.save()
    hidden = output[0] if isinstance(output, tuple) else output
    assert hidden.shape == (1, len(logits), architectures.WIDTH)


def test_layers_of_a_nested_config_with_a_second_stack_as_deep() -> None:
    """A vision tower as deep as the decoder does not run on text."""
    text = architectures.config("gemma3").to_dict()
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": architectures.DEPTH,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=300
    )
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    lm = models.load(model, tokenizer=architectures.tokenizer())
    lists = [len(m) for m in model.modules() if isinstance(m, nn.ModuleList)]
    assert lists.count(architectures.DEPTH) == 2
    assert lm.layer_path == "model.language_model.layers"
    assert (lm.layers, lm.width, lm.vocabulary) == (3, 32, 320)


def test_lists_as_long_as_the_model_is_deep_are_told_apart_by_running() -> None:
    model = random_llama(num_hidden_layers=4)
    model.decoys = nn.ModuleList(nn.Identity() for _ in range(4))
    assert find_layers(model) == "model.layers"
    mixture = AutoModelForCausalLM.from_config(architectures.config("mixtral"))
    assert find_layers(mixture) == "model.layers"


def test_layers_that_run_out_of_order_or_not_at_all_are_refused_with_the_candidates() -> None:
    model = random_llama()
    model.decoys = nn.ModuleList([nn.Identity()])
    model.model.layers[2].forward = model.model.layers[1].__call__  # block 1 runs twice
    with pytest.raises(ValueError, match=r"LlamaForCausalLM.* 3 blocks .*none passed") as error:
        find_layers(model)
    assert "model.layers (3)" in str(error.value)
    assert "decoys (1)" in str(error.value)
    assert not any(module._forward_hooks for module in model.modules())


# ------------------------------------------------------------------ what is refused


def tiny_t5() -> transformers.PreTrainedModel:
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=320, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8
        )
    )


def tiny_bert(is_decoder: bool) -> transformers.PreTrainedModel:
    config = transformers.BertConfig(
        vocab_size=320,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        is_decoder=is_decoder,
    )
    return transformers.BertLMHeadModel(config)


def test_encoder_decoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"T5ForConditionalGeneration is an encoder-decoder"):
        models.load(tiny_t5(), tokenizer=architectures.tokenizer())
    tiny_t5().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is an encoder-decoder \(t5\)"):
        models.load(tmp_path)


def test_a_model_that_looks_ahead_is_refused_and_its_causal_twin_is_not() -> None:
    with pytest.raises(ValueError, match="BertLMHeadModel is not causal"):
        models.load(tiny_bert(is_decoder=False), tokenizer=architectures.tokenizer())
    lm = models.load(tiny_bert(is_decoder=True), tokenizer=architectures.tokenizer())
    assert lm.layer_path == "bert.encoder.layer"


def test_models_that_are_no_language_models_are_refused(tmp_path: Path) -> None:
    words = architectures.tokenizer()
    with pytest.raises(ValueError, match="LlamaModel has no language-model head"):
        models.load(random_llama().model, tokenizer=words)
    with pytest.raises(ValueError, match="Linear is no transformers model"):
        models.load(nn.Linear(2, 2), tokenizer=words)  # type: ignore[arg-type]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ValueError, match="transformers has none of type 'vit'"):
        models.load(tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "cut")
    weights = random_llama().state_dict()
    del weights["model.layers.1.mlp.up_proj.weight"]
    random_llama().save_pretrained(folder, state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks 1 weights \(model.layers.1.mlp.up_proj.weight"):
        models.load(folder)


def test_code_in_a_checkpoint_does_not_run_unless_asked_for(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "hostile")
    marker = tmp_path / "ran"
    (folder / "code.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "odd", "auto_map": {"AutoConfig": "code.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trust_remote_code"):
        models.load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtype": "float33"}, ValueError, "dtype 'float33'"),
        ({"dtype": torch.int8}, ValueError, "dtype torch.int8"),
        ({"torch_dtype": "float16"}, ValueError, "pass it as dtype="),
        ({"device": "cpu", "device_map": "auto"}, ValueError, "pass one"),
        ({"device": "cud"}, ValueError, r"device 'cud' cannot be used here .*; give one of cpu"),
        ({"device": "cuda:99"}, ValueError, r"device 'cuda:99' cannot be used .*give one of cpu"),
        ({"tokenizer": "./no-tokenizer"}, OSError, "no-tokenizer"),
    ],
)
def test_bad_arguments(saved: Path, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        models.load(saved, **arguments)


def test_a_device_is_looked_at_before_the_weights(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr(checkpoints, "read", read)
    with pytest.raises(ValueError, match="device 'cud'"):
        models.load(saved, device="cud")


def test_what_is_no_name_and_a_file_are_told_apart(saved: Path, network: list) -> None:
    with pytest.raises(ValueError, match=r"None is no model: give 'wren', a folder"):
        models.load(None)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"is a file: give its folder, '.*my-llama'$"):
        models.load(saved / "model.safetensors")
    assert network == []


def test_bad_arguments_for_a_model_in_memory() -> None:
    words = architectures.tokenizer()
    with pytest.raises(ValueError, match="revision: only for a name or a path"):
        models.load(random_llama(), tokenizer=words, revision="main")
    with pytest.raises(ValueError, match="has no tokenizer: pass tokenizer="):
        models.load(random_llama())
    bare = copy.deepcopy(words)
    bare.pad_token = bare.eos_token = None
    with pytest.raises(ValueError, match=r"set tokenizer\.pad_token"):
        models.load(random_llama(), tokenizer=bare)


@pytest.mark.parametrize("name", ["./nowhere", "a/b/c", "", "no model", "/nowhere/at/all", "../x"])
def test_a_path_that_is_missing_never_asks_the_network(name: str, network: list) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        models.load(name)
    assert network == []


def test_a_directory_without_a_model(tmp_path: Path, network: list) -> None:
    with pytest.raises(FileNotFoundError, match=r"the directory has no config\.json"):
        models.load(tmp_path)
    assert network == []


# ------------------------------------------------------------------ fingerprints


def test_fingerprint_is_of_the_weights_not_of_the_name(saved: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(saved, tmp_path / "other-name")
    first, second = models.load(saved), models.load(copied)
    memory = models.load(random_llama(), tokenizer=architectures.tokenizer())
    assert len({lm.name for lm in (first, second, memory)}) == 3
    assert first.fingerprint == second.fingerprint == memory.fingerprint
    assert len(first.fingerprint) == 64
    eager = models.load(saved, attn_implementation="eager")
    assert eager.fingerprint == first.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_fingerprint_survives_saving(name: str, tmp_path: Path) -> None:
    lm = build(name)
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    assert models.load(tmp_path).fingerprint == lm.fingerprint


def test_fingerprint_differs_after_any_change() -> None:
    one_weight = random_llama()
    with torch.no_grad():
        one_weight.model.layers[2].mlp.down_proj.weight[-1, -1] += 1e-6
    changed = [
        random_llama(),
        one_weight,
        random_llama(rms_norm_eps=1e-3),
        random_llama(seed=1),
        random_llama().bfloat16(),
    ]
    assert len({fingerprint(model) for model in changed}) == len(changed)


def test_a_setting_that_every_config_gains_changes_no_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a newer transformers does: the setting is there, at its default, for all architectures."""
    before = fingerprint(random_llama())
    real = transformers.PreTrainedConfig.to_dict

    def newer(config: Any) -> dict[str, Any]:
        return {"brand_new": False, **real(config)}

    monkeypatch.setattr(transformers.PreTrainedConfig, "to_dict", newer)
    assert "brand_new" in random_llama().config.to_dict()
    assert fingerprint(random_llama()) == before


def test_fingerprint_of_weights_that_are_elsewhere_is_refused() -> None:
    with torch.device("meta"):
        model = random_llama()
    with pytest.raises(ValueError, match=r"the weight '.*' is not in memory"):
        fingerprint(model)


# ------------------------------------------------------------------ with and without a network


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list:
    """Every attempt to look up a name or to connect, each refused."""
    attempts: list = []

    def refuse(*arguments: object, **_: object) -> None:
        attempts.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Point the hub's client at an address, with no proxy in between."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)

    def point(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)

    return point


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def cached(saved: Path) -> Iterator[str]:
    """The saved model, as the hub's client would have put it into its cache."""
    repository = Path(constants.HF_HUB_CACHE) / "models--someone--tiny-llama"
    shutil.copytree(saved, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    yield "someone/tiny-llama"
    shutil.rmtree(repository)


def test_a_cached_model_loads_without_any_network(cached: str, network: list) -> None:
    lm = models.load(cached)
    assert (lm.name, lm.model.name_or_path, lm.layers) == (cached, cached, 3)
    assert network == []


def test_an_incomplete_cache_is_not_enough(cached: str, endpoint: Callable[[str], None]) -> None:
    endpoint(f"http://127.0.0.1:{closed_port()}")
    folder = Path(constants.HF_HUB_CACHE) / "models--someone--tiny-llama"
    next(folder.rglob("model.safetensors")).unlink()
    with pytest.raises(FileNotFoundError, match="not complete in the cache"):
        models.load(cached)


@pytest.mark.parametrize("host", ["http://127.0.0.1:{closed}", "http://name.invalid"])
def test_no_connection_says_what_it_could_be(
    host: str, cached: str, endpoint: Callable[[str], None]
) -> None:
    host = host.format(closed=closed_port())
    endpoint(host)
    with pytest.raises(FileNotFoundError) as error:
        models.load("someone/tiny-lama")
    message = str(error.value)
    for part in (
        "'someone/tiny-lama'",
        f"{host} cannot be reached",
        "typo",
        "proxy",
        "HF_ENDPOINT",
    ):
        assert part in message
    assert "did you mean 'someone/tiny-llama'?" in message


def test_a_name_server_that_never_answers_is_not_waited_for(
    endpoint: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> list:
        released.wait(60)
        raise OSError("waited for the name server")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    endpoint("http://hub.example")
    try:
        with pytest.raises(FileNotFoundError, match=r"cannot be reached \(no answer\)"):
            models.load("someone/unknown")
    finally:
        released.set()


def test_an_address_that_never_answers_is_not_waited_for(
    endpoint: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """192.0.2.1 is reserved for documentation: packets to it vanish."""
    released = threading.Event()
    monkeypatch.setattr(socket.socket, "connect", lambda *_: released.wait(60))
    endpoint("http://192.0.2.1")
    try:
        with pytest.raises(FileNotFoundError, match=r"192.0.2.1 cannot be reached \(no answer\)"):
            models.load("someone/unknown")
    finally:
        released.set()


def test_offline_mode_and_local_files_only_do_not_try(
    monkeypatch: pytest.MonkeyPatch, network: list
) -> None:
    with pytest.raises(FileNotFoundError, match="local_files_only=True forbids"):
        models.load("someone/unknown", local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE forbids"):
        models.load("someone/unknown")
    assert network == []


def test_a_proxy_is_asked_instead_of_the_endpoint(
    endpoint: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint("")
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        port = proxy.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{port}")
        assert hub.unreachable("https://name.invalid") is None
        monkeypatch.setenv("no_proxy", "name.invalid")
        assert "name.invalid cannot be reached" in str(hub.unreachable("https://name.invalid"))
        monkeypatch.delenv("no_proxy")
    reason = str(hub.unreachable("https://name.invalid"))
    assert f"http://127.0.0.1:{port} cannot be reached" in reason
    assert "secret" not in reason


@pytest.mark.parametrize("address", ["huggingface.co", "ftp://x", "http://"])
def test_an_endpoint_that_is_no_address(address: str) -> None:
    assert "is not an http address" in str(hub.unreachable(address))


@pytest.fixture
def slow_mirror(saved: Path) -> Iterator[str]:
    """A hub with one model whose first answer comes later than the connection is waited for."""
    hurry = threading.Event()

    class Mirror(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            if "/resolve/" in self.path and not hurry.is_set():
                hurry.wait(hub.PROBE_SECONDS + 1)
                hurry.set()
            path = self.path.removeprefix("/someone/mirrored/resolve/main/")
            path = path.removeprefix(f"/someone/mirrored/resolve/{'1' * 40}/")
            file = saved / path
            found = path != self.path and file.is_file()
            body = file.read_bytes() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("ETag", f'"{path}"')
            self.send_header("Content-Length", str(len(body)))
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_slow_mirror_is_still_used(slow_mirror: str, saved: Path, tmp_path: Path) -> None:
    """In a process of its own, because the client reads HF_ENDPOINT once, at import."""
    script = "from workbench.loading import models; lm = models.load('someone/mirrored')\n"
    script += "print(lm.name, lm.model.name_or_path, lm.fingerprint)"
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=kept | {"HF_ENDPOINT": slow_mirror, "HF_HOME": str(tmp_path)},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, run.stderr
    expected = ["someone/mirrored", "someone/mirrored", models.load(saved).fingerprint]
    assert run.stdout.split() == expected


# ------------------------------------------------------------------ the test architectures


@pytest.mark.parametrize("name", NAMES)
def test_architectures_are_lively_and_the_same_for_the_same_seed(name: str) -> None:
    lm = build(name)
    logits = architectures.logits(lm)
    assert logits.std() >= 1
    again, other = build.__wrapped__(name), build.__wrapped__(name, seed=1)
    assert torch.equal(architectures.logits(again), logits)
    assert not torch.equal(architectures.logits(other), logits)


def test_the_tokenizer_of_the_architectures() -> None:
    words = architectures.tokenizer()
    for text in (*architectures.SENTENCES, "naïve 雨 🦊\n\t"):
        assert words.decode(words(text)["input_ids"], skip_special_tokens=True) == text
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes"}]
    assert words.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|user|>Hello<|end|><|assistant|>Yes<|end|><|assistant|>"
    )
