import pytest
from architectures import SENTENCES, metaspace_tokenizer, tokenizer, wordpiece_tokenizer

from workbench.loading.models import LM
from workbench.text.completions import decode_completions, encode_completions

# How a completion may begin: with a space or without, within a word, with breaks and other letters.
TEXTS = [
    " time",
    "time",
    " ",
    "  two",
    "\n",
    "\n\nThe fox",
    "  \n x",
    ".",
    "nd the fox.",
    " (A)",
    "é中",
    " é",
]


def pieces(words, text):
    ((ids, said),) = encode_completions(words, [text])
    assert said == text
    return words.convert_ids_to_tokens(list(ids))


@pytest.mark.parametrize("text", [*TEXTS, *SENTENCES])
@pytest.mark.parametrize("words", [tokenizer(), metaspace_tokenizer()], ids=["bytes", "metaspace"])
def test_a_completion_comes_back_as_it_was(words, text):
    ((ids, _),) = encode_completions(words, [text])
    assert decode_completions(words, [ids]) == [text]


@pytest.mark.parametrize("text", TEXTS)
def test_a_completion_of_a_llama_tokenizer_comes_back_as_it_was(stories: LM, text):
    ((ids, _),) = encode_completions(stories.tokenizer, [text])
    assert decode_completions(stories.tokenizer, [ids]) == [text]


@pytest.mark.parametrize("text", [" time", "time", " The fox", "ing went.", " yes, no."])
def test_words_and_ends_of_words_come_back(text):
    words = wordpiece_tokenizer()
    ((ids, _),) = encode_completions(words, [text])
    assert decode_completions(words, [ids]) == [text]


def test_a_completion_has_the_tokens_that_it_adds_to_a_text():
    words = metaspace_tokenizer()
    for prompt in ("Please tell me a", "I am very"):
        before = words(prompt)["input_ids"]
        for text in (" story about the snow", " sad", " time."):
            whole = words(prompt + text)["input_ids"]
            assert encode_completions(words, [text]) == [(tuple(whole[len(before) :]), text)]


def test_where_spaces_go(stories: LM):
    # Alone, these tokenizers write a space in front: "time" as " time", " time" as "  time".
    for words in (metaspace_tokenizer(), stories.tokenizer):
        assert pieces(words, " a") == ["▁a"]
        assert pieces(words, "a") == ["a"]
        assert pieces(words, "\n") == ["<0x0A>"]
    assert pieces(wordpiece_tokenizer(), " ing")[0] == "i"
    assert pieces(wordpiece_tokenizer(), "ing")[0] == "##i"


def test_byte_level_tokens_are_those_of_the_text_alone():
    words = tokenizer()
    texts = [*TEXTS, *SENTENCES, "</s> a"]
    for text, (ids, _) in zip(texts, encode_completions(words, texts), strict=True):
        assert list(ids) == words(text, add_special_tokens=False)["input_ids"]


def test_a_half_written_letter_harms_none_before_it():
    words = metaspace_tokenizer()
    ids = words.convert_tokens_to_ids(["<0xE4>", "<0xB8>"])
    assert decode_completions(words, [ids]) == ["��"]


def test_what_cannot_be_written_is_written_as_near_as_it_can():
    ((ids, text),) = encode_completions(wordpiece_tokenizer(), [" the 中"])
    assert wordpiece_tokenizer().convert_ids_to_tokens(list(ids)) == ["the", "<unk>"]
    assert text == " the 中"


def test_ids_and_texts_may_be_mixed_and_empty():
    words = metaspace_tokenizer()
    the = words.convert_tokens_to_ids("▁the")
    found = encode_completions(words, ["", [the], " the", (), [the, words.eos_token_id]])
    assert found == [
        ((), ""),
        ((the,), " the"),
        ((the,), " the"),
        ((), ""),
        ((the, words.eos_token_id), " the"),
    ]
    assert encode_completions(words, []) == []
    assert decode_completions(words, []) == []
    assert decode_completions(words, [[], [the]]) == ["", " the"]


def test_special_tokens_are_written_only_when_asked_for():
    words = metaspace_tokenizer()
    row = [words.convert_tokens_to_ids("▁the"), words.eos_token_id]
    assert decode_completions(words, [row], skip_special_tokens=False) == [" the</s>"]
    assert decode_completions(words, [row]) == [" the"]
