"""A chat as its template writes it, and where each message's content stands in that text.

This module knows nothing of token ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Message: TypeAlias = Mapping[str, str]


@dataclass(frozen=True)
class Segment:
    """The characters `start <= c < stop` of a prompt that are one message's content.

    `role` is the chat role, or "text" for a prompt that is not a chat.
    """

    role: str
    start: int
    stop: int


def render(tokenizer: Any, messages: Sequence[Message]) -> tuple[str, tuple[Segment, ...]]:
    """The chat as the tokenizer's template writes it, and the segments of its contents.

    It ends where the assistant speaks; a chat whose last message is the assistant's is left open
    after it. A content that the template leaves out, or that is blank, has no segment; one that it
    writes twice has two. Segments are in the order of the text.

    Raises ValueError for no messages, a message without role and content as texts, a tokenizer
    without a chat template, and a template in which a message's content changes more than its own
    place.
    """
    if not messages:
        raise ValueError(f"prompt {messages!r} is a chat without messages; give it at least one")
    for message in messages:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise ValueError(
                f"{message!r} is not a chat message; it needs the keys 'role' and 'content', and a "
                "chat is a list of messages"
            )
        for key in ("role", "content"):
            if not isinstance(message[key], str):
                raise ValueError(f"{message!r} has the {key} {message[key]!r}; give it as one text")
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            f"the prompt {messages!r} is a chat, but the tokenizer has no chat template; "
            "give the prompt as one text, or set tokenizer.chat_template"
        )
    text = _apply(tokenizer, messages)
    segments = [
        Segment(message["role"], start, stop)
        for index, message in enumerate(messages)
        if message["content"].strip()
        for start, stop in _places(tokenizer, messages, index, text)
    ]
    return text, tuple(sorted(segments, key=lambda segment: segment.start))


def _apply(tokenizer: Any, messages: Sequence[Message]) -> str:
    answered = messages[-1]["role"] == "assistant"
    return tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        tokenize=False,
        add_generation_prompt=not answered,
        continue_final_message=answered,
    )


def _places(
    tokenizer: Any, messages: Sequence[Message], index: int, text: str
) -> list[tuple[int, int]]:
    """Where the content of one message stands in the rendered chat.

    The chat is rendered once more with a placeholder for that content: what stays the same is
    template and other messages, whatever words they share with the content.
    """
    placeholder = "Placeholder"
    while placeholder in text:
        placeholder += "X"
    changed = list(messages)
    changed[index] = {**messages[index], "content": placeholder}
    first, *rest = _apply(tokenizer, changed).split(placeholder)
    if not rest:
        return []
    length, odd = divmod(len(text) - len(first) - sum(map(len, rest)), len(rest))
    written = text[len(first) : len(first) + length]
    if odd or length < 0 or text != written.join([first, *rest]):
        raise ValueError(
            f"the chat template writes more than {messages[index]!r} differently for what it says, "
            "so its place cannot be told; render the chat yourself and give it as one text"
        )
    # The template may strip a content, but it may also keep the spaces around it.
    lead, tail = len(written) - len(written.lstrip()), len(written.rstrip())
    places, start = [], len(first)
    for piece in rest:
        places.append((start + lead, start + tail))
        start += length + len(piece)
    return [(a, b) for a, b in places if a < b]
