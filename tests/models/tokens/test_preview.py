import pytest

from jangin.models.tokens.chat_template import render_rows
from jangin.models.tokens.preview import preview_row


def test_the_pieces_are_the_text_and_the_trained_ones_the_answer(tokenizer, conversations):
    rows = render_rows(tokenizer, conversations, [f"row {n}" for n in range(len(conversations))])
    for index, (question, answer) in enumerate(conversations):
        ids, trained = rows.row(index)
        row = preview_row(tokenizer, rows.names[index], ids, trained)
        text = "".join(piece.text for piece in row.pieces)
        assert (
            text == f"<|bos|><|user|>{question.content}<|end|><|assistant|>{answer.content}<|end|>"
        )
        marked = "".join(piece.text for piece in row.pieces if piece.trained)
        assert marked == f"{answer.content}<|end|>"
        assert (row.tokens, row.trained) == (len(ids), trained.sum())


@pytest.mark.parametrize("text", ["꽯뙓", "emoji 🪐!"])
def test_the_parts_of_one_character_are_one_piece(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    row = preview_row(tokenizer, "row 1", ids, [False] * len(ids))
    assert "".join(piece.text for piece in row.pieces) == text
    assert len(row.pieces) < row.tokens == len(ids)
