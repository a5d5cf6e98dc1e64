"""wren: a small language whose every text can be judged exactly, and a model that speaks it."""

from .contrast import asking_prompts, open_prompts, trait_pairs
from .grammar import Document, write
from .judge import Assessment, Fit, assess, coherence, coherences, fit, trait, trait_scores
from .parser import Parse, Sentence, parse
from .prompts import Prompt, read_prompt
from .traits import Trait, traits

__all__ = [
    "Assessment",
    "Document",
    "Fit",
    "Parse",
    "Prompt",
    "Sentence",
    "Trait",
    "asking_prompts",
    "assess",
    "coherence",
    "coherences",
    "fit",
    "open_prompts",
    "parse",
    "read_prompt",
    "trait",
    "trait_pairs",
    "trait_scores",
    "traits",
    "write",
]
