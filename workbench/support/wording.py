"""How numbers, intervals and tables are worded in a report. Knows nothing of what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from workbench.statistics.intervals import Interval
from workbench.support.tables import markdown_table

#: Methods of extraction, and the controls beside them, as every table and figure names them.
METHODS: Mapping[str, str] = MappingProxyType(
    {
        "mean_difference": "difference of means",
        "pca_diff": "PCA of differences",
        "pca_center": "PCA about the pairs' centres",
        "pca_global": "PCA of all activations",
        "logistic": "logistic probe",
        "lda": "linear discriminant",
        "random": "random",
        "shuffled": "shuffled labels",
    }
)

#: What tells two classes of texts apart, likewise.
MEASURES: Mapping[str, str] = MappingProxyType(
    {
        "auc": "area under the curve",
        "auc_matched": "area, matched in length",
        "precision": "precision",
        "recall": "recall",
        "false_alarms": "false alarms",
        "f1": "F1",
    }
)

#: What a sweep measures of a text, by its column.
LOGGED: Mapping[str, str] = MappingProxyType(
    {
        "trait": "trait",
        "coherence": "coherence",
        "logprob_unsteered": "log-probability, unsteered model",
        "distinct_2": "distinct pairs of tokens",
    }
)

#: The rule of `workbench.find_ceiling` and what it calls a text, beside rivals and judges.
FIND_CEILING = "find_ceiling"


def quoted(table: pd.DataFrame, otherwise: str, spec: str = ".2f") -> str:
    """The table in Markdown, or a sentence where it has no rows."""
    return markdown_table(table, spec) if len(table) else otherwise


def titled(sections: Mapping[str, str]) -> str:
    """Pieces of Markdown under each other, each below a heading of the third level."""
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in sections.items())


def one_line(text: str) -> str:
    """A prompt as it stands between backticks."""
    return text.replace("`", "'").replace("\n", " ⏎ ").strip()


def signed(sign: int) -> str:
    """A sign as it is printed: + or −."""
    return "+" if sign > 0 else "−"


def number(value: float, spec: str = "+.2f") -> str:
    """A number in a format of Python's, with a true minus sign."""
    return format(value, spec).replace("-", "−")


def interval(found: Interval, spec: str = "+.2f") -> str:
    """A value with the ends of its interval; "unknown" without any unit, and "all equal" where the
    units agree and nothing bounds what others may be."""
    if not found.count:
        return "unknown"
    value = number(found.value, spec)
    if found.low == found.high:
        return f"{value} (all equal)" if found.count > 1 else f"{value} (one value)"
    return f"{value} [{number(found.low, spec)}, {number(found.high, spec)}]"


def estimate(row: pd.Series, name: str, spec: str = "+.2f") -> str:
    """`name` of a row with its ends `name_low` and `name_high`, such as "+0.93 [+0.89, +0.96]"; a
    dash where it is not known."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if not math.isfinite(value):
        return "–"
    return f"{number(value, spec)} [{number(low, spec)}, {number(high, spec)}]"


def p_value(value: float) -> str:
    """A p value to three digits, never 0."""
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def listed(words: Sequence[str]) -> str:
    """One, one and two, or one, two and three."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def cell(value: Any) -> str:
    """As text within a line or one cell of a table: what others wrote must not become markup."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    marks = {"&": "&amp;", "<": "&lt;", "|": "&#124;", "`": "&#96;", "[": "&#91;", "!": "&#33;"}
    return text.translate(str.maketrans(marks))


def percent(found: Interval) -> str:
    """ "96 [92, 99] %", a share with its interval; below a tenth with one digit more."""
    if math.isnan(found.value):
        return "–"
    digits = 1 if found.value < 0.1 else 0
    value, low, high = (f"{100 * each:.{digits}f}" for each in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}] %"


def points(found: Interval) -> str:
    """ "+4 [-1, +9]", in points of a hundred."""
    return f"{100 * found.value:+.0f} [{100 * found.low:+.0f}, {100 * found.high:+.0f}]"
