"""What study_conditions.py measures of texts and log-odds: a function a table, or a part of one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import condition_cases as cases
import pandas as pd
from condition_gates import Gate, asked, beside, gates, opened, request_gate
from keeping import require_same  # puts the checkout on the path

from workbench.conditions.conditional import ConditionalSteering
from workbench.generation.generate import generate
from workbench.loading.models import LM
from workbench.preference.odds import odds
from workbench.training.trained import Trained
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


def together(frame: pd.DataFrame, parts: Sequence[tuple[str, Any, pd.DataFrame]]) -> pd.DataFrame:
    """The frame once for each way that it was answered."""
    bare = frame.drop(columns="prompt").reset_index(drop=True)
    rows = [
        pd.concat([bare, each], axis=1).assign(steering=name, met=met) for name, met, each in parts
    ]
    return pd.concat(rows, ignore_index=True)


def known(lm: LM, own: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """What is answered to these requests, unsteered and refusing always."""
    found = spoken(lm, seed)
    return {name: each.loc[own["prompt"]].reset_index(drop=True) for name, each in found.items()}


def harmful(lm: LM, seed: int, fold: int) -> list[pd.DataFrame]:
    """ "If harmful then refuse" of a fold: texts and gates. A row is steered or it is not, so that
    its answer is one of two that are known; of the first fold that is tried out.

    Raises ValueError where an answer is neither, and where a gate opens otherwise in the package.
    """
    lora, m, _ = behaviour(lm, seed)
    own = asked(seed, fold)
    own = own[own["part"] != "making"].reset_index(drop=True)
    both = known(lm, own, seed)
    parts: list[tuple[str, Any, pd.DataFrame]] = [
        (name, name == "always", each) for name, each in both.items()
    ]
    for name, gate in gates(lm, seed, fold).items():
        steered = gate.steering(lora.at(m))
        verdicts = steered.judge(lm, gate.read.texts(own["prompt"]))
        met = verdicts.strengths["refuse"].numpy() > 0
        opens = gate.opens(lm, own["prompt"].tolist())
        require_same(pd.DataFrame({"met": met}), pd.DataFrame({"met": opens}), f"{name}, {seed}")
        either = both["always"].where(pd.Series(met), both["none"]).astype(both["none"].dtypes)
        if fold == 0 and name == "best F1":
            require_same(cases.written(lm, own, steered.at(verdicts), seed), either, f"seed {seed}")
        parts.append((name, met, either))
    texts = together(own, parts).assign(rule="harmful")
    texts = texts.assign(wanted=texts["harmful"])
    tables = [beside(lm, seed, fold, part) for part in ("held out", "unseen")]
    return [each.assign(seed=seed, fold=fold) for each in (texts, pd.concat(tables))]


def strengths(lm: LM, seed: int) -> list[pd.DataFrame]:
    """What multiples of the refusal do."""
    _, chosen, tried = behaviour(lm, seed)
    return [tried.assign(chosen=tried["m"] == chosen, seed=seed)]


def others(lm: LM, seed: int) -> list[pd.DataFrame]:
    """Rules that refuse harmless things: one task alone, and what `not` leaves; and all harmful
    tasks but one. Answered are the requests that made nothing."""
    frame = cases.requests(seed)
    making = frame[frame["part"] == "making"]
    lora, m, _ = behaviour(lm, seed)
    own = asked(seed)
    own = own[own["part"] != "making"].reset_index(drop=True)
    both = known(lm, own, seed)

    def run(rule: str, steered: ConditionalSteering, task: str, wanted: Any) -> pd.DataFrame:
        verdicts = steered.judge(lm, cases.AFTER.texts(own["prompt"]))
        written = cases.written(lm, own, steered.at(verdicts), seed)
        met = verdicts.strengths["refuse"].numpy() > 0
        parts = [(name, name == "always", each) for name, each in both.items()]
        found = together(own.assign(wanted=wanted), [*parts, ("rule", met, written)])
        return found.assign(rule=rule, task=task, seed=seed)

    def one(topic: str) -> Gate:
        return Gate({"it": cases.find_task(lm, making, topic)})

    refuse, parts = lora.at(m), []
    for topic in (HARMLESS[2 * seed % 8], HARMLESS[(2 * seed + 1) % 8]):
        wanted = own["topic"] == topic
        parts.append(run("one task", one(topic).steering(refuse), topic, wanted))
    for rule, name, other, topic, wanted in (
        ("not", "task", request_gate(lm, seed), HARMLESS[(2 * seed + 2) % 8], True),
        ("and not", "harmful", cases.find_harmful(lm, making), HARMFUL[seed % 4], own["harmful"]),
    ):
        conditions = {name: other.condition, "it": one(topic).parts["it"].condition}
        text = f"if {name} and not it then refuse"
        steered = ConditionalSteering(conditions, {"refuse": refuse}, text)
        parts.append(run(rule, steered, topic, wanted & (own["topic"] != topic)))
    return [pd.concat(parts, ignore_index=True)]


def costs(lm: LM, seed: int) -> list[pd.DataFrame]:
    """Log-odds of pairs unsteered and refusing always; and where gates open that know all tasks."""
    lora, m, _ = behaviour(lm, seed)
    parts = []
    for name, pairs in cases.odds_pairs(seed, ODDS_PAIRS).items():
        table = odds(lm, lora, pairs, [0.0, m], quiet=True)
        wide = table.pivot_table(index="pair", columns="m", values=["preference", "utility"])
        wide.columns = [f"{what}_{'none' if at == 0 else 'always'}" for what, at in wide.columns]
        prompts = [str(pair.prompt) for pair in pairs]
        met = opened(lm, seed, None, prompts)
        wide = wide.reset_index().assign(pairs=name, prompt=prompts)
        parts.append(pd.concat([wide, met], axis=1))
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
