"""Steering language models: make vectors, sweep them, find where they break the text.

The names below are what a notebook needs; everything else lives in the module that is named for
it. Functions stand in front of the modules of the same name (`workbench.sweep` is the function).
"""

import logging

from workbench import figures, judges
from workbench.anatomy import lens
from workbench.contrast import pairs
from workbench.extraction.extract import extract
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
    "survival",
    "sweep",
    "train",
]
