from itertools import pairwise

import pytest
from architectures import CHAT_TEMPLATE
from hypothesis import given
from hypothesis import strategies as st

from workbench.text.chats import Segment, render

# Trims, as Llama 3's does, and names the role in words of its own.
TRIMMING = (
    "{% for m in messages %}[{{ m['role'] }}: {{ m['content'] | trim }}]{% endfor %}"
    "{% if add_generation_prompt %}[assistant: {% endif %}"
)
# Writes the system line into the first user message, as Llama 2's does.
FOLDING = (
    "{% set system = messages[0]['content'] %}"
    "{% for m in messages[1:] %}"
    "{{ m['role'] }} <<{{ m['content'] }}{% if loop.first %} ({{ system }}){% endif %}>> "
    "{% endfor %}"
)


class Template:
    """A tokenizer's chat template without the tokenizer."""

    def __init__(self, lm, chat_template):
        self.words, self.chat_template = lm.tokenizer, chat_template

    def apply_chat_template(self, messages, **how):
        return self.words.apply_chat_template(messages, chat_template=self.chat_template, **how)


def chat(*turns):
    return [{"role": role, "content": content} for role, content in turns]


def found(text, segments):
    return [(s.role, text[s.start : s.stop]) for s in segments]


def test_a_chat_is_rendered_up_to_the_assistants_turn(tiny):
    text, segments = render(
        tiny.tokenizer, chat(("system", "Be kind."), ("user", " Who are you? "))
    )
    assert text == "<|system|>Be kind.<|end|><|user|> Who are you? <|end|><|assistant|>"
    assert found(text, segments) == [("system", "Be kind."), ("user", "Who are you?")]


def test_a_chat_that_the_assistant_began_is_left_open(tiny):
    text, segments = render(tiny.tokenizer, chat(("user", "Who?"), ("assistant", "I am a")))
    assert text.endswith("<|assistant|>I am a")
    assert segments[-1] == Segment("assistant", len(text) - 6, len(text))


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, TRIMMING])
@pytest.mark.parametrize(
    "word", ["user", "assistant", "end", "|>", ": ", "u", "yes", "system: user"]
)
def test_contents_that_look_like_the_template_are_told_from_it(tiny, template, word):
    turns = [("system", word), ("user", word), ("assistant", f" {word} "), ("user", word)]
    text, segments = render(Template(tiny, template), chat(*turns))
    assert found(text, segments) == [(role, word.strip()) for role, _ in turns]


def test_the_place_of_a_word_that_stands_in_its_own_marker(tiny):
    text, segments = render(tiny.tokenizer, chat(("user", "user"), ("assistant", "assistant")))
    assert text == "<|user|>user<|end|><|assistant|>assistant"
    assert segments == (Segment("user", 8, 12), Segment("assistant", 32, 41))


def test_contents_stand_where_the_template_puts_them(tiny):
    turns = chat(("system", "Be kind."), ("user", "Who?"), ("assistant", "Who?"), ("user", "You."))
    text, segments = render(Template(tiny, FOLDING), turns)
    assert text == "user <<Who? (Be kind.)>> assistant <<Who?>> user <<You.>> "
    assert found(text, segments) == [
        ("user", "Who?"),
        ("system", "Be kind."),
        ("assistant", "Who?"),
        ("user", "You."),
    ]
    assert segments[0].start == 7


def test_a_content_that_is_left_out_has_no_segment_and_one_written_twice_has_two(tiny):
    twice = "{% for m in messages %}{{ m['content'] }}/{{ m['content'] }};{% endfor %}"
    text, segments = render(Template(tiny, twice), chat(("user", "a/a")))
    assert (text, segments) == ("a/a/a/a;", (Segment("user", 0, 3), Segment("user", 4, 7)))
    last = "{{ messages[-1]['content'] }}"
    text, segments = render(Template(tiny, last), chat(("system", "yes"), ("user", "yes")))
    assert (text, segments) == ("yes", (Segment("user", 0, 3),))
    assert render(tiny.tokenizer, chat(("user", " ")))[1] == ()


def test_a_content_that_is_the_placeholder_is_a_content(tiny):
    turns = chat(("user", "Placeholder"), ("assistant", "PlaceholderX"), ("user", "no"))
    text, segments = render(tiny.tokenizer, turns)
    assert found(text, segments) == [
        ("user", "Placeholder"),
        ("assistant", "PlaceholderX"),
        ("user", "no"),
    ]


def test_a_template_that_counts_its_contents_is_refused(tiny):
    counting = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}{{ messages[0]['content'] | length }}"
    )
    with pytest.raises(ValueError, match=r"'Hi'.* so its place cannot be told; render the chat"):
        render(Template(tiny, counting), chat(("user", "Hi")))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["system", "user", "assistant"]),
            st.text("aeu<|>\n nd", min_size=1, max_size=8).filter(str.strip),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_segments_are_the_contents_in_order(tiny, turns):
    text, segments = render(tiny.tokenizer, chat(*turns))
    assert found(text, segments) == [(role, content.strip()) for role, content in turns]
    assert all(a.stop <= b.start for a, b in pairwise(segments))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], r"\[\] is a chat without messages"),
        ([{"role": "user"}], r"needs the keys 'role' and 'content'"),
        ([3], r"3 is not a chat message; .* a chat is a list of messages"),
        (["role"], r"'role' is not a chat message; .* a chat is a list of messages"),
        ([{"role": "user", "content": None}], r"has the content None; give it as one text"),
        ([{"role": "user", "content": [{"text": "Hi"}]}], r"has the content \[\{'text': 'Hi'\}\]"),
        ([{"role": None, "content": "Hi"}], r"has the role None; give it as one text"),
    ],
)
def test_refused_chats(tiny, messages, message):
    with pytest.raises(ValueError, match=message):
        render(tiny.tokenizer, messages)


def test_a_chat_needs_a_template(stories):
    with pytest.raises(ValueError, match="no chat template"):
        render(stories.tokenizer, chat(("user", "Hi")))
