"""Taking a model apart: ablation, patching, probes, layer profiles, and what a direction says."""
