"""The siblings' weights that lie beside the study."""

import json
import shutil
from pathlib import Path

import pytest

import workbench as wb
from workbench.wren import siblings

TRAINED = Path(__file__).resolve().parents[1] / "benchmarks" / "siblings"


@pytest.mark.parametrize("name", [path.name for path in sorted(TRAINED.iterdir())])
def test_a_trained_sibling_is_taken_as_it_is_and_speaks_the_language(
    name: str, tmp_path: Path
) -> None:
    folder = siblings.sibling(name, tmp_path, trained=TRAINED)
    lm = wb.load(folder)
    assert sum(p.numel() for p in lm.model.parameters()) <= 1_000_000
    made = wb.generate(
        lm, ["Marta & Benno:"] * 8, new_tokens=32, temperature=1.0, seed=1, score=False
    )
    judged = wb.judges.score(made.texts, [""] * 8, "mood", by=wb.judges.exact)
    assert judged["coherence"].mean() > 0.8


def test_weights_of_another_recipe_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(TRAINED / "gpt2", trained / "gpt2")
    record = json.loads((trained / "gpt2" / "training.json").read_text())
    record["recipe"]["steps"] += 1
    (trained / "gpt2" / "training.json").write_text(json.dumps(record))
    asked = []
    monkeypatch.setattr(siblings, "train", lambda folder, *_, **__: asked.append(folder))
    assert siblings.sibling("gpt2", tmp_path, trained=trained) == tmp_path / "gpt2"
    assert asked == [tmp_path / "gpt2"]
    with pytest.raises(ValueError, match="'mamba' is not one of gpt2, gemma, llama"):
        siblings.sibling("mamba", tmp_path)
