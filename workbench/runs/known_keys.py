"""The keys of hyper-parameter files: the reference's, and a few of this package.

A key is used, with a default and a check; or it may only have the values that mean what is done
here anyway; or it is decided elsewhere, and is passed over. Any other is refused. Defaults are the
published settings. Knows nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.support.checks import check_whole, number

Check = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Schema:
    """What a file may say.

    used       key -> its default and its check
    fixed      key -> the values that it may have
    elsewhere  key -> who decides instead
    """

    used: Mapping[str, tuple[Any, Check]] = field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: Schema) -> Schema:
        """Both; where they disagree, the other."""
        mine = {key: value for key, value in self.fixed.items() if key not in other.used}
        gone = {key: why for key, why in self.elsewhere.items() if key not in other.used}
        return Schema(
            {**self.used, **other.used},
            {**mine, **other.fixed},
            {**gone, **other.elsewhere},
        )

    @property
    def defaults(self) -> dict[str, Any]:
        return {key: default for key, (default, _) in self.used.items()}

    @property
    def known(self) -> list[str]:
        return sorted({*self.used, *self.fixed, *self.elsewhere})


def _number(name: str, value: Any) -> float:
    """A number; also "1e-3", which YAML takes for a text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = math.nan
    return number(value)


def whole(least: int, *, none: bool = False) -> Check:
    def check(name: str, value: Any) -> int | None:
        if value is None and none:
            return None
        return check_whole(name, value, least)

    return check


def real(least: float = -math.inf, *, none: bool = False) -> Check:
    def check(name: str, value: Any) -> float | None:
        if value is None and none:
            return None
        found = _number(name, value)
        if not math.isfinite(found) or found < least:
            span = "" if least == -math.inf else f" of at least {least:g}"
            raise ValueError(f"{name} {value!r}: give a finite number{span}")
        return found

    return check


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} {value!r}: give true or false")
    return value


def text(name: str, value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} {value!r}: give a text")
    return value or ""


def several(check: Check) -> Check:
    """A list, each of it checked; None stands for what is chosen without one."""

    def checked(name: str, value: Any) -> list[Any] | None:
        if value is None:
            return None
        if not isinstance(value, list) or not value:
            raise ValueError(f"{name} {value!r}: give a list of at least one")
        return [check(name, each) for each in value]

    return checked


def one_of(*known: Any) -> Check:
    def check(name: str, value: Any) -> Any:
        if value not in known:
            raise ValueError(
                f"{name} {value!r} is unknown; choose one of {', '.join(map(repr, known))}"
            )
        return value

    return check


def _signs(name: str, value: Any) -> list[str]:
    known = (["orig_add"], ["orig_add", "orig_sub"])
    if not isinstance(value, list) or sorted(map(str, value)) not in known:
        raise ValueError(
            f"{name} {value!r}: give ['orig_add'], or ['orig_add', 'orig_sub'] to train the "
            "opposite at -m too; answers of a steered model are not written here"
        )
    return sorted(value)


_COMMAND = {
    "model_name_or_path": "--model_name",
    "device": "--device",
    "steer_train_dataset": "--dataset",
    "steer_vector_output_dir": "--base_dir",
    "steer_vector_load_dir": "--base_dir",
    "loss_output_dir": "--base_dir",
    "init_vector_path": "--base_dir",
    "save_vectors": "always saved",
    "use_cache": "always used",
    "dtype": "config.yaml, as there is one model for all",
    "torch_dtype": "config.yaml, as there is one model for all",
    "vllm_enable": "no vLLM here",
    "vllm_gpu_memory_utilization": "no vLLM here",
    "vllm_max_model_len": "no vLLM here",
    "save_activations": "not needed",
    "enable_thinking": "the chat template",
}
CHAT = Schema({"use_chat_template": (False, flag), "system_prompt": ("", text)})
_SEED = Schema({"seed": (42, whole(0))})
MAKING = (
    CHAT
    | _SEED
    | Schema(
        {
            "layers": (None, several(whole(0))),
            "max_concepts": (None, whole(1, none=True)),
            "max_num_of_examples": (None, whole(2, none=True)),
            "output_length": (None, whole(1, none=True)),
        },
        {},
        {**_COMMAND, "generate_orig_output": "the apply file, or config.yaml"},
    )
)
_TRAINING = MAKING | Schema(
    {
        "exclude_bos": (True, flag),
        "preference_pairs": (["orig_add", "orig_sub"], _signs),
        "batch_size": (4, whole(1)),
        "gradient_accumulation_steps": (1, whole(1)),
        "n_epochs": (2, whole(1)),
        "lr": (None, real(0, none=True)),
        "dropout": (0.1, real(0)),
        "weight_decay": (0.0, real(0)),
        "low_rank_dimension": (4, whole(1)),
        "steering_factors": (None, several(real())),
        "substraction_type": ("normal", one_of("normal", "norm", "null_it_out")),
        # Of this package:
        "held_out": (0.0, real(0)),
        "patience": (None, whole(1, none=True)),
        "warmup": (0.0, real(0)),
        "clip": (1.0, real(0)),
        "compat": (False, flag),
    },
    {
        "intervention_positions": ("all",),
        "intervention_positions_dropout": (0,),
        "intervention_type": ("addition",),
        "intervention_components": ("mlp_mid",),
        "inference": (False,),
        "all_labels": (False,),
    },
    {
        "steering_prompt_type": "no answers are written by prompts here",
        "sft_preference_type": "--mode loss, which reads both sides",
        "ablation_vector_path": "nothing is ablated here",
        "lora_alpha": "without effect there too: the coefficient is the only dial",
    },
)
MAKING_OF: Mapping[str, Schema] = {
    "caa": MAKING | Schema(fixed={"multiple_choice": (False,)}),
    "sft": _TRAINING
    | Schema(
        fixed={
            "pos_loss_weight": (1,),
            "neg_loss_weight": (0,),
            "margin_penalty_weight": (0,),
            "ref_loss_weight": (0,),
        },
        elsewhere={"margin_threshold": "method split"},
    ),
    "reps": _TRAINING
    | Schema(
        {"simpo_scaler": (1.0, real(0))},
        {
            "loss_type": ("scaled_simpo",),
            "beta": (1,),
            "gemma": (0,),
            "label_smoothing": (0,),
            "reference_free": (False,),
            "train_on_negative": (True,),
        },
    ),
    "split": _TRAINING
    | Schema(
        {
            "pos_loss_weight": (1.0, real()),
            "neg_loss_weight": (0.5, real()),
            "margin_penalty_weight": (5.0, real()),
            "ref_loss_weight": (0.0, real()),
            "margin_threshold": (0.5, real()),
        }
    ),
}
#: What transformers' generate is told, by its own names.
GENERATION: Mapping[str, tuple[Any, Check]] = {
    "max_new_tokens": (128, whole(1)),
    "do_sample": (True, flag),
    "temperature": (1.0, real(0)),
    "top_p": (1.0, real(0)),
    "repetition_penalty": (1.0, real(0)),
    "min_new_tokens": (0, whole(0)),
}
APPLYING = (
    CHAT
    | _SEED
    | Schema(
        {
            "layers": (None, several(whole(0))),
            "concept_id": (0, whole(0)),
            "generate_orig_output": (False, flag),
            "num_responses": (1, whole(1)),
            "generation_data_size": (None, whole(1, none=True)),
            "generation_batch_size": (16, whole(1)),  # of this package
            **GENERATION,
        },
        {"steer_from_end_position": (False,)},
        {
            **_COMMAND,
            "multipliers": "--multipliers",
            "generation_data": "--dataset",
            "generation_output_dir": "--base_dir",
        },
    )
)
#: A file for the whole run, beside those of the data sets.
CONFIG = (
    APPLYING
    | _SEED
    | Schema(
        {
            "dtype": (
                None,
                one_of(None, "auto", "float32", "bfloat16", "float16", "fp32", "bf16", "fp16"),
            )
        },
        {},
        {
            **{key: who for key, who in _COMMAND.items() if key not in ("dtype", "torch_dtype")},
            "steer_train_hparam_paths": "--hparams",
            "steer_vector_output_dirs": "--base_dir",
            "apply_steer_hparam_paths": "--hparams",
            "vector_name": "--method and --intervention_method",
            "intervention_method": "--intervention_method",
        },
    )
)
#: Other spellings of keys: of the published files, and of an older reference.
SPELLINGS = {"concepts_id": "concept_id", "torch_dtype": "dtype"}
