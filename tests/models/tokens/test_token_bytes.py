import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from jangin.models.tokens.token_bytes import token_bytes

TEXT = "연차휴가는 며칠인가요? 뷁 한 번, 😀."


def test_the_bytes_of_the_tokens_are_the_text(tokenizer):
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    decoded = [tokenizer.decode([token]) for token in ids]
    assert any("\N{REPLACEMENT CHARACTER}" in text for text in decoded)  # parts of characters
    assert b"".join(token_bytes(tokenizer, token) for token in ids) == TEXT.encode()


@pytest.fixture
def with_byte_fallback():
    pieces = ["a", *(f"<0x{byte:02X}>" for byte in range(256))]
    model = models.BPE({piece: n for n, piece in enumerate(pieces)}, [], byte_fallback=True)
    whole = Tokenizer(model)
    whole.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=whole)


def test_bytes_that_a_vocabulary_falls_back_to_are_read(with_byte_fallback):
    ids = with_byte_fallback("a뷁")["input_ids"]
    assert len(ids) == 4
    assert b"".join(token_bytes(with_byte_fallback, token) for token in ids) == "a뷁".encode()
