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
    anatomy        ablation, patching, probes, layer profiles, what a direction says
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

from workbench import figures, judges
from workbench.anatomy import lens
from workbench.contrast import pairs
from workbench.extraction.extract import extract
from workbench.extraction.steerability import steering_vector
from workbench.forward.tracing import logprobs, read
from workbench.generation.generate import generate
from workbench.interventions.updates import Intervention
from workbench.loading.models import LM, load
from workbench.preference import laws
from workbench.preference.odds import odds
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
    "Intervention",
    "SteeringVector",
    "ceilings_by_length",
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
    "odds",
    "pairs",
    "positions",
    "preview",
    "random_like",
    "read",
    "report",
    "seek",
    "slopes",
    "steering_vector",
    "survival",
    "sweep",
    "train",
]
