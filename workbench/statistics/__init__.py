"""Pure maths on arrays: intervals, curves, distances, distributions. Knows no models."""
