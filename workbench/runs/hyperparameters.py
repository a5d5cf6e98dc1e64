"""Hyper-parameters of each piece of work: defaults, then the reference's YAML files, then --set.

    <hparams>/config.yaml                                   for the whole run
    <hparams>/<data set>/<model>/<method>/generate_<method>_<form>.yaml
                                          (local_weight also ..._weight.yaml, caa generate_caa.yaml)
    <hparams>/<data set>/<model>/<method>/apply_<method>.yaml (or apply.yaml)

A key that nobody knows is refused, since a misspelt one would silently keep its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from workbench.runs.known_keys import APPLYING, CONFIG, GENERATION, MAKING_OF, SPELLINGS, Schema
from workbench.runs.options import Combination, Options, WrongOption
from workbench.text.positions import everything
from workbench.training.objectives import SFT, SPLIT, Objective, RePS
from workbench.training.train import NOT_FIRST

#: Where the reference keeps them, below its base directory.
REFERENCE_FOLDER = Path("hparams/Steer/experiment_hparams/spilt_experiment")


class Missing(Exception):
    """There are no hyper-parameters for a combination."""


class WrongSetting(WrongOption, ValueError):
    """A --set that cannot be used."""


class Hyperparameters:
    """The hyper-parameters of a run, read once; see the module.

    Raises FileNotFoundError for a folder that is asked for and not there, and ValueError for an
    unknown key or a value out of range, naming it, the file, and what is known.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        default = options.base_dir / REFERENCE_FOLDER
        self.folder = options.hparams or (default if default.is_dir() else None)
        if self.folder is not None and not self.folder.is_dir():
            raise FileNotFoundError(f"no folder of hyper-parameters at {str(self.folder)!r}")
        self.passed_over: dict[str, str] = {}
        self._read: dict[tuple[str, str, str], dict[str, Any]] = {}
        try:
            self._set = self._settings()
        except ValueError as error:
            raise WrongSetting(str(error)) from None
        self._config: dict[str, Any] = {}
        if self.folder is not None and (self.folder / "config.yaml").is_file():
            self._config = self._checked(self.folder / "config.yaml", CONFIG)

    @property
    def said(self) -> str:
        """Where they come from, in words."""
        if self.folder is None:
            return "hyper-parameters: the published settings (no folder of YAML files is there)"
        return f"hyper-parameters: the YAML files in {str(self.folder)!r}"

    @property
    def dtype(self) -> str | None:
        """What the model's numbers are, None for what `models.load` chooses."""
        asked = self._resolve(CONFIG, {})["dtype"]
        short = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
        return short.get(asked, asked)

    def making(self, combination: Combination) -> dict[str, Any]:
        """Those of making a vector or weights. Raises Missing where the folder has none."""
        known = "generate", combination.method, combination.form
        if known not in self._read:
            self._read[known] = self._making(combination)
        return dict(self._read[known])

    def _making(self, combination: Combination) -> dict[str, Any]:
        schema, path = MAKING_OF[combination.method], self._file(combination, "generate")
        if path is None and self.folder is not None:
            raise Missing(
                f"no hyper-parameters: {str(self._folder_of(combination))!r} has no "
                f"{' or '.join(self._names(combination, 'generate'))}"
            )
        own = {} if path is None else self._checked(path, schema, combination)
        return self._resolve(schema, own)

    def applying(self, combination: Combination) -> dict[str, Any]:
        """Those of writing texts and of reading losses."""
        known = "apply", combination.method, combination.form
        if known not in self._read:
            path = self._file(combination, "apply")
            own = {} if path is None else self._checked(path, APPLYING, combination)
            self._read[known] = self._resolve(APPLYING, own)
        return dict(self._read[known])

    def concepts(self, combination: Combination) -> int | None:
        """How many concepts a combination is made of at the most, None for all."""
        try:
            return self.making(combination)["max_concepts"]
        except Missing:
            return None

    def _resolve(self, schema: Schema, own: Mapping[str, Any]) -> dict[str, Any]:
        found = {**schema.defaults, **self._config, **own, **self._set}
        if self.options.seed is not None:
            found["seed"] = self.options.seed
        values = {
            key: check(key, found[key])
            for key, (_, check) in schema.used.items()  # and no key of another schema
        }
        if values.get("system_prompt") and not values.get("use_chat_template"):
            raise ValueError(
                f"system_prompt {values['system_prompt']!r} is a message of a chat: set "
                "use_chat_template: true, or leave it out"
            )
        return values

    def _settings(self) -> dict[str, Any]:
        """What --set says, "key=value" with the value in YAML. Raises ValueError as the class."""
        own = [*(MAKING_OF[name] for name in self.options.methods), APPLYING, CONFIG]
        found: dict[str, Any] = {}
        for each in self.options.settings:
            key, value = _assigned(each)
            users = [schema for schema in own if key in schema.used]
            others = [schema for schema in MAKING_OF.values() if key in schema.used]
            knowing = [schema for schema in own if key in schema.known]
            if not users and others:
                self.passed_over[key] = "of another method"
                continue
            if not knowing:
                every = {name for schema in own for name in schema.used}
                raise ValueError(f"set {each!r}: {_unknown(key, sorted(every))}")
            for schema in users or knowing[:1]:
                found |= _read(key, value, schema)
                if key in schema.elsewhere:
                    raise ValueError(f"set {each!r}: that is decided by {schema.elsewhere[key]}")
        return found

    def _folder_of(self, combination: Combination) -> Path:
        assert self.folder is not None
        base = self.folder / self.options.dataset / self.options.model_folder
        spellings = [base / name for name in _spellings(combination.method)]
        return next((folder for folder in spellings if folder.is_dir()), spellings[0])

    def _names(self, combination: Combination, stage: str) -> list[str]:
        methods = _spellings(combination.method)
        if stage == "apply":
            return [*(f"apply_{method}.yaml" for method in methods), "apply.yaml"]
        forms = [combination.form]
        forms += ["weight"] if combination.form == "local_weight" else []
        names = [f"generate_{method}_{form}.yaml" for method in methods for form in forms]
        return [*names, "generate_caa.yaml"] if combination.method == "caa" else names

    def _file(self, combination: Combination, stage: str) -> Path | None:
        if self.folder is None:
            return None
        folder = self._folder_of(combination)
        places = [folder / name for name in self._names(combination, stage)]
        return next((path for path in places if path.is_file()), None)

    def _checked(
        self, path: Path, schema: Schema, combination: Combination | None = None
    ) -> dict[str, Any]:
        """The keys of a file that are used. Raises ValueError as the class."""
        try:
            content = yaml.safe_load(path.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{str(path)!r} is no YAML: {error}") from None
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise ValueError(f"{str(path)!r} holds {type(content).__name__}, expected keys")
        given: dict[str, Any] = {
            SPELLINGS.get(str(key), str(key)): value for key, value in content.items()
        }
        nested = given.pop("generation_params", None)
        if nested is not None and "max_new_tokens" in schema.used:
            _known_of(f"{str(path)!r}, generation_params", nested, list(GENERATION))
            given |= nested
        if combination is not None:
            _is_of(path, given, combination)
        used = {}
        for key, value in given.items():
            try:
                used |= _read(key, value, schema)
            except ValueError as error:
                raise ValueError(f"{error} (in {str(path)!r})") from None
            if key in schema.elsewhere:
                self.passed_over[key] = f"decided by {schema.elsewhere[key]}"
        return used


def _read(key: str, value: Any, schema: Schema) -> dict[str, Any]:
    """A key with its value, if it is used."""
    if key in schema.used:
        return {key: schema.used[key][1](key, value)}
    if key in schema.fixed:
        if value not in schema.fixed[key]:
            only = " or ".join(repr(known) for known in schema.fixed[key])
            raise ValueError(f"{key} {value!r} is not done here, only {only}")
        return {}
    if key not in schema.elsewhere:
        raise ValueError(_unknown(str(key), schema.known))
    return {}


def _assigned(text: str) -> tuple[str, Any]:
    """Key and value of "key=value". Raises ValueError for anything else."""
    key, equals, value = text.partition("=")
    key = key.strip().removeprefix("generation_params.")
    if not equals or not key:
        raise ValueError(f"set {text!r}: give key=value, such as lr=0.01")
    try:
        return SPELLINGS.get(key, key), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"set {text!r}: the value is no YAML: {error}") from None


def _unknown(key: str, known: Sequence[str]) -> str:
    near = get_close_matches(key, known, 1)
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    return f"unknown hyper-parameter {key!r}{guess} Known are {', '.join(known)}"


def _known_of(where: str, given: Any, known: Sequence[str]) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"{where} is {given!r}, expected keys: {', '.join(known)}")
    for key in given:
        if key not in known:
            raise ValueError(f"{where}: {_unknown(str(key), known)}")


def _is_of(path: Path, given: dict[str, Any], combination: Combination) -> None:
    """Take out which method and form a file is for. Raises ValueError for others than asked."""
    method, form = given.pop("alg_name", None), given.pop("intervention_method", None)
    if method is not None and method not in _spellings(combination.method):
        raise ValueError(
            f"{str(path)!r} is for the method {method!r} (alg_name), not {combination.method!r}"
        )
    if form is not None and form != combination.form and path.name.startswith("generate"):
        raise ValueError(
            f"{str(path)!r} is for the form {form!r} (intervention_method), not "
            f"{combination.form!r}"
        )


def _spellings(method: str) -> tuple[str, ...]:
    return ("split", "spilt") if method == "split" else (method,)


def objective(values: Mapping[str, Any], method: str) -> Objective:
    """The objective of a method with its weights. Raises ValueError for another method."""
    if method == "sft":
        return SFT()
    if method == "reps":
        return RePS(scaler=values["simpo_scaler"])
    if method == "split":
        return SPLIT(
            winning=values["pos_loss_weight"],
            losing=values["neg_loss_weight"],
            margin=values["margin_penalty_weight"],
            threshold=values["margin_threshold"],
            reference=values["ref_loss_weight"],
        )
    raise ValueError(f"the method {method!r} is not trained")


def training(values: Mapping[str, Any], method: str, form: str) -> dict[str, Any]:
    """What `train` is called with.

    A step of the reference has batch_size x gradient_accumulation_steps pairs, each once for every
    sign, read in as many forwards as there are accumulated steps. Several layers are trained, and
    later steered, together.
    """
    signs = len(values["preference_pairs"])
    nulled = values["substraction_type"] == "null_it_out"
    return {
        "objective": objective(values, method),
        "form": form,
        "layers": values["layers"],
        "rank": values["low_rank_dimension"],
        "factors": values["steering_factors"],
        "sub": None if signs == 1 else "remove" if nulled else "negate",
        "positions": NOT_FIRST if values["exclude_bos"] and form == "vector" else everything,
        "epochs": values["n_epochs"],
        "batch": values["batch_size"] * signs * values["gradient_accumulation_steps"],
        "parts": values["gradient_accumulation_steps"],
        "learning_rate": values["lr"],
        "warmup": values["warmup"],
        "weight_decay": values["weight_decay"],
        "clip": values["clip"],
        "dropout": values["dropout"],
        "held_out": values["held_out"],
        "patience": values["patience"],
        "compat": values["compat"],
        "seed": values["seed"],
    }
