"""Contrast pairs: what they are, where they come from, and which of them are held out."""
