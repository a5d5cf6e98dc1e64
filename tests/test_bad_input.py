"""What a user sees: every bad input, one line each, with the message that names it and the remedy.

Each case must raise before the model runs: the forward and the decoding are taken away.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import pickle
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from workbench.anatomy import ablation
from workbench.anatomy.ablation import Component
from workbench.anatomy.fillings import means
from workbench.composition.compose import Same, compose
from workbench.composition.schedules import Fixed
from workbench.conditions.condition import Condition
from workbench.conditions.conditional import ConditionalSteering, respond
from workbench.contrast import loaders, pairs
from workbench.contrast.pairs import Pair, Pairs
from workbench.extraction.extract import extract
from workbench.forward import tracing
from workbench.generation.generate import generate
from workbench.geometry import manifold
from workbench.interventions import updates
from workbench.interventions.updates import Add, Intervention, Place
from workbench.judges import exact
from workbench.loading import models
from workbench.loading.models import LM
from workbench.preference.odds import odds
from workbench.probing.probes import probe
from workbench.sweeps.alert import alert_as_coded
from workbench.sweeps.ceiling import find_ceiling
from workbench.sweeps.planning import row_bytes
from workbench.sweeps.slopes import slopes
from workbench.sweeps.survival import ceilings_by_length
from workbench.sweeps.sweep import sweep
from workbench.text import positions, splits
from workbench.text.splits import PromptSet
from workbench.text.tokens import encode
from workbench.training.train import train
from workbench.vectors import files, formats
from workbench.vectors.controls import random_like
from workbench.vectors.steering_vector import SteeringVector

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Here:
    """What a case may use."""

    lm: LM
    folder: Path

    def vector(self, width: int | None = None, **changes: Any) -> SteeringVector:
        made = SteeringVector(
            {1: torch.ones(width or self.lm.width)}, {1: 6.0}, "tiny", "", "test", layer=1
        )
        return replace(made, **changes)

    def sweep(
        self, prompts: Any = ("The fox",), coefficients: Any = (0.0, 1.0), **more: Any
    ) -> Any:
        more = {"progress": False, "new_tokens": 4, **more}
        return sweep(self.lm, more.pop("vector", self.vector()), prompts, coefficients, **more)

    def respond(
        self,
        vector: SteeringVector | None = None,
        prompts: Any = ("The fox",),
        rules: str = "if odd then push",
        **how: Any,
    ) -> Any:
        asked = Condition.of(vector or self.vector(), threshold=0.1, **how)
        push = {"push": self.vector().at(1.0)}
        steering = ConditionalSteering({"odd": asked}, push, rules)
        return respond(self.lm, prompts, steering, new_tokens=4)

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def pairs(self, count: int = 6) -> Pairs:
        return Pairs.from_lists(
            [f" was glad {i}" for i in range(count)],
            [f" was sad {i}" for i in range(count)],
            [f"Person {i}" for i in range(count)],
        )


class Runs:
    """An object whose pickle runs code: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def long(here: Here) -> str:
    return "The old fox walked slowly. " * 60


def composed(here: Here, properties: Any, schedules: Any) -> Any:
    return compose(here.lm, ["The fox"], properties, schedules, new_tokens=2)


def frame(**changes: Any) -> pd.DataFrame:
    """A small sweep's frame."""
    rows = [
        {
            "prompt_index": p,
            "coefficient": c,
            "coefficient_norm": c,
            "vector": "vector",
            "text": "",
            "tokens": 8,
            "excess": -0.4,
            "alert": -9.0,
            "distinct_2": 1.0,
            "longest_repeat": 1,
            "logprob_unsteered": -0.5,
        }
        for p in range(3)
        for c in (0.0, 1.0)
    ]
    return pd.DataFrame(rows).assign(**changes)


Case = tuple[Callable[[Here], Any], type[Exception], str]

# What a file of pairs may hold instead: its name, its content, the message.
FILES: dict[str, tuple[str, bytes | str, str]] = {
    "file of another kind": ("pairs.txt", "a", r"ends in '.txt'; pairs are read from .json"),
    "broken JSON line": (
        "p.jsonl",
        '{"positive": "a", "negative": "b"}\n{oops',
        r"not readable as jsonl: line 2",
    ),
    "missing column": (
        "p.csv",
        "good,bad\na,b\n",
        r"has no column 'positive'; its columns are \['good', 'bad'\]",
    ),
    "data that is not text": (
        "p.json",
        '[{"positive": 3, "negative": "b"}]',
        r"pair 0: one-sided pair: its positive text is 3",
    ),
    "prompt that is not text": (
        "p.json",
        '[{"positive": "a", "negative": "b", "prompt": [{"role": "user"}]}]',
        r"pair 0: a prompt must be a text or chat messages, got \[\{'role': 'user'\}\]",
    ),
    "unknown role of pairs": (
        "p.jsonl",
        '{"name": "mine", "role": "train"}\n{"positive": "a", "negative": "b"}',
        r"role 'train' is not one of \('extract', 'select', 'report'\)",
    ),
    "empty data file": ("p.jsonl", "", r"has no rows"),
    "compressed file by another name": ("p.json", gzip.compress(b"[]"), r"not readable as json"),
}


def loaded(name: str, content: bytes | str) -> Callable[[Here], Any]:
    return lambda here: pairs.load(here.file(name, content))


CASES: dict[str, Case] = {
    # ---- pairs and prompts
    **{
        case: (loaded(name, content), ValueError, message)
        for case, (name, content, message) in FILES.items()
    },
    "empty pairs": (lambda h: Pairs((), "mine"), ValueError, r"pairs 'mine' are empty"),
    "one-sided pair": (
        lambda h: Pair("glad", " "),
        ValueError,
        r"one-sided pair: its negative text is ' '",
    ),
    "one-sided lists": (
        lambda h: Pairs.from_lists(["a", "b"], ["c"]),
        ValueError,
        r"one-sided pairs: 2 positive and 1 negative",
    ),
    "identical pair": (
        lambda h: Pair("same", "same", "prompt"),
        ValueError,
        r"identical pair: both sides are 'same'",
    ),
    "too few pairs to split": (
        lambda h: h.pairs(2).split(),
        ValueError,
        r"cannot be split in three: .* only 2 group",
    ),
    "unknown data set": (
        lambda h: pairs.load("mooood"),
        FileNotFoundError,
        r"no pairs 'mooood': it is no file, and the bundled sets are .*emotion",
    ),
    "missing data file": (
        lambda h: pairs.load("nowhere.csv"),
        FileNotFoundError,
        r"no file at 'nowhere.csv'",
    ),
    "empty prompt list": (lambda h: encode(h.lm, []), ValueError, r"prompts is empty"),
    "empty prompt": (lambda h: encode(h.lm, ["a", " "]), ValueError, r"prompt ' ' is empty"),
    "prompt not in a list": (
        lambda h: encode(h.lm, "The fox"),
        ValueError,
        r"prompts is one prompt, 'The fox'; wrap it in a list",
    ),
    "chat without content": (
        lambda h: encode(h.lm, [[{"role": "user"}]]),
        ValueError,
        r"is not a chat message; it needs the keys 'role' and 'content'",
    ),
    "prompt over the context": (
        lambda h: encode(h.lm, [long(h)]),
        ValueError,
        r"makes \d+ tokens, over the 128 of 'LlamaForCausalLM''s context; shorten it",
    ),
    "new tokens over the context": (
        lambda h: generate(h.lm, ["The fox"], new_tokens=126),
        ValueError,
        r"and 126 new tokens makes \d+ tokens, over the 128 .*; give new_tokens=12\d or fewer",
    ),
    "sweep over the context": (
        lambda h: h.sweep(new_tokens=126),
        ValueError,
        r"and 126 new tokens makes \d+ tokens, over the 128",
    ),
    "role of a prompt set": (
        lambda h: PromptSet(("a",), "mine", "train"),
        ValueError,
        r"role 'train' is not one of \('extract', 'select', 'report'\)",
    ),
    # ---- a thing of another kind
    "name of pairs": (
        lambda h: extract(h.lm, "wren-italian"),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"pairs is 'wren-italian'; give pairs.load\('wren-italian'\)",
    ),
    "name of pairs to train on": (
        lambda h: train(h.lm, "wren-italian"),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"pairs is 'wren-italian'; give pairs.load\('wren-italian'\)",
    ),
    "prompts for odds": (
        lambda h: odds(h.lm, h.vector(), ["The fox"], [0, 1]),  # pyright: ignore
        ValueError,
        r"pairs is \['The fox'\]; give Pairs, as pairs.load\(name\)",
    ),
    "tuples for pairs": (
        lambda h: extract(h.lm, [("a", "b")]),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"pairs is \[\('a', 'b'\)\]; give Pairs, .*Pairs.from_lists\(positive, negative\)",
    ),
    "all three splits": (
        lambda h: extract(h.lm, h.pairs().split()),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"pairs is Splits, three sets; give one of them: splits.extract",
    ),
    "name of a model": (
        lambda h: extract("wren", h.pairs()),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"lm is 'wren', not a model; give workbench.load\('wren'\)",
    ),
    "name of a model that writes": (
        lambda h: generate("wren", ["The fox"]),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"lm is 'wren', not a model; give workbench.load\('wren'\)",
    ),
    "pairs for prompts": (
        lambda h: h.sweep(h.pairs()),
        ValueError,
        r"^prompts are contrast pairs; give those of the pairs: pairs.prompts$",
    ),
    "splits for prompts": (
        lambda h: h.sweep(h.pairs().split()),
        ValueError,
        r"^prompts is Splits\(.{,200}; give a list of texts or chats$",
    ),
    "interventions in a list of their own": (
        lambda h: generate(h.lm, ["The fox"], [h.vector().at(1.0)]),  # pyright: ignore
        ValueError,
        r"^interventions holds a list of interventions; remove the brackets",
    ),
    "vector for a property": (
        lambda h: Same(h.vector()),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"not of a SteeringVector; give Same\(vector.at\(1.0\)\)",
    ),
    "interventions for a property": (
        lambda h: composed(h, {"a": h.vector().at(1.0)}, {"a": Fixed(1.0)}),
        ValueError,
        r"property 'a' is a tuple; give Same\(vector.at\(1.0\)\)",
    ),
    "number for a schedule": (
        lambda h: composed(h, {"a": Same(h.vector().at(1.0))}, {"a": 0.5}),
        ValueError,
        r"the schedule of 'a' is 0.5; give Fixed\(0.5\)",
    ),
    "properties without names": (
        lambda h: composed(h, h.vector().at(1.0), Fixed(1.0)),
        ValueError,
        r"^properties is \(Intervention\(layer 1.*; give them by name: ",
    ),
    "one component": (
        lambda h: ablation.ablate(h.lm, Component(1, "mlp")),  # pyright: ignore
        ValueError,
        r"components is one Component; wrap it in a list",
    ),
    "vector for components": (
        lambda h: ablation.ablate(h.lm, h.vector()),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"components is a SteeringVector; give ablation.everywhere\(lm, direction\)",
    ),
    "name of a filling": (
        lambda h: ablation.ablate(h.lm, [Component(1, "mlp")], by="mean"),  # pyright: ignore
        ValueError,
        r"by is 'mean'; give a filling: fillings.zero, or fillings.means\(",
    ),
    "one kind of parts": (
        lambda h: ablation.parts(h.lm, "mlp"),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"kinds is one text, 'mlp'; give a list: \['mlp'\]",
    ),
    "kind that is no part": (
        lambda h: ablation.parts(h.lm, ["head"]),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"kind 'head': give a list of some of 'attention', 'mlp', 'layer'; heads come from",
    ),
    "vector for a condition": (
        lambda h: Condition(h.vector(), 0.0),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"directions is a SteeringVector; give Condition.of\(vector, threshold=0.0\)",
    ),
    "one factor": (
        lambda h: train(h.lm, h.pairs(), factors=2.0),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"factors 2.0 is not a list; give factors=\[2.0\]",
    ),
    "one length": (
        lambda h: ceilings_by_length(frame(), 10),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"tokens 10 is not a list; give tokens=\[10\]",
    ),
    # ---- coefficients, layers, positions
    "NaN coefficient": (
        lambda h: Intervention(1, Add(torch.ones(32)), NAN),
        ValueError,
        r"the coefficient nan is not finite",
    ),
    "infinite coefficient of a row": (
        lambda h: Intervention(1, Add(torch.ones(32)), torch.tensor([1.0, INF])),
        ValueError,
        r"is not finite; give finite numbers",
    ),
    "NaN coefficient in a sweep": (
        lambda h: h.sweep(coefficients=[0.0, NAN]),
        ValueError,
        r"coefficient nan is not finite",
    ),
    "infinite coefficient in a sweep": (
        lambda h: h.sweep(coefficients=[-INF, 0.0]),
        ValueError,
        r"coefficient -inf is not finite",
    ),
    "duplicate coefficients": (
        lambda h: h.sweep(coefficients=[0.5, 0.0, 0.5]),
        ValueError,
        r"coefficient 0.5 stands twice; give each once",
    ),
    "no coefficients": (
        lambda h: h.sweep(coefficients=[]),
        ValueError,
        r"coefficients \[\]: give a list of at least one number",
    ),
    "a table of coefficients": (
        lambda h: h.sweep(coefficients=[[0.0], [1.0]]),
        ValueError,
        r"give a list of at least one number",
    ),
    "coefficients for another batch": (
        lambda h: generate(h.lm, ["a"], [Intervention(1, Add(torch.ones(32)), torch.ones(3))]),
        ValueError,
        r"3 coefficients for a batch of 1 rows",
    ),
    "layer out of range": (
        lambda h: generate(h.lm, ["The fox"], [Intervention(3, Add(torch.ones(32)))]),
        ValueError,
        r"layer 3 is out of range: 'LlamaForCausalLM' has 0 … 2",
    ),
    "negative layer": (
        lambda h: tracing.activations(h.lm, encode(h.lm, ["a"]), [-2]),
        ValueError,
        r"layer -2 is out of range",
    ),
    "negative steered layer": (
        lambda h: generate(h.lm, ["The fox"], [Intervention(-2, Add(torch.ones(32)))]),
        ValueError,
        r"layer -2 is out of range",
    ),
    "no layers": (
        lambda h: tracing.activations(h.lm, encode(h.lm, ["a"]), []),
        ValueError,
        r"layers is empty; name at least one layer",
    ),
    "layer that the vector lacks": (
        lambda h: h.sweep(layers=[0]),
        ValueError,
        r"no direction at layer 0; this vector has \(1,\)",
    ),
    "wrong width": (
        lambda h: h.sweep(vector=h.vector(24)),
        ValueError,
        r"this vector is 24 wide .*, the model 'LlamaForCausalLM' is 32 wide",
    ),
    "wrong width of an update": (
        lambda h: generate(h.lm, ["a"], [Intervention(1, Add(torch.ones(7)))]),
        ValueError,
        r"the update has width 7, the residual stream of .* has width 32",
    ),
    "vector of another model": (
        lambda h: h.sweep(vector=h.vector(fingerprint="f" * 64)),
        ValueError,
        r"made on 'tiny' \(weights ffffffffffff\), not on .* extract it again",
    ),
    "vector that is not finite": (
        lambda h: h.vector(directions={1: torch.full((32,), NAN)}),
        ValueError,
        r"the direction of layer 1 has values that are not finite",
    ),
    "vector without norms": (
        lambda h: h.sweep(vector=h.vector(residual_norm={})),
        ValueError,
        r"the residual norm of layer 1 is not known .* use unit='raw'",
    ),
    "vector of length 0": (
        lambda h: h.sweep(vector=h.vector(directions={1: torch.zeros(32)})),
        ValueError,
        r"the direction of layer 1 has length 0",
    ),
    "unknown unit": (
        lambda h: h.sweep(unit="metres"),
        ValueError,
        r"unit 'metres' is not 'norm' or 'raw'",
    ),
    "sum of two widths": (
        lambda h: h.vector(8) + h.vector(16),
        ValueError,
        r"widths differ: 8 .* and 16",
    ),
    "substring that is not there": (
        lambda h: h.sweep(positions=positions.after("zebra")),
        ValueError,
        r"the prompt 'The fox' does not contain 'zebra'",
    ),
    "empty substring": (lambda h: positions.after(""), ValueError, r"after\(''\) names no place"),
    "mask in a sweep": (
        lambda h: h.sweep(positions=positions.mask(torch.ones(1, 3))),
        ValueError,
        r"a mask belongs to one batch; a sweep runs many",
    ),
    "schedule that is not finite": (
        lambda h: updates.schedule(lambda step: INF if step else 0.0, rows=1, steps=2),
        ValueError,
        r"the coefficient inf is not finite",
    ),
    # ---- settings
    "no new tokens": (
        lambda h: generate(h.lm, ["a"], new_tokens=0),
        ValueError,
        r"new_tokens 0: give a whole number of at least 1",
    ),
    "negative temperature": (
        lambda h: generate(h.lm, ["a"], temperature=-1.0),
        ValueError,
        r"temperature -1.0: give 0 \(greedy\) or a positive number",
    ),
    "memory too small": (
        lambda h: h.sweep(memory=1000),
        ValueError,
        r"memory=1000 bytes does not hold one text of \d+ \+ 4 tokens, which takes about \d+",
    ),
    "unknown method": (
        lambda h: extract(h.lm, h.pairs(), "magic"),
        ValueError,
        r"method 'magic' is unknown; choose one of mean_difference, pca_diff",
    ),
    "unknown trait": (
        lambda h: h.sweep(judges=[exact], trait="charm"),
        ValueError,
        r"trait 'charm' cannot be judged in wren's language; choose one of mood",
    ),
    "no trait for a judge": (
        lambda h: h.sweep(judges=[exact]),
        ValueError,
        r"trait '' cannot be judged",
    ),
    "unknown control": (
        lambda h: h.sweep(controls=("shuffled",)),
        ValueError,
        r"control 'shuffled' cannot be made of what is steered alone",
    ),
    "control with a taken name": (
        lambda h: h.sweep(controls={"vector": h.vector()}),
        ValueError,
        r"a control cannot be called 'vector'",
    ),
    "control of another width": (
        lambda h: h.sweep(controls={"shuffled": h.vector(8)}),
        ValueError,
        r"the control 'shuffled' is 8 wide, what it stands beside 32",
    ),
    "the same prompt twice": (
        lambda h: h.sweep(["The fox", "The fox"]),
        ValueError,
        r"a prompt stands twice; greedy texts of both would be the same",
    ),
    "one prompt instead of a list": (
        lambda h: h.sweep("The fox"),
        ValueError,
        r"prompts is one prompt, 'The fox'; wrap it in a list",
    ),
    "no prompts": (lambda h: h.sweep([]), ValueError, r"prompts is empty"),
    # ---- splits
    "prompts that made the vector": (
        lambda h: h.sweep(
            vector=h.vector(provenance={"texts": sorted(splits.text_hashes(["The fox"]))})
        ),
        ValueError,
        r"'texts that made the vector' and 'select prompts' share 1 text\(s\), first 'The fox'",
    ),
    "report apart from nothing": (
        lambda h: h.sweep(split="report"),
        ValueError,
        r"does not say what these prompts are apart from: give the frame .* as apart_from=",
    ),
    "report apart from a frame of unknown prompts": (
        lambda h: h.sweep(split="report", apart_from=frame()),
        ValueError,
        r"attrs\['prompt_hashes'\] is missing; give the frame as sweep returned it",
    ),
    "asking prompts of another role": (
        lambda h: h.sweep(prompted=PromptSet(("Be glad.",), "asking", "report")),
        ValueError,
        r"prompted is a 'report' set, but the sweep says split='select'",
    ),
    "steering the last tokens of a text": (
        lambda h: h.sweep(positions=positions.last_k(3)),
        ValueError,
        r"last_k\(3\) is for reading: the end of a text moves on while it is written",
    ),
    "extraction prompts in a sweep": (
        lambda h: h.sweep(PromptSet(("The fox",), "mine", "extract")),
        ValueError,
        r"split 'extract': prompts of a sweep choose a coefficient",
    ),
    "held-out pairs that made the vector": (
        lambda h: extract(h.lm, h.pairs(), held_out=h.pairs(2)),
        ValueError,
        r"share \d+ text\(s\), first .*what makes a vector",
    ),
    # ---- models
    "unknown model": (
        lambda h: models.load("./nowhere/at-all"),
        FileNotFoundError,
        r"no model '\./nowhere/at-all'",
    ),
    "directory without a model": (
        lambda h: models.load(h.folder),
        FileNotFoundError,
        r"the directory has no config.json",
    ),
    "unknown dtype": (
        lambda h: models.load("wren", dtype="float12"),
        ValueError,
        r"dtype 'float12': expected 'float32', 'bfloat16'",
    ),
    # ---- files of others
    "missing vector": (
        lambda h: files.load(h.folder / "none.safetensors"),
        FileNotFoundError,
        r"no steering vector at '.*none.safetensors'",
    ),
    "damaged vector": (
        lambda h: files.load(h.file("v.safetensors", b"\x00" * 100)),
        ValueError,
        r"is not a readable safetensors file .* damaged or of another kind",
    ),
    "vector file with a header of 8 exabytes": (
        lambda h: files.load(h.file("v.safetensors", struct.pack("<Q", 2**63 - 1) + b"{}")),
        ValueError,
        r"is not a readable safetensors file",
    ),
    "weights instead of a vector": (
        lambda h: files.load(saved(h, {"lm_head": torch.ones(2)})),
        ValueError,
        r"holds no steering vector of this package \(format None",
    ),
    "vector whose description is hostile": (
        lambda h: files.load(
            saved(
                h,
                {"direction.1": torch.ones(2)},
                {"format": "workbench.vector/1", "vector": "[" * 100_000},
            )
        ),
        ValueError,
        r"is a damaged steering vector",
    ),
    "vector with a stray tensor": (
        lambda h: files.load(
            saved(
                h,
                {"../../etc": torch.ones(2)},
                {"format": "workbench.vector/1", "vector": "{}"},
            )
        ),
        ValueError,
        r"unexpected tensor '../../etc'; expected 'direction.<layer>'",
    ),
    "no GGUF file": (
        lambda h: formats.load_gguf(h.file("v.gguf", b"PK\x03\x04 zip")),
        ValueError,
        r"is no GGUF file: it begins with b'PK",
    ),
    "damaged GGUF file": (
        lambda h: formats.load_gguf(h.file("v.gguf", b"GGUF" + b"\xff" * 60)),
        ValueError,
        r"is a damaged GGUF file",
    ),
    "damaged .pt file": (
        lambda h: formats.load_pt(h.file("v.pt", b"not a tensor")),
        ValueError,
        r"was not opened further because a pickle can run code|is a damaged .pt file",
    ),
    "integers as a vector": (
        lambda h: formats.load_pt(tensor_file(h, torch.ones(4, dtype=torch.long))),
        ValueError,
        r"holds a torch.int64 tensor of shape \(4,\), expected floating point",
    ),
    ".pt file of unknown layer": (
        lambda h: formats.load_pt(tensor_file(h, torch.ones(4))),
        ValueError,
        r"holds one vector and no layer; say which one with layer=",
    ),
    "sweep folder of another run": (
        lambda h: h.sweep(directory=h.file("plan.json", '{"seed": 9}').parent),
        ValueError,
        r"holds another run: .*seed.* differ; choose another directory",
    ),
    "damaged plan": (
        lambda h: h.sweep(directory=h.file("plan.json", b"\xff{").parent),
        ValueError,
        r"plan.json' is damaged, so the run cannot be resumed; remove",
    ),
    # ---- frames
    "frame of something else": (
        lambda h: find_ceiling(pd.DataFrame({"vector": ["vector"]})),
        ValueError,
        r"the frame lacks the columns \['prompt_index', 'text'",
    ),
    "sweep without coefficient 0": (
        lambda h: find_ceiling(frame(coefficient=1.0, coefficient_norm=1.0)),
        ValueError,
        r"the sweep has no coefficient 0",
    ),
    "sweep of coefficient 0 only": (
        lambda h: find_ceiling(frame(coefficient=0.0, coefficient_norm=0.0)),
        ValueError,
        r"the sweep has no coefficient but 0",
    ),
    "ceiling of one prompt": (
        lambda h: find_ceiling(frame(prompt_index=0)),
        ValueError,
        r"the sweep has 1 prompt; a bootstrap over prompts needs 2",
    ),
    "level that is no share": (
        lambda h: find_ceiling(frame(), level=95),
        ValueError,
        r"level 95: give a share between 0 and 1",
    ),
    "ceiling of a missing signal": (
        lambda h: find_ceiling(frame(), signal="charm"),
        ValueError,
        r"lacks the columns \['charm'\]",
    ),
    "slopes without a trait": (
        lambda h: slopes(frame()),
        ValueError,
        r"the frame has no column 'trait'; it has \['prompt_index'",
    ),
    "threshold that is NaN": (
        lambda h: Condition.of(h.vector(), threshold=NAN),
        ValueError,
        r"the threshold of a condition is nan; give a number",
    ),
    "condition of another model": (
        lambda h: h.respond(h.vector(fingerprint="0" * 64)),
        ValueError,
        r"was made on 'tiny' \(weights 000000000000\), not on .*; extract it again",
    ),
    "condition of another width": (
        lambda h: h.respond(h.vector(width=7)),
        ValueError,
        r"the condition's direction at layer 1 has the shape \(7,\), the stream of .* is 32 wide",
    ),
    "condition at a layer without a direction": (
        lambda h: Condition.of(h.vector(), threshold=0.1, layers=[0]),
        ValueError,
        r"the vector has no direction at \[0\]; it has \[1\]",
    ),
    "condition that reads nothing": (
        lambda h: h.respond(positions=positions.after("zebra")),
        ValueError,
        r"the prompt 'The fox' does not contain 'zebra'",
    ),
    "probe without a bias": (
        lambda h: Condition.of(h.vector(), threshold=0.1, similarity="probe"),
        ValueError,
        r"a probe has a bias at every layer; there is none at \[1\]",
    ),
    "conversation over the context": (
        lambda h: h.respond(prompts=[{"role": "user", "content": long(h)}]),
        ValueError,
        r"a prompt of \d+ tokens and 4 new tokens makes \d+ tokens, over the 128 of",
    ),
    "condition that a rule does not know": (
        lambda h: h.respond(rules="if bad then push"),
        ValueError,
        r"unknown condition 'bad'; known are 'odd'",
    ),
    "parenthesis that stays open": (
        lambda h: h.respond(rules="if (odd then push"),
        ValueError,
        r"the '\(' at character 4 is not closed",
    ),
    "behaviour that is a number": (
        lambda h: ConditionalSteering(
            {"odd": Condition.of(h.vector(), threshold=0.1)}, {"push": 2.0}, "if odd then push"
        ),
        ValueError,
        r"behaviour 'push' is 2.0; give interventions, such as vector.at\(0.5\)",
    ),
    "reference rule without coefficient 0": (
        lambda h: alert_as_coded(frame(coefficient=1.0, coefficient_norm=1.0)),
        ValueError,
        r"the rule compares with coefficient 0",
    ),
}


def saved(
    here: Here, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> Path:
    path = here.folder / "v.safetensors"
    save_file(tensors, path, metadata=metadata)
    return path


def tensor_file(here: Here, tensor: torch.Tensor) -> Path:
    path = here.folder / "v.pt"
    torch.save(tensor, path)
    return path


@pytest.fixture
def idle(tiny: LM) -> Iterator[LM]:
    """The tiny model, which must not run."""

    def ran(*_: Any) -> None:
        raise AssertionError("the model ran before the input was checked")

    handle = tiny.model.model.layers[0].register_forward_pre_hook(ran)
    yield tiny
    handle.remove()


def test_a_model_that_runs_is_noticed(idle: LM) -> None:
    with pytest.raises(AssertionError, match="the model ran before the input was checked"):
        generate(idle, ["The fox"], new_tokens=1)


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, idle: LM, tmp_path: Path) -> None:
    call, kind, message = CASES[name]
    with pytest.raises(kind, match=message):
        call(Here(idle, tmp_path))


def given(name: str) -> Callable[[Here, Any], Any]:
    return lambda here, value: generate(here.lm, ["The fox"], **{name: value})


def swept(name: str) -> Callable[[Here, Any], Any]:
    return lambda here, value: here.sweep(**{name: value})


def extracted(name: str) -> Callable[[Here, Any], Any]:
    return lambda here, value: extract(here.lm, here.pairs(), cache=False, **{name: value})


def limited(name: str) -> Callable[[Here, Any], Any]:
    return lambda here, value: find_ceiling(frame(), **{name: value})


# Each number that a public function takes, by how its message begins.
NUMBERS: dict[str, Callable[[Here, Any], Any]] = {
    "new_tokens ": given("new_tokens"),
    "temperature ": given("temperature"),
    "top_p ": given("top_p"),
    "repetition_penalty ": given("repetition_penalty"),
    "min_new_tokens ": given("min_new_tokens"),
    "seed ": given("seed"),
    "stream ": lambda h, value: generate(h.lm, ["The fox"], streams=[value]),
    "new_tokens  of a sweep": swept("new_tokens"),
    "temperature  of a sweep": swept("temperature"),
    "seed  of a sweep": swept("seed"),
    "memory ": swept("memory"),
    "coefficient": lambda h, value: h.sweep(coefficients=[0.5, value]),
    "held_out=": extracted("held_out"),
    "layer ": extracted("layer"),
    "seed  of a vector": extracted("seed"),
    "shuffle_labels ": extracted("shuffle_labels"),
    "level ": limited("level"),
    "bootstrap ": limited("bootstrap"),
    "seed  of a ceiling": limited("seed"),
    "seed  of a control": lambda h, value: random_like(h.vector(), value),
    "draw ": lambda h, value: random_like(h.vector(), 0, draw=value),
    "a vector can be multiplied": lambda h, value: h.vector() * value,
}


@pytest.mark.parametrize("value", [True, "1", NAN, 1j], ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_refused_by_name(
    name: str, value: Any, idle: LM, tmp_path: Path
) -> None:
    said = rf"^{name.split('  ')[0]}.*{re.escape(repr(value))}.*"
    with pytest.raises(ValueError, match=said) as caught:
        NUMBERS[name](Here(idle, tmp_path), value)
    assert re.search("give|by a finite number", str(caught.value))


# Each call that takes layers, and each that takes positions.
LAYERED: dict[str, Callable[[Here, Any], Any]] = {
    "at": lambda h, value: h.vector().at(1.0, layers=value),
    "sweep": swept("layers"),
    "extract": extracted("layers"),
    "read": lambda h, value: tracing.read(h.lm, ["The fox"], value),
    "probe": lambda h, value: probe(h.lm, h.pairs(), layers=value),
    "fit": lambda h, value: manifold.fit(h.lm, ["The fox"] * 40, value),
    "heads": lambda h, value: ablation.heads(h.lm, value),
}
PLACED: dict[str, Callable[[Here, Any], Any]] = {
    "at": lambda h, value: h.vector().at(1.0, positions=value),
    "sweep": swept("positions"),
    "extract": extracted("positions"),
    "read": lambda h, value: tracing.read(h.lm, ["The fox"], [1], value),
    "probe": lambda h, value: probe(h.lm, h.pairs(), positions=value),
    "fit": lambda h, value: manifold.fit(h.lm, ["The fox"] * 40, positions=value),
    "train": lambda h, value: train(h.lm, h.pairs(), positions=value),
    "preview": lambda h, value: positions.preview(h.lm, "The fox", value),
    "condition": lambda h, value: h.respond(positions=value),
    "but_first": lambda h, value: positions.but_first(value),
    "means": lambda h, value: means(h.lm, ["The fox"], [Place(1)], positions=value),
}


@pytest.mark.parametrize("name", LAYERED)
def test_layers_that_are_no_list_are_refused_by_name(name: str, idle: LM, tmp_path: Path) -> None:
    here = Here(idle, tmp_path)
    with pytest.raises(ValueError, match=r"^layers 1 is not a list; give layers=\[1\]$"):
        LAYERED[name](here, 1)
    with pytest.raises(ValueError, match=r"^layers 'all': give a list of layers by number"):
        LAYERED[name](here, "all")


@pytest.mark.parametrize("name", PLACED)
def test_positions_that_are_no_rule_are_refused_by_name(
    name: str, idle: LM, tmp_path: Path
) -> None:
    here = Here(idle, tmp_path)
    with pytest.raises(ValueError, match=r"^positions is 'last'; give positions\.last \(from"):
        PLACED[name](here, "last")
    with pytest.raises(ValueError, match=r"^positions is <function last_k.*; give a rule, such as"):
        PLACED[name](here, positions.last_k)
    if name != "probe":  # which takes numbers
        with pytest.raises(ValueError, match=r"^positions is -1; give a rule, such as"):
            PLACED[name](here, -1)


def test_the_named_rules_are_called_as_they_are() -> None:
    assert all(getattr(positions, each.name) is each for each in positions.NAMED)


def test_what_a_message_may_show_is_short(tiny: LM) -> None:
    vector = Here(tiny, Path()).vector()
    (made,) = vector.at(torch.tensor([1.0, 2.0]))
    assert repr(made) == (
        "Intervention(layer 1, residual, Add, coefficient of 2 rows, on everything)"
    )
    assert repr(Add(torch.ones(4))) == "Add(4 wide, length 2)"
    assert repr(Condition.of(vector, threshold=0.1)) == (
        "Condition(cosine above 0.1, output of layers [1], on prompt)"
    )


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path, protocol: int) -> None:
    trap, made = tmp_path / "v.pt", tmp_path / "ran"
    trap.write_bytes(pickle.dumps(Runs(made), protocol=protocol))
    with pytest.raises(ValueError, match=r"pickle can run code|is a damaged .pt file"):
        formats.load_pt(trap)
    assert not made.exists()
    pickle.loads(trap.read_bytes())  # the trap is a real one
    assert made.exists()


def test_a_checkpoint_that_would_run_code_runs_nothing(tmp_path: Path) -> None:
    trap, made = tmp_path / "v.pt", tmp_path / "ran"
    torch.save({"direction": Runs(made)}, trap)
    with pytest.raises(ValueError, match=r"not plain tensors, .* ask its author for safetensors"):
        formats.load_pt(trap)
    assert not made.exists()


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv"])
def test_a_pickle_named_as_data_runs_nothing(tmp_path: Path, suffix: str) -> None:
    trap, made = tmp_path / f"p.{suffix}", tmp_path / "ran"
    trap.write_bytes(pickle.dumps(Runs(made)))
    with pytest.raises(ValueError, match=rf"{suffix}"):
        loaders.load_pairs(trap)
    assert not made.exists()


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_vector(
    tiny: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, here = tmp_path / "v.safetensors", Here(tiny, tmp_path)
    here.vector().save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"could not write .*v.safetensors.*No space left.*unchanged"):
        (here.vector() * 2).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors"]


def test_an_interrupted_save_leaves_the_old_vector(
    tiny: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    path, here = tmp_path / "v.safetensors", Here(tiny, tmp_path)
    here.vector().save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        (here.vector() * 2).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors"]


def test_a_disk_that_fills_up_during_a_sweep_loses_no_finished_chunk(
    tiny: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here(tiny, tmp_path)
    fsync, writes = os.fsync, [0]

    def filling(handle: int) -> None:
        writes[0] += 1
        if writes[0] > 2:  # the plan and one chunk fit
            full()
        fsync(handle)

    length = encode(tiny, ["The fox"]).attention.sum(dim=1).numpy()
    one = int(row_bytes(tiny, length, 4, False)[0])
    options: dict[str, Any] = {"directory": tmp_path / "run", "memory": one, "kl": False}
    monkeypatch.setattr(os, "fsync", filling)
    with pytest.raises(OSError, match=r"could not write .*chunk-00001.*free some space"):
        here.sweep(coefficients=[-1.0, 0.0, 1.0], **options)
    monkeypatch.setattr(os, "fsync", fsync)
    kept = [p.name for p in (tmp_path / "run").iterdir()]
    assert sorted(n.split(".")[0] for n in kept) == ["chunk-00000", "plan"]
    resumed = here.sweep(coefficients=[-1.0, 0.0, 1.0], **options)
    whole = here.sweep(coefficients=[-1.0, 0.0, 1.0], **{**options, "directory": None})
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)


def test_a_hostile_chunk_counts_as_missing(tiny: LM, tmp_path: Path) -> None:
    here, made = Here(tiny, tmp_path), tmp_path / "ran"
    whole = here.sweep(directory=tmp_path / "run")
    for chunk in (tmp_path / "run").glob("chunk-*"):
        chunk.write_bytes(pickle.dumps(Runs(made)))
    again = here.sweep(directory=tmp_path / "run")
    pd.testing.assert_frame_equal(again, whole, check_exact=True)
    assert not made.exists()


def test_text_of_a_model_is_escaped_where_it_becomes_html(tiny: LM) -> None:
    html = positions.preview(tiny, "<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in html
    found = find_ceiling(frame(text="<b>"))
    assert "<script>" not in found._repr_html_()
    assert np.isfinite(found[1].curve["fitted"]).all()


def test_plans_are_plain_json(tiny: LM, tmp_path: Path) -> None:
    result = Here(tiny, tmp_path).sweep(directory=tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["fingerprint"] == tiny.fingerprint
    assert json.loads(json.dumps(result.attrs)) == result.attrs
