"""Texts that a steered model writes, and what may be read off them."""
