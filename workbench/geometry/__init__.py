"""The manifold of ordinary text: how far activations lie from it, and what steering does there."""
