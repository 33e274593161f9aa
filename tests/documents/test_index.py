import json

import numpy as np
import pytest

from jangin.core.errors import ConfigError
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Document
from jangin.documents.bm25 import PassageIndex
from jangin.documents.index import STAGE, IndexConfig, open_passages
from jangin.documents.passages import Passages

TEXTS = (
    ("휴가", "연차휴가는 입사 첫해에 한 달에 하루씩 생긴다."),
    ("휴가", "연차휴가를 쓰지 않으면 수당으로 받는다."),
    ("출장", "출장비는 돌아온 날부터 이레 안에 청구한다."),
    ("출장", "숙박비는 하루에 9만원까지 지급한다."),
)


def chunks(texts=TEXTS):
    made, start = [], 0
    for place, (section, text) in enumerate(texts):
        made.append(
            Chunk(
                id=f"c{place}",
                document_id="d",
                source="규정.md",
                text=text,
                start=start,
                end=start + len(text),
                page=1,
                section=section,
            )
        )
        start += len(text) + 1
    return made


def document():
    return Document(id="d", source="규정.md", text="글", pages=(), language="ko")


class Encoder:
    """Vectors by hand: a word of the meaning `돈` is close to 수당 and 숙박비."""

    source = "by hand"

    def encode(self, texts, role):
        rows = np.array(
            [[sum(word in t for word in ("돈", "수당")), "이레" in t, 0.1] for t in texts],
            np.float32,
        )
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def make_index(table_context):
    def make(texts=TEXTS, model=None, **settings):
        tables = {"chunks": (Chunk, chunks(texts)), "documents": (Document, [document()])}
        context = table_context(
            IndexConfig.model_validate(settings), tables, encoder=lambda _config, _executor: model
        )
        STAGE.run(context)
        return context, open_passages(context.workspace, context.services)

    return make


def test_the_stored_index_finds_what_one_in_memory_finds_and_says_why(make_index):
    context, passages = make_index()
    question = "출장비는 언제까지 청구하나요?"
    (stored,) = passages.search([question], 3)
    (fresh,) = Passages.of(chunks()).search([question], 3)
    assert [each.chunk.id for each in stored] == [each.chunk.id for each in fresh]
    assert stored[0].chunk.id == "c2"
    assert stored[0].score == pytest.approx(fresh[0].score, abs=1e-6)
    assert {"출장비", "청구"} & set(stored[0].words)
    assert set(stored[0].words) <= {"출장", "출장비", "비", "언제", "청구", "청구하"}
    assert stored[0].text == TEXTS[2][1]
    assert context.summary["passages"] == 4
    assert passages.language == "ko"
    assert read_table(context.workspace / "passages.parquet", Chunk) == chunks()


def test_two_runs_write_the_same_bytes(make_index):
    first, second = (make_index()[0].workspace for _ in range(2))
    names = sorted(path.name for path in first.iterdir())
    assert len(names) == 10
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_the_section_around_a_passage_is_read_as_far_as_it_fits(make_index):
    whole = "\n".join(text for section, text in TEXTS if section == "휴가")
    question = "연차휴가는 첫해에 얼마나 생기나요?"
    for characters, text in ((0, TEXTS[0][1]), (len(TEXTS[0][1]) + 5, TEXTS[0][1]), (500, whole)):
        _, passages = make_index(section_characters=characters)
        (found,) = passages.search([question], 1)
        assert found[0].text == text


def test_what_neighbours_repeat_is_read_once():
    placed = ((0, "가나다라. 마바사."), (6, "마바사. 아자차."))
    overlapping = [
        chunk.model_copy(update={"text": text, "start": start, "end": start + len(text)})
        for chunk, (start, text) in zip(chunks()[:2], placed, strict=True)
    ]
    index = PassageIndex.build([chunk.text for chunk in overlapping])
    passages = Passages(overlapping, index, section_characters=100)
    assert passages.text(0).split() == ["가나다라.", "마바사.", "아자차."]


def test_an_encoder_is_joined_by_rank_and_finds_what_shares_no_word(make_index):
    named = {"type": "hub", "id": "some/encoder"}
    context, passages = make_index(model=Encoder(), encoder=named)
    assert context.summary["encoder"] == "by hand"
    (by_terms,) = passages.by_terms.search(["돈"], 2)
    (both,) = passages.search(["돈"], 2)
    assert by_terms == []
    assert both[0].chunk.id == "c1"
    assert both[0].similarity == pytest.approx(1, abs=0.02)
    assert both[0].score == 0


def test_an_empty_index_finds_nothing(make_index):
    _, passages = make_index(texts=())
    assert list(passages.search(["연차"], 3)) == [[]]
    assert passages.row_of("c0") is None


def test_the_files_of_a_local_encoder_are_identity_and_must_be_there(tmp_path):
    config = IndexConfig.model_validate({"encoder": {"type": "local", "path": "encoder"}})
    with pytest.raises(ConfigError, match=r"config\.json.*`documents: index"):
        STAGE.sources(config, tmp_path)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text(json.dumps({}))
    assert list(STAGE.sources(config, tmp_path)) == ["encoder/config.json"]
    assert STAGE.sources(IndexConfig(), tmp_path) == {}
