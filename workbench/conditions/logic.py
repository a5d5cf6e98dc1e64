"""Rules that say which behaviours conditions call for: "if harmful and not medical then refuse".

    rule        if EXPRESSION then BEHAVIOUR [* STRENGTH] [and|, BEHAVIOUR [* STRENGTH]] …
    EXPRESSION  conditions with `not`, `and`, `or` (binding in this order) and parentheses

Names are plain words (letters, digits, _ and -, no digit first) or stand in quotes; C1, C2, … and
B1, B2, … mean the first, second, … condition and behaviour, unless one is really called so. A `;`
parts rules in one text. Knows nothing of how a condition is tested nor of what a behaviour does.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput, UnexpectedToken
from torch import Tensor

from workbench.conditions.expressions import (
    NAME,
    Expression,
    Joined,
    Met,
    Not,
    as_text,
    conditions_in,
    holds,
    written,
)
from workbench.support.checks import require_lists

_QUOTED = r""""(?:\\.|[^"\\])+"|'(?:\\.|[^'\\])+'"""
_PARSER = Lark(
    rf"""
    start: rule (";" rule)* ";"?
    rule: _IF _or _THEN effect ((_AND | ",") effect)*
    _or: either | _and
    either: _and (_OR _and)+
    _and: both | _not
    both: _not (_AND _not)+
    _not: "(" _or ")" | CONDITION | negation
    negation: _NOT _not
    effect: BEHAVIOUR ["*" NUMBER]
    _IF: /if(?![\w-])/i
    _THEN: /then(?![\w-])/i
    _AND: /and(?![\w-])/i
    _OR: /or(?![\w-])/i
    _NOT: /not(?![\w-])/i
    CONDITION: /{NAME}|{_QUOTED}/is
    BEHAVIOUR: /{NAME}|{_QUOTED}/is
    NUMBER: /[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?/i
    %ignore /\s+/
    """,
    parser="lalr",
    maybe_placeholders=False,
)
_WORDS = {
    "_AND": "'and'", "_OR": "'or'", "_NOT": "'not'", "_IF": "'if'", "_THEN": "'then'",
    "LPAR": "'('", "RPAR": "')'", "COMMA": "','", "STAR": "'*'", "SEMICOLON": "';'",
    "NUMBER": "a finite number", "CONDITION": "a condition", "BEHAVIOUR": "a behaviour",
    "$END": "the end",
}  # fmt: skip
_DEEPEST = 100  # nested expressions, well below where Python's own recursion ends

Node: TypeAlias = Tree[Token] | Token


@dataclass(frozen=True)
class Rule:
    """An expression, and the behaviours with their strengths where it holds."""

    when: Expression
    then: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        effects = [
            written(name) + (f" * {strength!r}" if strength != 1 else "")
            for name, strength in self.then
        ]
        return f"if {as_text(self.when)} then {', '.join(effects)}"


@dataclass(frozen=True)
class Rules:
    """Parsed rules; as text they are what `parse` reads back to the same rules."""

    rules: tuple[Rule, ...]

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions that are used, in the order in which they appear."""
        return tuple(
            dict.fromkeys(name for rule in self.rules for name in conditions_in(rule.when))
        )

    @property
    def behaviours(self) -> tuple[str, ...]:
        """The behaviours that are used, in the order in which they appear."""
        return tuple(dict.fromkeys(name for rule in self.rules for name, _ in rule.then))

    def strengths(self, verdicts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Behaviour -> (B,) float64, the sum of its strengths over the rules that hold in a row.

        verdicts  condition -> (B,) bool, at least of the conditions that are used

        Raises ValueError for a verdict that is missing, not bool, or of another shape than the
        others.
        """
        first: tuple[str, Tensor] | None = None
        for name in self.conditions:
            if name not in verdicts:
                raise ValueError(f"no verdict on {name!r}; there are verdicts on {list(verdicts)}")
            given = verdicts[name]
            if given.dtype != torch.bool or given.ndim != 1:
                raise ValueError(
                    f"the verdict on {name!r} is {given.dtype} of shape {tuple(given.shape)}; give "
                    "one bool for each row, (B,)"
                )
            first = first or (name, given)
            if given.shape != first[1].shape:
                raise ValueError(
                    f"verdicts on {len(first[1])} rows for {first[0]!r} and on {len(given)} for "
                    f"{name!r}; give the same rows"
                )
        totals: dict[str, Tensor] = {}
        for rule in self.rules:
            met = holds(rule.when, verdicts).double()
            for name, strength in rule.then:
                totals[name] = totals.get(name, torch.zeros_like(met)) + strength * met
        return totals

    def __str__(self) -> str:
        return "; ".join(map(str, self.rules))


def parse(
    rules: str | Sequence[str], conditions: Sequence[str], behaviours: Sequence[str]
) -> Rules:
    """Rules out of text, or of several texts, about conditions and behaviours of these names.

    Keywords may be written in capitals; names count letter by letter. The rules of conditional
    activation steering ("if C1 or C2 then B1"; Lee et al. 2024, https://arxiv.org/abs/2409.05907)
    are such text too: what its library makes of them is in logic_reference.py.

    Raises ValueError that quotes the rule and points at the place: for anything that is no rule,
    saying what is expected there; for an unknown name, saying which are known; for a strength that
    is not finite, a behaviour that a rule names twice, and expressions nested deeper than 100.
    Raises ValueError too for names that are empty, no text, or stand twice.
    """
    require_lists(conditions=conditions, behaviours=behaviours)
    known = {"condition": tuple(conditions), "behaviour": tuple(behaviours)}
    for kind, names in known.items():
        _check_names(kind, names)
    texts = [rules] if isinstance(rules, str) else list(rules)
    if not texts:
        raise ValueError("rules is empty; give at least one: 'if C1 then B1'")
    parsed: list[Rule] = []
    for index, text in enumerate(texts):
        called = "the rule" if len(texts) == 1 else f"rule {index + 1}"
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{called} is {text!r}; write it as 'if C1 then B1'")
        parsed += _Reader(text, called, known).rules()
    return Rules(tuple(parsed))


@dataclass(frozen=True)
class _Reader:
    """One text, what it is called in a message, and the names that it may use."""

    text: str
    called: str
    known: Mapping[str, Sequence[str]]

    def rules(self) -> list[Rule]:
        try:
            tree = _PARSER.parse(self.text)
        except UnexpectedInput as error:
            raise self._unexpected(error) from None
        return [self._rule(*rule.children) for rule in tree.children if isinstance(rule, Tree)]

    def _rule(self, when: Node, *effects: Node) -> Rule:
        then: dict[str, float] = {}
        for effect in effects:
            assert isinstance(effect, Tree)
            token, *strength = (part for part in effect.children if isinstance(part, Token))
            name = self._name("behaviour", token)
            if name in then:
                raise self._error(token, f"the behaviour {name!r} stands twice in one rule")
            then[name] = float(strength[0]) if strength else 1.0
            if not math.isfinite(then[name]):
                raise self._error(strength[0], f"the strength {strength[0]} is not finite")
        return Rule(self._expression(when, 1), tuple(then.items()))

    def _expression(self, node: Node, depth: int) -> Expression:
        if isinstance(node, Token):
            return Met(self._name("condition", node))
        if depth > _DEEPEST:
            first: Node = node
            while isinstance(first, Tree):
                first = first.children[0]
            raise self._error(first, f"nested deeper than {_DEEPEST} expressions")
        terms = tuple(self._expression(child, depth + 1) for child in node.children)
        if node.data == "negation":
            return Not(*terms)
        return Joined("and" if node.data == "both" else "or", terms)

    def _name(self, kind: str, token: Token) -> str:
        """The real name that a token means."""
        names = self.known[kind]
        given = re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.S) if token[0] in "\"'" else token
        if given in names:
            return str(given)
        number = re.fullmatch(rf"{kind[0]}([1-9]\d{{0,5}})", token, re.IGNORECASE)
        if number and int(number[1]) <= len(names):
            return names[int(number[1]) - 1]
        close = difflib.get_close_matches(given.lower(), [each.lower() for each in names], n=1)
        meant = [each for each in names if close and each.lower() == close[0]]
        numbered = {f"{kind[0].upper()}{i}": each for i, each in enumerate(names, 1)}
        said = ", ".join(
            repr(each) if number in names else f"{each!r} ({number})"
            for number, each in numbered.items()
        )
        raise self._error(
            token,
            f"unknown {kind} {str(given)!r}"
            + (f", did you mean {meant[0]!r}?" if meant else "")
            + f"; known are {said or 'none'}",
        )

    def _unexpected(self, error: UnexpectedInput) -> ValueError:
        """What the parser could not read, what it expected there, and open parentheses."""
        ended = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        place = len(self.text.rstrip()) if ended else error.pos_in_stream
        assert place is not None
        # Not `error.accepts`: characters that begin no token have none.
        before = _PARSER.parse_interactive(self.text[:place])
        seen = before.exhaust_lexer()
        accepted = before.accepts()
        expected = [word for terminal, word in _WORDS.items() if terminal in accepted]
        if isinstance(error, UnexpectedToken) and not ended:
            found, stop = repr(str(error.token)), place + len(error.token)
        else:
            found = "the end" if ended else repr(self.text[place])
            stop = place + 1
        message = f"expected {_either(expected)}, found {found}"
        unclosed = [token for token in seen if token.type == "LPAR"]
        for _ in (token for token in seen if token.type == "RPAR"):
            unclosed.pop()
        if found in ("'\"'", '"\'"'):
            message += "; this quote is not closed, or nothing is in it"
        elif found == "')'" and not unclosed:
            message += "; no '(' is open here"
        elif unclosed and found != "')'":
            message += f"; the '(' at character {unclosed[-1].column} is not closed"
        return _pointing(self.text, self.called, place, stop, message)

    def _error(self, token: Token, message: str) -> ValueError:
        assert token.start_pos is not None
        assert token.end_pos is not None
        return _pointing(self.text, self.called, token.start_pos, token.end_pos, message)


def _pointing(text: str, called: str, start: int, stop: int, message: str) -> ValueError:
    """The message, the line of the rule where the place is, and carets below it."""
    begins = text.rfind("\n", 0, start) + 1
    line = text[begins:].split("\n", 1)[0].rstrip().replace("\t", " ")
    width = max(1, min(stop, begins + len(line)) - start)
    return ValueError(f"{called}: {message}\n    {line}\n    {' ' * (start - begins)}{'^' * width}")


def _check_names(kind: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{kind} {index + 1} is called {name!r}; give it a name")
        if name in names[:index]:
            raise ValueError(f"two {kind}s are called {name!r}; give each a name of its own")


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
