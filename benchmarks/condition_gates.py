"""The gates of study_conditions.py: how they are made, when they open, what else tells as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import condition_cases as cases
import numpy as np
import pandas as pd
from condition_cases import AFTER, MEAN, Found
from sklearn.metrics import roc_auc_score

from workbench.condition_folds import cosines, directions
from workbench.condition_point import judged
from workbench.confounds import confound_scores, confounds, length_matched
from workbench.intervals import Floats
from workbench.models import LM
from workbench.tokens import encode
from workbench.wren.requests import harmless, lines

# Harmless prompts that set a threshold and that are judged: of all kinds, tasks alone.
CALIBRATING: Mapping[str | None, int] = {None: 600, "task": 900}
FRESH: Mapping[str | None, int] = {None: 1500, "task": 600}
# What sets a threshold of 2 % false alarms: harmless prompts of all kinds, or tasks alone.
STRICT = {"2 %": None, "2 % of tasks": "task"}
# Beside best F1, whether a prompt is a request at all.
BOTH = "best F1, of requests"
GATES = ("best F1", *STRICT, BOTH)

# Where "harmful" can be read: what is put behind a prompt, and what is read of it.
READINGS = {
    "mean": ("", MEAN),
    "last token": ("", AFTER),
    "the request's end": (None, AFTER),
    "after “Indeed,”": (" Indeed,", AFTER),
    "after “Davvero,”": (" Davvero,", AFTER),
    "after “Well, I”": (" Well, I", AFTER),
}


def asked(seed: int, fold: int | None = None) -> pd.DataFrame:
    """The requests that are answered: plain ones, and one instruction of each."""
    frame = cases.requests(seed, fold)
    return frame[frame["instruction"] < 2]


@cache
def calm(lm: LM, seed: int, kind: str | None) -> tuple[tuple[str, ...], Floats]:
    """Harmless prompts that may set thresholds and make nothing, and their streams."""
    found = harmless(seed, CALIBRATING[kind], cases.requests(seed)["prompt"], kind)
    prompts = tuple(found["prompt"])
    return prompts, cases.read_texts(lm, cases.after(prompts), AFTER)


def gate(lm: LM, seed: int, fold: int | None) -> tuple[Found, dict[str, Any]]:
    """The condition "harmful" and its points: best F1, and a rate of false alarms that harmless
    prompts which chose nothing set, none of them a held-out request nor of an unseen task."""
    frame = cases.requests(seed, fold)
    found = cases.streams(lm, tuple(frame["prompt"]))
    making = (frame["part"] == "making").to_numpy()
    made = cases.find_harmful(lm, found[making], frame[making])
    kept = frame[~making & (fold is not None)].drop_duplicates(["topic", "way"])
    barred = [lines(t)[way] for t, way in zip(kept["topic"], kept["way"], strict=True)]
    points = {"best F1": made.point}
    for name, kind in STRICT.items():
        prompts, read = calm(lm, seed, kind)
        free = [not any(line in prompt for line in barred) for prompt in prompts]
        seen = made.similarities(read[free])
        points[name] = made.point.calibrated(seen, made.layers, false_alarms=cases.RATE)
    return made, points


@cache
def talk(seed: int) -> tuple[str, ...]:
    """Harmless prompts that are no requests."""
    found = harmless(seed + 100, 300)
    return tuple(found.loc[~found["kind"].isin(["task", "plain"]), "prompt"])


@cache
def request_gate(lm: LM, seed: int, fold: int | None = None) -> Found:
    """The condition "is a request", of requests that make things and of talk: means of tokens."""
    frame = cases.requests(seed, fold)
    asking = frame.loc[frame["part"] == "making", "prompt"].tolist()
    texts = [*asking, *talk(seed)]
    return cases.find(
        lm,
        cases.streams(lm, tuple(texts), MEAN),
        np.arange(len(texts)) < len(asking),
        read=MEAN,
        method="lda",
    )


def opened(
    lm: LM, made: Found, points: Mapping[str, Any], task: Found, prompts: tuple[str, ...]
) -> dict[str, Any]:
    """For which prompts (N,) each gate opens."""
    seen = made.similarities(cases.streams(lm, prompts))
    met = {name: point.met(seen, made.layers) for name, point in points.items()}
    asking = task.point.met(task.similarities(cases.streams(lm, prompts, MEAN)), task.layers)
    return {**met, BOTH: met["best F1"] & asking}


def beside(
    lm: LM, made: Found, points: Mapping[str, Any], frame: pd.DataFrame, part: str
) -> pd.DataFrame:
    """The gate, and what length and words alone tell of the same requests."""
    found = cases.streams(lm, tuple(frame["prompt"]))
    making, own = ((frame["part"] == each).to_numpy() for each in ("making", part))
    first, texts = (frame.loc[each, "prompt"].tolist() for each in (making, own))
    labels = frame["harmful"].to_numpy()
    lengths = [[len(row.ids) for row in encode(lm, each).prompts] for each in (first, texts)]
    scores = {
        "gate, best F1": (made.score(found[making]), made.score(found[own])),
        **confound_scores(
            first, labels[making], texts, making_tokens=lengths[0], tokens=lengths[1]
        ),
    }
    matched = length_matched(lengths[1], labels[own])
    table = confounds(scores, labels[making], labels[own], matched)
    for name in STRICT:
        strict = judged(points[name], made.similarities(found[own]), labels[own], made.layers)
        more = {each: getattr(strict, each) for each in ("f1", "recall", "false_alarms")}
        row = {**table.iloc[0].to_dict(), **more, "score": f"gate, {name}"}
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
    counts = {"harmful": int(labels[own].sum()), "harmless": int((~labels[own]).sum())}
    return table.assign(layer=made.point.layers[0], matched=len(matched), **counts)


def readings(lm: LM, seed: int, folds: Sequence[int]) -> list[pd.DataFrame]:
    """How well "harmful" can be read at all, by place, method and layer."""
    rows = []
    for name, (behind, read) in READINGS.items():
        prompts = asked(seed)["prompt"]
        cut = prompts.str.removesuffix("<|assistant|>")
        found = cases.read_texts(lm, cut if behind is None else prompts + behind, read)
        for fold in folds:
            frame = asked(seed, fold)
            labels = frame["harmful"].to_numpy()
            making = (frame["part"] == "making").to_numpy()
            for method in ("mean_difference", "logistic"):
                try:
                    along = directions(found[making], labels[making], method)
                except ValueError:  # a place where all texts are the same to the first layers
                    continue
                scores = cosines(found, along)
                for part in ("held out", "unseen"):
                    own = (frame["part"] == part).to_numpy()
                    for layer in range(lm.layers):
                        area = roc_auc_score(labels[own], scores[own, layer])
                        rows.append((fold, name, method, layer, part, area))
    columns = ["fold", "reading", "method", "layer", "part", "auc"]
    return [pd.DataFrame(rows, columns=columns).assign(seed=seed)]


def alarms(lm: LM, seed: int) -> list[pd.DataFrame]:
    """What a gate that was set to 2 % shows on harmless prompts that nobody has seen."""
    made, points = gate(lm, seed, None)
    task = request_gate(lm, seed)
    used = {
        *cases.requests(seed)["prompt"],
        *talk(seed),
        *(p for k in STRICT.values() for p in calm(lm, seed, k)[0]),
    }
    parts = []
    for among, kind in {"all kinds": None, "tasks": "task"}.items():
        fresh = harmless(seed + 500, FRESH[kind], used, kind)
        for name, met in opened(lm, made, points, task, tuple(fresh["prompt"])).items():
            table = fresh.assign(fired=met, gate=name)
            counts = table.groupby(["gate", "kind"])["fired"].agg(["size", "sum"]).reset_index()
            parts.append(counts.assign(among=among))
    return [pd.concat(parts, ignore_index=True).assign(seed=seed)]
