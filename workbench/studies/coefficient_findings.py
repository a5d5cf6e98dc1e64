"""What the sweeps that choose a coefficient found, as the tables and sentences of a report.

What came of it on fresh prompts is told in verdicts.py. Every number and every word of judgement
comes from the frames. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.statistics.intervals import Interval
from workbench.studies.recommended_findings import (
    confirm,
    confirmed_table,
    headline,
    placebo,
    verdict,
)
from workbench.studies.recommended_outcomes import KINDS, held, nearest, outcomes
from workbench.support.tables import markdown_table
from workbench.support.wording import interval, number, one_line, quoted, signed, titled
from workbench.sweeps.frames import coefficient_axis
from workbench.sweeps.marks import MARKS, UNITS, Ceiling
from workbench.sweeps.rules import flags_table, rules_table, rules_verdict, shown_rules
from workbench.sweeps.slopes import slope_summary
from workbench.vectors.steering_vector import SteeringVector


def marks_table(
    ceilings: Mapping[str, Ceiling], frames: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """One row per trait and sign: status, the three marks with intervals and, where a judge knows
    it, what share of the texts that hold unsteered still hold at the recommended coefficient."""
    return pd.DataFrame(
        {
            "trait": trait,
            "sign": signed(sign),
            "status": side.status,
            **{mark: str(getattr(side, mark)) for mark in MARKS},
            **_hold_there(frames[trait], side.recommended.value),
        }
        for trait, ceiling in ceilings.items()
        for sign, side in ceiling.sides.items()
    )


def _hold_there(frame: pd.DataFrame, value: float) -> dict[str, str]:
    if "coherence" not in frame.columns:
        return {}
    share = interval(held(frame, value), ".0%") if math.isfinite(value) else "–"
    return {"texts that hold at recommended": share}


def vectors_table(
    vectors: Mapping[str, SteeringVector], frames: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """One row per trait: the pairs that made its vector, the layer it steers and why, and how many
    prompts its sweep has."""
    return pd.DataFrame(
        {
            "trait": trait,
            "pairs": vector.provenance.get("pairs", "?"),
            "made the vector": vector.provenance.get("made_from", "?"),
            "layer": vector.layer,
            "why this layer": vector.provenance.get("layer_choice", "?"),
            "one residual norm (raw units)": format(vector.residual_norm[vector.layer], ".1f"),
            "prompts of the sweep": frames[trait]
            .query("vector == 'vector'")["prompt_index"]
            .nunique(),
        }
        for trait, vector in vectors.items()
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
                places.setdefault(nearest(grid[grid != 0], value), []).append(mark)
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
                "coefficient": number(place),
                **{name: float(text[name]) for name in columns},
                "text": text["text"],
            }
        )
    return pd.DataFrame(rows)


def flags_counted(frames: Mapping[str, pd.DataFrame]) -> str:
    """`rules.flags_table` of all sweeps together, as Markdown; a sentence where none is judged."""
    if not all("coherence" in frame.columns for frame in frames.values()):
        return "No judge knows the coherence of these texts, so what is broken cannot be checked."
    every, some = (
        pd.concat([flags_table(frame, doubtful=doubtful) for frame in frames.values()])
        .groupby(level=0, sort=False)
        .sum()
        for doubtful in (False, True)
    )
    counts = every.join(some.add_suffix(", in doubt"))
    counts = counts.rename(columns=lambda name: name.replace("incoherent", "does not hold"))
    counts = counts.rename(columns=lambda name: name.replace("coherent", "holds"))
    return (
        "All texts of the vectors, at every coefficient: what `find_ceiling` calls them, against "
        "their exact coherence (a text *holds* from a half on). *In doubt*: at coefficients where "
        "a tenth to nine tenths of a sweep's texts hold; elsewhere it is easy to be right."
        "\n\n" + markdown_table(counts.reset_index(names="by find_ceiling"))
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
            flat, anti = (
                Interval(found[share], found[f"{share}_low"], found[f"{share}_high"], 1)
                for share in ("flat", "anti_steerable")
            )
            rows.append(
                {
                    "trait": trait,
                    "texts": KINDS.get(kind, f"{kind} vector"),
                    "prompts": found["prompts"],
                    "coefficients up to": found["within"],
                    f"mean slope (trait per {UNITS[found['unit']]})": interval(
                        Interval(*mean, found["prompts"])
                    ),
                    "flat": interval(flat, ".0%"),
                    "anti-steerable, of the rest": (
                        "–" if math.isnan(anti.value) else interval(anti, ".0%")
                    ),
                }
            )
    return pd.DataFrame(rows)


def sweep_values(
    frames: Mapping[str, pd.DataFrame],
    ceilings: Mapping[str, Ceiling],
    fresh: Mapping[str, pd.DataFrame],
    vectors: Mapping[str, SteeringVector],
) -> dict[str, str | int]:
    """The pieces that a report on several sweeps quotes, as Markdown.

    frames    trait -> the sweep that chose its coefficients
    ceilings  trait -> what was chosen
    fresh     trait -> the sweep over the recommended coefficients on other prompts
    vectors   trait -> what was swept
    """
    first = next(iter(frames.values()))
    steered = first[first["vector"] == "vector"]
    axis, unit = coefficient_axis(steered)
    judged = all("coherence" in frame.columns for frame in frames.values())
    rules = rules_table(frames, ceilings)
    confirmed = confirm(frames, ceilings, fresh)
    counts = [
        part.loc[part["vector"] == "vector", "prompt_index"].nunique() for part in frames.values()
    ]
    unjudged = "No judge measured the trait of these texts, so there are no slopes to report."
    return {
        "traits": ", ".join(frames),
        "coefficients": int(steered["coefficient"].nunique()),
        "prompts": " to ".join(map(str, sorted({min(counts), max(counts)}))),
        "unit": f"{UNITS[unit]}s",
        "step": f"{np.diff(np.sort(steered[axis].unique())).max():.3g}",
        "range": f"{number(steered[axis].min())} to {number(steered[axis].max())}",
        "new_tokens": int(first.attrs["new_tokens"]),
        "judged": (
            "Coherence and trait of every text are exact: the model speaks the language of a "
            "grammar, and its parser says what belongs to it."
            if judged
            else "No exact judge knows the language of this model: coherence and traits are not "
            "shown, and what is said of broken texts rests on the model's own measures."
        ),
        "vectors": markdown_table(vectors_table(vectors, frames)),
        "marks": markdown_table(marks_table(ceilings, frames)),
        "headline": headline(confirmed),
        "confirmed": quoted(confirmed_table(confirmed), "There is nothing to confirm."),
        "placebo": placebo(confirmed, fresh),
        "rules": markdown_table(shown_rules(rules), ".2f"),
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
                trait: f"Prompt: `{one_line(frame['prompt'].iloc[0])}`\n\n"
                + markdown_table(texts_around(frame, ceilings[trait]), ".2f")
                for trait, frame in frames.items()
            }
        ),
        "verdicts": "\n\n".join(verdict(trait, fresh[trait], ceilings[trait]) for trait in fresh),
        "outcomes": titled({trait: markdown_table(outcomes(fresh[trait])) for trait in fresh}),
    }
