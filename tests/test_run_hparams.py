"""Hyper-parameter files with the reference's keys: read, refused, and how they train."""

import pytest
import yaml
from run_cli import base_dir, run

from workbench.runs.hyperparameters import Hyperparameters, Missing, objective, training
from workbench.runs.options import Combination, Options
from workbench.text.positions import everything
from workbench.training.objectives import SPLIT, RePS
from workbench.training.train import NOT_FIRST

#: A file with every key that the published ones have for SPLIT.
SPILT = {
    "alg_name": "spilt",
    "layers": [1],
    "use_cache": False,
    "exclude_bos": True,
    "max_concepts": 1,
    "max_num_of_examples": None,
    "preference_pairs": ["orig_add", "orig_sub"],
    "output_length": 512,
    "batch_size": 3,
    "dropout": 0.1,
    "gradient_accumulation_steps": 2,
    "lr": 0.03,
    "n_epochs": 2,
    "weight_decay": 0.0,
    "pos_loss_weight": 1.0,
    "neg_loss_weight": 0.4,
    "margin_penalty_weight": 8,
    "ref_loss_weight": 0.0,
    "margin_threshold": 0.3,
    "loss_output_dir": None,
    "inference": False,
    "intervention_positions": "all",
    "intervention_positions_dropout": 0.0,
    "intervention_type": "addition",
    "low_rank_dimension": 1,
    "intervention_method": "vector",
    "steering_factors": [0.5, 1.0],
    "steering_prompt_type": "blend_in",
    "substraction_type": "normal",
}
REPS = {
    **{key: value for key, value in SPILT.items() if not key.endswith(("_weight", "_threshold"))},
    "alg_name": "reps",
    "loss_type": "scaled_simpo",
    "beta": 1.0,
    "gemma": 0.0,
    "simpo_scaler": 1.5,
    "label_smoothing": 0.0,
    "reference_free": False,
    "train_on_negative": True,
    "lora_alpha": 32,
    "substraction_type": "null_it_out",
}


def put(base, content, method="split", name="generate_spilt_vector.yaml"):
    folder = base / "hparams/Steer/experiment_hparams/spilt_experiment/choice/tiny" / method
    folder.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (folder / name).write_text(text)
    return folder / name


def read(base, method="split", form="vector", **options) -> dict:
    asked = Options("choice", method, "tiny", form, base_dir=base, **options)
    return Hyperparameters(asked).making(Combination(asked.method, form))


def test_a_published_file_says_how_it_is_trained(tmp_path):
    put(tmp_path, SPILT, method="spilt")
    values = read(tmp_path)
    how = training(values, "split", "vector")
    assert how["objective"] == SPLIT(winning=1, losing=0.4, margin=8, threshold=0.3)
    # 3 pairs, both signs, two accumulated steps; each forward reads half.
    assert (how["batch"], how["parts"], how["epochs"]) == (12, 2, 2)
    assert (how["learning_rate"], how["factors"], how["layers"]) == (0.03, [0.5, 1.0], [1])
    assert how["positions"] is NOT_FIRST
    assert (how["sub"], how["held_out"], how["seed"]) == ("negate", 0.0, 42)


def test_reps_nulls_out_and_weights_are_steered_everywhere(tmp_path):
    put(tmp_path, REPS, "reps", "generate_reps_vector.yaml")
    values = read(tmp_path, "reps")
    assert objective(values, "reps") == RePS(scaler=1.5)
    assert training(values, "reps", "vector")["sub"] == "remove"
    put(
        tmp_path, SPILT | {"intervention_method": "local_weight"}, name="generate_split_weight.yaml"
    )
    values = read(tmp_path, form="local_weight")
    assert training(values, "split", "local_weight")["positions"] is everything


def test_without_a_folder_the_published_settings_hold(tmp_path):
    values = read(tmp_path)
    how = training(values, "split", "vector")
    assert (how["epochs"], how["dropout"], how["layers"], how["factors"]) == (2, 0.1, None, None)
    assert how["learning_rate"] is None  # that of the form
    assert how["objective"] == SPLIT()


def test_what_is_nearer_wins(tmp_path):
    path = put(tmp_path, SPILT)
    config = path.parents[3] / "config.yaml"
    nested = {"max_new_tokens": 7, "do_sample": False}
    config.write_text(yaml.safe_dump({"seed": 5, "generation_params": nested, "device": "cuda:1"}))
    asked = Options(
        "choice", "split", "tiny", "vector", base_dir=tmp_path, settings=["lr=1e-3", "top_p=0.9"]
    )
    hyper = Hyperparameters(asked)
    made = hyper.making(Combination("split", "vector"))
    applied = hyper.applying(Combination("split", "vector"))
    assert (made["lr"], made["seed"], made["n_epochs"]) == (1e-3, 5, 2)
    assert (applied["max_new_tokens"], applied["do_sample"], applied["top_p"]) == (7, False, 0.9)
    assert hyper.passed_over["device"] == "decided by --device"
    assert read(tmp_path, seed=8)["seed"] == 8
    published = {"alg_name": "spilt", "layers": [1], "multipliers": [1.0], "concepts_id": 2}
    put(tmp_path, published, name="apply_spilt.yaml")
    assert Hyperparameters(asked).applying(Combination("split", "vector"))["concept_id"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.1}, "unknown hyper-parameter 'learning_rate'.* Known are .*lr, "),
        ({"dropot": 0.1}, "unknown hyper-parameter 'dropot'; did you mean 'dropout'?"),
        ({"lr": "fast"}, "lr 'fast': give a finite number"),
        ({"lr": -1}, "lr -1: give a finite number of at least 0"),
        ({"n_epochs": 0}, "n_epochs 0: give a whole number of at least 1"),
        ({"layers": []}, r"layers \[\]: give a list of at least one"),
        ({"layers": [1.5]}, "layers 1.5: give a whole number"),
        ({"exclude_bos": "yes"}, "exclude_bos 'yes': give true or false"),
        ({"preference_pairs": ["steered_add"]}, "preference_pairs .*: give"),
        ({"intervention_type": "clamping"}, "intervention_type 'clamping' is not done here, only"),
        ({"intervention_positions": "f1+l1"}, "intervention_positions 'f1.l1' is not done here"),
        ({"substraction_type": "x"}, "substraction_type 'x' is unknown; choose one of 'normal'"),
        ({"alg_name": "reps"}, r"is for the method 'reps' \(alg_name\), not 'split'"),
        ({"intervention_method": "lora"}, "is for the form 'lora'"),
    ],
)
def test_what_is_unknown_or_not_done_is_refused_by_name_and_file(tmp_path, change, message):
    path = put(tmp_path, SPILT | change)
    with pytest.raises(ValueError, match=message) as told:
        read(tmp_path)
    assert str(path) in str(told.value)


def test_other_ways_to_be_wrong(tmp_path):
    put(tmp_path, "lr: [")
    with pytest.raises(ValueError, match="is no YAML"):
        read(tmp_path)
    put(tmp_path, "- 1")
    with pytest.raises(ValueError, match="holds list, expected keys"):
        read(tmp_path)
    with pytest.raises(Missing, match="has no generate_split_lora"):
        read(tmp_path, form="lora")
    with pytest.raises(FileNotFoundError, match="no folder of hyper-parameters"):
        read(tmp_path, hparams=tmp_path / "none")
    put(tmp_path, SPILT | {"alg_name": "sft"}, "sft", "generate_sft_vector.yaml")
    with pytest.raises(ValueError, match=r"margin_penalty_weight 8 is not done here, only 0"):
        read(tmp_path, "sft")
    for words, message in (
        ("lr", "set 'lr': give key=value"),
        ("learning=1", "unknown hyper-parameter 'learning'"),
        ("device=cpu", "decided by --device"),
        ("lr=[", "the value is no YAML"),
        ("do_sample=3", "do_sample 3: give true or false"),
        ("system_prompt=Hi", "system_prompt 'Hi' is a message of a chat: set use_chat_template"),
    ):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "elsewhere", settings=[words])


def test_through_the_command(tmp_path):
    base = base_dir(tmp_path)
    put(base, SPILT)
    ran = run(base, intervention="all")
    assert ran.status == 0
    assert "generate split lora: missing: no hyper-parameters: " in ran.said
    assert "2 done, 4 missing" in ran.said
    assert "passed over: use_cache, decided by always used" in ran.said
    put(base, SPILT | {"learning_rate": 0.1})
    ran = run(base)
    assert ran.status == 1
    assert "unknown hyper-parameter 'learning_rate'" in ran.said
    assert "done" not in ran.said
