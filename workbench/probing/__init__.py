"""Probes: what can be told from the residual stream, layer by layer and token by token."""
