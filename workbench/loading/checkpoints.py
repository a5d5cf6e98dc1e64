"""Read a causal language model and its tokenizer from a directory, the cache or the hub.

Refuses, before any weight is read, what is no decoder language model; and, after, a
checkpoint that lacks weights, which transformers would fill with random numbers. Knows
nothing of layers or nnsight.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import transformers
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from workbench.loading import hub

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")

BUNDLED = {"wren": Path(__file__).parents[1] / "wren" / "model"}

# Arguments that say where files are: the tokenizer and the config need them too.
_WHERE = (
    "cache_dir",
    "force_download",
    "gguf_file",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
)


def absolute(name: str) -> str:
    """A path that loads the same model from anywhere; bundled names, hub ids and paths to nothing
    as they are."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name not in BUNDLED and path.exists() else name


def locate(name_or_path: str | Path, subfolder: str) -> tuple[str, str]:
    """Where transformers finds the model (a directory or a hub id), and its short name.

    Raises FileNotFoundError for a directory without a model, for a file, and for what is neither a
    directory nor could be a hub id; ValueError for what is no name.
    """
    if not isinstance(name_or_path, str | Path):
        raise ValueError(
            f"{name_or_path!r} is no model: give 'wren', a folder, a hub id, or a model in memory"
        )
    given = str(name_or_path)
    if given in BUNDLED:
        folder = BUNDLED[given]
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"the bundled model {given!r} has no files in {folder}: "
                f"remake it with `python -m workbench.{given}.train`"
            )
        return str(folder), given
    folder = Path(given).expanduser()
    if given and folder.is_dir():
        if not (folder / subfolder / "config.json").is_file() and not any(folder.glob("*.gguf")):
            raise FileNotFoundError(f"no model in {given!r}: the directory has no config.json")
        return str(folder), folder.resolve().name
    if folder.is_file():
        raise FileNotFoundError(
            f"{given!r} is a file: give its folder, {str(folder.parent)!r}"
            + (f", with gguf_file={folder.name!r}" if folder.suffix == ".gguf" else "")
        )
    _check_hub_id(given)
    return given, given


def check_dtype(dtype: str | torch.dtype | None) -> None:
    """Raise ValueError for what is no floating-point type, nor "auto" or None."""
    if dtype is None or dtype == "auto":
        return
    real = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not (isinstance(real, torch.dtype) and real.is_floating_point):
        raise ValueError(
            f"dtype {dtype!r}: expected 'float32', 'bfloat16', 'float16', 'auto' or a torch "
            "dtype; to quantise pass quantization_config="
        )


def check_decoder(config: "PreTrainedConfig", what: str) -> None:
    """Raise ValueError for an encoder-decoder; ``what`` names it."""
    if config.is_encoder_decoder:
        raise ValueError(
            f"{what} is an encoder-decoder ({config.model_type}): only decoder language "
            "models can be steered here"
        )


def _check_has_causal_class(config: "PreTrainedConfig", what: str) -> None:
    known = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    brought = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if not known and not brought:
        raise ValueError(
            f"{what} is no causal language model: transformers has none of type "
            f"{config.model_type!r}"
        )


def read(
    source: str,
    tokenizer: "str | Path | PreTrainedTokenizerBase | None",
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    given: Mapping[str, Any],
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model, on its device, and its tokenizer, from a directory or by a hub id.

    Raises ValueError for arguments that exclude each other and for what is no causal language
    model, OSError for what is neither on disk nor can be reached.
    """
    if device is not None and given.get("device_map") is not None:
        raise ValueError(f"device={device!r} and device_map={given['device_map']!r}: pass one")
    where: dict[str, Any] = {"trust_remote_code": False} | {
        key: given[key] for key in _WHERE if key in given
    }

    if "torch_dtype" in given:
        raise ValueError(f"torch_dtype={given['torch_dtype']!r}: pass it as dtype=")
    if isinstance(tokenizer, str | Path):
        tokenizer = read_tokenizer(str(tokenizer))
    marker = given.get("gguf_file", "config.json")

    def fetch(place: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        config = given.get("config") or transformers.AutoConfig.from_pretrained(place, **where)
        check_decoder(config, source)
        _check_has_causal_class(config, source)
        # The tokenizer first: where its files are missing, no weights were read in vain.
        words = tokenizer
        if words is None:
            words = transformers.AutoTokenizer.from_pretrained(place, **where)
        quantised = "quantization_config" in given or hasattr(config, "quantization_config")
        placed = given.get("device_map") is not None or torch.device(device or "cpu").type != "cpu"
        chosen = dtype or ("auto" if quantised or placed else torch.float32)
        arguments = {**given, **where, "dtype": chosen, "output_loading_info": True}
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(place, **arguments)
        model, report = loaded
        if report["missing_keys"]:
            some = ", ".join(sorted(report["missing_keys"])[:3])
            raise ValueError(
                f"{source!r} lacks {len(report['missing_keys'])} weights ({some}, ...), which "
                "would be random: complete the checkpoint"
            )
        # The name, not the folder of the cache that the files happen to lie in.
        model.name_or_path = model.config.name_or_path = source
        return model if device is None else model.to(device), words

    subfolder = Path(given.get("subfolder", ""))
    return _from_disk_or_hub(source, fetch, given, str(subfolder / marker))


def _check_hub_id(name: str) -> None:
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise FileNotFoundError(
            f"no model {name!r}: there is no such directory, and it is no hub id, which "
            "reads like 'owner/name'"
        ) from None


def read_tokenizer(source: str) -> "PreTrainedTokenizerBase":
    """The tokenizer in a directory or of a hub id; errors as in `read`."""

    def fetch(place: str) -> "PreTrainedTokenizerBase":
        return transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)

    return _from_disk_or_hub(source, fetch, {}, "tokenizer_config.json")


def _from_disk_or_hub(
    source: str, fetch: Callable[[str], T], given: Mapping[str, Any], marker: str
) -> T:
    """`fetch` from a directory, else from the cache if it holds all, else from the network."""
    if Path(source).is_dir():
        return fetch(source)
    _check_hub_id(source)
    folder = hub.cached_folder(source, marker, given.get("revision"), given.get("cache_dir"))
    incomplete = None
    if folder is not None and not given.get("force_download"):
        try:
            return fetch(str(folder))
        except OSError as error:
            incomplete = error
    try:
        hub.require_connection(source, local_files_only=given.get("local_files_only", False))
    except FileNotFoundError as missing:
        raise missing from incomplete
    return fetch(source)
