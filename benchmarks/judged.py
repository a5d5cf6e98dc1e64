"""A sanity check on published texts of an 8B model: what can be read off the text and ALERT alone.

    python benchmarks/judged.py [--quick] [--file ../shared/data/judged/sweeps.jsonl]

56 sweeps of one greedy prompt each, with a language model's verdict on every text (coherence 1 to
10) and the reference ALERT score; no log-probabilities, so that neither the excess nor the drift
can be tried here. Constants come from wren or from the rules' authors; the constant guess, and the
tuned rule beside it, from the sweeps of the other of the two concepts. The *ceiling* is the first
of two neighbouring coefficients at which the coherence is at most 5; errors are in shares of the
coefficient axis. Two concepts, one judge and texts that recover: a sanity check, no more.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timing  # puts the checkout on the path
from detectors import CHOICES
from scipy.stats import rankdata
from timing import at_least, at_most

from workbench.generation.measures import distinct, longest_repeat
from workbench.statistics.crossings import first_break
from workbench.statistics.intervals import Floats, bootstrap_mean

FILE = Path(__file__).resolve().parents[1] / "../shared/data/judged/sweeps.jsonl"
INCOHERENT = 5
# As breakage.py has them: more than half of a loop is repetition.
REPEAT, DISTINCT = 0.5, 0.5
FALL = 0.2  # of ALERT's authors
TARGETS = {
    "auc_more_than_alert": at_least(0),
    "error_over_constant": at_most(1),
    "sweeps": at_least(56),
}

Rule = Callable[[pd.DataFrame], float]


def read(path: Path) -> pd.DataFrame:
    """One row per text with its repetition, of words and signs."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    frame = pd.DataFrame(rows)
    words = [re.findall(r"\w+|[^\w\s]", text.lower()) for text in frame["text"]]
    codes = {word: index for index, word in enumerate(sorted({w for t in words for w in t}))}
    lengths = np.array([len(text) for text in words])
    ids = np.zeros((len(words), max(1, lengths.max())), dtype=np.int64)
    for row, text in enumerate(words):
        ids[row, : len(text)] = [codes[word] for word in text]
    longest, _ = longest_repeat(ids, lengths)
    start = frame[frame["coefficient"] == 0].groupby("sweep")["alert"].first()
    return frame.assign(
        repeat=longest / np.maximum(lengths, 1),
        same=1 - np.nan_to_num(distinct(ids, lengths, 2), nan=1.0),
        fall=1 - frame["alert"] / frame["sweep"].map(start),
    ).sort_values(["sweep", "coefficient"], ignore_index=True)


def first_of_two(sweep: pd.DataFrame, broken: Sequence[bool] | pd.Series) -> float:
    """The first coefficient of two neighbours that are broken; the end where there is none."""
    values = sweep["coefficient"].to_numpy()
    place = first_break(1 - np.asarray(broken, dtype=float), 0.5)
    return float(values[-1] if place is None else values[place])


def loops(sweep: pd.DataFrame) -> pd.Series:
    return (sweep["repeat"] > REPEAT) | (sweep["same"] > 1 - DISTINCT)


def alert(sweep: pd.DataFrame, fall: float = FALL) -> float:
    """As coded: a step back from the first coefficient at which the score has fallen so far."""
    values, fell = sweep["coefficient"].to_numpy(), (sweep["fall"] > fall).to_numpy()
    return float(values[max(int(fell.argmax()) - 1, 0)] if fell.any() else values[-1])


RULES: Mapping[str, Rule] = {
    "ALERT as coded": alert,
    "ALERT, two in a row": lambda sweep: first_of_two(sweep, sweep["fall"] > FALL),
    "loops": lambda sweep: first_of_two(sweep, loops(sweep)),
    "loops or ALERT": lambda sweep: first_of_two(sweep, loops(sweep) | (sweep["fall"] > FALL)),
}


def errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean distance from the judged ceiling as a share of the axis, a row per rule."""
    rows = []
    for name, sweep in frame.groupby("sweep"):
        sweep = sweep.reset_index(drop=True)
        end = float(sweep["coefficient"].max())
        truth = first_of_two(sweep, sweep["coherence"] <= INCOHERENT)
        said = {rule: find(sweep) for rule, find in RULES.items()}
        tuned = {fall: alert(sweep, fall) for fall in CHOICES["ALERT as coded"]}
        rows.append({"sweep": name, "concept": sweep["concept"][0], "end": end, "truth": truth})
        rows[-1] |= {"said": said, "tuned": tuned}
    table = pd.DataFrame(rows)
    far = {
        rule: [abs(s[rule] - t) / e for s, t, e in zip(*_columns(table, "said"), strict=True)]
        for rule in RULES
    }
    grid = np.array(
        [
            [abs(value - truth) / end for value in said.values()]
            for said, truth, end in zip(*_columns(table, "tuned"), strict=True)
        ]
    )
    guess, best = np.zeros(len(table)), np.zeros(len(table))
    for concept in table["concept"].unique():
        mine = (table["concept"] == concept).to_numpy()
        others = table[~mine]
        share = float((others["truth"] / others["end"]).median())
        guess[mine] = np.abs(share - table["truth"] / table["end"])[mine]
        falls = list(CHOICES["ALERT as coded"])
        grid = [
            [abs(s[f] - t) / e for f in falls]
            for s, t, e in zip(*_columns(table, "tuned"), strict=True)
        ]
        best[mine] = np.array(grid)[mine, int(np.array(grid)[~mine].mean(axis=0).argmin())]
    far |= {"constant of the other concept": list(guess), "ALERT, tuned on the other": list(best)}
    found = {rule: bootstrap_mean(np.array(values)) for rule, values in far.items()}
    return pd.DataFrame(
        [
            {"rule": rule, "error": mean.value, "low": mean.low, "high": mean.high}
            for rule, mean in sorted(found.items(), key=lambda item: item[1].value)
        ]
    )


def _columns(table: pd.DataFrame, name: str) -> tuple[Any, Any, Any]:
    return table[name], table["truth"], table["end"]


def area(score: Floats, positive: np.ndarray) -> float:
    """Area under the curve: how often a positive text scores above another one, ties half."""
    ranks, count = rankdata(score), int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def main(argv: Sequence[str] | None = None) -> int:
    parser = timing.parser("A sanity check on published, judged texts of an 8B model.")
    parser.add_argument("--file", type=Path, default=FILE)
    args = parser.parse_args(argv)
    if not args.file.is_file():
        print(f"no file at {args.file}: the texts are not part of this project")
        return 1
    frame = read(args.file)
    bad = (frame["coherence"] <= INCOHERENT).to_numpy()
    repetition = np.maximum(frame["repeat"], frame["same"]).to_numpy()
    fall = frame["fall"].to_numpy()
    areas = {
        "auc_loop": area(repetition, bad),
        "auc_alert": area(fall, bad),
        "auc_loop_or_alert": area(np.maximum(repetition / REPEAT, fall / FALL), bad),
    }
    table = errors(frame)
    timing.show(
        "distance from the judged ceiling, share of the axis", list(table), table.values.tolist()
    )
    timing.show("area under the curve, coherence at most 5", list(areas), [list(areas.values())])
    figures: dict[str, Any] = {"sweeps": frame["sweep"].nunique(), "texts": len(frame), **areas}
    off = dict(zip(table["rule"], table["error"], strict=True))
    figures |= {f"error: {rule}": error for rule, error in off.items()}
    figures["auc_more_than_alert"] = areas["auc_loop_or_alert"] - areas["auc_alert"]
    figures["error_over_constant"] = off["loops or ALERT"] / off["constant of the other concept"]
    return timing.finish("judged", figures, TARGETS, {"quick": args.quick})


if __name__ == "__main__":
    sys.exit(main())
