from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerFast

from jangin.inference.continuous_batching import IncrementalDetokenizer

WORDS = ("연차휴가", "는 ", "인사팀", "\n", "\n\n", "END", "EN", "D", " ", "😀", "x", ".", "뷁")


def follow(tokenizer, ids, stops):
    """(text of the pieces, the writer) of tokens that come one by one, until a stop string."""
    words, shown = IncrementalDetokenizer(tokenizer, stops), ""
    for token in ids:
        words.add(token)
        if words.stopped:
            break
        shown += words.next_text()
        assert words.final_text().startswith(shown) or not words.text
    return shown + words.remaining_text(), words


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from(WORDS), max_size=12),
    st.lists(st.sampled_from(("END", "\n\n", "😀", "팀.", "ENDx", " EN")), max_size=3),
)
@example([" ", "END"], [" EN"])
def test_pieces_make_up_the_text_before_the_first_stop_string(tokenizer, words, stops):
    text = "".join(words)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = [text.index(stop) for stop in stops if stop in text]
    pieces, writer = follow(tokenizer, ids, stops)
    assert writer.stopped == bool(found)
    assert pieces == writer.final_text()
    if len(stops) < 2 or not found:
        assert pieces == text[: min(found, default=len(text))].strip()


def test_a_character_is_shown_when_its_last_byte_has_come(tokenizer):
    ids = tokenizer("뷁", add_special_tokens=False)["input_ids"]
    assert len(ids) == 3
    words, shown = IncrementalDetokenizer(tokenizer, ()), []
    for token in ids:
        words.add(token)
        shown.append(words.next_text())
    assert shown == ["", "", "뷁"]


def test_what_may_become_a_stop_string_is_held_back(tokenizer):
    words, shown = IncrementalDetokenizer(tokenizer, ("END",)), []
    for token in tokenizer("a ENx", add_special_tokens=False)["input_ids"]:
        words.add(token)
        shown.append(words.next_text())
    assert "".join(shown) == "a ENx"
    assert all(not "".join(shown[:n]).endswith("EN") for n in range(len(shown)))


def test_an_answer_that_ends_within_a_character_says_so_at_its_end(tokenizer):
    ids = tokenizer("x뷁", add_special_tokens=False)["input_ids"][:-1]
    pieces, words = follow(tokenizer, ids, ())
    assert pieces == words.final_text() == "x�"


def test_raw_text_keeps_the_space_that_joins_it_to_the_prompt():
    words = ["\u2581the", "\u2581leave", "\u2581is", "\u2581long", "er"]
    backend = Tokenizer(Unigram([(word, 0.0) for word in words], unk_id=None))
    backend.pre_tokenizer = Metaspace()
    backend.decoder = decoders.Metaspace()
    spaced = PreTrainedTokenizerFast(tokenizer_object=backend)
    texts, ends = IncrementalDetokenizer(spaced, (), raw=True, prompt_ids=[0, 1]), []
    for token in (2, 3, 4):
        texts.add(token)
        ends.append(texts.next_text())
    assert texts.final_text() == "".join(ends) == " is longer"
    plain = IncrementalDetokenizer(spaced, (), prompt_ids=[0, 1])
    plain.add(2)
    assert plain.final_text() == "is"
