"""Conditional steering on wren, judged exactly: what is refused, by what a gate, and at what cost.

    python benchmarks/study_conditions.py [--quick] [--seeds 0 1 2] [--directory reports]

Parts are kept in the cache until all are done (keeping.py). `--quick`: the first rule of
one seed and fold, no table is saved. Tables, `study_conditions_…_wren`:

texts     a row per answer: seed, fold (NaN: none), rule ("harmful", "one task", "not", "and not"),
          steering ("none", "always", "best F1", "2 %", the gate's threshold), part ("held out":
          requests of tasks that made the condition; "unseen": tasks that the condition never saw),
          topic, way, instruction, harmful, wanted (whether the rule calls for a
          refusal), met, refused, obeyed, coherence
gates     a row per seed, fold, part and score: the gate's at both thresholds, and characters,
          tokens and a bag of words beside it, with area under the curve, F1, recall, false alarms;
          of texts matched in length, the area
readings  a row per seed, fold, part, place that is read, method and layer: area under the curve
alarms    a row per seed and kind of fresh harmless prompts, all distinct: how many, how many fire
odds      a row per seed, kind of pair and pair: preference and utility (nats) unsteered and
          refusing always, and whether the gate opens
strengths a row per seed and multiple of the refusal, of harmless requests that are not judged:
          shares refused and obeyed, coherence
ways      a row per way to make wren refuse, coefficient, and tokens of an answer (24: before most
          first sentences end), seed 0
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import condition_cases as cases
import numpy as np
import pandas as pd
from condition_cases import AFTER, MEAN, Found
from keeping import Keeper, require_same, smaller  # puts the checkout on the path
from sklearn.metrics import roc_auc_score

from workbench import load
from workbench.condition_point import judged
from workbench.conditional import ConditionalSteering
from workbench.confounds import confound_scores, confounds, length_matched
from workbench.generate import generate
from workbench.intervals import Floats, bootstrap_mean, wilson
from workbench.models import LM
from workbench.odds import odds
from workbench.tokens import encode
from workbench.trained import Trained

SEEDS, FOLDS, RATE = (0, 1, 2), tuple(range(cases.FOLDS)), 0.02
# Harmless prompts that set a threshold and that are judged: of all kinds, tasks alone.
CALIBRATING: Mapping[str | None, int] = {None: 600, "task": 900}
FRESH: Mapping[str | None, int] = {None: 1500, "task": 600}
ODDS_PAIRS = 24
# What sets a threshold of 2 % false alarms: harmless prompts of all kinds, or tasks alone.
STRICT = {"2 %": None, "2 % of tasks": "task"}
GATES = ("best F1", *STRICT)
NAMES = ("texts", "gates", "readings", "alarms", "odds", "strengths", "ways")
CODE = (
    "condition_checks", "condition_point", "condition_search", "conditional", "conditions",
    "confounds", "examples", "extract", "fitting", "forms", "gates", "generate", "intervals",
    "logic", "logodds", "methods", "multiples", "objectives", "odds", "pairs", "positions",
    "rules", "sampling", "scoring", "similarity", "steering", "tokens", "tracing", "train",
    "trainable", "training", "updates", "vectors", "weight_updates", "wren.asking",
    "wren.automaton", "wren.contrast", "wren.frames", "wren.grammar", "wren.judge", "wren.lexicon",
    "wren.matcher", "wren.parser", "wren.planning", "wren.speaker", "wren.traits",
)  # fmt: skip

# Where "harmful" can be read: what is put behind a prompt, and what is read of it.
READINGS = {
    "mean": ("", MEAN),
    "last token": ("", AFTER),
    "the request's end": (None, AFTER),
    "after “Indeed,”": (" Indeed,", AFTER),
    "after “Davvero,”": (" Davvero,", AFTER),
    "after “Well, I”": (" Well, I", AFTER),
}


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


def asked(seed: int, fold: int | None = None) -> pd.DataFrame:
    """The requests that are answered: plain ones, and one instruction of each."""
    frame = cases.requests(seed, fold)
    return frame[frame["instruction"] < 2]


@cache
def calm(lm: LM, seed: int, kind: str | None) -> tuple[tuple[str, ...], Floats]:
    """Harmless prompts that may set thresholds and make nothing, and their streams."""
    found = cases.harmless(seed, CALIBRATING[kind], cases.requests(seed)["prompt"], kind)
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
    barred = [cases.lines(t)[way] for t, way in zip(kept["topic"], kept["way"], strict=True)]
    points = {"best F1": made.point}
    for name, kind in STRICT.items():
        prompts, read = calm(lm, seed, kind)
        free = [not any(line in prompt for line in barred) for prompt in prompts]
        seen = made.similarities(read[free])
        points[name] = made.point.calibrated(seen, made.layers, false_alarms=RATE)
    return made, points


def answers(lm: LM, frame: pd.DataFrame, steered: ConditionalSteering, seed: int) -> pd.DataFrame:
    """What is answered to requests unsteered, always and conditionally steered: the frame with
    `steering`, `met` and the judge's columns. Conditions read the prompts with what stands behind
    them."""
    verdicts = steered.judge(lm, cases.after(frame["prompt"]))
    parts: list[tuple[str, Any, pd.DataFrame]] = [
        (name, name == "always", each.loc[frame["prompt"]].reset_index(drop=True))
        for name, each in spoken(lm, seed).items()
    ]
    own = cases.written(lm, frame, steered.at(verdicts), seed)
    parts.append(("best F1", verdicts.strengths["refuse"].numpy() > 0, own))
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
    for name, point in points.items():
        steered = ConditionalSteering(
            {"harmful": made.at(point)}, {"refuse": lora.at(m)}, "if harmful then refuse"
        )
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
                    along = cases.directions(found[making], labels[making], method)
                except ValueError:  # a place where all texts are the same to the first layers
                    continue
                scores = cases.cosines(found, along)
                for part in ("held out", "unseen"):
                    own = (frame["part"] == part).to_numpy()
                    for layer in range(lm.layers):
                        area = roc_auc_score(labels[own], scores[own, layer])
                        rows.append((fold, name, method, layer, part, area))
    columns = ["fold", "reading", "method", "layer", "part", "auc"]
    return [pd.DataFrame(rows, columns=columns).assign(seed=seed)]


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
    means = cases.streams(lm, tuple(frame["prompt"]), MEAN)

    def one(topic: str) -> Found:
        inside = (frame.loc[making, "topic"] == topic).to_numpy()
        return cases.find(lm, means[making], inside, read=MEAN, method="lda")

    def run(rule: str, text: str, conditions: Mapping[str, Found], wanted: Any) -> pd.DataFrame:
        given = {name: each.at(each.point) for name, each in conditions.items()}
        steered = ConditionalSteering(given, {"refuse": refuse}, text)
        return answers(lm, own.assign(wanted=wanted), steered, seed).assign(rule=rule, seed=seed)

    parts = []
    for topic in (cases.HARMLESS[2 * seed % 8], cases.HARMLESS[(2 * seed + 1) % 8]):
        wanted = own["topic"] == topic
        parts.append(run("one task", "if it then refuse", {"it": one(topic)}, wanted))
    talk = cases.harmless(seed + 100, 300)
    talk = talk[~talk["kind"].isin(["task", "plain"])].reset_index(drop=True)
    half = len(talk) // 2
    texts = [*frame.loc[making, "prompt"], *talk["prompt"][:half]]
    task = cases.find(
        lm,
        cases.streams(lm, tuple(texts), MEAN),
        np.arange(len(texts)) < making.sum(),
        read=MEAN,
        method="lda",
    )
    name = cases.HARMLESS[(2 * seed + 2) % 8]
    rule, both = "if task and not it then refuse", {"task": task, "it": one(name)}
    parts.append(run("not", rule, both, own["topic"] != name))
    rest = talk[half : half + 40]
    stories = cases.read_texts(lm, cases.after(rest["prompt"]), MEAN)
    fired = task.point.met(task.similarities(stories), task.layers)
    print(f"seed {seed}: of {len(rest)} other prompts {fired.sum()} count as tasks")
    harm = cases.find_harmful(lm, found[making], frame[making])
    spared = cases.HARMFUL[seed % 4]
    wanted = own["harmful"] & (own["topic"] != spared)
    rule = "if harmful and not it then refuse"
    parts.append(run("and not", rule, {"harmful": harm, "it": one(spared)}, wanted))
    return [pd.concat(parts, ignore_index=True)]


def alarms(lm: LM, seed: int) -> list[pd.DataFrame]:
    """What a gate that was set to 2 % shows on harmless prompts that nobody has seen."""
    made, points = gate(lm, seed, None)
    used = {
        *cases.requests(seed)["prompt"],
        *(p for k in STRICT.values() for p in calm(lm, seed, k)[0]),
    }
    parts = []
    for among, kind in {"all kinds": None, "tasks": "task"}.items():
        fresh = cases.harmless(seed + 500, FRESH[kind], used, kind)
        seen = made.similarities(cases.read_texts(lm, cases.after(fresh["prompt"]), AFTER))
        for name, point in points.items():
            table = fresh.assign(fired=point.met(seen, made.layers), gate=name)
            counts = table.groupby(["gate", "kind"])["fired"].agg(["size", "sum"]).reset_index()
            parts.append(counts.assign(among=among))
    return [pd.concat(parts, ignore_index=True).assign(seed=seed)]


def costs(lm: LM, seed: int) -> list[pd.DataFrame]:
    """Log-odds of pairs unsteered and refusing always; and where the gates would open."""
    made, points = gate(lm, seed, 0)
    lora, m, _ = behaviour(lm, seed)
    parts = []
    for name, pairs in cases.odds_pairs(seed, ODDS_PAIRS).items():
        table = odds(lm, lora, pairs, [0.0, m], quiet=True)
        wide = table.pivot_table(index="pair", columns="m", values=["preference", "utility"])
        wide.columns = [f"{what}_{'none' if at == 0 else 'always'}" for what, at in wide.columns]
        found = made.similarities(cases.streams(lm, tuple(str(p.prompt) for p in pairs)))
        met = {f"met {key}": each.met(found, made.layers) for key, each in points.items()}
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


def summary(whole: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Shares refused by rule, part, steering and whether a refusal is wanted; intervals over
    requests, which all seeds and folds share."""
    rows = []
    keys = ["rule", "part", "steering", "harmful", "wanted"]
    for key, table in whole["texts"].groupby(keys):
        request = table["topic"] + table["way"].astype(str)
        share = bootstrap_mean(table["refused"], request.to_numpy(), bounds=(0, 1))
        seeds = table.groupby("seed")["refused"].mean()
        rows.append((*key, share.value, share.low, share.high, share.count, len(table),
                     seeds.min(), seeds.max(), table["obeyed"].mean(), table["coherence"].mean(),
                     table.groupby("topic")["refused"].mean().round(3).to_dict()))  # fmt: skip
    columns = ["refused", "low", "high", "requests", "texts", "least seed", "most seed"]
    return pd.DataFrame(rows, columns=[*keys, *columns, "obeyed", "coherence", "by topic"])


def run(
    lm: LM, seeds: Sequence[int], folds: Sequence[int], *, quick: bool = False
) -> dict[str, pd.DataFrame]:
    """All tables; `quick`: those of "if harmful then refuse" alone."""
    keeper, found = keeper_of(lm, seeds), {name: [] for name in NAMES}

    def keep(name: str, labels: Sequence[str], make: Any) -> None:
        for label, part in zip(labels, keeper.parts(name, labels, make), strict=True):
            found[label].append(part)

    for seed, fold in itertools.product(seeds, folds):
        labels = ["texts", "gates"]
        keep(f"harmful-{seed}-{fold}", labels, lambda s=seed, f=fold: harmful(lm, s, f))
    for seed in () if quick else seeds:
        keep(
            f"strengths-{seed}", ["strengths"], lambda s=seed: [behaviour(lm, s)[2].assign(seed=s)]
        )
        keep(f"readings-{seed}-{len(folds)}", ["readings"], lambda s=seed: readings(lm, s, folds))
        keep(f"others-{seed}", ["texts"], lambda s=seed: others(lm, s))
        keep(f"alarms-{seed}", ["alarms"], lambda s=seed: alarms(lm, s))
        keep(f"odds-{seed}", ["odds"], lambda s=seed: costs(lm, s))
    if not quick:
        keep("ways", ["ways"], lambda: ways(lm))
    return {
        name: smaller(pd.concat(parts, ignore_index=True)) for name, parts in found.items() if parts
    }


def said(whole: Mapping[str, pd.DataFrame]) -> None:
    """Print what came of it."""
    with pd.option_context(
        "display.width", 250, "display.max_rows", 400, "display.max_columns", 40
    ):
        print(summary(whole).round(3).to_string())
        gates = whole["gates"].groupby(["part", "score"])
        print(gates[["auc", "f1", "recall", "false_alarms", "auc_matched"]].mean().round(3))
        if "readings" not in whole:
            return
        print(whole["strengths"].round(3).to_string())
        keys = ["reading", "method", "part", "layer"]
        print(whole["readings"].groupby(keys)["auc"].mean().unstack().round(2).to_string())
        for keys in (["gate", "among", "seed"], ["gate", "among", "kind"], ["gate", "among"]):
            table = whole["alarms"].groupby(keys)[["size", "sum"]].sum()
            ends = [wilson(int(row["sum"]), int(row["size"])) for _, row in table.iterrows()]
            table = table.assign(
                rate=[each.value for each in ends],
                low=[each.low for each in ends],
                high=[each.high for each in ends],
            )
            print(table.round(4).to_string())
        costs_of = whole["odds"]
        for what in ("utility", "preference"):
            change = costs_of[f"{what}_always"] - costs_of[f"{what}_none"]
            table = costs_of.assign(always=change)
            for name in GATES:
                table[name] = change * costs_of[f"met {name}"]
            print(what, table.groupby("pairs")[["always", *GATES]].mean().round(2))
        print(whole["ways"].round(3).to_string())


def keeper_of(lm: LM, seeds: Sequence[int]) -> Keeper:
    """What keeps the study."""
    scripts = (__file__, str(cases.__file__))
    return Keeper("study_conditions", lm, CODE, scripts, settings(), tuple(seeds))


def settings() -> dict[str, Any]:
    """What a rerun must share, as JSON values."""
    return {
        "suffix": cases.SUFFIX,
        "method": cases.METHOD,
        "new_tokens": cases.NEW_TOKENS,
        "pairs": cases.PAIRS,
        "epochs": cases.EPOCHS,
        "rate": RATE,
        "calibrating": list(CALIBRATING.values()),
        "fresh": list(FRESH.values()),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Conditional steering on wren.")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: 0 to 2")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    parser.add_argument("--quick", action="store_true", help="one seed and fold, no table")
    args = parser.parse_args(argv)
    lm = load("wren")
    if args.quick:
        print("quick: “if harmful then refuse” of seed 0 and fold 0 alone; no table is saved")
        said(run(lm, SEEDS[:1], FOLDS[:1], quick=True))
        return
    tables = {name: f"study_conditions_{name}_wren" for name in NAMES}
    keeper = keeper_of(lm, args.seeds)
    if keeper.stand([*tables.values()], args.directory):
        print("study_conditions: up to date")
        return
    whole = run(lm, args.seeds, FOLDS)
    keeper.save({tables[name]: table for name, table in whole.items()}, args.directory)
    said(whole)


if __name__ == "__main__":
    main()
