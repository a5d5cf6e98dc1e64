"""Steering language models: make vectors, sweep them, find where they break the text.

The names below are what a notebook needs; everything else lives in the module that is named for
it. Functions stand in front of the modules of the same name (`workbench.sweep` is the function).
"""

import logging

from workbench import figures, files, formats, judges, laws, lens, logs, pairs, positions, report
from workbench.ceiling import find_ceiling
from workbench.controls import random_like
from workbench.extract import extract
from workbench.generate import generate
from workbench.models import LM, load
from workbench.odds import odds
from workbench.positions import preview
from workbench.seek import seek
from workbench.slopes import slopes
from workbench.survival import ceilings_by_length, survival
from workbench.sweep import sweep
from workbench.tracing import logprobs, read
from workbench.train import train
from workbench.updates import Intervention
from workbench.vectors import SteeringVector

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
