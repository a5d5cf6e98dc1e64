"""The card of a shared vector, for people: README.md as the hub shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCardData

from workbench.support.wording import cell

if TYPE_CHECKING:
    from workbench.sweeps.marks import Ceiling


def found(ceiling: Ceiling) -> dict[str, Any]:
    """A ceiling as JSON values: its marks (None for what does not exist, "beyond" for an end of an
    interval past the swept range), how they were found, and on which sweep."""

    def plain(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        return None if math.isnan(value) else "beyond" if math.isinf(value) else value

    rows = ceiling.summary(whole=True).to_dict("records")
    return {
        "marks": [{str(name): plain(value) for name, value in row.items()} for row in rows],
        "level": ceiling.level,
        "prompts": ceiling.prompts,
        "compared": ceiling.compared,
        "signal": ceiling.signal,
        "controlled": ceiling.controlled,
        "thresholds": dict(ceiling.thresholds),
        "sweep": dict(ceiling.swept),
    }


def readme(card: Mapping[str, Any]) -> str:
    """README.md of a card that `sharing.share` made."""
    about, model = card["about"], card["model"]
    trait = about.get("trait") or about.get("pairs") or card["method"]
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
        f"For `{cell(model)}` (weights `{cell(card['fingerprint'][:12])}`, {cell(card['dtype'])}), "
        f"layer {', '.join(map(str, card['layers']))}, on the tokens `{card['positions']}`.",
        _coefficient(card),
        _marks(card["ceiling"]),
        "## Where it came from",
        _about(card),
        "## What it does",
        f"Written greedily; `verify` writes the steered ones again. Steering makes their tokens "
        f"{_effect(card):+.2f} nats more likely, on average over all of them.",
        f"| prompt | unsteered | steered |\n|---|---|---|\n{texts}",
        "## Use",
        "```python\nfrom workbench.keeping.sharing import SharedVector\n"
        "shared = SharedVector.from_pretrained(...)\n"
        "shared.verify(lm)\ngenerate(lm, prompts, shared.at())\n```",
        _control(card),
        "## Surroundings\n\n"
        f"- chat template sha256 `{cell(card['template']) or 'none'}`\n"
        f"- tokenizer sha256 `{cell(card['tokenizer'])}`\n"
        f"- device {cell(card['device'])}, attention {cell(card['attention'])}\n"
        + "\n".join(
            f"- {cell(name)} {cell(version)}" for name, version in card["versions"].items()
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _coefficient(card: Mapping[str, Any]) -> str:
    """What it is used at: recommended if the ceiling said so, with its interval."""
    unit = "residual norms" if card["unit"] == "norm" else "multiples of the vector as it is"
    size, marks = card["coefficient"], (card["ceiling"] or {}).get("marks", [])
    side = {each["mark"]: each for each in marks if each["sign"] == (1 if size > 0 else -1)}
    if card["recommended"]:
        own = side["recommended"]
        between = f"[{_number(own['low'])}, {_number(own['high'])}] "
        return f"**Recommended coefficient: {size:+.3g}** {between}{unit}."
    said = f"**Used at {size:+.3g}** {unit}, by hand."
    most = side.get("ceiling", {}).get("value")
    if isinstance(most, float) and abs(size) > abs(most):
        said += f" That lies beyond the ceiling {most:+.3g}, where half of the texts break."
    return said


def _effect(card: Mapping[str, Any]) -> float:
    """Mean over all stored tokens of log P steered less log P unsteered, nats."""
    kept = card["generations"]
    steered, plain = (
        [value for each in kept for value in each[name]]
        for name in ("logprobs", "logprobs_unsteered")
    )
    return (sum(steered) - sum(plain)) / len(steered)


def _control(card: Mapping[str, Any]) -> str:
    if card["positions"] != "everything" or 0 in card["layers"]:
        return (
            "There is no control vector for llama.cpp, which adds to every token, and after no "
            "block before the second."
        )
    return "`vector.gguf` is the same for llama.cpp: `--control-vector vector.gguf`, strength 1."


def _marks(ceiling: Mapping[str, Any] | None) -> str:
    if ceiling is None:
        return "No ceiling was measured: how far it can be turned up is not known."
    marks = ceiling["marks"]
    rows = [
        f"| {'+' if each['sign'] > 0 else '−'} | {cell(each['mark'])} | {_number(each['value'])} "
        f"| {_number(each['low'])} to {_number(each['high'])} | {cell(each['status'])} |"
        for each in marks
    ]
    head = f"| side | mark | coefficient | {ceiling['level']:.0%} interval | found |"
    measure = cell(ceiling["signal"] or "nothing")
    control = "beside a random control" if ceiling["controlled"] else "without a random control"
    scope = (
        f"Over {ceiling['compared']} of {ceiling['prompts']} prompts, those whose unsteered text "
        f"is intact; the effect is measured by {measure}, {control}."
    )
    return "\n".join([head, "|---" * 5 + "|", *rows, "", scope])


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:+.3g}" if isinstance(value, float) else cell(value)


def _about(card: Mapping[str, Any]) -> str:
    lines = [f"- method: {cell(card['method'])}"]
    lines += [
        f"- {cell(name)}: {cell(value)}"
        for name, value in card["about"].items()
        if isinstance(value, str | int | float) and value != "" and len(str(value)) < 200
    ]
    return "\n".join(lines)
