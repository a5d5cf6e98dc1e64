"""Sweeps over the coefficient, and what is found in them: onset, recommended, ceiling, survival."""
