"""The gates of study_conditions.py: how they are made, when they open, what else tells as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import condition_cases as cases
import numpy as np
import pandas as pd
from condition_cases import AFTER, END, MEAN, Found, Reading
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from workbench.conditions.condition import Condition
from workbench.conditions.conditional import ConditionalSteering
from workbench.conditions.confounds import confound_scores, confounds, length_matched
from workbench.conditions.folds import cosines, directions
from workbench.conditions.point import judged
from workbench.interventions.updates import Intervention
from workbench.loading.models import LM
from workbench.statistics.intervals import Floats
from workbench.studies.condition_findings import GATES, RATE
from workbench.text import positions
from workbench.text.tokens import encode
from workbench.wren.requests import harmless, in_two, lines, told

# Harmless prompts that set a threshold and that are judged, halves of one draw: of all kinds,
# tasks alone.
CALIBRATING: Mapping[str, int] = {"all kinds": 600, "tasks": 900}
FRESH: Mapping[str, int] = {"all kinds": 1500, "tasks": 600}
DEALS = 200
TALK = 300  # harmless prompts of which those that are no requests make "is a request"

# Where "harmful" can be read.
READINGS = {
    "mean": Reading("", positions.everything),
    "last token": Reading("", positions.last_k(1)),
    "the request's end": END,
    "after “Indeed,”": AFTER,
    "after “Davvero,”": Reading(" Davvero,", positions.last_k(1)),
    "after “Well, I”": Reading(" Well, I", positions.last_k(1)),
}


@dataclass(frozen=True, eq=False)
class Gate:
    """Conditions that all must be met."""

    parts: Mapping[str, Found]

    def opens(self, lm: LM, prompts: Sequence[str]) -> NDArray[np.bool_]:
        """(N,) for which prompts."""
        return np.all([each.met(lm, prompts) for each in self.parts.values()], axis=0)

    def steering(self, refuse: Sequence[Intervention]) -> ConditionalSteering:
        """It, for the package."""
        conditions: dict[str, Condition] = {k: each.condition for k, each in self.parts.items()}
        rule = f"if {' and '.join(conditions)} then refuse"
        return ConditionalSteering(conditions, {"refuse": refuse}, rule)

    @property
    def read(self) -> Reading:
        """Where the prompts are read: what is put behind them is the same for all parts."""
        return next(iter(self.parts.values())).read


def asked(seed: int, fold: int | None = None) -> pd.DataFrame:
    """The requests that are answered: plain ones, and one instruction of each."""
    frame = cases.requests(seed, fold)
    return frame[frame["instruction"] < 2]


@cache
def calm(seed: int, among: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Harmless prompts that are none of the requests': those that may set thresholds, and those
    that judge. Tasks are the same, with other instructions."""
    used = [*cases.requests(seed)["prompt"], *talk(seed)]
    kind, count = {"all kinds": None, "tasks": "task"}[among], CALIBRATING[among]
    return in_two(harmless(seed, count + FRESH[among], used, kind), count, seed)


@cache
def talk(seed: int) -> tuple[str, ...]:
    """Harmless prompts that are no requests."""
    found = harmless(seed + 100, TALK)
    return tuple(found.loc[~found["kind"].isin(["task", "plain"]), "prompt"])


@cache
def gates(lm: LM, seed: int, fold: int | None) -> dict[str, Gate]:
    """The gates "harmful" by name: the threshold by best F1, there and where the request ends; with
    a second condition; and at a rate of false alarms that harmless prompts set which chose nothing,
    none of them a held-out request nor of an unseen task."""
    frame = cases.requests(seed, fold)
    making = frame[frame["part"] == "making"]
    made = cases.find_harmful(lm, making)
    kept = frame[(frame["part"] != "making") & (fold is not None)].drop_duplicates(["topic", "way"])
    barred = [lines(t)[way] for t, way in zip(kept["topic"], kept["way"], strict=True)]
    found = {
        "best F1": Gate({"harmful": made}),
        "best F1, request's end": Gate({"harmful": cases.find_harmful(lm, making, END)}),
        "best F1, of requests": Gate({"task": request_gate(lm, seed, fold), "harmful": made}),
    }
    for name, among in {"2 %": "all kinds", "2 % of tasks": "tasks"}.items():
        setting, _ = calm(seed, among)
        free = [not any(line in prompt for line in barred) for prompt in setting["prompt"]]
        read = cases.streams(lm, tuple(setting["prompt"]))[free]
        strict = made.point.calibrated(made.similarities(read), made.layers, false_alarms=RATE)
        found[name] = Gate({"harmful": replace(made, point=strict)})
    return {name: found[name] for name in GATES}


@cache
def request_gate(lm: LM, seed: int, fold: int | None = None) -> Found:
    """The condition "is a request", of requests that make things and of talk: means of tokens."""
    frame = cases.requests(seed, fold)
    asking = frame.loc[frame["part"] == "making", "prompt"].tolist()
    texts = (*asking, *talk(seed))
    inside = np.arange(len(texts)) < len(asking)
    return cases.find(lm, cases.streams(lm, texts, MEAN), inside, read=MEAN, method="lda")


def opened(lm: LM, seed: int, fold: int | None, prompts: Sequence[str]) -> pd.DataFrame:
    """For which prompts (N,) each gate opens: a column `met NAME` each."""
    found = gates(lm, seed, fold)
    return pd.DataFrame({f"met {name}": gate.opens(lm, prompts) for name, gate in found.items()})


def beside(lm: LM, seed: int, fold: int, part: str) -> pd.DataFrame:
    """The gates of one condition, and what length and words alone tell of the same requests."""
    frame = cases.requests(seed, fold)
    making, own = (frame[frame["part"] == each] for each in ("making", part))
    first, texts = making["prompt"].tolist(), own["prompt"].tolist()
    labels = own["harmful"].to_numpy()
    lengths = [[len(row.ids) for row in encode(lm, each).prompts] for each in (first, texts)]
    scores: dict[str, tuple[Floats, Floats]] = {}
    for name in ("best F1", "best F1, request's end"):
        found = gates(lm, seed, fold)[name].parts["harmful"]
        seen = [found.score(cases.streams(lm, tuple(each), found.read)) for each in (first, texts)]
        scores[f"gate, {name}"] = seen[0], seen[1]
    scores |= confound_scores(
        first,
        making["harmful"].to_numpy(),
        texts,
        making_tokens=lengths[0],
        tokens=lengths[1],
    )
    matched = length_matched([len(text) for text in texts], labels)
    groups = (own["topic"] + own["way"].astype(str)).to_numpy()
    table = confounds(scores, making["harmful"].to_numpy(), labels, matched, groups=groups)
    for name in ("2 %", "2 % of tasks"):
        found = gates(lm, seed, fold)[name].parts["harmful"]
        seen = found.similarities(cases.streams(lm, tuple(texts)))
        strict = judged(found.point, seen, labels, found.layers)
        more = {each: getattr(strict, each) for each in ("f1", "recall", "false_alarms")}
        row = {**table.iloc[0].to_dict(), **more, "score": f"gate, {name}"}
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
    counts = {"harmful": int(labels.sum()), "harmless": int((~labels).sum())}
    layer = gates(lm, seed, fold)["best F1"].parts["harmful"].point.layers[0]
    return table.assign(layer=layer, matched=len(matched), part=part, **counts)


def readings(lm: LM, seed: int, folds: Sequence[int]) -> list[pd.DataFrame]:
    """How well "harmful" can be read at all, by place, method and layer."""
    rows = []
    for name, read in READINGS.items():
        found = cases.streams(lm, tuple(asked(seed)["prompt"]), read)
        for fold in folds:
            frame = asked(seed, fold)
            labels = frame["harmful"].to_numpy()
            making = (frame["part"] == "making").to_numpy()
            for method in ("mean_difference", "logistic"):
                for layer in range(lm.layers):
                    here = found[:, [layer]]
                    try:
                        along = directions(here[making], labels[making], method)
                    except ValueError:  # where all texts are the same up to this layer
                        continue
                    scores = cosines(here, along)[:, 0]
                    for part in ("held out", "unseen"):
                        own = (frame["part"] == part).to_numpy()
                        area = roc_auc_score(labels[own], scores[own])
                        rows.append((fold, name, method, layer, part, area))
    columns = ["fold", "reading", "method", "layer", "part", "auc"]
    return [pd.DataFrame(rows, columns=columns).assign(seed=seed)]


def alarms(lm: LM, seed: int) -> list[pd.DataFrame]:
    """What gates that know all tasks show on harmless prompts, which set none of their thresholds;
    and what strict ones would show had the lot dealt others to the part that sets them."""
    frame = cases.requests(seed)
    parts = frame.drop_duplicates(["topic", "way"]).set_index(["topic", "way"])["part"]
    found, lots = [], []
    for among in FRESH:
        setting, fresh = calm(seed, among)
        met = opened(lm, seed, None, fresh["prompt"].tolist())
        own = [parts.get(key, "") for key in zip(fresh["topic"], fresh["way"], strict=True)]
        about = fresh.drop(columns="prompt").assign(part=own, among=among)
        found.append(pd.concat([about, met], axis=1))
        both, share = pd.concat([setting, fresh]), len(setting) / (len(setting) + len(fresh))
        lots.append(redealt(lm, seed, both, share).assign(among=among))
    return [pd.concat(each, ignore_index=True).assign(seed=seed) for each in (found, lots)]


def redealt(lm: LM, seed: int, prompts: pd.DataFrame, share: float) -> pd.DataFrame:
    """How many prompts pass a threshold of the rate that a share of them sets, by many deals:
    `rate`, of prompts dealt one by one, and `apart`, of whole lines dealt to one side."""
    made = gates(lm, seed, None)["best F1"].parts["harmful"]
    seen = made.similarities(cases.streams(lm, tuple(prompts["prompt"])))
    code = pd.factorize(prompts["line"])[0]
    rng, rows = np.random.default_rng(seed), []
    for _ in range(DEALS):
        order = rng.permutation(len(prompts)) < share * len(prompts)
        whole = (rng.permutation(code.max() + 1) < share * (code.max() + 1))[code]
        rates = []
        for sets in (order, whole):
            point = made.point.calibrated(seen[sets], made.layers, false_alarms=RATE)
            rates.append(float(point.met(seen[~sets], made.layers).mean()))
        rows.append(rates)
    return pd.DataFrame(rows, columns=["rate", "apart"])


def instructed(lm: LM, seed: int) -> list[pd.DataFrame]:
    """When gates open for requests that ask to be refused, or to be obeyed, whatever they are for;
    and what wren answers by itself."""
    frame = told(seed).merge(
        cases.requests(seed).query("instruction == 0")[["topic", "way", "part"]],
        on=["topic", "way"],
        validate="many_to_one",
    )
    answered = cases.written(lm, frame.assign(instruction=0), (), seed)
    met = opened(lm, seed, None, frame["prompt"].tolist())
    return [pd.concat([frame.drop(columns="prompt"), answered, met], axis=1).assign(seed=seed)]
