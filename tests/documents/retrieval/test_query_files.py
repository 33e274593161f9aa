import pytest

from jangin.core.errors import DataError
from jangin.documents.queries import read_questions, read_words


@pytest.fixture
def said():
    return []


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


WORDS = "전세 계약\n\n# 대출\nLTV\n  전세계약 \nltv\n이사비\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_words_are_read_in_any_encoding_and_repeats_are_named(write, said, encoding):
    words, repeats = read_words(write("words.txt", WORDS.encode(encoding)), said.append)
    assert [(word.text, word.line) for word in words] == [
        ("전세 계약", 1),
        ("LTV", 4),
        ("이사비", 7),
    ]
    assert [(word.text, word.line) for word in repeats] == [("전세계약", 5), ("ltv", 6)]
    assert bool(said) == (encoding == "cp949")


def test_windows_line_ends_and_tabs_are_no_part_of_a_word(write, said):
    words, _ = read_words(write("words.txt", "전세\t계약\r\n이사비\r\n"), said.append)
    assert [word.text for word in words] == ["전세 계약", "이사비"]


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", "words.txt is empty"),
        ("\n \n", "words.txt is empty"),
        ("# 전세\n", "words.txt contains only comments"),
        ("전세\n???\n", "words.txt:2: '???'"),
        ("전세\n" + "가" * 300, "words.txt:2: 300 characters"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe\xfd", "words.txt cannot be read: byte 0"),
    ],
)
def test_a_bad_word_file_is_refused_with_its_line_and_value(write, said, content, facts):
    with pytest.raises(DataError, match=r"\.$") as caught:
        read_words(write("words.txt", content), said.append)
    assert facts in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused_with_their_path(tmp_path, said):
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        read_words(tmp_path / "none.txt", said.append)
    with pytest.raises(DataError, match=f"{tmp_path.name} cannot be read"):
        read_words(tmp_path, said.append)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.jsonl", '{"seed_word": "이사비", "answer": ["얼마?", "언제?"]}\n\n'),
        ("q.jsonl", '{"word": "이사비", "question": "얼마?"}\n{"question": "언제?"}\n'),
        ("q.json", '[{"keyword": "이사비", "questions": ["얼마?"]}, "언제?"]'),
        ("q.json", '{"이사비": ["얼마?", "언제?"]}'),
        ("q.txt", "\ufeff# 질문\n얼마?\n언제?\n"),
    ],
)
def test_questions_are_read_from_text_and_from_every_json_shape(write, said, name, content):
    questions = read_questions(write(name, content), said.append)
    assert [question.text for question in questions] == ["얼마?", "언제?"]


def test_a_question_has_its_seed_word_and_its_row(write, said):
    content = '{"seed_word": "a", "questions": ["x?"]}\n{"seed_word": "b", "questions": ["y?"]}'
    first, second = read_questions(write("q.jsonl", content), said.append)
    assert (first.seed_word, first.line) == ("a", 1)
    assert (second.seed_word, second.line) == ("b", 2)


@pytest.mark.parametrize(
    ("name", "content", "facts"),
    [
        ("q.jsonl", '{"seed_word": "a", "questions": ["x?"]}\n{"seed', "q.jsonl:2: invalid JSON"),
        ("q.jsonl", '{"seed_word": "a"}', "q.jsonl:1: no question"),
        ("q.jsonl", '{"seed_word": "a", "questions": [3]}', "q.jsonl:1: no question"),
        ("q.jsonl", '{"question": "?"}', "q.jsonl:1: '?'"),
        ("q.json", "[]", "q.json contains no question"),
        ("q.json", "3", "q.json:1: no question"),
    ],
)
def test_a_bad_question_file_names_the_row(write, said, name, content, facts):
    with pytest.raises(DataError, match=r"[.!]$|}\.$") as caught:
        read_questions(write(name, content), said.append)
    assert facts in str(caught.value)
