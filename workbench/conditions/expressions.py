"""Boolean expressions over named conditions: when they hold, in every row at once, and as text.

Knows nothing of rules, nor of how text becomes an expression: that is in logic.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Literal, TypeAlias

from torch import Tensor

#: A name that needs no quotes, case ignored: letters, digits, _ and -, no digit first, no keyword.
NAME = r"(?!(?:if|then|and|or|not)(?![\w-]))[^\W\d][\w-]*"


@dataclass(frozen=True)
class Met:
    """That a condition is met."""

    condition: str


@dataclass(frozen=True)
class Not:
    """That an expression does not hold."""

    inner: Expression


@dataclass(frozen=True)
class Joined:
    """Two or more expressions of which all ("and") or at least one ("or") hold."""

    word: Literal["and", "or"]
    terms: tuple[Expression, ...]


Expression: TypeAlias = Met | Not | Joined


def holds(expression: Expression, verdicts: Mapping[str, Tensor]) -> Tensor:
    """(B,) bool, in which rows it holds; `verdicts` gives (B,) bool for each condition."""
    match expression:
        case Met(name):
            return verdicts[name]
        case Not(inner):
            return ~holds(inner, verdicts)
        case Joined(word, terms):
            values = (holds(term, verdicts) for term in terms)
            return reduce(and_ if word == "and" else or_, values)


def conditions_in(expression: Expression) -> Iterator[str]:
    """The conditions in it, as they appear."""
    match expression:
        case Met(name):
            yield name
        case Not(inner):
            yield from conditions_in(inner)
        case Joined(_, terms):
            for term in terms:
                yield from conditions_in(term)


def as_text(expression: Expression, loose: Collection[str] = ()) -> str:
    """The expression with as few parentheses as give it back, itself in parentheses where it
    is joined by a word of `loose`."""
    match expression:
        case Met(name):
            return written(name)
        case Not(inner):
            return f"not {as_text(inner, ('and', 'or'))}"
        case Joined(word, terms):
            looser = ("and", "or") if word == "and" else ("or",)
            text = f" {word} ".join(as_text(term, looser) for term in terms)
            return f"({text})" if word in loose else text


def written(name: str) -> str:
    """The name as a rule spells it, in quotes where it is no plain word."""
    if re.fullmatch(NAME, name, re.IGNORECASE):
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
