"""Judges: what a text is worth, as columns of a frame.

A judge is a callable `(written, trait) -> DataFrame` with one row per text, in their order;
`trait` is the name of what was steered. `score(texts, prompts, trait, by=judge)` asks any of them
about plain texts. There are three kinds, on one scale (trait -1 to 1, coherence 0 to 1):

exact        facts about texts in wren's language, from its grammar
LocalJudge   a language model on this machine, by the probabilities of rating tokens
HostedJudge  a model behind an API, by what it answers: `AnthropicBatches` or `OpenAIChat`

`agreement` says how far two judges agree. Judges run over finished texts and are never stored: a
sweep that resumes judges all of its texts again, with the judges that it is given then; a hosted
one has kept what was paid for.
"""

from workbench.judges.agreement import agreement
from workbench.judges.anthropic_batches import AnthropicBatches
from workbench.judges.budget import Estimate, Prices, Spent
from workbench.judges.exact import exact
from workbench.judges.hosted import HostedJudge
from workbench.judges.interface import HOLDS, Judge, Written, check_listed, judge, name, score
from workbench.judges.local import LocalJudge
from workbench.judges.openai_chat import OpenAIChat

__all__ = [
    "HOLDS",
    "AnthropicBatches",
    "Estimate",
    "HostedJudge",
    "Judge",
    "LocalJudge",
    "OpenAIChat",
    "Prices",
    "Spent",
    "Written",
    "agreement",
    "check_listed",
    "exact",
    "judge",
    "name",
    "score",
]
