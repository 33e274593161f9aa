from jangin.core.records import Message
from jangin.llm.token_estimates import estimate_prompt, estimate_tokens


def test_korean_counts_at_least_its_bytes_which_no_byte_level_vocabulary_exceeds():
    for text in ("연차휴가는 며칠인가요?", "가", "제12조(목적) 이 규정은"):
        korean = "".join(letter for letter in text if not letter.isascii())
        assert estimate_tokens(text) >= len(korean.encode())


def test_a_kinder_vocabulary_is_a_setting():
    assert estimate_tokens("가나다라", 1.0) == 4
    assert estimate_tokens("") == 0


def test_english_prose_counts_twice_what_vocabularies_take():
    text = "The quick brown fox jumps over the lazy dog."
    assert estimate_tokens(text) == len(text) / 2


def test_half_a_character_does_no_harm():
    assert estimate_tokens("\ud83d") > 0


def test_a_conversation_counts_its_messages_and_its_schema():
    message = Message(role="user", content="abcd")
    one = estimate_prompt([message])
    assert estimate_prompt([message, message]) == one + 8 + 2
    assert estimate_prompt([message], '{"a":1}') > one
