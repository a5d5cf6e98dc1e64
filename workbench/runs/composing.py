"""`workbench compose`: the study of activation composition from files.

Options have the published names (https://github.com/DanielSc4/Dynamic-Activation-Composition).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.loading.devices import check_device
from workbench.runs.command import ManyNumbers
from workbench.runs.locks import alone

if TYPE_CHECKING:
    from workbench.loading.models import LM


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
        typer.Option(
            "--alphas",
            help="Coefficients, such as --alphas 0.5 1 2; by default the published ones.",
        ),
    ] = None,
    top_p: Annotated[
        list[float] | None,
        typer.Option(
            "--top_p",
            help="Shares of likely tokens, such as --top_p 0.5 0.9; by default the published ones.",
        ),
    ] = None,
    load_in_8bit: Annotated[
        bool, typer.Option("--load_in_8bit", help="Quantise the weights; needs bitsandbytes.")
    ] = False,
    device: Annotated[str | None, typer.Option("--device", help="Such as cuda:0.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, help="Deals examples out to prompts; by default 0, or as compat."
        ),
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
    memory: Annotated[
        float,
        typer.Option(
            "--memory",
            min=1,
            help="Bytes beside the weights, such as 8e9: how many questions are answered together.",
        ),
    ] = float(1 << 30),
) -> None:
    """Steer by per-step deltas, one property or two at once, each strategy beside the others.

    One property:

        workbench compose --model_name M --dataset_A_name ITA_train --dataset_B_name ENG_train

    Two, and manual composition beside them:

        workbench compose --model_name M --source_dataset ENunsafe_train
        --dataset_B_name ENsafe_train --lang_dataset ITA_train --lang_opposite ENG_train
        --source_lang_dataset ITunsafe_train

    Writes <output>/<model>/<properties>/results_icl<k>_tok<n>.json, to be judged by eval_all, after
    each strategy: the same call again goes on from there, or finds it done. Exit status: 0 done, 1
    failed, 2 a wrong option, data that do not serve, or another study's results in the place, 130
    stopped by Ctrl-C.
    """
    if (lang_dataset is None) != (lang_opposite is None):
        typer.echo("--lang_dataset and --lang_opposite: give both or none", err=True)
        raise typer.Exit(2)
    # They import torch, which help and a wrong option go without.
    from workbench.composition.in_context import find_examples
    from workbench.composition.saving import complete, kept, progress
    from workbench.composition.study import asked_for, compose_study
    from workbench.composition.study_prompts import Contrast, Settings, arrange, check

    try:
        settings = Settings(
            icl_examples=icl_examples,
            support=support,
            evaluation_size=evaluation_size,
            max_new_tokens=max_new_tokens,
            alphas=_each_once(alphas),
            top_p=_each_once(top_p),
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
        check_device(device)
        wanted = asked_for(first, second, together, settings)
        path = output / _folder(model_name) / "-".join(wanted["properties"])
        path = path / f"results_icl{icl_examples}_tok{max_new_tokens}.json"
        held = kept(path, wanted)
        lm = _load(model_name, device, load_in_8bit)
        arrange(lm, first, second, together, settings)
    except (ValueError, OSError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    if held is not None and not complete(held):
        typer.echo(f"going on: {progress(held)} are in {path}")
    try:
        with alone(path):
            for left in path.parent.glob(f".{path.name}.*.part"):  # by a kill
                left.unlink(missing_ok=True)
            results = compose_study(lm, first, second, together, settings, path=path, memory=memory)
    except ValueError as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    except (OSError, RuntimeError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        left = kept(path, wanted)
        said = f"{progress(left)} are in {path}" if left is not None else "nothing was written yet"
        typer.echo(f"stopped: {said}; the same call goes on", err=True)
        raise typer.Exit(130) from None
    for what, why in results.about["left_out"].items():
        typer.echo(f"left out: {what}, since {why}", err=True)
    if held is not None and complete(held):
        typer.echo(f"already there: {path}")
    else:
        typer.echo(f"{len(results.questions)} questions: {path}")


def _each_once(values: list[float] | None) -> tuple[float, ...] | None:
    return tuple(dict.fromkeys(values)) if values else None


def _folder(model: str) -> str:
    """The last part of a model's name or path."""
    path = Path(model).expanduser()
    return (path.resolve() if path.exists() else path).name


def _load(name: str, device: str | None, load_in_8bit: bool) -> LM:
    from workbench.loading import models

    if not load_in_8bit:
        return models.load(name, device=device)
    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise ValueError(
            "load_in_8bit needs a GPU and `pip install bitsandbytes`; leave it out to run as is"
        )
    eight = BitsAndBytesConfig(load_in_8bit=True)
    return models.load(name, quantization_config=eight, device_map=device or "cuda:0")
