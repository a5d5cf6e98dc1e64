"""The folder beside the project that holds others' numbers, models and data; tests skip without."""

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"
