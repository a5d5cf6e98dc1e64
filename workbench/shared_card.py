"""The card of a shared vector, for people: README.md as the hub shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCardData

from workbench.baked_card import cell

if TYPE_CHECKING:
    from workbench.marks import Ceiling


def estimates(ceiling: Ceiling) -> list[dict[str, Any]]:
    """The marks of a ceiling as JSON values: None for what does not exist, "beyond" for an end of
    an interval past the swept range."""

    def plain(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        return None if math.isnan(value) else "beyond" if math.isinf(value) else value

    rows = ceiling.summary().to_dict("records")
    return [{str(name): plain(value) for name, value in row.items()} for row in rows]


def readme(card: Mapping[str, Any]) -> str:
    """README.md of a card that `sharing.share` made."""
    about, model = card["about"], card["model"]
    trait = about.get("trait") or about.get("pairs") or card["method"]
    unit = "residual norms" if card["unit"] == "norm" else "multiples of the vector as it is"
    data = ModelCardData(
        base_model=model if model.count("/") == 1 else None,
        tags=["activation-steering", "steering-vector"],
    )
    texts = "\n".join(
        f"| {cell(each['prompt'])} | {cell(each['unsteered'])} | {cell(each['text'])} |"
        for each in card["generations"]
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# Steering vector: {cell(trait)}",
        f"For `{model}` (weights `{card['fingerprint'][:12]}`, {card['dtype']}), layer "
        f"{', '.join(map(str, card['layers']))}, on the tokens `{card['positions']}`.",
        f"**Recommended coefficient: {card['coefficient']:+.3g}** {unit}.",
        _marks(card["marks"]),
        "## Where it came from",
        _about(card),
        "## What it does",
        "Written greedily; `verify` writes the steered ones again.",
        f"| prompt | unsteered | steered |\n|---|---|---|\n{texts}",
        "## Use",
        "```python\nfrom workbench.sharing import SharedVector\n"
        "shared = SharedVector.from_pretrained(...)\n"
        "shared.verify(lm)\ngenerate(lm, prompts, shared.at())\n```",
        "`vector.gguf` is the direction for llama.cpp, not times the coefficient.",
        "## Surroundings\n\n"
        f"- chat template sha256 `{card['template'] or 'none'}`\n"
        f"- tokenizer sha256 `{card['tokenizer']}`\n"
        + "\n".join(f"- {name} {version}" for name, version in card["versions"].items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _marks(marks: list[Mapping[str, Any]]) -> str:
    if not marks:
        return "No ceiling was measured: how far it can be turned up is not known."
    rows = [
        f"| {'+' if each['sign'] > 0 else '−'} | {each['mark']} | {_number(each['value'])} "
        f"| {_number(each['low'])} to {_number(each['high'])} | {each['status']} |"
        for each in marks
    ]
    return "\n".join(["| side | mark | coefficient | interval | found |", "|---" * 5 + "|", *rows])


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:+.3g}" if isinstance(value, float) else str(value)


def _about(card: Mapping[str, Any]) -> str:
    lines = [f"- method: {cell(card['method'])}"]
    lines += [
        f"- {name}: {cell(value)}"
        for name, value in card["about"].items()
        if isinstance(value, str | int | float) and value != "" and len(str(value)) < 200
    ]
    return "\n".join(lines)
