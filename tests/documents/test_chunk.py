from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jangin.core.execution.local import Local
from jangin.core.parquet import part_paths, read_table
from jangin.core.records import Chunk, Document, Page
from jangin.documents.chunk import STAGE, ChunkConfig, chunk_document, token_counter
from tests.conftest import cut_into_parts, make_artifact

RULES = """사내 규정집

제1장 총칙
제1조(목적) 이 규정은 휴가를 정한다.
제2조(정의) ① 이 규정에서 직원이란 회사와 계약한 사람을 말한다.
② 제1조(목적)에 따른 휴가는 유급으로 하며, 회사는
제1조(목적)에서 정한 바에 따라 휴가를 준다.

제2장 휴가
제1절 연차
제12조(연차휴가(유급)) 연차는 15일로 한다.
제12조의2(이월) 남은 연차는 다음 해로 넘긴다.
"""


def document(text, source="a.txt", pages=(), language="ko"):
    pages = pages or (Page(number=1, start=0, end=len(text), method="text"),)
    return Document(id="0" * 16, source=source, text=text, pages=pages, language=language)


def paged(*texts):
    pages, start = [], 0
    for number, text in enumerate(texts, start=1):
        pages.append(Page(number=number, start=start, end=start + len(text), method="text"))
        start += len(text)
    return document("".join(texts), "a.pdf", tuple(pages))


def check(source, chunks, limit):
    for chunk in chunks:
        assert chunk.text == source.text[chunk.start : chunk.end]
        assert 0 < len(chunk.text) <= limit
        assert chunk.text == chunk.text.strip()
        page = source.pages[chunk.page - 1]
        assert page.start <= chunk.start < page.end
    assert len({chunk.id for chunk in chunks}) == len(chunks)


PIECES = st.sampled_from(
    [
        *(
            "제1조(목적) ",
            "제2장 휴가\n",
            "# 제목\n",
            "제3조(정의)에 따라 ",
            "1.2 Scope\n",
            "- 3 -\n",
        ),
        *("① ", "1. ", "\n", "\n\n", " ", "\t", "\u3000", "다. ", "가나다라 ", "word. ", "A" * 70),
        *("```\n", "| a | b |\n"),
    ]
)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    texts=st.lists(
        st.lists(PIECES | st.text(max_size=30), max_size=25).map("".join), min_size=1, max_size=4
    ),
    language=st.just("en"),
    overlap=st.integers(0, 2),
    cross=st.booleans(),
    markdown=st.booleans(),
)
def test_every_chunk_is_its_place_in_the_document(texts, language, overlap, cross, markdown):
    source = paged(*(f"{text}\n" for text in texts))
    source = source.model_copy(
        update={"language": language, "source": "a.md" if markdown else "a.txt"}
    )
    config = ChunkConfig(
        max_characters=60, min_characters=20, overlap_sentences=overlap, cross_sections=cross
    )
    chunks = chunk_document(source, config)
    check(source, chunks, 60)
    if not overlap:
        assert all(a.end <= b.start for a, b in pairwise(chunks))


def test_sections_follow_chapters_and_articles():
    source = document(RULES)
    chunks = chunk_document(source, ChunkConfig())
    check(source, chunks, 900)
    assert [chunk.section for chunk in chunks] == [
        "사내 규정집 > 제1장 총칙 > 제1조(목적)",
        "사내 규정집 > 제1장 총칙 > 제2조(정의)",
        "사내 규정집 > 제2장 휴가 > 제1절 연차 > 제12조(연차휴가(유급))",
        "사내 규정집 > 제2장 휴가 > 제1절 연차 > 제12조의2(이월)",
    ]
    assert chunks[0].text.startswith("사내 규정집")
    assert chunks[1].text.endswith("휴가를 준다.")
    assert chunks[2].text.startswith("제2장 휴가\n제1절 연차\n제12조")


def test_every_visible_character_lies_in_a_chunk():
    source = document(RULES * 3)
    chunks = chunk_document(source, ChunkConfig(max_characters=60, min_characters=10))
    inside = "".join(chunk.text for chunk in chunks)
    assert "".join(inside.split()) == "".join(source.text.split())


def test_a_table_of_contents_makes_no_chunk_and_no_heading():
    names = [f"제{n}조(이름{n})" for n in range(1, 7)]
    body = [f"{name}\n회사는 이 일을 한다." for name in names]
    source = document("차례\n" + " ..... 3\n".join(names) + "\n\n" + "\n".join(body))
    chunks = chunk_document(source, ChunkConfig())
    check(source, chunks, 900)
    assert [chunk.section for chunk in chunks] == names
    joined = chunk_document(source, ChunkConfig(cross_sections=True))
    assert not any("....." in chunk.text for chunk in joined)


def test_a_long_article_is_cut_at_its_clauses():
    clauses = [f"{chr(0x2460 + n)} 직원은 {n}번 절차를 지켜야 한다." for n in range(10)]
    source = document("제1조(절차) 다음과 같다.\n" + "\n".join(clauses))
    chunks = chunk_document(source, ChunkConfig(max_characters=90, min_characters=20))
    assert len(chunks) > 2
    assert all(chunk.text[0] in "제①②③④⑤⑥⑦⑧⑨⑩" for chunk in chunks)
    assert {chunk.section for chunk in chunks} == {"제1조(절차)"}
    assert min(len(chunk.text) for chunk in chunks) >= 20


def test_short_sections_stay_apart_unless_a_setting_joins_them():
    text = "\n".join(f"제{n}조(이름{n}) 짧다." for n in range(1, 7))
    assert len(chunk_document(document(text), ChunkConfig())) == 6
    joined = chunk_document(document(text), ChunkConfig(cross_sections=True))
    assert [chunk.section for chunk in joined] == ["제1조(이름1)"]


def test_markdown_headings_make_the_path_but_not_inside_code():
    text = "# Guide\n\nIntro.\n\n## Setup\n\n```\n# not a heading\n```\n\n"
    text += "Under\n=====\n\nText.\n\n### Deep ##\nx"
    chunks = chunk_document(document(text, "a.md", language="en"), ChunkConfig())
    assert [chunk.section for chunk in chunks] == [
        "Guide",
        "Guide > Setup",
        "Under",
        "Under > Deep",
    ]
    assert "# not a heading" in chunks[1].text


def test_numbered_and_english_headings_make_sections():
    text = "Article 1 Purpose\nThis sets rules.\n\n1.1 Scope\nAll members.\n\n"
    text += "1.2 Terms\nNone.\n\nArticle 2\nEnd."
    chunks = chunk_document(document(text, language="en"), ChunkConfig())
    assert [chunk.section for chunk in chunks] == [
        "Article 1 Purpose",
        "Article 1 Purpose > 1.1 Scope",
        "Article 1 Purpose > 1.2 Terms",
        "Article 2",
    ]


def test_page_numbers_and_running_headers_are_no_chunks_and_pages_are_kept():
    texts = [f"여행 규정 {n}\n제{n}조(이름) 본문 {n}이다.\n- {n} -\n" for n in range(1, 6)]
    source = paged(*texts)
    chunks = chunk_document(source, ChunkConfig())
    check(source, chunks, 900)
    assert [chunk.page for chunk in chunks] == [1, 2, 3, 4, 5]
    assert [chunk.text for chunk in chunks] == [f"제{n}조(이름) 본문 {n}이다." for n in range(1, 6)]


def test_a_paragraph_over_budget_is_cut_at_korean_sentences():
    sentence = "회사는 직원이 신청하면 휴가를 주어야 한다. 다만 바쁜 때에는 미룰 수 있다. "
    source = document(sentence * 12)
    chunks = chunk_document(source, ChunkConfig(max_characters=200, min_characters=60))
    check(source, chunks, 200)
    assert len(chunks) > 2
    assert all(chunk.text.endswith("다.") for chunk in chunks)


def test_overlap_repeats_the_last_sentence_within_the_section():
    text = (
        "# A\n" + " ".join(f"Rule number {n} holds for all." for n in range(12)) + "\n# B\nOther."
    )
    source = document(text, "a.md", language="en")
    config = ChunkConfig(max_characters=120, min_characters=30, overlap_sentences=1)
    chunks = chunk_document(source, config)
    check(source, chunks, 120)
    pairs = [(a, b) for a, b in pairwise(chunks) if a.section == b.section]
    assert pairs
    assert all(b.start < a.end for a, b in pairs if b.end - a.end <= 90)
    assert chunks[-1].text == "# B\nOther."


@pytest.fixture
def tokenizer_file(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([RULES], trainer)
    path = tmp_path / "base" / "model" / "tokenizer.json"
    path.parent.mkdir(parents=True)
    tokenizer.save(str(path))
    return path


def test_chunks_measured_in_characters_read_no_base_and_do_not_depend_on_it():
    assert "base" in STAGE.inputs(ChunkConfig())
    assert STAGE.inputs(ChunkConfig(measure="characters")) == ("documents",)
    assert "measure" not in ChunkConfig().identity()


def test_no_chunk_has_more_tokens_than_allowed(tokenizer_file):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    source = document(RULES * 2 + "가" * 300)
    config = ChunkConfig(max_tokens=64, min_characters=0)
    chunks = chunk_document(source, config, tokenizer_file)
    check(source, chunks, 900)
    counts = [len(tokenizer.encode(chunk.text).ids) for chunk in chunks]
    assert max(counts) <= 64
    assert max(counts) > 40
    assert token_counter(source.text, tokenizer_file)(0, 0) == 0


def test_the_stage_writes_chunks_and_figures(make_context, tmp_path):
    from jangin.core.parquet import read_table, write_table

    folder = tmp_path / "loaded"
    folder.mkdir()
    write_table(folder / "documents.parquet", Document, [document(RULES)])
    context = make_context(ChunkConfig(), {"documents": make_artifact(folder, stage="load")})
    STAGE.run(context)
    chunks = read_table(context.workspace / "chunks.parquet", Chunk)
    assert len(chunks) == context.summary["chunks"] == 4
    assert context.summary["covered"] == 1.0
    assert context.summary["contents"] == 0
    assert context.summary["counted_tokens"] is False
    assert STAGE.reads == ("documents",)
    assert STAGE.may_read == ("base",)


@pytest.mark.slow
def test_a_megabyte_is_cut_without_a_sentence_splitter(monkeypatch):
    from jangin.documents.outline import splitting as passages

    def never():
        raise AssertionError("Kiwi was loaded though every paragraph fits")

    monkeypatch.setattr(passages, "_kiwi", never)
    article = "제{n}조(이름{n}) ① 회사는 다음을 지킨다.\n② 직원은 " + "절차를 " * 60 + "지킨다.\n"
    text = "".join(article.format(n=n) for n in range(1, 4500))
    assert len(text) > 1_000_000
    chunks = chunk_document(document(text), ChunkConfig())
    assert len(chunks) == 4499


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="at most half"):
        ChunkConfig(max_characters=100, min_characters=80)
    assert Path(STAGE.name).name == "chunk"


ROWS = [f"| 품목 {n} | {n}00원 | 창고 {n}번 선반에 둔다 |" for n in range(1, 13)]
HEADER = "| 이름 | 값 | 자리 |\n| --- | --- | --- |"


def body_of(chunk):
    return chunk.text.removeprefix(f"{HEADER}\n")


def test_a_long_table_is_cut_between_rows_and_its_parts_repeat_the_header():
    text = f"# 표\n\n물건의 값이다.\n\n{HEADER}\n" + "\n".join(ROWS) + "\n\n끝으로 적는다."
    source = document(text, "a.md")
    chunks = chunk_document(source, ChunkConfig(max_characters=220, min_characters=20))
    assert all(len(chunk.text) <= 220 for chunk in chunks)
    assert [chunk.table for chunk in chunks] == [True] * len(chunks)
    assert len(chunks) > 2
    assert [
        row for row in ROWS if sum(row in chunk.text.split("\n") for chunk in chunks) == 1
    ] == ROWS
    for chunk in chunks[1:]:
        assert chunk.text.startswith(f"{HEADER}\n| 품목")
        assert source.text[chunk.start : chunk.end] == body_of(chunk)


def test_a_table_that_fits_into_a_chunk_stays_whole():
    table = f"{HEADER}\n" + "\n".join(ROWS[:5])
    lead = "물건의 값은 해마다 한 번 정하며, 바뀐 값은 게시판에 알린다. " * 3
    source = document(f"# 표\n\n{lead}\n\n{table}\n\n{lead}", "a.md", language="en")
    chunks = chunk_document(source, ChunkConfig(max_characters=260, min_characters=20))
    check(source, chunks, 260)
    assert [chunk.text for chunk in chunks if chunk.table] == [table]


def test_a_table_that_goes_on_over_a_page_has_the_header_of_the_page_before():
    first = f"# 표\n\n{HEADER}\n" + "\n".join(ROWS[:4])
    source = paged(f"{first}\n\n", "\n".join(ROWS[4:]))
    chunks = chunk_document(source, ChunkConfig(max_characters=220, min_characters=20))
    assert all(f"{HEADER}\n| 품목" in chunk.text for chunk in chunks)
    assert [row for chunk in chunks for row in body_of(chunk).split("\n") if row in ROWS] == ROWS


@settings(max_examples=60)
@given(
    rows=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    lead=st.integers(0, 150),
    ruled=st.booleans(),
    overlap=st.integers(0, 1),
)
def test_no_row_is_cut_lost_or_repeated(rows, lead, ruled, overlap):
    table = [f"| {n} | {'x' * width} |" for n, width in enumerate(rows)]
    header = ["| n | x |", "| --- | --- |"] if ruled else []
    text = "# T\n\n" + "word " * (lead // 5) + "\n\n" + "\n".join([*header, *table]) + "\n\nEnd."
    source = document(text, "a.md", language="en")
    config = ChunkConfig(max_characters=120, min_characters=20, overlap_sentences=overlap)
    chunks = chunk_document(source, config)
    shown = [line for chunk in chunks for line in chunk.text.split("\n") if line.startswith("|")]
    assert [line for line in shown if line in table] == table
    assert {line for line in shown if line not in table} == set(header)
    assert all(len(chunk.text) <= 120 for chunk in chunks)


@pytest.mark.slow
def test_documents_in_parts_give_the_same_chunks_in_parts(table_context):
    documents = [
        document(RULES + f"\n제{n}조(시행) 이 규정은 {n}월부터 시행한다.").model_copy(
            update={"id": f"{n:016}", "source": f"{n}.txt"}
        )
        for n in range(1, 6)
    ]
    config, tables = ChunkConfig(measure="characters"), {"documents": (Document, documents)}
    whole, cut = table_context(config, tables), table_context(config, tables)
    cut_into_parts(cut.folder("documents") / "documents.parquet", Document, 2)
    cut = replace(cut, services=replace(cut.services, executor=Local(2)))
    STAGE.run(whole)
    STAGE.run(cut)
    one, parts = whole.workspace / "chunks.parquet", cut.workspace / "chunks.parquet"
    assert [path.name for path in part_paths(parts)] == [f"part-{n:05}.parquet" for n in range(3)]
    assert one.is_file()
    assert read_table(parts, Chunk) == read_table(one, Chunk)
    assert cut.summary == whole.summary
    assert whole.summary["documents"] == 5
