"""`workbench compose` and `workbench eval_all`: the study of activation composition from files.

Options have the published names (https://github.com/DanielSc4/Dynamic-Activation-Composition).
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer

from workbench import composed_results
from workbench.composed_results import TextJudge
from workbench.composition_prompts import Contrast, Settings, check
from workbench.in_context import find_examples
from workbench.runs.command import ManyNumbers

if TYPE_CHECKING:
    from workbench.models import LM


class ManySettings(ManyNumbers):
    """`--alphas 0.5 1 2`, `--top_p 0.5 0.9`."""

    many = ("--alphas", "--top_p")


def compose(
    dataset_a: Annotated[
        str,
        typer.Option(
            "--dataset_A_name",
            "--source_dataset",
            help="The data set that shows the property, such as ITA_train: "
            "<data_dir>/ITA/ITA_train.json, and ITA_instr.txt beside it.",
        ),
    ],
    dataset_b: Annotated[
        str, typer.Option("--dataset_B_name", help="The one that shows its opposite: ENG_train.")
    ],
    model_name: Annotated[
        str, typer.Option("--model_name", "--model", help="A path, wren, or a hub id.")
    ],
    lang_dataset: Annotated[
        str | None,
        typer.Option("--lang_dataset", help="A second property, to be shown at the same time."),
    ] = None,
    lang_opposite: Annotated[
        str | None, typer.Option("--lang_opposite", help="Its opposite; with --lang_dataset.")
    ] = None,
    source_lang_dataset: Annotated[
        str | None,
        typer.Option(
            "--source_lang_dataset",
            help="The first data set with both properties, such as its translation; by default "
            "in-context examples of both come by turns.",
        ),
    ] = None,
    icl_examples: Annotated[
        int, typer.Option("--icl_examples", "--ICL_examples", help="Examples of each prompt.")
    ] = 4,
    support: Annotated[
        int, typer.Option("--support", help="Prompts that a delta is made from.")
    ] = 30,
    evaluation_size: Annotated[
        int,
        typer.Option("--evaluation_size", "--subset_eval", help="Questions that are answered."),
    ] = 50,
    max_new_tokens: Annotated[
        int, typer.Option("--max_new_tokens", help="Tokens of an answer, and steps of a delta.")
    ] = 30,
    alphas: Annotated[
        list[float] | None,
        typer.Option("--alphas", help="Coefficients; by default the published ones."),
    ] = None,
    top_p: Annotated[
        list[float] | None,
        typer.Option("--top_p", help="Shares of likely tokens; by default the published ones."),
    ] = None,
    load_in_8bit: Annotated[
        bool, typer.Option("--load_in_8bit", help="Quantise the weights; needs bitsandbytes.")
    ] = False,
    device: Annotated[str | None, typer.Option("--device", help="Such as cuda:0.")] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Deals examples out to prompts; by default 0, or as compat."),
    ] = None,
    compat: Annotated[
        bool,
        typer.Option(
            "--compat",
            help="Prompts, draws and KL exactly as the published code has them (its seed is 32): "
            "k - 1 examples, and evaluation on questions that made the deltas.",
        ),
    ] = False,
    data_dir: Annotated[Path, typer.Option("--data_dir", help="Where data sets lie.")] = Path(
        "data/dataset"
    ),
    output: Annotated[Path, typer.Option("--output", help="Where results go.")] = Path("output"),
) -> None:
    """Steer by per-step deltas, one property or two at once, each strategy beside the others.

    One property:

        workbench compose --model_name M --dataset_A_name ITA_train --dataset_B_name ENG_train

    Two, and manual composition beside them:

        workbench compose --model_name M --source_dataset ENunsafe_train
        --dataset_B_name ENsafe_train --lang_dataset ITA_train --lang_opposite ENG_train
        --source_lang_dataset ITunsafe_train

    Writes <output>/<model>/<properties>/results_icl<k>_tok<n>.json, to be judged by eval_all; the
    same call again finds it done. Exit status: 0 done, 1 failed, 2 a wrong option, data that do not
    serve, or another study's results in the place.
    """
    if (lang_dataset is None) != (lang_opposite is None):
        typer.echo("--lang_dataset and --lang_opposite: give both or none", err=True)
        raise typer.Exit(2)
    try:
        settings = Settings(
            icl_examples=icl_examples,
            support=support,
            evaluation_size=evaluation_size,
            max_new_tokens=max_new_tokens,
            alphas=tuple(alphas) if alphas else None,
            top_p=tuple(top_p) if top_p else None,
            seed=seed,
            compat=compat,
        )
        first = Contrast(find_examples(dataset_a, data_dir), find_examples(dataset_b, data_dir))
        second = together = None
        if lang_dataset is not None and lang_opposite is not None:
            parts = (find_examples(each, data_dir) for each in (lang_dataset, lang_opposite))
            second = Contrast(*parts)
        if source_lang_dataset is not None:
            together = find_examples(source_lang_dataset, data_dir)
        check(first, second, together, settings)
        lm = _load(model_name, device, load_in_8bit)
    except (ValueError, OSError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    from workbench.composition_study import about, compose_study

    wanted = about(lm, first, second, together, settings)
    path = output / Path(lm.name).name / "-".join(wanted["properties"])
    path = path / f"results_icl{icl_examples}_tok{max_new_tokens}.json"
    try:
        if path.exists():
            held = composed_results.load_results(path).about
            if any(held.get(key) != value for key, value in wanted.items()):
                raise ValueError(f"{str(path)!r} holds another study; give another --output")
            typer.echo(f"already there: {path}")
            return
        results = compose_study(lm, first, second, together, settings)
        composed_results.save_results(results, path)
    except ValueError as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    except (OSError, RuntimeError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{len(results.questions)} questions: {path}")


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
) -> None:
    """Judge the texts of a results file, again if they were judged before; texts stay as they are.

        workbench eval_all --results_json F --lang_to_eval it

        workbench eval_all --results_json F --evaluator_model_name C --label formal

        workbench eval_all --results_json F --evaluator_model_name M --trait "unsafe advice"

    Other judges, and translation before them: `workbench.composed_results.judge_again`. Exit status
    as of compose.
    """
    judges: dict[str, TextJudge] = {}
    try:
        given = [each for each in (label, trait) if each is not None]
        if len(given) != (evaluator_model_name is not None):
            raise ValueError("--evaluator_model_name: give it with --label or --trait, one of them")
        if lang_to_eval is not None:
            from workbench.language import speaks

            judges["language"] = speaks(lang_to_eval)
        if evaluator_model_name is not None and label is not None:
            from workbench.classifiers import classifier

            judges["task"] = classifier(evaluator_model_name, label)
        if evaluator_model_name is not None and trait is not None:
            from workbench.judges import LocalJudge

            judges["task"] = partial(
                LocalJudge(_load(evaluator_model_name, None, False)), trait=trait
            )
        if not judges:
            raise ValueError("nothing to judge by: give --lang_to_eval or --evaluator_model_name")
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    try:
        frame = composed_results.judge_again(results_json, judges)
    except (ValueError, OSError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None
    # A few texts that fell apart decide a mean perplexity: its median, as in the paper.
    how = {each: "mean" for each in frame if _is_score(each, judges)}
    how |= {each: "median" for each in frame if each.startswith("delta_")}
    groups = frame.groupby("strategy", sort=False)
    found = groups.agg(how)
    found.columns = [f"{what} {name}" for name, what in how.items()]
    # A text that says nothing has no score: a strategy that breaks its texts must not gain by it.
    scores = [name for name, what in how.items() if what == "mean"]
    found.insert(0, "texts", groups.size())
    found.insert(1, "without a score", groups[scores].agg(lambda own: own.isna().sum()).max(axis=1))
    typer.echo(found.to_string(float_format=lambda value: f"{value:.3f}"))


def _is_score(column: str, judges: dict[str, TextJudge]) -> bool:
    return column in {f"{name}_{what}" for name in judges for what in ("probability", "trait")}


def _load(name: str, device: str | None, load_in_8bit: bool) -> LM:
    from workbench import models

    if not load_in_8bit:
        return models.load(name, device=device)
    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise ValueError(
            "load_in_8bit needs a GPU and `pip install bitsandbytes`; leave it out to run as is"
        )
    from transformers import BitsAndBytesConfig

    eight = BitsAndBytesConfig(load_in_8bit=True)
    return models.load(name, quantization_config=eight, device_map=device or "cuda:0")
