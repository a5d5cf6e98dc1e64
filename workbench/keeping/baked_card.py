"""The model card of a baked checkpoint: what was done, how equal it is, what it will not do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from workbench.support.wording import cell


def card(facts: Mapping[str, Any], control_vector: bool) -> str:
    """README.md, from `Baked.facts()`."""
    base, records = facts["base"], facts["baked"]
    data = ModelCardData(
        base_model=base if base.count("/") == 1 else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["activation-steering", "steering-vector"],
    )
    earlier = len(records) - len(facts["changes"])
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {base}, steered by its weights",
        f"This is `{base}` (weights `{facts['fingerprint'][:12]}`) with changes written into its "
        "weights. It loads with transformers alone, without code of others. The licence and the "
        "limits of the base model are its own too.",
        "## What was baked in",
        _table(records),
        "The coefficient multiplies the tensors as they were given; what was added is its product "
        "with a vector, as a length, and as a share of the median length of the residual stream "
        "there, unsteered, over the tokens of the check that are not the first of their text."
        if any(each.get("length") for each in records)
        else "",
        f"`{base}` had the first {earlier} of these in its weights already." if earlier else "",
        "A weight knows no positions: the change acts on every token of every text, the first "
        "token included, also where a steering library would have spared it. It cannot be turned "
        "off or down; for that steer the base model.",
        f"The base model's architecture has no bias in the right place: the same function is "
        f"written as a {facts['rewritten']}."
        if facts["rewritten"]
        else "",
        "Its output embeddings were tied to the input's and are weights of their own here, "
        "unchanged: the direction is gone from what is written to the stream, not from what "
        "reads it. An edit in place of the one matrix that was both would have changed both."
        if facts["untied"]
        else "",
        f"Weights that differ: {', '.join(f'`{name}`' for name in facts['weights'])}.",
        "## How it was checked",
        _check(facts["check"]),
        "## Where it came from",
        _provenance(facts),
        "`control-vector.gguf` is the whole change for llama.cpp, times its coefficients already "
        "(scale 1), to be used with the *base* model (`--control-vector control-vector.gguf`): "
        "with this checkpoint it would act twice."
        if control_vector
        else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _check(check: Mapping[str, Any]) -> str:
    """What was compared, on what, and what came out; the numbers of bfloat16 where it is not the
    dtype of all the others."""
    texts = len(check["prompts"])
    parted = (
        "without ever another"
        if check["parted"] is None
        else f"before another, first at token {check['parted']} of a text"
    )
    lines = [
        f"Against the base model under the same change while it runs, in {check['dtype']}, on "
        f"{check['tokens']} tokens of {texts} text{'s' if texts > 1 else ''}: "
        f"{check['tokens'] - check['written']} of prompts (they are in `provenance.json`), and "
        f"{check['written']} that the latter wrote greedily after them.",
        f"- Logits differ by {check['difference']:.2g} at most (largest logit "
        f"{check['largest']:.1f}).",
        f"- The divergence KL(running || baked) is {check['kl']:.2g} nats a token, "
        f"{check['kl_largest']:.2g} at the worst; from the base model unchanged it is "
        f"{check['moved']:.2g}.",
        f"- Writing greedily by itself, this checkpoint writes the same {check['same']} of "
        f"{check['written']} tokens {parted}.",
    ]
    if check["kl_bfloat16"] is not None:
        lines.append(
            f"- Loaded in bfloat16 the divergence is {check['kl_bfloat16']:.2g} nats a token, "
            f"{check['kl_bfloat16_largest']:.2g} at the worst; of the base model in bfloat16 from "
            f"itself it is {check['kl_bfloat16_base']:.2g}."
        )
    return f"{lines[0]}\n\n" + "\n".join(lines[1:])


def _table(changes: list[Mapping[str, Any]]) -> str:
    rows = [
        "| change | layer | site | coefficient | length added | of the stream | made on | sha256 |",
        "|" + "---|" * 8,
    ]
    for each in changes:
        layer = "all" if each["layer"] is None else each["layer"]
        rows.append(
            f"| {cell(each['kind'])} | {layer} | {cell(each['site'])} "
            f"| {_number(each['coefficient'])} | {_number(each.get('length'))} "
            f"| {_number(each.get('share'), '.0%')} | {cell(each['made_on'] or 'unknown')} "
            f"| `{cell(each['sha256'][:12])}` |"
        )
    return "\n".join(rows)


def _number(value: float | None, spec: str = ".4g") -> str:
    return "–" if value is None else format(value, spec)


def _provenance(facts: Mapping[str, Any]) -> str:
    """The short values of what is known; all of it is in provenance.json."""
    lines = [
        f"- {cell(name)}: {cell(value)}"
        for name, value in facts["about"].items()
        if isinstance(value, str | int | float) and len(str(value)) < 200
    ]
    lines += [f"- {name} {version}" for name, version in facts["versions"].items()]
    return "\n".join(lines) + "\n\nAll of it is in `provenance.json`."
