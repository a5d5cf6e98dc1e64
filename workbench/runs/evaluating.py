"""`workbench eval_all`: the texts of a composition study judged, from the command line.

Options have the published names (https://github.com/DanielSc4/Dynamic-Activation-Composition).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.loading.devices import check_device
from workbench.runs.locks import alone

if TYPE_CHECKING:
    from workbench.composition.results import TextJudge


def eval_all(
    results_json: Annotated[
        Path, typer.Option("--results_json", help="What compose wrote, or the published code.")
    ],
    lang_to_eval: Annotated[
        str | None, typer.Option("--lang_to_eval", help="The language to look for, such as it.")
    ] = None,
    evaluator_model_name: Annotated[
        str | None,
        typer.Option(
            "--evaluator_model_name",
            help="A text classifier, with --label, or a language model, with --trait: a path or a "
            "hub id.",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Which label of the classifier to look for.")
    ] = None,
    trait: Annotated[
        str | None, typer.Option("--trait", help="What the language model is to look for.")
    ] = None,
    translator_model_name: Annotated[
        str | None,
        typer.Option(
            "--translator_model_name",
            "--translate",
            help="Texts that are not English are translated before the evaluator reads them, by "
            "this sequence-to-sequence model: a path or a hub id, such as "
            "Helsinki-NLP/opus-mt-it-en.",
        ),
    ] = None,
    translate_from: Annotated[
        str | None,
        typer.Option(
            "--eval_task_requires_translation",
            help="The texts' language as the translator calls it, such as ita_Latn, where it knows "
            "many; alone, by the published translator, facebook/nllb-200-distilled-1.3B.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Of evaluator and translator, such as cuda:0.")
    ] = None,
) -> None:
    """Judge the texts of a results file, again if they were judged before; texts stay as they are.

        workbench eval_all --results_json F --lang_to_eval it

        workbench eval_all --results_json F --evaluator_model_name C --label formal

        workbench eval_all --results_json F --evaluator_model_name M --trait "unsafe advice"
        --eval_task_requires_translation ita_Latn

    Translations are kept beside what the evaluator says. Other judges:
    `workbench.composition.results.judge_again`. Exit status as of compose.
    """
    # They import torch, which help goes without.
    from workbench.composition import results as composed_results
    from workbench.composition.saving import complete, progress

    judges: dict[str, TextJudge] = {}
    try:
        given = [each for each in (label, trait) if each is not None]
        if len(given) != (evaluator_model_name is not None):
            raise ValueError("--evaluator_model_name: give it with --label or --trait, one of them")
        translating = translator_model_name is not None or translate_from is not None
        if translating and evaluator_model_name is None:
            raise ValueError("translations are for an evaluator: give --evaluator_model_name")
        if lang_to_eval is None and evaluator_model_name is None:
            raise ValueError("nothing to judge by: give --lang_to_eval or --evaluator_model_name")
        if lang_to_eval is not None:
            from workbench.judges.language import speaks

            judges["language"] = speaks(lang_to_eval)
        check_device(device)
        found = composed_results.check_results(results_json)
        translate = None
        if translating:
            translate = _translator(translator_model_name, translate_from, device)
        if evaluator_model_name is not None:
            judges["task"] = _evaluator(evaluator_model_name, label, trait, device)
        if translate is not None:
            judges["task"] = composed_results.in_english(judges["task"], translate)
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    if not complete(found):
        typer.echo(f"not complete: {progress(found)} are made", err=True)
    try:
        with alone(results_json):
            frame = composed_results.judge_again(results_json, judges)
    except (ValueError, OSError, RuntimeError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None
    # A few texts that fell apart decide a mean perplexity: its median, as in the paper.
    how = {each: "mean" for each in frame if _is_score(each, judges)}
    how |= {each: "median" for each in frame if each.startswith("delta_")}
    groups = frame.groupby("strategy", sort=False)
    table = groups.agg(how)
    table.columns = [f"{what} {name}" for name, what in how.items()]
    # A text that says nothing has no score: a strategy that breaks its texts must not gain by it.
    scores = [name for name, what in how.items() if what == "mean"]
    table.insert(0, "texts", groups.size())
    table.insert(1, "without a score", groups[scores].agg(lambda own: own.isna().sum()).max(axis=1))
    typer.echo(table.to_string(float_format=lambda value: f"{value:.3f}"))


def _is_score(column: str, judges: dict[str, TextJudge]) -> bool:
    return column in {f"{name}_{what}" for name in judges for what in ("probability", "trait")}


def _evaluator(name: str, label: str | None, trait: str | None, device: str | None) -> TextJudge:
    """A classifier that looks for a label, or a language model that looks for a trait."""
    if label is not None:
        from workbench.judges.classifiers import classifier

        with _named("text classifier", name):
            return classifier(name, label, device=device)
    from workbench.judges import LocalJudge
    from workbench.loading import models

    return partial(LocalJudge(models.load(name, device=device)), trait=str(trait))


def _translator(
    name: str | None, source: str | None, device: str | None
) -> Callable[[Sequence[str]], Sequence[str]]:
    from workbench.judges.translation import PUBLISHED, translator

    name = name or PUBLISHED
    with _named("translator", name):
        return translator(name, source, device=device)


@contextmanager
def _named(what: str, name: str) -> Iterator[None]:
    """What transformers says of a model that is not there does not always name it."""
    try:
        yield
    except OSError as error:
        raise OSError(f"no {what} {name!r} can be loaded: {error}") from None
