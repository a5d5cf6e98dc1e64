"""Several properties at once, each with a strength of its own at every step."""
