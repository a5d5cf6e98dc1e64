import dataclasses

import pytest
import torch
from architectures import SENTENCES, config, metaspace_tokenizer
from transformers import LlamaForCausalLM

from workbench.loading.models import load
from workbench.text.tokens import encode, from_ids, pad_id, to_batch

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": " Who are you? "},
]


def ids(lm, text, **kwargs):
    return lm.tokenizer(text, **kwargs)["input_ids"]


def test_rows_are_padded_on_the_left_and_positions_count_real_tokens(tiny):
    batch = encode(tiny, ["I am", SENTENCES[0]])
    short, long = ids(tiny, "I am"), ids(tiny, SENTENCES[0])
    gap = len(long) - len(short)
    assert batch.ids[0].tolist() == [pad_id(tiny)] * gap + short
    assert batch.ids[1].tolist() == long
    assert batch.attention.sum(dim=1).tolist() == [len(short), len(long)]
    assert batch.positions[0].tolist() == [0] * gap + list(range(len(short)))
    assert batch.starts.tolist() == [len(long), len(long)]
    assert batch.texts == ("I am", SENTENCES[0])
    assert not batch.completion.any()
    assert torch.equal(batch.prompt, batch.attention)


def test_a_prompts_ids_begin_the_row_whatever_follows(tiny):
    for completion in ("", " happy", "zzz", "\n", "am"):
        batch = encode(tiny, ["I am"], [completion])
        prompt, tail = ids(tiny, "I am"), ids(tiny, completion, add_special_tokens=False)
        assert batch.ids[0].tolist() == prompt + tail
        assert batch.starts.tolist() == [len(prompt)]
        assert batch.completion.sum() == len(tail)
        assert batch.texts == ("I am" + completion,)


def test_a_completion_may_be_token_ids(tiny):
    tail = ids(tiny, " happy", add_special_tokens=False)
    given, text = encode(tiny, ["I am"], [tail]), encode(tiny, ["I am"], [" happy"])
    assert torch.equal(given.ids, text.ids)
    assert given.texts == text.texts


def test_completions_of_different_lengths_end_together(tiny):
    batch = encode(tiny, ["I am", "I am"], [" x", " " + SENTENCES[1]])
    assert batch.attention[:, -1].all()
    lengths = batch.completion.sum(dim=1)
    assert torch.equal(batch.width - batch.starts, lengths)
    assert lengths[0] < lengths[1]


def test_special_tokens_open_a_text_but_not_a_completion(stories):
    batch = encode(stories, ["Once upon"], [" a time"])
    assert batch.ids[0, 0] == stories.tokenizer.bos_token_id
    assert (batch.ids[0] == stories.tokenizer.bos_token_id).sum() == 1


def test_a_completion_continues_its_prompt_where_a_text_alone_begins_with_a_space():
    words = metaspace_tokenizer()
    sizes = {**config("llama").to_dict(), "vocab_size": len(words)}
    lm = load(LlamaForCausalLM(type(config("llama"))(**sizes)), tokenizer=words)
    whole = ids(lm, "The old fox walked")
    for prompt, completion in (("The old fox", " walked"), ("The old fo", "x walked")):
        batch = encode(lm, [prompt], [completion])
        assert lm.tokenizer.decode(batch.ids[0], skip_special_tokens=True) == "The old fox walked"
        assert batch.texts == ("The old fox walked",)
    assert encode(lm, ["The old fox"], [" walked"]).ids[0].tolist() == whole
    again = encode(lm, ["The old fox"], [whole[len(ids(lm, "The old fox")) :]])
    assert again.texts == ("The old fox walked",)


def test_spans_cover_the_text_of_each_token(tiny):
    (row,) = encode(tiny, [SENTENCES[2]]).prompts
    assert "".join(row.text[a:b] for a, b in row.spans) == SENTENCES[2]


def test_spans_without_a_fast_tokenizer_are_found_by_decoding(tiny):
    class Slow:
        is_fast = False
        all_special_ids = ()

        def __init__(self, inner):
            self.inner = inner

        def __call__(self, text, **kwargs):
            return self.inner(text, **kwargs)

        def __getattr__(self, name):
            return getattr(self.inner, name)

    class Model:
        def __init__(self, lm):
            self.tokenizer, self.context, self.name = Slow(lm.tokenizer), lm.context, lm.name

    (fast,), (slow,) = (
        encode(tiny, [SENTENCES[0]]).prompts,
        encode(Model(tiny), [SENTENCES[0]]).prompts,
    )
    assert fast == slow


def test_generated_ids_extend_a_batch_in_place(tiny):
    batch = encode(tiny, ["I am", "You are a"])
    longer = batch.extend(torch.tensor([[7, 8, 9], [7, 0, 0]]), torch.tensor([3, 1]), ["abc", "a"])
    assert torch.equal(longer.ids[:, : batch.width], batch.ids)
    assert torch.equal(longer.starts, batch.starts)
    assert longer.completion.sum(dim=1).tolist() == [3, 1]
    assert longer.texts == ("I amabc", "You are aa")


def test_rows_can_be_selected(tiny):
    batch = encode(tiny, SENTENCES, ["."] * len(SENTENCES))
    some = batch.select([2, 0])
    assert torch.equal(some.ids, batch.ids[[2, 0]])
    assert torch.equal(some.starts, batch.starts[[2, 0]])
    assert some.texts == (batch.texts[2], batch.texts[0])
    assert torch.equal(batch.select(slice(1, 3)).attention, batch.attention[1:3])


def test_a_batch_is_frozen(tiny):
    with pytest.raises(dataclasses.FrozenInstanceError):
        encode(tiny, ["I am"]).ids = None


@pytest.mark.parametrize(
    ("prompts", "completions", "message"),
    [
        ([], None, "prompts is empty"),
        ("I am", None, "is one prompt, 'I am'"),
        ([""], None, "prompt '' is empty"),
        (["fine", "  \n"], None, r"prompt '  \\n' is empty"),
        (["I am"], [" a", " b"], "2 completions for 1 prompts"),
    ],
)
def test_bad_prompts_are_refused(tiny, prompts, completions, message):
    with pytest.raises(ValueError, match=message):
        encode(tiny, prompts, completions)


def test_a_chat_becomes_a_prompt_with_its_segments(tiny):
    (row,) = encode(tiny, [CHAT]).prompts
    assert row.text == "<|system|>Be kind.<|end|><|user|> Who are you? <|end|><|assistant|>"
    assert [row.text[s.start : s.stop] for s in row.segments] == ["Be kind.", "Who are you?"]
    assert row.ids == tuple(ids(tiny, row.text, add_special_tokens=False))


def test_a_row_over_the_context_is_refused_with_both_numbers(tiny):
    long = "the " * 140
    count = len(ids(tiny, long))
    with pytest.raises(ValueError, match=f"{count} tokens makes {count} tokens, over the 128"):
        encode(tiny, ["ok", long])
    fits = "a" * 8
    used = len(ids(tiny, fits))
    encode(tiny, [fits], new_tokens=128 - used)
    with pytest.raises(ValueError, match="129 tokens, over the 128"):
        encode(tiny, [fits], new_tokens=129 - used)
    with pytest.raises(ValueError, match="with a completion of 130"):
        encode(tiny, [fits], [[9] * 130])


def test_too_many_new_tokens_are_at_fault_where_the_prompt_is_short(tiny):
    room = 128 - len(ids(tiny, "ok"))
    for given in (["ok"], encode(tiny, ["ok"])):
        with pytest.raises(ValueError, match=f"context; give new_tokens={room} or fewer") as told:
            to_batch(tiny, given, new_tokens=1000)
        assert "shorten" not in str(told.value)
        assert to_batch(tiny, given, new_tokens=room).width + room == 128
    with pytest.raises(ValueError, match="context; shorten it: 'the the"):
        encode(tiny, ["the " * 140], new_tokens=1)


def test_ids_are_taken_as_they_are(tiny):
    texts, tails = ["I am", SENTENCES[0]], [" happy", ""]
    expected = encode(tiny, texts, tails)
    own = [ids(tiny, text) for text in texts]
    after = [ids(tiny, tail, add_special_tokens=False) for tail in tails]
    batch = from_ids(tiny, own, after)
    for name in ("ids", "attention", "starts", "completion"):
        assert torch.equal(getattr(batch, name), getattr(expected, name))
    assert batch.texts == expected.texts
    for wrong in ([], [[1], []]):
        with pytest.raises(ValueError, match="prompts of no tokens"):
            from_ids(tiny, wrong)
    with pytest.raises(ValueError, match="over the 128"):
        from_ids(tiny, [[1] * 127], new_tokens=2)
