"""The bundled model and pairs: at once, offline, with exact scores."""

import pandas as pd
import pytest
from run_cli import command

SHORT = ["max_num_of_examples=12", "generation_data_size=4", "max_new_tokens=32", "n_epochs=1"]


@pytest.mark.parametrize("data", ["wren-power", "wren-callous"])
def test_the_stand_ins_work_without_files(tmp_path, data):
    line = f"run --dataset {data} --method split --intervention vector --model wren"
    settings = [part for each in SHORT for part in ("--set", each)]
    ran = command(*line.split(), "--multipliers", "0", "2", "--base_dir", tmp_path, *settings)
    assert ran.status == 0, ran.said
    trait = data.removeprefix("wren-")
    assert f"'{data}' ships with the package: 96 pairs to train on, 32 others to test" in ran.said
    assert f"scored exactly for {trait!r}" in ran.said
    assert ran.said.count("exact scores of 4 texts: coherence ") == 2
    for m in ("m0.0", "m2.0"):
        folder = tmp_path / f"generation/wren/split/{data}/split_vector/{m}"
        scores = pd.read_csv(folder / "scores.csv")
        assert len(scores) == 4
        known = scores["coherence"].dropna()  # a beginning of a sentence says nothing yet
        assert len(known)
        assert known.between(0, 1).all()
        assert (folder / f"{data}_results.json").is_file()
