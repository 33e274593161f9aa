import numpy as np
import pytest

from jangin.core.errors import ConfigError
from jangin.core.parquet import read_table
from jangin.core.records import Query, RankedSnippet, Snippet
from jangin.documents.rank import STAGE, RankConfig, rank

QUERIES = [
    Query.make("이사비는 얼마인가요?", "이사비"),
    Query.make("확정일자 수수료는?", "확정일자"),
]
FOUND = (
    (0, "전혀 상관없는 바둑 이야기입니다."),
    (0, "이사비는 최대 40만원까지 받습니다."),
    (0, "이사비는 최대 40만원까지 받습니다!"),
    (0, "이사를 하면 전입신고를 합니다."),
    (1, "이사비는 최대 40만원까지 받습니다."),
)


def snippets(found=FOUND):
    return [
        Snippet(id=f"s{n}", query_id=QUERIES[q].id, place=n + 1, text=text, engine="file")
        for n, (q, text) in enumerate(found)
    ]


class Encoder:
    """Vectors by hand: the share of 이, 사 and 바 in a text, at length 1."""

    source = "by hand"

    def __init__(self):
        self.asked = []

    def encode(self, texts, role):
        self.asked.append((role, list(texts)))
        rows = np.array([[text.count(c) + 0.01 for c in "이사바"] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def context(table_context):
    def make(found=FOUND, encoder=None, **fields):
        config = RankConfig.model_validate(fields)
        tables = {"queries": (Query, QUERIES), "snippets": (Snippet, snippets(found))}
        return table_context(config, tables, encoder=lambda _config, _executor: encoder)

    return make


def run(context):
    rank(context)
    return read_table(context.workspace / "ranked.parquet", RankedSnippet)


def test_the_best_snippet_comes_first_and_copies_of_it_go(context):
    opened = context()
    ranked = run(opened)
    mine = [row for row in ranked if row.snippet.query_id == QUERIES[0].id]
    assert [row.snippet.id for row in mine] == ["s1", "s3", "s0"]
    assert [row.rank for row in mine] == [1, 2, 3]
    assert mine[0].score > mine[1].score > mine[2].score == 0
    assert {row.ranker for row in ranked} == {"bm25"}
    assert opened.summary["copies"] == 1
    assert opened.summary["highest_score"] == mine[0].score


def test_top_k_and_threshold_cut_and_are_counted(context):
    assert len(run(context(top_k=1))) == 2
    opened = context(threshold=0.005)
    ranked = run(opened)
    assert {row.snippet.id for row in ranked} == {"s1", "s3"}
    assert opened.summary["below_threshold"] == 2
    assert opened.summary["queries_with_snippets"] == 1


def test_an_encoder_ranks_by_cosine_and_sees_each_text_once(context):
    encoder = Encoder()
    ranker = {"type": "encoder", "encoder": {"type": "hub", "id": "some/encoder"}}
    opened = context(encoder=encoder, ranker=ranker)
    ranked = run(opened)
    assert [role for role, _ in encoder.asked] == ["query", "passage"]
    assert len(encoder.asked[1][1]) == 4
    vectors = encoder.encode([QUERIES[0].text, FOUND[3][1]], "query")
    score = next(row.score for row in ranked if row.snippet.id == "s3")
    assert score == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-6)
    assert opened.summary["encoder"] == "by hand"
    assert ranked[0].ranker == "encoder"


def test_no_snippets_rank_nothing(context):
    opened = context(found=())
    assert run(opened) == []
    assert opened.summary["ranked"] == 0


def test_the_files_of_a_local_encoder_are_identity_and_must_be_there(tmp_path):
    encoder = {"type": "local", "path": "encoder"}
    config = RankConfig.model_validate({"ranker": {"type": "encoder", "encoder": encoder}})
    with pytest.raises(ConfigError, match=r"config\.json.*`documents: rank"):
        STAGE.sources(config, tmp_path)
    (tmp_path / "encoder" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "encoder" / "config.json").write_text("{}")
    (tmp_path / "encoder" / "1_Pooling" / "config.json").write_text("{}")
    assert list(STAGE.sources(config, tmp_path)) == ["1_Pooling/config.json", "config.json"]
    assert STAGE.sources(RankConfig(), tmp_path) == {}
    assert list(STAGE.machine(RankConfig())) == ["kiwipiepy"]
    assert STAGE.machine(config) == {}
