"""Tokens by name: with the spaces they have behind other words, and by bytes."""

from architectures import metaspace_tokenizer, tokenizer, wordpiece_tokenizer

from workbench.text.token_texts import token_texts


def ids(words: object, *pieces: str) -> list[int]:
    return [words.convert_tokens_to_ids(piece) for piece in pieces]  # type: ignore[attr-defined]


def test_spaces_and_bytes_of_each_kind_of_tokenizer() -> None:
    words = tokenizer()
    found = token_texts(words, ids(words, "Ġthe", "Ċ", "é", "â", "<s>", "Q"))
    assert found == [" the", "\n", "\\xe9", "\\xe2", "<s>", "Q"]
    words = metaspace_tokenizer()
    found = token_texts(words, ids(words, "▁the", "<0x0A>", "<0xE9>", "<s>", "Q"))
    assert found[:4] == [" the", "\n", "\\xe9", "<s>"]
    words = wordpiece_tokenizer()
    assert token_texts(words, ids(words, "fox", "##s")) == [" fox", "s"]


def test_no_two_tokens_of_bytes_have_one_name() -> None:
    for words in (tokenizer(), metaspace_tokenizer()):
        every = token_texts(words, range(len(words)))
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(every)
        high = [text for text in every if text.startswith("\\x")]
        assert len(high) == len(set(high)) >= 128


def test_ids_that_no_token_has_are_named_by_number() -> None:
    assert token_texts(tokenizer(), [len(tokenizer()) + 7]) == [f"[{len(tokenizer()) + 7}]"]
    assert token_texts(tokenizer(), []) == []
