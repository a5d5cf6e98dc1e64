import re

import pytest
import torch

from workbench.interventions.updates import Intervention
from workbench.text import positions as where
from workbench.text.tokens import encode

CHAT = [
    {"role": "user", "content": "Who is it?"},
    {"role": "assistant", "content": "A bird."},
    {"role": "user", "content": "Why?"},
]


def words(lm, batch, rule, row=0):
    """The touched tokens of a row, as text, between bars."""
    touched = where.select(lm, batch, rule)[row]
    pieces = [lm.tokenizer.decode([i]) for i in batch.ids[row].tolist()]
    return "".join(p if on else "|" for p, on in zip(pieces, touched.tolist(), strict=True))


def text_of(lm, batch, rule, row=0):
    return re.sub(r"\|+", "|", words(lm, batch, rule, row)).strip("|")


@pytest.fixture
def batch(tiny):
    return encode(tiny, ["A girl and her dog", "I am"], [" went home", " sad"])


def test_prompt_and_generated_part_the_real_tokens(tiny, batch):
    prompt, generated = (where.select(tiny, batch, r) for r in (where.prompt, where.generated))
    assert torch.equal(prompt | generated, batch.attention)
    assert not (prompt & generated).any()
    assert torch.equal(where.select(tiny, batch, where.everything), batch.attention)
    assert text_of(tiny, batch, where.prompt) == "A girl and her dog"
    assert text_of(tiny, batch, where.generated, 1) == " sad"


def test_last_is_the_last_prompt_token(tiny, batch):
    last = where.select(tiny, batch, where.last)
    assert last.sum(dim=1).tolist() == [1, 1]
    assert last.int().argmax(dim=1).tolist() == (batch.starts - 1).tolist()
    alone = encode(tiny, ["A girl and her dog", "I am"])
    assert where.select(tiny, alone, where.last)[:, -1].all()


def test_last_k_is_the_end_of_the_text(tiny, batch):
    for count in (1, 3):
        touched = where.select(tiny, batch, where.last_k(count))
        assert touched[:, -count:].all()
        assert touched.sum(dim=1).tolist() == [count, count]
    short = encode(tiny, ["I am", "A girl and her dog"])
    assert torch.equal(where.select(tiny, short, where.last_k(99)), short.attention)
    assert torch.equal(
        where.select(tiny, short, where.last_k(1)), where.select(tiny, short, where.last)
    )
    assert repr(where.last_k(3)) == "last_k(3)"
    assert where.last_k(3) == where.last_k(3) != where.last_k(2)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_last_k_counts_tokens(count):
    with pytest.raises(ValueError, match=rf"last_k\({count}\): give a whole number of tokens"):
        where.last_k(count)


def test_token_counts_from_where_the_prompt_ends(tiny, batch):
    for offset in (-2, -1, 0, 1):
        touched = where.select(tiny, batch, where.token(offset))
        assert touched.sum(dim=1).tolist() == [1, 1]
        assert touched.int().argmax(dim=1).tolist() == (batch.starts + offset).tolist()
    assert torch.equal(
        where.select(tiny, batch, where.token(-1)), where.select(tiny, batch, where.last)
    )
    assert repr(where.token(0)) == "token(0)"
    assert where.token(0) == where.token(0) != where.token(1)


def test_token_never_touches_padding_nor_another_text(tiny):
    batch = encode(tiny, ["I am", "A girl and her dog"])
    far = where.select(tiny, batch, where.token(-batch.width))
    assert far.sum(dim=1).tolist() == [0, 1]  # the shorter text does not reach that far
    assert not where.select(tiny, batch, where.token(0)).any()
    written = batch.extend(torch.full((2, 3), 7), torch.tensor([1, 3]))
    assert where.select(tiny, written, where.token(1)).sum(dim=1).tolist() == [0, 1]
    assert where.select(tiny, written, where.token(0))[:, batch.width].all()


def test_token_reaches_the_end_of_a_chats_template(tiny):
    chats = [[{"role": "user", "content": text}] for text in ("I am", "A girl and her dog")]
    batch = encode(tiny, chats)
    touched = where.select(tiny, batch, where.token(-2))
    assert len(set(batch.ids[touched].tolist())) == 1
    assert not (touched & where.select(tiny, batch, where.content)).any()


@pytest.mark.parametrize("offset", [0.0, True, None])
def test_token_takes_a_whole_number(offset):
    with pytest.raises(ValueError, match=r"token\(.*\): give a whole number"):
        where.token(offset)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (where.last_k(2), "the end of a text moves on"),
        (where.token(0), "not there yet"),
        (where.token(-1), None),
        (where.last, None),
        (where.generated, None),
    ],
)
def test_what_can_only_be_read_steers_nothing(rule, why):
    said = where.only_read(rule)
    assert said is None if why is None else why in said
    if why:
        with pytest.raises(ValueError, match=rf"is for reading: .*{why}"):
            Intervention(0, lambda hidden, scale: hidden, positions=rule)


def test_after_begins_behind_the_last_occurrence(tiny):
    batch = encode(tiny, ["one two: three two: four"])
    assert text_of(tiny, batch, where.after("two:")) == " four"
    assert text_of(tiny, batch, where.after("three")) == " two: four"
    assert text_of(tiny, batch, where.after("four")) == ""
    assert (
        text_of(tiny, encode(tiny, ["one two: four"], [" five"]), where.after(":")) == " four five"
    )


def test_after_takes_no_token_that_began_before_the_end(stories):
    batch = encode(stories, ["Once upon a time"])
    kept = words(stories, batch, where.after("Once up"))
    assert "on" not in kept
    assert kept.endswith("atime")


def test_after_asks_every_prompt_for_the_substring(tiny):
    with pytest.raises(ValueError, match="the prompt 'I am' does not contain 'girl'"):
        where.select(tiny, encode(tiny, ["A girl", "I am"]), where.after("girl"))
    with pytest.raises(ValueError, match="names no place"):
        where.after("")


def test_assistant_and_content_of_a_chat(tiny):
    batch = encode(tiny, [CHAT], ["No."])
    assert text_of(tiny, batch, where.assistant) == "A bird.|No."
    assert text_of(tiny, batch, where.content) == "Who is it?|A bird.|Why?|No."


def test_an_open_assistants_turn_is_touched(tiny):
    batch = encode(tiny, [[*CHAT, {"role": "assistant", "content": "Because"}]])
    assert text_of(tiny, batch, where.assistant) == "A bird.|Because"


def test_content_of_a_text_is_all_but_the_first_and_the_special_tokens(tiny, stories):
    batch = encode(stories, ["Once upon a time"])
    assert where.select(stories, batch, where.content)[0].tolist() == [
        False,
        True,
        True,
        True,
        True,
    ]
    batch = encode(tiny, ["I<|end|> am", "A girl and her dog"])
    assert text_of(tiny, batch, where.content) == " am"


def test_a_mask_speaks_for_every_column_but_padding(tiny, batch):
    everywhere = torch.ones(batch.ids.shape, dtype=torch.bool)
    assert torch.equal(where.select(tiny, batch, where.mask(everywhere)), batch.attention)
    column = torch.zeros(batch.width, dtype=torch.bool)
    column[-1] = True
    touched = where.select(tiny, batch, where.mask(column))
    assert touched[:, -1].all()
    assert touched.sum() == 2
    with pytest.raises(ValueError, match=r"shape \(3,\), the batch \(2, "):
        where.select(tiny, batch, where.mask(torch.ones(3)))


@pytest.mark.parametrize(
    "rule",
    [where.everything, where.prompt, where.generated, where.last, where.assistant, where.content],
)
def test_no_rule_touches_padding_and_completions_follow_the_rule(tiny, batch, rule):
    touched = where.select(tiny, batch, rule)
    assert not touched[~batch.attention].any()
    assert (touched[batch.completion] == rule.generated).all()


def test_what_holds_for_later_tokens():
    later = {r.name for r in (where.everything, where.generated, where.assistant) if r.generated}
    assert later == {"everything", "generated", "assistant"}
    assert where.content.generated
    assert where.after("x").generated
    assert not where.prompt.generated
    assert not where.last.generated
    assert not where.last_k(2).generated
    assert not where.mask(torch.ones(1)).generated
    assert where.mask(torch.ones(1), generated=True).generated


def test_a_preview_marks_the_touched_tokens(tiny):
    shown = where.preview(tiny, "I am", where.last)
    assert "".join(shown.tokens) == "I am"
    assert shown.touched == (False,) * (len(shown.tokens) - 1) + (True,)
    assert repr(shown).endswith(f"[{shown.tokens[-1]}]")
    assert f"last: 1 of {len(shown.tokens)} prompt tokens" in repr(shown)
    assert shown._repr_html_().count("#f6c177") == 1


def test_a_preview_escapes_what_it_shows(tiny):
    shown = where.preview(tiny, "<script>alert('&')</script>", where.after("<script>"))
    page = shown._repr_html_()
    tags = set(re.findall(r"<(/?\w+)", page))
    assert tags == {"div", "/div", "small", "/small", "br", "code", "/code", "span", "/span"}
    assert "&lt;" in page
    assert "&amp;" in page
    assert "after(&#x27;&lt;script&gt;&#x27;)" in page


def test_last_k_counts_from_the_end_of_each_text_not_of_the_batch(tiny):
    batch = encode(tiny, ["I am", "A girl and her dog"])
    lengths = torch.tensor([2, 6])
    written = batch.extend(torch.full((2, 6), 7), lengths)
    for count in (1, 3, 99):
        touched = where.select(tiny, written, where.last_k(count))
        for row, real in zip(touched, written.attention, strict=True):
            ends = real.nonzero()[:, 0].tolist()[-count:]
            assert row.nonzero()[:, 0].tolist() == ends
    assert written.positions[0, -5:].tolist() == [written.positions[0, batch.width + 1]] * 5


def test_nth_counts_from_where_a_prompt_begins(tiny):
    batch = encode(tiny, ["A girl and her dog went out", "I am"], [" for", " a very long while"])
    for place in (0, 1):
        touched = where.select(tiny, batch, where.nth(place))
        assert touched.sum(dim=1).tolist() == [1, 1]
        assert batch.positions[touched].tolist() == [place, place]
        assert not (touched & batch.completion).any()
    short = len(batch.prompts[1].ids)
    with pytest.raises(ValueError, match=rf"prompt 1 has {short} tokens, none at position {short}"):
        where.select(tiny, batch, where.nth(short))
    for wrong in (-1, 1.0, True):
        with pytest.raises(ValueError, match=r"whole number of at least 0"):
            where.nth(wrong)  # type: ignore[arg-type]
