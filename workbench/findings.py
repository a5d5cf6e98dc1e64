"""What sweeps found, as the tables and sentences that a report quotes.

Every number and every word of judgement comes from the frames. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.ceiling import Ceiling, alert_as_coded, alert_as_meant
from workbench.curves import crossings, falling, means
from workbench.look import interval
from workbench.report import markdown_table
from workbench.slopes import coefficient_axis, slopes

MARKS = ("onset", "recommended", "ceiling")
# What a table shows of a text: the column, its name in words, its format.
MEASURES = (
    ("trait", "trait (−1 to 1)", "+.2f"),
    ("coherence", "coherence (0 to 1)", ".2f"),
    ("logprob_unsteered", "log-probability, unsteered model (nats per token)", "+.2f"),
    ("distinct_2", "distinct pairs of tokens (share)", ".2f"),
)
Intervals = tuple[float, float, float]


def quoted(table: pd.DataFrame, otherwise: str, spec: str = ".2f") -> str:
    """The table in Markdown, or a sentence where it has no rows."""
    return markdown_table(table, spec) if len(table) else otherwise


def best_layers(separation: pd.DataFrame, by: str) -> pd.DataFrame:
    """Of each `by` (a column) the layer with the highest d', the lower of equals.

    separation  rows of `SteeringVector.separation`, with the column `by`
    """
    rows = []
    for name, group in separation.groupby(by, sort=False):
        known = group.dropna(subset="d_prime").sort_values("layer")
        if len(known):
            top = known.loc[known["d_prime"].idxmax()]
            rows.append(
                {
                    by: name,
                    "best layer": int(top["layer"]),
                    "d′": float(top["d_prime"]),
                    "pairs told apart": f"{top['pair_accuracy']:.0%}",
                    "gap (residual norms)": float(top["gap"]),
                }
            )
    return pd.DataFrame(rows)


def marks_table(ceilings: Mapping[str, Ceiling]) -> pd.DataFrame:
    """One row per trait and sign: status, the three marks with intervals, and the other unit."""
    return pd.DataFrame(
        {
            "trait": trait,
            "sign": signed(sign),
            "status": side.status,
            **{mark: str(getattr(side, mark)) for mark in MARKS},
            "one residual norm (raw units)": side.ceiling.scale,
        }
        for trait, ceiling in ceilings.items()
        for sign, side in ceiling.sides.items()
    )


def rules_table(
    frames: Mapping[str, pd.DataFrame], ceilings: Mapping[str, Ceiling]
) -> pd.DataFrame:
    """The ceiling of this package, of the reference rule as meant and as coded, and of the facts.

    One row per trait and sign. The last column, where coherence is known, is the coefficient at
    which its mean over prompts (a falling isotonic curve) crosses half of its value at 0; NaN
    where a rule finds no end in the range.
    """
    rows = []
    for trait, ceiling in ceilings.items():
        frame = frames[trait]
        coded = alert_as_coded(frame)
        for sign, side in ceiling.sides.items():
            meant = alert_as_meant(frame, sign=sign)
            row = {
                "trait": trait,
                "sign": signed(sign),
                "this package": side.ceiling.value,
                "ALERT as meant": math.nan if meant.index is None else meant.upper_bound,
                "ALERT as coded": math.nan if coded.index is None else sign * coded.upper_bound,
            }
            if "coherence" in frame.columns:
                row["coherence halved (exact)"] = exact_ceiling(frame, sign)
            rows.append(row)
    return pd.DataFrame(rows)


def exact_ceiling(frame: pd.DataFrame, sign: int, share: float = 0.5) -> float:
    """Where mean coherence first falls below a share of its value at 0; NaN if it never does."""
    axis, _ = coefficient_axis(frame)
    side = frame[(frame["vector"] == "vector") & (sign * frame[axis] >= 0)]
    table = side.assign(size=side[axis].abs()).pivot_table(
        index="prompt_index", columns="size", values="coherence"
    )
    grid, values = table.columns.to_numpy(dtype=float), table.to_numpy(dtype=float)
    fitted = falling(*means(np.ones((1, len(values))), values))
    crossed = float(crossings(grid, fitted, share)[0])
    return sign * crossed if math.isfinite(crossed) else math.nan


def rules_verdict(rules: pd.DataFrame) -> str:
    """How far each rule of `rules_table` lies from the exact column, in words."""
    exact = "coherence halved (exact)"
    if exact not in rules.columns:
        return "No judge knows the coherence of these texts, so the rules cannot be checked here."
    parts = []
    for rule in ("this package", "ALERT as meant", "ALERT as coded"):
        distance = (rules[rule] - rules[exact]).abs().dropna()
        silent = int((rules[rule].isna() & rules[exact].notna()).sum())
        found = (
            f"{distance.mean():.2f} residual norms on average over {len(distance)} of "
            f"{int(rules[exact].notna().sum())} curves"
            if len(distance)
            else "nowhere comparable"
        )
        parts.append(f"{rule}: {found}" + (f", silent on {silent}" if silent else ""))
    return (
        "Distance from the coefficient at which exact coherence halves: " + "; ".join(parts) + "."
    )


def texts_around(frame: pd.DataFrame, ceiling: Ceiling, prompt_index: int = 0) -> pd.DataFrame:
    """The texts of one prompt at the swept coefficients nearest to each mark, and beyond.

    Rows from the most negative coefficient to the most positive: `where`, `coefficient`
    (residual norms where known), the judges' columns, `text`.
    """
    axis, _ = coefficient_axis(frame)
    own = frame[(frame["vector"] == "vector") & (frame["prompt_index"] == prompt_index)]
    grid = np.sort(own[axis].unique())
    places = {0.0: ["unsteered"]}
    for sign, side in ceiling.sides.items():
        for mark in MARKS:
            value = getattr(side, mark).value
            if math.isfinite(value):
                places.setdefault(_nearest(grid[grid != 0], value), []).append(mark)
        outer = grid[sign * grid >= 1.25 * abs(side.ceiling.value)]
        if len(outer):
            places.setdefault(float(outer[np.abs(outer).argmin()]), []).append("beyond")
        else:  # no ceiling, or one near the end
            end = float(grid[np.argmax(sign * grid)])
            places.setdefault(end, []).append("end of range")
    columns = [name for name in ("coherence", "trait") if name in frame.columns]
    rows = []
    for place in sorted(places):
        text = own[own[axis] == place].iloc[0]
        rows.append(
            {
                "where": ", ".join(dict.fromkeys(places[place])),
                "coefficient": f"{place:+.2f}".replace("-", "−"),
                **{name: float(text[name]) for name in columns},
                "text": text["text"],
            }
        )
    return pd.DataFrame(rows)


def slopes_table(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Per trait how the prompts answer near 0; no rows where no judge measured a trait."""
    rows = []
    for trait, frame in frames.items():
        if "trait" in frame.columns:
            found = slopes(frame)
            rows.append(
                {
                    "trait": trait,
                    "prompts": len(found),
                    "coefficients up to": found.attrs["within"],
                    "mean slope (trait per residual norm)": found.attrs["mean"],
                    "anti-steerable": f"{found.attrs['anti_steerable']:.0%}",
                    "flat": f"{found.attrs['flat']:.0%}",
                }
            )
    return pd.DataFrame(rows)


def recommended(ceiling: Ceiling) -> list[float]:
    """0 and the recommended coefficients of both signs, where there are any, in order."""
    values = [side.recommended.value for side in ceiling.sides.values()]
    return sorted({0.0, *(value for value in values if math.isfinite(value))})


def outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """What a few coefficients gave: per kind of row and coefficient each measure's mean, with its
    95 % bootstrap interval over prompts, as text.

    frame  a sweep over few coefficients, with controls and prompted rows or without
    """
    frame = _in_norms(frame)
    columns = [
        (name, words, spec)
        for name, words, spec in MEASURES
        if name in frame.columns and frame[name].notna().any()
    ]
    rows = []
    for kind, group in frame.groupby("vector", sort=False):
        for place in sorted(group["coefficient_norm"].unique()):
            if kind not in ("vector", "prompted") and place == 0:
                continue  # a control of length 0 is the unsteered model again
            part = group[group["coefficient_norm"] == place]
            words = {"vector": "steered", "prompted": "asked for in the prompt"}.get(
                str(kind), f"{kind} vector"
            )
            rows.append(
                {
                    "texts": "unsteered" if kind == "vector" and place == 0 else words,
                    "coefficient": f"{place:+.2f}".replace("-", "−") if place else "0",
                    "prompts": part["prompt_index"].nunique(),
                    **{words: _spread(part, name, spec) for name, words, spec in columns},
                }
            )
    return pd.DataFrame(rows)


def change(frame: pd.DataFrame, column: str, coefficient: float) -> Intervals:
    """Mean change of a measure from each prompt's unsteered text, with its 95 % interval."""
    table = (
        _in_norms(frame)
        .query("vector == 'vector'")
        .pivot_table(index="prompt_index", columns="coefficient_norm", values=column)
    )
    moved = table[_nearest(table.columns.to_numpy(dtype=float), coefficient)] - table[0.0]
    moved = moved.reset_index(name="change").assign(coefficient_norm=coefficient)
    line = interval(moved, "change").iloc[0]
    return float(line["mean"]), float(line["low"]), float(line["high"])


def verdict(trait: str, frame: pd.DataFrame, ceiling: Ceiling) -> str:
    """In one paragraph what the recommended coefficients gave on fresh prompts.

    frame    a sweep over `recommended(ceiling)` on prompts that chose nothing
    ceiling  what chose them
    """
    sentences = []
    for sign, side in ceiling.sides.items():
        value = side.recommended.value
        if not math.isfinite(value):
            sentences.append(
                f"Sign {signed(sign)}: no coefficient to recommend ({'; '.join(side.reasons)})."
            )
            continue
        column = "trait" if "trait" in frame.columns else "logprob_unsteered"
        what = "the trait" if column == "trait" else "the log-probability under the unsteered model"
        moved = change(frame, column, value)
        measurable = moved[1] > 0 or moved[2] < 0
        words = f"moves {what} by" if measurable else f"does not measurably move {what}:"
        sentence = f"{_number(value)} residual norms {words} {_ends(moved)}"
        if column == "trait" and measurable and moved[0] * sign < 0:
            sentence += ", the wrong way"
        if "coherence" in frame.columns:
            cost = change(frame, "coherence", value)
            lost = cost[2] < 0
            sentence += (
                f", and {'costs' if lost else 'has no measurable cost in'} coherence "
                f"({_ends(cost)})"
            )
        sentences.append(sentence + ".")
    asked = frame[frame["vector"] == "prompted"]
    if "trait" in frame.columns and len(asked):
        sentences.append(
            f"Asking for it in the prompt, unsteered, gives a trait of "
            f"{_number(asked['trait'].mean())} at a coherence of {asked['coherence'].mean():.2f}."
        )
    return f"**{trait}.** " + " ".join(sentences)


def signed(sign: int) -> str:
    """A sign as it is printed: + or −."""
    return "+" if sign > 0 else "−"


def _in_norms(frame: pd.DataFrame) -> pd.DataFrame:
    """With coefficients in `coefficient_norm` even where residual norms are unknown."""
    axis, _ = coefficient_axis(frame)
    return frame.assign(coefficient_norm=frame[axis])


def _nearest(grid: np.ndarray, value: float) -> float:
    return float(grid[np.abs(grid - value).argmin()])


def _spread(part: pd.DataFrame, column: str, spec: str) -> str:
    line = interval(part, column)
    if line.empty:
        return "–"
    mean, low, high = (
        format(float(line[name].iloc[0]), spec).replace("-", "−")
        for name in ("mean", "low", "high")
    )
    return f"{mean} [{low}, {high}]"


def _number(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _ends(numbers: Intervals) -> str:
    mean, low, high = map(_number, numbers)
    return f"{mean} [{low}, {high}]"


def titled(sections: Mapping[str, str]) -> str:
    """Pieces of Markdown under each other, each below a heading of the third level."""
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in sections.items())


def sweep_values(
    frames: Mapping[str, pd.DataFrame],
    ceilings: Mapping[str, Ceiling],
    fresh: Mapping[str, pd.DataFrame],
) -> dict[str, str | int]:
    """The pieces that a report on several sweeps quotes, as Markdown.

    frames    trait -> the sweep that chose its coefficients
    ceilings  trait -> what was chosen
    fresh     trait -> the sweep over the recommended coefficients on other prompts
    """
    first = next(iter(frames.values()))
    steered = first[first["vector"] == "vector"]
    judged = all("coherence" in frame.columns for frame in frames.values())
    rules = rules_table(frames, ceilings)
    unjudged = "No judge measured the trait of these texts, so there are no slopes to report."
    return {
        "traits": ", ".join(frames),
        "coefficients": int(steered["coefficient"].nunique()),
        "prompts": int(steered["prompt_index"].nunique()),
        "range": f"{_number(steered['coefficient_norm'].min())} to "
        f"{_number(steered['coefficient_norm'].max())}",
        "new_tokens": int(first.attrs["new_tokens"]),
        "judged": (
            "Coherence and trait of every text are exact: the model speaks the language of a "
            "grammar, and its parser says what belongs to it."
            if judged
            else "No exact judge knows the language of this model: coherence and traits are not "
            "shown, and what is said of broken texts rests on the model's own measures."
        ),
        "marks": markdown_table(marks_table(ceilings), ".1f"),
        "rules": markdown_table(rules, ".2f"),
        "rules_verdict": rules_verdict(rules),
        "slopes": quoted(slopes_table(frames), unjudged),
        "reasons": "\n".join(
            f"- {trait}, {signed(sign)}: {side.status}; {'; '.join(side.reasons)}."
            for trait, ceiling in ceilings.items()
            for sign, side in ceiling.sides.items()
        ),
        "texts": titled(
            {
                trait: f"Prompt: `{_one_line(frame['prompt'].iloc[0])}`\n\n"
                + markdown_table(texts_around(frame, ceilings[trait]), ".2f")
                for trait, frame in frames.items()
            }
        ),
        "verdicts": "\n\n".join(verdict(trait, fresh[trait], ceilings[trait]) for trait in fresh),
        "outcomes": titled({trait: markdown_table(outcomes(fresh[trait])) for trait in fresh}),
    }


def _one_line(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ⏎ ").strip()
