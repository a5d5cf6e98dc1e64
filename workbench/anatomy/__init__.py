"""Taking a model apart: ablation, patching, layer profiles, and what a direction says."""
