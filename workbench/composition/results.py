"""Texts of a composition study as one JSON file, to be judged later and again.

A file is an object: `about`, what was done and with what, and `results`, a list of questions in the
published code's layout:

    prompt, gold         the question as the model read it, and the data set's own answer
    output               strategy -> text
    finish               strategy -> "end" or "length", as of `judges.Written`
    perplexity           strategy -> the columns of `fluency.fluency`, or delta-perplexity alone
    coefficients, kl     strategy -> property -> one number a step; strategy -> one number a step
                         of the text, the one that ends it included
    judged               judge -> strategy -> what it said

The published code's own files, a bare list of such questions, are read and judged as well. Judging
adds to a file and changes no text. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from workbench.judges import Written, name
from workbench.support.store import write_atomically

#: One row, or one number, per text, in their order. A judge of `judges` becomes one by
#: `functools.partial(judge, trait="formal")`.
TextJudge: TypeAlias = Callable[[Sequence[Written]], "pd.DataFrame | Sequence[float]"]

_FORMAT = "workbench.composed/1"
_TEXTS = ("prompt", "gold")


@dataclass(frozen=True)
class Results:
    """What a file holds: `about`, and the questions as in the module's docstring."""

    questions: list[dict[str, Any]]
    about: dict[str, Any] = field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """One row per question and strategy: `question` (its number), `prompt`, `gold`, `strategy`,
        `text`, `finish`, columns of fluency, and `<judge>_<column>` of each judge."""
        rows = []
        for number, asked in enumerate(self.questions):
            for strategy, text in asked["output"].items():
                row = {
                    "question": number,
                    **{key: asked.get(key, "") for key in _TEXTS},
                    "strategy": strategy,
                    "text": text,
                    "finish": _finish(asked, strategy),
                }
                row |= _as_columns(_perplexity(asked, strategy), "delta_perplexity")
                for judge, said in asked.get("judged", {}).items():
                    columns = said.get(strategy, {})
                    row |= {f"{judge}_{column}": value for column, value in columns.items()}
                rows.append(row)
        frame = pd.DataFrame(rows)
        frame.attrs = dict(self.about)
        return frame

    def traces(self) -> pd.DataFrame:
        """One row per question, strategy, property and step of the text: those four and
        `coefficient` and `kl`, KL(composed || unsteered) in nats, NaN where it was not looked
        at."""
        rows = []
        for number, asked in enumerate(self.questions):
            for strategy, by_property in asked.get("coefficients", {}).items():
                spent = asked.get("kl", {}).get(strategy)
                for named, values in by_property.items():
                    for step, value in enumerate(values):
                        kl = math.nan if spent is None else spent[step]
                        rows.append((number, strategy, named, step, value, kl))
        columns = ["question", "strategy", "property", "step", "coefficient", "kl"]
        return pd.DataFrame(rows, columns=columns).astype({"coefficient": float, "kl": float})


def save_results(results: Results, path: str | os.PathLike[str]) -> None:
    """Write the file, whole or not at all. Raises OSError (a full disk, say)."""
    content = {"format": _FORMAT, "about": results.about, "results": results.questions}
    _write(Path(path), content)


def load_results(path: str | os.PathLike[str]) -> Results:
    """Read what `save_results` wrote, or a file of the published code.

    Raises FileNotFoundError, and ValueError for a file that holds something else.
    """
    content = _read(Path(path))
    return Results(_questions(content), content["about"] if isinstance(content, dict) else {})


def check_results(path: str | os.PathLike[str]) -> Results:
    """What `judge_again` needs, looked at before a judge is loaded: results as `load_results` gives
    them, with a text at least, in a place that can be written.

    Raises as `load_results`, ValueError for no text, and PermissionError.
    """
    path = Path(path)
    found = load_results(path)
    if not any(asked["output"] for asked in found.questions):
        raise ValueError(f"{str(path)!r} holds no text to judge")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{str(path.parent)!r} cannot be written, where judgements are kept")
    return found


def judge_again(path: str | os.PathLike[str], judges: Mapping[str, TextJudge]) -> pd.DataFrame:
    """Judge all texts of a file and keep what is said in it: `Results.frame` of it then.

    judges  name -> judge; what a former judge of that name said is replaced, the others' stays

    Raises as `check_results`, and ValueError for no judges and for a judge that does not give one
    row per text; the file then stays as it was.
    """
    if not isinstance(judges, Mapping) or not judges or not all(map(callable, judges.values())):
        raise ValueError(f"judges is {judges!r}; give a name and a function for each")
    check_results(path)
    content = _read(Path(path))
    questions = _questions(content)
    places = [(asked, strategy) for asked in questions for strategy in asked["output"]]
    written = [
        Written(asked["output"][strategy], asked.get("prompt", ""), _finish(asked, strategy))
        for asked, strategy in places
    ]
    said = {
        called: _table(judge(written), called, len(written)) for called, judge in judges.items()
    }
    for called, rows in said.items():
        for asked in questions:
            asked.setdefault("judged", {})[called] = {}
        for (asked, strategy), row in zip(places, rows, strict=True):
            asked["judged"][called][strategy] = row
    if isinstance(content, dict):
        labels = {called: _label(judge) for called, judge in judges.items()}
        content["about"] = content["about"] | {
            "judges": content["about"].get("judges", {}) | labels
        }
    _write(Path(path), content)
    return load_results(path).frame()


def in_english(
    judge: TextJudge, translate: Callable[[Sequence[str]], Sequence[str]]
) -> Callable[[Sequence[Written]], pd.DataFrame]:
    """A judge that reads English only, given translations; these stand beside what it says, in the
    column `english`.

    translate  texts, each once and none empty, to as many in English, such as
               `translation.translator`; texts in English already it gives back as they are.
               Prompts are not translated.

    The judge raises ValueError for another number of translations.
    """

    def judged(written: Sequence[Written]) -> pd.DataFrame:
        texts = list(dict.fromkeys(each.text for each in written if each.text.strip()))
        made = list(translate(texts)) if texts else []
        if len(made) != len(texts):
            raise ValueError(f"translate gave {len(made)} texts for {len(texts)}")
        english = dict(zip(texts, made, strict=True))
        given = [replace(each, text=english.get(each.text, each.text)) for each in written]
        frame = pd.DataFrame(_table(judge(given), _label(judge), len(given)))
        return frame.assign(english=[each.text for each in given])

    judged.label = f"{_label(judge)} of translations"  # type: ignore[attr-defined]
    return judged


def _label(judge: Any) -> str:
    if isinstance(judge, partial):
        return " ".join([name(judge.func), *map(str, [*judge.args, *judge.keywords.values()])])
    return name(judge)


def _table(said: Any, called: str, count: int) -> list[dict[str, Any]]:
    """What a judge said of each text, as JSON values."""
    frame = said if isinstance(said, pd.DataFrame) else pd.DataFrame({"value": list(said)})
    if len(frame) != count:
        raise ValueError(
            f"the judge {called!r} gave {len(frame)} rows for {count} texts; it must give one for "
            "each, in their order"
        )
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _perplexity(asked: Mapping[str, Any], strategy: str) -> Any:
    """The published code calls it by the strategy, or "delta_" and that."""
    held = asked.get("perplexity", {})
    spelled = (strategy, f"delta_{strategy}", f"delta_{strategy.replace('dynamic_p', 'dynamic_')}")
    return next((held[each] for each in spelled if each in held), {})


def _as_columns(value: Any, alone: str) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {alone: value}


def _finish(asked: Mapping[str, Any], strategy: str) -> Any:
    return asked.get("finish", {}).get(strategy, "length")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no file at {str(path)!r}")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not readable as json: {error}") from None
    whole = isinstance(content, dict) and content.get("format") == _FORMAT
    questions = content.get("results") if whole else content
    if not isinstance(questions, list) or not all(_is_question(each) for each in questions):
        raise ValueError(f"{str(path)!r} holds no results of a composition study")
    if whole and not isinstance(content.get("about"), dict):
        raise ValueError(f"{str(path)!r} does not say what its results are about")
    return content


def _is_question(value: Any) -> bool:
    output = value.get("output") if isinstance(value, dict) else None
    return isinstance(output, dict) and all(isinstance(text, str) for text in output.values())


def _questions(content: Any) -> list[dict[str, Any]]:
    return content["results"] if isinstance(content, dict) else content


def _write(path: Path, content: Any) -> None:
    text = json.dumps(_plain(content), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(path, text.encode("utf-8", errors="replace"))


def _plain(value: Any) -> Any:
    """JSON has no NaN, and knows no numbers but Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
