import json

import pytest

from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Document, Example
from jangin.examples.synthesis.coverage import Coverage
from jangin.examples.synthesize import STAGE, SynthesizeConfig, synthesize
from jangin.llm.replies import Failed

TABLE = """| 모델 | 단가(원) | 보증 |
|---|---|---|
| P-100 | 890,000 | 24개월 |
| S-10 | 70,000 | 12개월 |"""
PROSE = "휴가는 인사팀에 신청한다."


def items_of(request):
    """One right question for every fact that the request lists."""
    listed = request.messages[1].content.split("사실:\n")[1].split("\n\n")[0]
    for line in listed.splitlines():
        number, rest = line.split(". ", 1)
        (row, column), value = rest.split(": ")[0].split(" / "), rest.split(": ")[1]
        question = f"{row}의 {column} 값은 얼마인가요?"
        yield {"number": int(number), "question": question, "answer": value}


def teach(request):
    return json.dumps({"items": list(items_of(request))}, ensure_ascii=False)


@pytest.fixture
def context(make_context, make_chunk, make_document):
    def make(answer=teach, texts=(TABLE, PROSE), **mode):
        tables = {
            "documents": (Document, [make_document("\n".join(texts))]),
            "chunks": (Chunk, [make_chunk(number, text) for number, text in enumerate(texts, 1)]),
        }
        modes = [{"type": "table_facts", **mode}]
        return make_context(SynthesizeConfig(teacher="t", modes=modes), tables, FakeChat(answer))

    return make


def tables_of(context):
    kinds = (("examples", Example), ("failed", Failed), ("coverage", Coverage))
    return [read_table(context.workspace / f"{name}.parquet", kind) for name, kind in kinds]


@pytest.mark.parametrize(("most", "requests"), [(12, 1), (3, 2)])
def test_every_cell_is_asked_for_once_with_its_row_as_evidence(context, most, requests):
    ready = context(facts_per_request=most)
    assert STAGE.cost(ready).calls == requests
    synthesize(ready)
    examples, failed, coverage = tables_of(ready)
    assert [example.answer for example in examples] == ["890,000", "24개월", "70,000", "12개월"]
    assert examples[3].evidence == "| S-10 | 70,000 | 12개월 |"
    assert examples[0].template.startswith("table_facts/ko@")
    assert failed == []
    assert [row.reason for row in coverage] == ["", "it holds no table"]
    assert ready.summary["facts"] == 5
    assert ready.summary["fact_coverage"] == 0.8


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        ({"answer": "70,000"}, "'890,000'"),
        ({"question": "단가는 얼마인가요?"}, "'P-100'"),
        ({"number": 9}, "no fact 9 among the 4"),
    ],
)
def test_what_is_not_the_fact_that_was_listed_is_rejected_with_its_reason(context, wrong, fact):
    def answer(request):
        first, *others = items_of(request)
        return json.dumps({"items": [first | wrong, *others]}, ensure_ascii=False)

    ready = context(answer)
    synthesize(ready)
    examples, failed, _ = tables_of(ready)
    assert len(examples) == 3
    assert [(row.rule, fact in row.reason) for row in failed] == [("fact", True)]


def test_a_run_that_asks_for_few_facts_says_how_to_ask_for_more(
    make_context, make_chunk, make_document
):
    def answer(_request):
        question, price = "P-100의 단가는 얼마인가요?", "890,000"
        pair = {"question": question, "answer": f"{price}원", "evidence": price}
        return json.dumps({"pairs": [pair]}, ensure_ascii=False)

    chunk = make_chunk(1, TABLE).model_copy(update={"table": True})
    tables = {"documents": (Document, [make_document(TABLE)]), "chunks": (Chunk, [chunk])}
    ready = make_context(SynthesizeConfig(teacher="t"), tables, FakeChat(answer))
    synthesize(ready)
    (line,) = ready.services.progress.messages
    assert "25%" in line
    assert "pairs_per_chunk" in line
    assert "table_facts" in line
