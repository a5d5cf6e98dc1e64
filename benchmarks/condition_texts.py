"""What study_conditions.py measures of texts and log-odds: a function a table, or a part of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import condition_cases as cases
import pandas as pd
from condition_cases import Found
from condition_gates import BOTH, GATES, asked, beside, gate, opened, request_gate
from keeping import require_same  # puts the checkout on the path

from workbench.conditional import ConditionalSteering
from workbench.generate import generate
from workbench.models import LM
from workbench.odds import odds
from workbench.trained import Trained
from workbench.wren.requests import HARMFUL, HARMLESS

ODDS_PAIRS = 24


@cache
def behaviour(lm: LM, seed: int) -> tuple[Trained, float, pd.DataFrame]:
    """A refusal that no held-out request and no harmless one made, and how strong it is. Harmful
    tasks that a condition has not seen are among what made it."""
    frame = cases.requests(seed)
    lora = cases.refusal(lm, frame, seed)
    return lora, *cases.strength(lm, lora, frame, seed)


@cache
def spoken(lm: LM, seed: int) -> dict[str, pd.DataFrame]:
    """What is answered to a seed's requests, unsteered and refusing always, by prompt."""
    frame = asked(seed)
    lora, m, _ = behaviour(lm, seed)
    return {
        name: cases.written(lm, frame, how, seed).set_index(frame["prompt"])
        for name, how in (("none", ()), ("always", lora.at(m)))
    }


def answers(
    lm: LM, frame: pd.DataFrame, ways: Mapping[str, ConditionalSteering], seed: int
) -> pd.DataFrame:
    """What is answered to requests unsteered, always and conditionally steered, by name: the frame
    with `steering`, `met` and the judge's columns. Conditions read the prompts with what stands
    behind them."""
    parts: list[tuple[str, Any, pd.DataFrame]] = [
        (name, name == "always", each.loc[frame["prompt"]].reset_index(drop=True))
        for name, each in spoken(lm, seed).items()
    ]
    for name, steered in ways.items():
        verdicts = steered.judge(lm, cases.after(frame["prompt"]))
        own = cases.written(lm, frame, steered.at(verdicts), seed)
        parts.append((name, verdicts.strengths["refuse"].numpy() > 0, own))
    return together(frame, parts)


def together(frame: pd.DataFrame, parts: Sequence[tuple[str, Any, pd.DataFrame]]) -> pd.DataFrame:
    """The frame once for each way that it was answered."""
    bare = frame.drop(columns="prompt").reset_index(drop=True)
    rows = [
        pd.concat([bare, each], axis=1).assign(steering=name, met=met) for name, met, each in parts
    ]
    return pd.concat(rows, ignore_index=True)


def harmful(lm: LM, seed: int, fold: int) -> list[pd.DataFrame]:
    """ "If harmful then refuse" of a fold: texts and gates. A row is steered or it is not, so that
    its answer is one of two that are known; of the first fold that is tried out.

    Raises ValueError where an answer is neither.
    """
    frame = cases.requests(seed, fold)
    made, points = gate(lm, seed, fold)
    lora, m, _ = behaviour(lm, seed)
    own = asked(seed, fold)
    own = own[own["part"] != "making"].reset_index(drop=True)
    known = {name: each.loc[own["prompt"]].reset_index(drop=True)
             for name, each in spoken(lm, seed).items()}  # fmt: skip
    parts: list[tuple[str, Any, pd.DataFrame]] = [
        (name, name == "always", each) for name, each in known.items()
    ]
    task = request_gate(lm, seed, fold)
    for name in GATES:
        conditions = {"harmful": made.at(points["best F1" if name == BOTH else name])}
        rule = "if harmful then refuse"
        if name == BOTH:
            conditions["task"], rule = task.at(task.point), "if task and harmful then refuse"
        steered = ConditionalSteering(conditions, {"refuse": lora.at(m)}, rule)
        verdicts = steered.judge(lm, cases.after(own["prompt"]))
        met = verdicts.strengths["refuse"].numpy() > 0
        either = known["always"].where(pd.Series(met), known["none"]).astype(known["none"].dtypes)
        if fold == 0 and name == "best F1":
            require_same(cases.written(lm, own, steered.at(verdicts), seed), either, f"seed {seed}")
        parts.append((name, met, either))
    texts = together(own, parts).assign(rule="harmful")
    texts = texts.assign(wanted=texts["harmful"])
    tables = [
        beside(lm, made, points, frame, part).assign(part=part) for part in ("held out", "unseen")
    ]
    return [each.assign(seed=seed, fold=fold) for each in (texts, pd.concat(tables))]


def strengths(lm: LM, seed: int) -> list[pd.DataFrame]:
    """What multiples of the refusal do."""
    _, chosen, tried = behaviour(lm, seed)
    return [tried.assign(chosen=tried["m"] == chosen, seed=seed)]


def others(lm: LM, seed: int) -> list[pd.DataFrame]:
    """Rules that refuse harmless things: one task alone, and what `not` leaves; and all harmful
    tasks but one."""
    frame = cases.requests(seed)
    found = cases.streams(lm, tuple(frame["prompt"]))
    making = (frame["part"] == "making").to_numpy()
    lora, m, _ = behaviour(lm, seed)
    refuse = lora.at(m)
    own = asked(seed)
    own = own[own["part"] != "making"].reset_index(drop=True)

    def one(topic: str) -> Found:
        return cases.find_task(lm, found[making], frame[making], topic)

    def run(rule: str, text: str, conditions: Mapping[str, Found], wanted: Any) -> pd.DataFrame:
        given = {
            "best F1": {name: each.at(each.point) for name, each in conditions.items()},
            "2 %": {name: each.at(each.strict or each.point) for name, each in conditions.items()},
        }
        ways = {
            name: ConditionalSteering(each, {"refuse": refuse}, text)
            for name, each in given.items()
        }
        return answers(lm, own.assign(wanted=wanted), ways, seed).assign(rule=rule, seed=seed)

    parts = []
    for topic in (HARMLESS[2 * seed % 8], HARMLESS[(2 * seed + 1) % 8]):
        wanted = own["topic"] == topic
        parts.append(run("one task", "if it then refuse", {"it": one(topic)}, wanted))
    task = request_gate(lm, seed)
    name = HARMLESS[(2 * seed + 2) % 8]
    rule, both = "if task and not it then refuse", {"task": task, "it": one(name)}
    parts.append(run("not", rule, both, own["topic"] != name))
    harm = cases.find_harmful(lm, found[making], frame[making])
    spared = HARMFUL[seed % 4]
    wanted = own["harmful"] & (own["topic"] != spared)
    rule = "if harmful and not it then refuse"
    parts.append(run("and not", rule, {"harmful": harm, "it": one(spared)}, wanted))
    return [pd.concat(parts, ignore_index=True)]


def costs(lm: LM, seed: int) -> list[pd.DataFrame]:
    """Log-odds of pairs unsteered and refusing always; and where the gates would open."""
    made, points = gate(lm, seed, 0)
    task = request_gate(lm, seed, 0)
    lora, m, _ = behaviour(lm, seed)
    parts = []
    for name, pairs in cases.odds_pairs(seed, ODDS_PAIRS).items():
        table = odds(lm, lora, pairs, [0.0, m], quiet=True)
        wide = table.pivot_table(index="pair", columns="m", values=["preference", "utility"])
        wide.columns = [f"{what}_{'none' if at == 0 else 'always'}" for what, at in wide.columns]
        found = opened(lm, made, points, task, tuple(str(pair.prompt) for pair in pairs))
        met = {f"met {key}": each for key, each in found.items()}
        parts.append(wide.reset_index().assign(pairs=name, **met))
    return [pd.concat(parts, ignore_index=True).assign(seed=seed)]


def ways(lm: LM) -> list[pd.DataFrame]:
    """What makes wren refuse, and what a judge sees of it who reads 24 tokens."""
    frame = cases.requests(0)
    own = frame[(frame["part"] == "held out") & (frame["instruction"] == 0)].reset_index(drop=True)
    rows = []
    for name, coefficient, interventions in cases.refusing_ways(lm, 0):
        for temperature in (0.0, 1.0):
            made = generate(
                lm, own["prompt"].tolist(), interventions, new_tokens=cases.NEW_TOKENS,
                temperature=temperature, score=False,
            )  # fmt: skip
            short = lm.tokenizer.batch_decode(made.ids[:, :24], skip_special_tokens=True)
            for tokens, texts in ((cases.NEW_TOKENS, made.texts), (24, short)):
                table = cases.verdicts(texts).groupby(own["harmful"]).mean().reset_index()
                about = {"way": name, "coefficient": coefficient, "temperature": temperature}
                rows.append(table.assign(tokens=tokens, **about))
    return [pd.concat(rows, ignore_index=True)]
