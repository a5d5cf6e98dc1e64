"""What sweeps found, as the tables and sentences that a report quotes.

Every number and every word of judgement comes from the frames. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.intervals import NOTHING, Interval, bootstrap_mean
from workbench.marks import MARKS, UNITS, Ceiling, Side
from workbench.rules import flags_table, rules_table, rules_verdict
from workbench.slopes import coefficient_axis, slope_summary
from workbench.tables import markdown_table

# What a table shows of a text: the column, its name in words, its format.
MEASURES = (
    ("trait", "trait (−1 to 1)", "+.2f"),
    ("coherence", "coherence (0 to 1)", ".2f"),
    ("logprob_unsteered", "log-probability, unsteered model (nats per token)", "+.2f"),
    ("distinct_2", "distinct pairs of tokens (share)", ".2f"),
)
# One kind of row of a sweep is named for the reader; a control is called by its own name.
KINDS = {"vector": "steered", "prompted": "asked for in the prompt"}


def quoted(table: pd.DataFrame, otherwise: str, spec: str = ".2f") -> str:
    """The table in Markdown, or a sentence where it has no rows."""
    return markdown_table(table, spec) if len(table) else otherwise


def marks_table(ceilings: Mapping[str, Ceiling]) -> pd.DataFrame:
    """One row per trait and sign: status, the three marks with intervals, and how long a residual
    norm is in raw units, NaN where norms are unknown and the marks are raw."""
    return pd.DataFrame(
        {
            "trait": trait,
            "sign": signed(sign),
            "status": side.status,
            **{mark: str(getattr(side, mark)) for mark in MARKS},
            "one residual norm (raw units)": (
                side.ceiling.scale if ceiling.unit == "norm" else math.nan
            ),
        }
        for trait, ceiling in ceilings.items()
        for sign, side in ceiling.sides.items()
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


def flags_counted(frames: Mapping[str, pd.DataFrame]) -> str:
    """`rules.flags_table` of all sweeps together, as Markdown; a sentence where none is judged."""
    if not all("coherence" in frame.columns for frame in frames.values()):
        return "No judge knows the coherence of these texts, so what is broken cannot be checked."
    counts = pd.concat(map(flags_table, frames.values())).groupby(level=0, sort=False).sum()
    return (
        "All texts of the vectors, at every coefficient: what this package calls them, against "
        "their exact coherence (*coherent*: at least a half).\n\n"
        + markdown_table(counts.reset_index(names="by this package"))
    )


def slopes_table(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Per trait and vector how the prompts answer near 0, with 95 % intervals over prompts; no
    rows where no judge measured a trait."""
    rows = []
    for trait, frame in frames.items():
        if "trait" not in frame.columns:
            continue
        for found in slope_summary(frame).to_dict("records"):
            kind = str(found["vector"])
            mean = (found["mean"], found["mean_low"], found["mean_high"])
            shares = [found[f"anti_steerable{end}"] for end in ("", "_low", "_high")]
            anti, low, high = (f"{share:.0%}" for share in shares)
            rows.append(
                {
                    "trait": trait,
                    "texts": KINDS.get(kind, f"{kind} vector"),
                    "prompts": found["prompts"],
                    "coefficients up to": found["within"],
                    f"mean slope (trait per {UNITS[found['unit']]})": _ends(
                        Interval(*mean, found["prompts"])
                    ),
                    "anti-steerable": f"{anti} [{low}, {high}]",
                    "flat": f"{found['flat']:.0%}",
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
            words = KINDS.get(str(kind), f"{kind} vector")
            rows.append(
                {
                    "texts": "unsteered" if kind == "vector" and place == 0 else words,
                    "coefficient": f"{place:+.2f}".replace("-", "−") if place else "0",
                    "prompts": part["prompt_index"].nunique(),
                    **{words: _spread(part, name, spec) for name, words, spec in columns},
                }
            )
    return pd.DataFrame(rows)


def change(frame: pd.DataFrame, column: str, coefficient: float, kind: str = "vector") -> Interval:
    """Mean change of a measure from each prompt's unsteered text, with its 95 % interval.

    coefficient  the nearest one in the frame counts
    kind         whose texts: the vector's own, or a control's

    All is NaN where there are no such texts.
    """
    frame = _in_norms(frame)
    start = frame[(frame["vector"] == "vector") & (frame["coefficient_norm"] == 0)]
    own = frame[frame["vector"] == kind]
    if own.empty:
        return NOTHING
    place = _nearest(own["coefficient_norm"].to_numpy(dtype=float), coefficient)
    there = own[own["coefficient_norm"] == place].groupby("prompt_index")[column].mean()
    return bootstrap_mean(there - start.groupby("prompt_index")[column].mean())


def verdict(trait: str, frame: pd.DataFrame, ceiling: Ceiling) -> str:
    """In one paragraph what the recommended coefficients gave on fresh prompts.

    frame    a sweep over `recommended(ceiling)` on prompts that chose nothing
    ceiling  what chose them
    """
    sentences = [_side_verdict(frame, side, ceiling.unit) for side in ceiling.sides.values()]
    asked = frame[frame["vector"] == "prompted"]
    if "trait" in frame.columns and len(asked):
        sentences.append(
            "Asking for it in the prompt, unsteered, gives "
            + " and ".join(
                f"a mean {name} of {format(asked[name].mean(), spec).replace('-', '−')}"
                for name, _, spec in MEASURES[:2]
                if name in asked.columns
            )
            + "."
        )
    return f"**{trait}.** " + " ".join(sentences)


def _side_verdict(frame: pd.DataFrame, side: Side, unit: str) -> str:
    value = side.recommended.value
    if not math.isfinite(value):
        return f"Sign {signed(side.sign)}: no coefficient to recommend ({'; '.join(side.reasons)})."
    column = "trait" if "trait" in frame.columns else "logprob_unsteered"
    what = "the trait" if column == "trait" else "the log-probability under the unsteered model"
    moved = change(frame, column, value)
    measurable = moved.low > 0 or moved.high < 0
    words = f"moves {what} by" if measurable else f"does not measurably move {what}:"
    sentence = f"{_number(value)} {UNITS[unit]}s {words} {_ends(moved)}"
    if column == "trait" and measurable and moved.value * side.sign < 0:
        sentence += ", the wrong way"
    if (frame["vector"] == "random").any():
        sentence += (
            f" (a random vector of that length: {_ends(change(frame, column, value, 'random'))})"
        )
    if "coherence" in frame.columns:
        cost = change(frame, "coherence", value)
        words = "costs" if cost.high < 0 else "has no measurable cost in"
        sentence += f", and {words} coherence ({_ends(cost)})"
    return sentence + "."


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
    found = bootstrap_mean(part[column].to_numpy(dtype=float), part["prompt_index"].to_numpy())
    if not found.count:
        return "–"
    return _ends(found, spec)


def _number(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _ends(found: Interval, spec: str = "+.2f") -> str:
    if not found.count:
        return "unknown"
    mean, low, high = (
        format(number, spec).replace("-", "−") for number in (found.value, found.low, found.high)
    )
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
    axis, unit = coefficient_axis(steered)
    judged = all("coherence" in frame.columns for frame in frames.values())
    rules = rules_table(frames, ceilings)
    unjudged = "No judge measured the trait of these texts, so there are no slopes to report."
    return {
        "traits": ", ".join(frames),
        "coefficients": int(steered["coefficient"].nunique()),
        "prompts": int(steered["prompt_index"].nunique()),
        "unit": f"{UNITS[unit]}s",
        "range": f"{_number(steered[axis].min())} to {_number(steered[axis].max())}",
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
        "flags": flags_counted(frames),
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
