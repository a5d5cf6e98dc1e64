"""`workbench run` and `merge` in this process, on a tiny random model in a folder of its own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import architectures
from test_train import SENTENCES
from typer.testing import CliRunner

from workbench.cli import app

#: A step or two a second; the published settings are for far larger models.
FAST = {
    "n_epochs": 1,
    "batch_size": 2,
    "steering_factors": "[0.5, 1.0]",
    "lr": 0.05,
    "max_new_tokens": 4,
    "layers": "[1]",
}


@dataclass(frozen=True)
class Ran:
    """The exit status of a command and all that it said."""

    status: int
    said: str


def command(*words: object) -> Ran:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.output)


def run(base: Path, *words: object, settings: dict | None = None, **options: object) -> Ran:
    """`workbench run` on the data set "choice" with the model "tiny", unless told otherwise."""
    asked = {"dataset": "choice", "method": "split", "intervention": "vector", "model": "tiny"}
    asked |= {"base_dir": base, **options}
    line = [part for name, value in asked.items() for part in (f"--{name}", value)]
    chosen = FAST | (settings or {})
    line += [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
    return command("run", *line, *words)


@cache
def tiny_folder() -> Path:
    lm = architectures.build("llama")
    folder = Path(mkdtemp(prefix="workbench-")) / "tiny"
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def base_dir(folder: Path, rows: Sequence[dict] | None = None, *, data: str = "choice") -> Path:
    """A base directory with the model, and a data set of six pairs and three prompts."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    if not (folder / "models" / "tiny").exists():
        (folder / "models" / "tiny").symlink_to(tiny_folder())
    own = [{"question": q, "matching": p, "not_matching": n} for q, p, n in SENTENCES]
    write_rows(folder / "data" / data / "train.jsonl", own if rows is None else rows)
    tests = [
        {"question": f"Well. {q}", "matching": p, "not_matching": n} for q, p, n in SENTENCES[:3]
    ]
    write_rows(folder / "data" / data / "test.jsonl", tests)
    return folder


def write_rows(path: Path, rows: Sequence[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the model's, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "models"
    }
