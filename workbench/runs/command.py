"""`workbench run` and `workbench merge` as commands: options, help, exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from workbench.runs.options import Options, WrongOption, as_shard


class ManyNumbers(TyperCommand):
    """A command whose --multipliers may be followed by several numbers, as in the reference:
    `--multipliers -1 0 2`."""

    many = ("--multipliers",)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        inside = ""
        for arg in args:
            if inside and "," in arg:
                raise typer.BadParameter(
                    f"{inside} {arg}: leave blanks between numbers, such as "
                    f"{inside} {arg.replace(',', ' ')}",
                    ctx=ctx,
                )
            inside = inside if _is_number(arg) else ""
            if inside and spread[-1] != inside:
                spread.append(inside)
            inside = arg if arg in self.many else inside
            spread.append(arg)
        return super().parse_args(ctx, spread)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def run(
    dataset: Annotated[
        str,
        typer.Option(
            help="A data set: data/<name>/train.jsonl and test.jsonl (or .json, .csv, .parquet) "
            "below the base directory, an entry of the dataset format, or pairs that ship with the "
            "package, such as wren-power and wren-callous."
        ),
    ],
    method: Annotated[
        str, typer.Option(help="caa, reps, sft, split (or spilt, as the reference spells it), all.")
    ],
    model_name: Annotated[
        str,
        typer.Option(
            "--model_name",
            "--model-name",
            "--model",
            help="A folder in models/ below the base directory, else a path, wren, or a hub id.",
        ),
    ],
    intervention_method: Annotated[
        str,
        typer.Option(
            "--intervention_method",
            "--intervention-method",
            "--intervention",
            help="vector (residual stream), lora or local_weight (MLP down-projection), all.",
        ),
    ],
    mode: Annotated[
        str,
        typer.Option(
            help="generate: make vectors or weights. apply: write texts under them. both. "
            "loss: how likely both answers of every pair are under them (not for axbench)."
        ),
    ] = "both",
    multipliers: Annotated[
        list[float] | None,
        typer.Option(
            help="Coefficients m, such as --multipliers -1 0 1 2; 1.0 if none. m = 0 is the "
            "unsteered model, exactly."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Such as cpu; cuda:0 if there is one, else cpu.")
    ] = None,
    base_dir: Annotated[
        Path,
        typer.Option(
            "--base_dir", "--base-dir", help="Where data lie and results go; paths are below it."
        ),
    ] = Path("."),
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry_run", "--dry-run", help="Say what would be done; write nothing, load no model."
        ),
    ] = False,
    hparams: Annotated[
        Path | None,
        typer.Option(
            help="Folder of hyper-parameters: <data set>/<model>/<method>/generate_<method>_<form>"
            ".yaml with the reference's keys, apply_<method>.yaml, and config.yaml for the whole "
            "run. By default hparams/Steer/experiment_hparams/spilt_experiment below the base "
            "directory if it is there, else the published settings."
        ),
    ] = None,
    dataset_format: Annotated[
        Path | None,
        typer.Option(
            "--dataset_format",
            "--dataset-format",
            help="YAML that says which file and columns a data set has. By default "
            "hparams/Steer/dataset_format.yaml below the base directory if it is there.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="One hyper-parameter over all files: --set lr=0.01. Repeatable."
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="workbench (safetensors with provenance) or easyedit (its folders and files: "
            "layer_<L>.pt, metadata_layer_<L>.jsonl, train_losses.csv), read and written."
        ),
    ] = "workbench",
    split: Annotated[
        str, typer.Option(help="Mode loss: on the train pairs, as the reference, or on test.")
    ] = "train",
    export: Annotated[
        list[str] | None,
        typer.Option(
            help="Also for other tools: gguf (vectors: llama.cpp, repeng), peft (LoRA, one adapter "
            "for each multiplier). Repeatable."
        ),
    ] = None,
    bad_pairs: Annotated[
        str,
        typer.Option(
            "--bad_pairs",
            "--bad-pairs",
            help="Rows that are empty, unpaired, contradictory or too long for the model: refuse "
            "the table, or skip them and say so.",
        ),
    ] = "refuse",
    seed: Annotated[
        int | None, typer.Option(help="Of everything random; 42, or that of the files.")
    ] = None,
    shard: Annotated[
        str,
        typer.Option(help="Part i of n of the work, such as 2/8, for a cluster; see merge."),
    ] = "1/1",
) -> None:
    """Train interventions, write texts under them, measure losses.

    Options, defaults and YAML keys are those of the runner of "Why Steering Works" (arXiv
    2602.02343, in EasyEdit), here called the reference. At once, without files or network, on the
    bundled model (its vectors are trained at coefficients from 2 to 20):

        workbench run --dataset wren-power --method split --intervention vector --model wren
        --multipliers 0 5 10

    Your own data and model; then losses on held-out pairs; then every method and form:

        workbench run --dataset psychopathy --method split --intervention_method lora
        --model_name gemma-2-9b-it --multipliers 0.5 1 2

        workbench run ... --mode loss --split test --multipliers -1 0 1

        workbench run ... --method all --intervention_method all --set n_epochs=4

    Results, below the base directory:

        vectors/<model>/<method>/<data>/<method>_<form>/intervention.safetensors

        generation/<model>/<method>/<data>/<method>_<form>/m<m>/<data>_results.json

        losses/... and exports/... likewise; runs/... what was done

    Each folder has a run.json: what decided its files. The same call again does what is not done,
    and does again what was decided by something else (a changed vector, setting or table). Nothing
    that it did not make is written over, nor what another process is at. Ctrl-C and SIGTERM keep
    what is finished; the same call goes on from there.

    Exit status: 0 something was done, or was there already, and nothing failed. 1 something failed,
    or there was nothing to do: all combinations were impossible (caa is a vector only) or missing
    (no vector to apply, no hyper-parameter file). 2 a wrong option. 130, 143: stopped by Ctrl-C,
    SIGTERM.
    """
    try:
        options = Options(
            dataset=dataset,
            method=method,
            model_name=model_name,
            intervention_method=intervention_method,
            mode=mode,
            multipliers=multipliers or (1.0,),
            device=device,
            base_dir=base_dir,
            hparams=hparams,
            dataset_format=dataset_format,
            settings=settings or (),
            layout=layout,
            split=split,
            export=export or (),
            bad_pairs=bad_pairs,
            seed=seed,
            shard=as_shard(shard),
            dry_run=dry_run,
        )
    except ValueError as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    from workbench.runs import runner  # torch and transformers, which help and refusals go without

    try:
        outcome = runner.run(options, say=typer.echo)
    except WrongOption as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    except (ValueError, OSError, RuntimeError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(outcome.exit_code)


def merge(
    target: Annotated[Path, typer.Argument(help="The base directory that is to hold all.")],
    parts: Annotated[
        list[Path] | None,
        typer.Argument(help="The base directories of the parts; none to check the target alone."),
    ] = None,
) -> None:
    """Put the parts of a cluster together (run --shard i/n), and say what is missing.

    Where all parts write to one shared base directory there is nothing to copy:

        workbench merge DIR

    says whether they have done all of it. Files are checked against their sha256; nothing that
    differs is written over. Exit status: 0 if nothing is missing, else 1.
    """
    from workbench.runs import merging

    try:
        merged = merging.merge(target, parts or (), say=typer.echo)
    except (ValueError, OSError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(merged.exit_code)
