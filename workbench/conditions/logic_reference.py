"""Rules as the library of conditional activation steering reads them, for parity with its numbers.

Lee et al. 2024, https://arxiv.org/abs/2409.05907; IBM/activation-steering, as of version 52be602.
It knows no `not`, no parentheses and no precedence, and refuses nothing. `logic` is what rules
are written for; the two agree where a rule has only `and`, or only `or`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def reference_value(rule: str, verdicts: Mapping[str, bool]) -> bool:
    """Whether the library takes a rule to hold.

    verdicts  condition -> whether it is met; C1, C2, … are the first, second, … of them

    Exactly one "then", in small letters, must part the rule. With an "or" among the words before
    it one term is enough, whatever else stands there; with an "and" all are needed; with neither
    the first word alone is read. A word that is no number of a condition is a term that is not met.
    """
    met = list(verdicts.values())
    parts = rule.split("then")
    if len(parts) != 2:
        return False
    words = parts[0].strip().lower().replace("if", "").split()
    terms = [_term(word, met) for word in words if word not in ("and", "or")]
    if "or" in words:
        return any(terms)
    return all(terms) if "and" in words else terms[:1] == [True]


def _term(word: str, met: list[bool]) -> bool:
    number = re.fullmatch(r"c([1-9]\d{0,5})", word)
    return number is not None and int(number[1]) <= len(met) and bool(met[int(number[1]) - 1])
