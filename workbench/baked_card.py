"""The model card of a baked checkpoint: what was done, how equal it is, what it will not do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from workbench.wording import cell


def card(facts: Mapping[str, Any], control_vector: bool) -> str:
    """README.md, from `Baked.facts()`."""
    base, check = facts["base"], facts["check"]
    data = ModelCardData(
        base_model=base if base.count("/") == 1 else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["activation-steering", "steering-vector"],
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {base}, steered by its weights",
        f"This is `{base}` (weights `{facts['fingerprint'][:12]}`) with changes written into its "
        "weights. It loads with transformers alone, without code of others. The licence and the "
        "limits of the base model are its own too.",
        "## What was baked in",
        _table(facts["changes"]),
        "A weight knows no positions: the change acts on every token of every text, the first "
        "token included, also where a steering library would have spared it. It cannot be turned "
        "off or down; for that steer the base model.",
        f"Weights that differ: {', '.join(f'`{name}`' for name in facts['weights'])}.",
        "## How it was checked",
        f"Against the base model under the same change while it runs, on {check['tokens']} tokens, "
        f"in {check['dtype']}: logits differ by {check['difference']:.2g} at most (largest logit "
        f"{check['largest']:.1f}), and {check['same']} of {check['written']} greedily written "
        "tokens are the same.",
        f"In bfloat16 the divergence from that is {check['kl_bfloat16']:.2g} nats a token; of the "
        f"base model in bfloat16 from itself it is {check['kl_bfloat16_base']:.2g}.",
        "## Where it came from",
        _provenance(facts),
    ]
    if facts["rewritten"]:
        parts.insert(
            6,
            f"The base model's architecture has no bias in the right place: the same function is "
            f"written as a {facts['rewritten']}.",
        )
    if control_vector:
        parts.append(
            "`control-vector.gguf` is the same vector for llama.cpp, to be used with the *base* "
            "model (`--control-vector control-vector.gguf`): with this checkpoint it would act "
            "twice."
        )
    return "\n\n".join(parts) + "\n"


def _table(changes: list[Mapping[str, Any]]) -> str:
    rows = [
        "| change | layer | site | coefficient | made on | sha256 |",
        "|---|---|---|---|---|---|",
    ]
    for each in changes:
        layer = "all" if each["layer"] is None else each["layer"]
        rows.append(
            f"| {each['kind']} | {layer} | {each['site']} | {each['coefficient']:g} "
            f"| {each['made_on'] or 'unknown'} | `{each['sha256'][:12]}` |"
        )
    return "\n".join(rows)


def _provenance(facts: Mapping[str, Any]) -> str:
    """The short values of what is known; all of it is in provenance.json."""
    lines = [
        f"- {cell(name)}: {cell(value)}"
        for name, value in facts["about"].items()
        if isinstance(value, str | int | float) and len(str(value)) < 200
    ]
    lines += [f"- {name} {version}" for name, version in facts["versions"].items()]
    return "\n".join(lines) + "\n\nAll of it is in `provenance.json`."
