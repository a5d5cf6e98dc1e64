"""Steering language models: make vectors, sweep them, find where they break the text.

What a notebook needs stands below. Everything else lives in rooms, and each knows only those above
it in this list:

    statistics     maths on arrays: intervals, curves, distances, distributions
    support        what every room uses: checks of arguments, files, caches, tables, logs
    text           tokens, chats, completions, positions
    interventions  what is done inside a model, as data: affine updates and maps
    loading        a model: found, loaded, its layers known and checked
    contrast       contrast pairs: made, loaded, held out
    forward        one steered forward, one steered decoding: the only room that traces
    generation     texts that a steered model writes
    wren           the bundled model, the grammar that it speaks, and the exact judge
    judges         what a text is worth: exactly, by a model, by a service
    vectors        vectors, LoRAs, local weights: as objects, as files, beside controls
    sweeps         a text per coefficient: onset, recommended, ceiling, survival
    preference     preference and utility log-odds, and their laws
    extraction     from pairs to a vector, and the layer where it acts
    training       from pairs to a vector, LoRA or local weight: SFT, RePS, SPLIT
    probing        probes: what can be told from the stream, by layer and token
    anatomy        ablation, patching, layer profiles, what a direction says
    geometry       the manifold of ordinary text, and steering's distance from it
    conditions     steering only where a condition is met
    composition    several properties at once, each as strongly as its schedule says
    keeping        edited models, baked checkpoints, shared vectors, lm-evaluation-harness
    studies        what the studies found, in tables and sentences
    figures        frames in, plotly figures out
    reporting      figures and tables become files, files a report
    runs           the command line's work
    demo           the live demo
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench import figures, judges
    from workbench.anatomy import ablation, lens, patching
    from workbench.composition.compose import compose
    from workbench.conditions.condition import Condition
    from workbench.contrast import pairs
    from workbench.extraction.extract import extract
    from workbench.extraction.steerability import steering_vector
    from workbench.forward.tracing import logprobs, read
    from workbench.generation.generate import generate
    from workbench.geometry import manifold
    from workbench.interventions.updates import Intervention
    from workbench.keeping.bake import bake
    from workbench.keeping.edit import edit, steered
    from workbench.keeping.sharing import share
    from workbench.loading.models import LM, load
    from workbench.preference import laws
    from workbench.preference.odds import odds
    from workbench.probing import probes
    from workbench.reporting import report
    from workbench.support import logs
    from workbench.sweeps.ceiling import find_ceiling
    from workbench.sweeps.seek import seek
    from workbench.sweeps.slopes import slopes
    from workbench.sweeps.survival import ceilings_by_length, survival
    from workbench.sweeps.sweep import sweep
    from workbench.text import positions
    from workbench.text.positions import preview
    from workbench.training.train import train
    from workbench.vectors import files, formats
    from workbench.vectors.controls import random_like
    from workbench.vectors.steering_vector import SteeringVector

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent; see logs.py

__all__ = [
    "LM",
    "Condition",
    "Intervention",
    "SteeringVector",
    "ablation",
    "bake",
    "ceilings_by_length",
    "compose",
    "edit",
    "extract",
    "figures",
    "files",
    "find_ceiling",
    "formats",
    "generate",
    "judges",
    "laws",
    "lens",
    "load",
    "logprobs",
    "logs",
    "manifold",
    "odds",
    "pairs",
    "patching",
    "positions",
    "preview",
    "probes",
    "random_like",
    "read",
    "report",
    "seek",
    "share",
    "slopes",
    "steered",
    "steering_vector",
    "survival",
    "sweep",
    "train",
]

# Where each stands, "module" or "module:name", both below this package. They are imported when they
# are asked for: torch, transformers and plotly take seconds, which no `workbench --help` waits for.
_PLACES = {
    "LM": "loading.models:LM",
    "Condition": "conditions.condition:Condition",
    "Intervention": "interventions.updates:Intervention",
    "SteeringVector": "vectors.steering_vector:SteeringVector",
    "ablation": "anatomy.ablation",
    "bake": "keeping.bake:bake",
    "ceilings_by_length": "sweeps.survival:ceilings_by_length",
    "compose": "composition.compose:compose",
    "edit": "keeping.edit:edit",
    "extract": "extraction.extract:extract",
    "figures": "figures",
    "files": "vectors.files",
    "find_ceiling": "sweeps.ceiling:find_ceiling",
    "formats": "vectors.formats",
    "generate": "generation.generate:generate",
    "judges": "judges",
    "laws": "preference.laws",
    "lens": "anatomy.lens",
    "load": "loading.models:load",
    "logprobs": "forward.tracing:logprobs",
    "logs": "support.logs",
    "manifold": "geometry.manifold",
    "odds": "preference.odds:odds",
    "pairs": "contrast.pairs",
    "patching": "anatomy.patching",
    "positions": "text.positions",
    "preview": "text.positions:preview",
    "probes": "probing.probes",
    "random_like": "vectors.controls:random_like",
    "read": "forward.tracing:read",
    "report": "reporting.report",
    "seek": "sweeps.seek:seek",
    "share": "keeping.sharing:share",
    "slopes": "sweeps.slopes:slopes",
    "steered": "keeping.edit:steered",
    "steering_vector": "extraction.steerability:steering_vector",
    "survival": "sweeps.survival:survival",
    "sweep": "sweeps.sweep:sweep",
    "train": "training.train:train",
}

_ROOMS = (
    "statistics",
    "support",
    "text",
    "interventions",
    "loading",
    "contrast",
    "forward",
    "generation",
    "wren",
    "judges",
    "vectors",
    "sweeps",
    "preference",
    "extraction",
    "training",
    "probing",
    "anatomy",
    "geometry",
    "conditions",
    "composition",
    "keeping",
    "studies",
    "figures",
    "reporting",
    "runs",
    "demo",
)


def __getattr__(name: str) -> Any:
    if name not in _PLACES and name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, inside = _PLACES.get(name, name).partition(":")
    found: Any = import_module(f"{__name__}.{module}")
    globals()[name] = found = getattr(found, inside) if inside else found
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS, *(name for name in globals() if name.startswith("__"))})
