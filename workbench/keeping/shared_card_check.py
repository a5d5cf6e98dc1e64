"""Whether the card of a shared vector is sound: all that is read of it later is there, and of the
kind that it should be. A card comes from the hub, written by anybody."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workbench.support.checks import number
from workbench.vectors.steering_vector import SteeringVector

FORMAT = "workbench.shared/2"
# Under this name keys were added: not every card of it says all that is read here.
_EARLIER = "workbench.shared/1"
# How many texts a card holds.
TEXTS = 8


def check_card(card: Any, vector: SteeringVector, positions: Mapping[str, Any], where: str) -> None:
    """Raise ValueError for a card that `share` did not write, that is of another vector, or that
    lacks or garbles what `verify` and the README read.

    positions  the rules that a card can name
    """
    written = card.get("format") if isinstance(card, Mapping) else None
    if written == _EARLIER:
        raise ValueError(
            f"the card in {where!r} is of the earlier format {written!r}, which may lack what is "
            f"read here ({FORMAT!r}): load its vector (workbench.vectors.files.load), and have it "
            "shared again by `share` on the model that it was made on"
        )
    if not isinstance(card, Mapping) or written != FORMAT:
        raise ValueError(
            f"{where!r} holds no vector that `share` wrote (its card is of another kind, "
            f"{written!r}; read here is {FORMAT!r})"
        )
    if card.get("sha256") != vector.sha256:
        raise ValueError(f"the card in {where!r} belongs to another vector than lies beside it")
    try:
        wrong = next((name for name, ok in _sound(card, vector, positions) if not ok), "")
    except (KeyError, TypeError, AttributeError) as error:
        wrong = str(error)
    if wrong:
        raise ValueError(f"the card in {where!r} is damaged: {wrong} is missing or of another kind")


def _sound(card: Mapping[str, Any], vector: SteeringVector, positions: Mapping[str, Any]) -> Any:
    """What is checked, and whether it holds, in order."""
    words = ("model", "fingerprint", "dtype", "device", "attention", "template", "tokenizer")
    for name in (*words, "method"):
        yield name, isinstance(card[name], str)
    for name in ("about", "versions"):
        yield name, isinstance(card[name], Mapping)
    yield "positions", card["positions"] in positions
    yield "coefficient", math.isfinite(number(card["coefficient"]))
    yield "unit", card["unit"] in vector.units
    yield (
        "layers",
        len(card["layers"]) > 0 and all(layer in vector.directions for layer in card["layers"]),
    )
    ceiling = card["ceiling"]
    yield "ceiling", ceiling is None or isinstance(ceiling, Mapping)
    if ceiling is not None:
        needed = {"level", "prompts", "compared", "signal", "controlled"}
        marks = {"sign", "mark", "value", "low", "high", "status"}
        yield "ceiling", needed <= set(ceiling) and 0 < number(ceiling["level"]) < 1
        yield "ceiling", all(marks <= set(each) for each in ceiling["marks"])
    yield (
        "recommended",
        card["recommended"] is False or (card["recommended"] is True and ceiling is not None),
    )
    kept = card["generations"]
    yield "generations", isinstance(kept, list) and len(kept) == TEXTS
    for row, each in enumerate(kept):
        name = f"generation {row}"
        yield name, isinstance(each["prompt"], str | list)
        yield name, all(isinstance(each[key], str) for key in ("text", "unsteered"))
        ids = each["ids"]
        yield name, all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids)
        yield name, isinstance(each["new_tokens"], int) and 0 < len(ids) <= each["new_tokens"]
        for key in ("logprobs", "logprobs_unsteered"):
            yield name, len(each[key]) == len(ids)
            yield name, all(math.isfinite(number(value)) for value in each[key])
