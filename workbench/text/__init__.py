"""Texts as a model reads them: tokens, chats, completions, positions, and sets kept apart."""
