from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rapidfuzz.distance import Levenshtein
from tokenizers import Tokenizer, models, pre_tokenizers

from jangin.core.errors import ConfigError, StageError
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import LocalEncoder
from jangin.core.parquet import count_rows, part_paths, read_table, write_table
from jangin.core.records import Chunk, Dropped, Example, Message, Score
from jangin.core.stage import Services, StageContext
from jangin.documents.versions import suspected_versions
from jangin.examples.curate import REMEDIES, STAGE, CurateConfig, LengthRange, curate, run
from jangin.examples.curation.contradictions import (
    Conflict,
    SourcedRow,
    find_contradictions,
    with_conditions,
)
from jangin.examples.curation.filters import Rule
from jangin.examples.curation.semantic_dedup import EncoderSemantic
from jangin.examples.formats.additions import FILES
from jangin.examples.reviews.log import (
    NamedDocument,
    collect_reviews,
    conditions_of,
    decide_documents,
    document_decisions,
    withdraw_documents,
)
from jangin.report.i18n.translate import strings
from jangin.text.normalize import text_key
from tests.conftest import cut_into_parts, make_artifact

PLAIN = CurateConfig(guard=False)
QUESTIONS = [
    "연차 휴가는 며칠인가요?",
    "연차 휴가는 며칠인지요?",
    "How many days?",
    "출장비 기한은?",
]
QUESTIONS += [
    "연차  휴가는 며칠인가요? ",
    "how many days!",
    " ",
    "가",
    "노트북 교체는 몇 년마다 하나요?",
]


def example(question, answer="15일입니다.", family="", score=None, system="", **fields):
    prompt = (Message(role="user", content=question),)
    if system:
        prompt = (Message(role="system", content=system), *prompt)
    scores = () if score is None else (Score(scorer="judge", kind="model", value=score),)
    return Example.make(
        prompt,
        Message(role="assistant", content=answer),
        family=family,
        kind="paraphrase" if family else "original",
        scores=scores,
        **fields,
    )


def rules_of(result):
    return [dropped.rule for dropped in result.dropped]


def word_tokenizer(path):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(3)
    tokenizer.save(str(path))
    return path


@pytest.fixture
def context(tmp_path):
    def make(rows, config=PLAIN, base=False):
        source, workspace = tmp_path / "source", tmp_path / "workspace"
        source.mkdir()
        workspace.mkdir()
        write_table(source / "examples.parquet", Example, rows)
        inputs = {"examples": make_artifact(source)}
        if base:
            (tmp_path / "base" / "model").mkdir(parents=True)
            word_tokenizer(tmp_path / "base" / "model" / "tokenizer.json")
            inputs["base"] = make_artifact(tmp_path / "base")
        return StageContext(config, inputs, workspace, services)

    with_ledger = Ledger(tmp_path / "ledger.sqlite")
    services = Services(tmp_path, lambda name: pytest.fail(name), with_ledger)
    yield make
    with_ledger.close()


@st.composite
def datasets(draw):
    """Examples with families, some questions and answers more than once."""
    originals = [
        example(draw(st.sampled_from(QUESTIONS)), draw(st.sampled_from(["15일", "20일", ""])))
        for _ in range(draw(st.integers(1, 8)))
    ]
    rows = list(originals)
    for original in originals:
        for _ in range(draw(st.integers(0, 3))):
            question = draw(st.sampled_from([*QUESTIONS, original.question + "?"]))
            score = draw(st.sampled_from([None, 0.2, 0.9]))
            rows.append(example(question, original.answer, original.family, score))
    return draw(st.permutations(rows))


class TestEveryRow:
    @pytest.mark.slow
    @given(datasets(), st.sampled_from(["keep", "drop"]))
    def test_ends_in_exactly_one_of_examples_and_dropped(self, rows, conflicts):
        result = curate(rows, CurateConfig(guard=False, conflicts=conflicts))
        went = [dropped.example for dropped in result.dropped]
        assert sorted(map(repr, [*result.kept, *went])) == sorted(map(repr, rows))
        assert curate(rows, CurateConfig(guard=False, conflicts=conflicts)) == result

    @pytest.mark.slow
    @given(datasets())
    def test_that_goes_for_a_twin_names_one_that_stays(self, rows):
        result = curate(rows, PLAIN)
        kept = {row.id for row in result.kept}
        for dropped in result.dropped:
            assert (dropped.twin in kept) == (dropped.rule not in ("empty", "characters"))
            assert dropped.reason

    @pytest.mark.slow
    @given(datasets())
    def test_that_stays_is_no_near_duplicate_of_another(self, rows):
        kept = curate(rows, PLAIN).kept
        for place, row in enumerate(kept):
            for other in kept[:place]:
                limit = 0.95 if row.family == other.family else 0.75
                left, right = text_key(row.question), text_key(other.question)
                # Below these lengths one edit leaves too few 3-grams for MinHash to be sure.
                if min(len(left), len(right)) > 9:
                    assert Levenshtein.normalized_similarity(left, right) < limit


class TestLengthRanges:
    def test_empty_questions_and_answers_go(self):
        result = curate([example(" "), example("질문입니다", "\n"), example("질문 하나")], PLAIN)
        assert [d.reason for d in result.dropped] == ["no question", "no answer"]
        assert len(result.kept) == 1

    def test_lengths_outside_go_with_their_figures(self):
        config = CurateConfig(question_characters=LengthRange(minimum=3, maximum=10), guard=False)
        result = curate([example("가나"), example("가" * 11), example("가나다")], config)
        assert rules_of(result) == ["characters", "characters"]
        assert result.dropped[0].reason == "question: 2 characters, allowed 3 to 10"
        assert [row.question for row in result.kept] == ["가나다"]

    def test_tokens_are_counted_over_all_messages_without_truncation(self, tmp_path):
        tokenizer = word_tokenizer(tmp_path / "tokenizer.json")
        config = CurateConfig(tokens=LengthRange(minimum=1, maximum=6), guard=False)
        rows = [
            example("one two three", "four five six"),
            example("another question here now", "one two", system="be brief"),
        ]
        result = curate(rows, config, tokenizer)
        assert result.tokens == [6]
        assert result.dropped[0].reason == "prompt and answer: 8 tokens, allowed 1 to 6"

    def test_a_window_upside_down_is_refused(self):
        with pytest.raises(ValidationError, match="minimum must not be above maximum"):
            LengthRange(minimum=3, maximum=2)


class TestTwins:
    def test_exact_duplicates_differ_in_nothing_that_is_read(self):
        rows = [example("연차는 며칠인가요?"), example("연차는  며칠인가요? ", "15일입니다. ")]
        result = curate(rows, PLAIN)
        assert rules_of(result) == ["exact_duplicate"]
        assert result.dropped[0].twin == rows[0].id
        assert result.kept == rows[:1]

    def test_the_same_row_twice_stays_once(self):
        rows = [example("연차는 며칠인가요?")] * 3
        assert len(curate(rows, PLAIN).kept) == 1

    def test_the_better_scored_answer_to_one_question_stays(self):
        rows = [example("연차는?", "15일", score=0.2), example("연차는?", "20일", score=0.9)]
        result = curate(rows, PLAIN)
        assert result.kept == rows[1:]
        assert rules_of(result) == ["conflicting_answer"]
        assert result.dropped[0].reason == (
            f"another answer to the prompt of {rows[1].id}; similarity of the answers 0.333"
        )

    def test_several_answers_can_be_kept(self):
        rows = [example("연차는 며칠인가요?", f"{days}일") for days in (15, 20, 25)]
        assert curate(rows, CurateConfig(conflicts="keep")).kept == rows
        assert curate(rows, CurateConfig(conflicts="drop")).kept == rows[:1]

    def test_another_context_makes_another_question(self):
        rows = [
            example("그럼 얼마인가요?", "3만원", system="출장비 안내"),
            example("그럼 얼마인가요?", "5만원", system="야근 수당 안내"),
            example("그러면 얼마인가요?", "5만원"),
        ]
        assert curate(rows, PLAIN).kept == rows

    def test_near_duplicates_go_with_figure_and_limit(self):
        rows = [example("연차 휴가는 며칠인가요?"), example("연차 휴가는 며칠인지요?", "열다섯 날")]
        result = curate(rows, PLAIN)
        assert rules_of(result) == ["near_duplicate"]
        assert result.dropped[0].reason == (
            f"question like that of {rows[0].id}; similarity 0.923, limit 0.75"
        )

    def test_one_template_filled_twice_stays_unless_the_guard_is_off(self):
        rows = [
            example("전세 계약 기간은 얼마인가요?"),
            example("월세 계약 기간은 얼마인가요?", "1년"),
        ]
        assert curate(rows, CurateConfig()).kept == rows
        assert curate(rows, PLAIN).kept == rows[:1]

    def test_an_original_stays_before_a_better_scored_paraphrase(self):
        stranger = example("연차 휴가는 며칠인지요?", family="0123456789abcdef", score=1.0)
        original = example("연차 휴가는 며칠인가요?", score=0.1)
        assert curate([stranger, original], PLAIN).kept == [original]


class TestFamilies:
    def test_paraphrases_stay_beside_their_original_unless_nearly_copied(self):
        original = example("신입 사원의 연차 휴가는 일 년에 며칠인가요?")
        paraphrase = example("신입 사원의 연차 휴가는 한 해에 며칠인가요?", family=original.id)
        copied = example("신입 사원의 연차 휴가는 일 년에 며칠인가요", family=original.id)
        result = curate([original, paraphrase, copied], PLAIN)
        assert result.kept == [original, paraphrase]
        assert "of its sibling" in result.dropped[0].reason
        assert "limit 0.95" in result.dropped[0].reason

    @pytest.mark.parametrize(
        ("question", "answer", "rule"),
        [
            ("연차 휴가는 며칠인가요", "15일입니다.", "near_duplicate"),
            ("연차 휴가는 며칠인가요?", "15일입니다.", "exact_duplicate"),
            ("연차 휴가는 며칠인가요?", "모릅니다.", "conflicting_answer"),
        ],
    )
    def test_a_family_goes_with_its_original(self, question, answer, rule):
        first = example("연차 휴가는 며칠인가요?", chunk_ids=("a",))
        second = example(question, answer, chunk_ids=("b",))
        other_words = example("쉬는 날이 한 해에 얼마나 되는지 알려 주세요", answer, second.id)
        result = curate([first, second, other_words], PLAIN)
        assert result.kept == [first]
        assert rules_of(result) == [rule, "family"]
        assert {dropped.twin for dropped in result.dropped} == {first.id}
        assert f"its original was left out ({rule})" in result.dropped[1].reason

    def test_a_twin_is_not_lost_with_its_family(self):
        first = example("연차 휴가는 며칠인가요?", chunk_ids=("a",))
        second = example("연차 휴가는 며칠인가요", chunk_ids=("b",))
        third = example("주차권은 어디서 받나요?", "총무팀")
        of_second = example("일 년에 쉬는 날이 얼마나 되나요?", "15일입니다.", second.id)
        of_third = example("일 년에 쉬는 날이 얼마나 되나요??", "총무팀", third.id)
        result = curate([first, second, third, of_second, of_third], PLAIN)
        assert result.kept == [first, third, of_third]

    def test_a_paraphrase_goes_alone(self):
        first = example("연차 휴가는 며칠인가요?")
        second = example("주차권은 어디서 받나요?", "총무팀")
        stray = example("연차 휴가는 며칠인지요?", "총무팀", second.id)
        result = curate([first, second, stray], PLAIN)
        assert result.kept == [first, second]
        assert rules_of(result) == ["near_duplicate"]

    def test_a_twin_that_gave_way_is_followed_to_the_one_that_stays(self):
        best = example("연차 휴가는 며칠인가요?", score=0.9)
        middle = example("연차 휴가는 며칠인지요?", score=0.5, chunk_ids=("a",))
        copy = example("연차 휴가는 며칠인지요?", score=0.1, chunk_ids=("b",))
        result = curate([copy, middle, best], PLAIN)
        assert result.kept == [best]
        assert [dropped.twin for dropped in result.dropped] == [best.id] * 2
        assert result.dropped[0].reason == (
            f"same prompt and answer as {middle.id}; that one gave way to {best.id}"
        )


class TestStage:
    def test_writes_both_tables_and_the_figures(self, context):
        rows = [
            example("연차 휴가는 며칠인가요?"),
            example("연차 휴가는 며칠인지요?"),
            example(" "),
        ]
        live = context(rows, base=True)
        run(live)
        kept = read_table(live.workspace / "examples.parquet", Example)
        dropped = read_table(live.workspace / "dropped.parquet", Dropped)
        assert kept == rows[:1]
        assert [row.example for row in dropped] == rows[1:]
        assert live.summary["read"] == 3
        assert live.summary["kept"] == 1
        assert {rule: n for rule, n in live.summary["dropped"].items() if n} == {
            "empty": 1,
            "near_duplicate": 1,
        }
        assert live.summary["tokens"] == {"p5": 4, "p50": 4, "p95": 4, "p100": 4}

    def test_examples_in_parts_are_curated_like_one_file_and_stay_in_their_parts(self, context):
        rows = [
            example("연차 휴가는 며칠인가요?", score=0.2),
            example(" "),
            example("출장비는 언제까지 신청하나요?"),
            example("병가에는 진단서가 필요한가요?"),
            example("연차 휴가는 며칠인지요?", score=0.9),
        ]
        rows.append(example("해마다 쉬는 날은?", family=rows[0].id, parent=rows[0].id))
        live = context(rows)
        cut_into_parts(live.folder("examples") / "examples.parquet", Example, 2)
        run(live)
        whole = curate(rows, PLAIN)
        assert {row.rule for row in whole.dropped} == {"empty", "near_duplicate", "family"}
        assert read_table(live.workspace / "examples.parquet", Example) == whole.kept
        assert read_table(live.workspace / "dropped.parquet", Dropped) == whole.dropped
        sizes = [count_rows(path) for path in part_paths(live.workspace / "examples.parquet")]
        assert sizes == [0, 2, 1]

    def test_does_without_a_base(self, context):
        live = context([example("연차 휴가는 며칠인가요?")])
        run(live)
        assert "tokens" not in live.summary

    def test_nothing_left_is_an_error_with_counts_and_a_way_out(self, context):
        with pytest.raises(StageError) as caught:
            run(context([example("가"), example("나"), example(" ")]))
        for fact in ("all 3 examples", "(2 characters, 1 empty)", "question_characters"):
            assert fact in str(caught.value)

    def test_no_examples_at_all_is_an_error(self, context):
        with pytest.raises(StageError, match="curate: there are no examples"):
            run(context([]))

    def test_reads_and_makes_what_it_says(self):
        assert (STAGE.reads, STAGE.may_read) == (("examples",), ("base", "reviews", "chunks"))
        assert STAGE.makes == ("examples", "dropped")


def judged(question, value, **fields):
    return example(question, score=value, **fields)


def test_a_row_that_scored_too_low_goes_with_its_wordings_but_not_with_what_evolved_from_it():
    bad = judged("연차 휴가는 며칠인가요?", 0.4)
    wording = example("쉬는 날이 얼마나 되나요?", family=bad.id, parent=bad.id)
    evolved = judged("입사 첫해 연차는 어떻게 세나요?", 0.9, answer="달마다 하루입니다.")
    evolved = evolved.model_copy(update={"kind": "evolved", "family": bad.id, "parent": bad.id})
    unscored = example("병가는 며칠인가요?")
    config = CurateConfig(guard=False, min_score={"judge": 0.5})
    result = curate([bad, wording, evolved, unscored], config)
    assert result.kept == [evolved, unscored]
    assert rules_of(result) == ["score", "score"]
    assert result.dropped[0].reason == "judge 0.40 < 0.5"
    assert (
        result.dropped[1].reason == f"a wording of {bad.id}, which was left out: judge 0.40 < 0.5"
    )


def test_a_scorer_that_nobody_knows_is_told(context):
    config = CurateConfig(guard=False, min_score={"judg": 0.5})
    with pytest.raises(StageError, match=r"min_score.*judg.*Scorers.*: judge"):
        run(context([judged("가나?", 0.9)], config))


def test_everything_scored_too_low_says_which_setting_to_change(context):
    config = CurateConfig(guard=False, min_score={"judge": 0.95})
    with pytest.raises(StageError, match=r"dropped the only example \(1 score\).*lower min_score"):
        run(context([judged("가나?", 0.9)], config))


@pytest.mark.parametrize("better", [0, 1, 2])
def test_of_near_duplicates_the_best_scored_stays_wherever_it_stands(better):
    texts = ["연차 휴가는 며칠인가요?", "연차 휴가는 며칠인지요?", "연차 휴가는 며칠일까요?"]
    rows = [judged(text, 0.9 if n == better else 0.5) for n, text in enumerate(texts)]
    result = curate(rows, PLAIN)
    assert result.kept == [rows[better]]
    assert {dropped.twin for dropped in result.dropped} == {rows[better].id}


def test_an_evolved_question_gives_way_to_an_original_and_takes_its_wordings_along():
    original = judged("연차 휴가는 며칠인가요?", 0.5)
    other = judged("출장비 기한은?", 0.9, answer="5일입니다.")
    fields = {"family": other.id, "parent": other.id}
    evolved = judged("연차 휴가는 며칠인지요?", 0.9, **fields).model_copy(
        update={"kind": "evolved"}
    )
    wording = example("해마다 쉬는 날 수는?", family=other.id, parent=evolved.id)
    result = curate([other, evolved, wording, original], PLAIN)
    assert result.kept == [other, original]
    assert rules_of(result) == ["near_duplicate", "family"]
    assert {dropped.twin for dropped in result.dropped} == {original.id}


class Topics:
    """An encoder that knows three topics by a word each."""

    source = "topics"
    TOPICS = (("연차", "유급휴가"), ("출장",), ("15일", "보름"), ("7일",))

    def encode(self, texts, role):
        assert role == "query"
        rows = np.array(
            [[float(any(w in text for w in words)) for words in self.TOPICS] for text in texts],
            dtype=np.float32,
        )
        rows[:, -1] += 0.01
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


SEMANTIC = CurateConfig(
    guard=False,
    semantic=EncoderSemantic(
        type="encoder", encoder=LocalEncoder(type="local", path="x"), min_cosine=0.9
    ),
)


def test_the_same_question_and_answer_in_other_words_go_when_an_encoder_is_asked():
    rows = [
        judged("연차는 며칠인가요?", 0.5, answer="15일입니다."),
        judged("유급휴가 일수를 알려 주세요", 0.9, answer="보름입니다."),
        judged("연차를 며칠 전에 신청하나요?", 0.9, answer="7일 전입니다."),
        judged("연차 2년 차에는 며칠인가요?", 0.1, answer="15일입니다."),
    ]
    result = curate(rows, SEMANTIC, encoder=Topics())
    assert result.kept == rows[1:]
    (dropped,) = result.dropped
    assert (dropped.rule, dropped.twin) == ("semantic_duplicate", rows[1].id)
    assert dropped.reason.endswith("cosine 1.000, limit 0.9")
    assert curate(rows, PLAIN).kept == rows
    other = [rows[0], judged("유급휴가를 합치면?", 0.9, answer="15일에 5일을 더합니다.")]
    assert curate(other, SEMANTIC, encoder=Topics()).kept == other


def test_wordings_of_one_question_are_compared_with_a_threshold_of_their_own():
    original = judged("연차 휴가는 며칠인가요?", 0.9)
    wording = example("연차 휴가는 며칠인지요?", family=original.id, parent=original.id)
    strict = CurateConfig(guard=False, sibling_threshold=0.7)
    assert curate([original, wording], PLAIN).kept == [original, wording]
    assert rules_of(curate([original, wording], strict)) == ["near_duplicate"]


def test_siblings_are_alike_on_purpose_to_an_encoder_too():
    original = judged("연차는 며칠인가요?", 0.5)
    wording = example("유급휴가 일수를 알려 주세요", family=original.id, parent=original.id)
    assert curate([original, wording], SEMANTIC, encoder=Topics()).kept == [original, wording]


def test_every_rule_has_its_words_and_its_remedy():
    rules = get_args(Rule)
    assert set(rules) == set(REMEDIES)
    for language in ("ko", "en"):
        assert {f"rule_{rule}" for rule in rules} <= set(strings(language))


def test_the_files_of_a_local_encoder_are_part_of_what_curate_reads(tmp_path):
    with pytest.raises(ConfigError, match=r"it has no config\.json"):
        STAGE.sources(SEMANTIC, tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.json").write_text("{}")
    assert set(STAGE.sources(SEMANTIC, tmp_path)) == {"encoder/config.json"}
    assert STAGE.sources(PLAIN, tmp_path) == {}


def evolved_from(parent, question, answer="따로 답합니다.", family=""):
    row = example(question, answer, family=family or parent.family, parent=parent.id, score=0.5)
    return row.model_copy(update={"kind": "evolved"})


def test_what_evolved_from_a_question_that_gave_way_joins_the_family_of_its_twin():
    first, twin = judged("연차 휴가는 며칠인가요?", 0.9), judged("연차 휴가는 며칠인지요?", 0.5)
    wording = example("해마다 쉬는 날 수는?", family=twin.id, parent=twin.id)
    deeper = evolved_from(twin, "입사 첫해에는 휴가를 어떻게 세나요?")
    deepest = evolved_from(deeper, "첫해에 결근하면 어떻게 되나요?")
    its_wording = example("첫해 휴가 계산법?", family=twin.id, parent=deeper.id)
    result = curate([first, twin, wording, deeper, deepest, its_wording], PLAIN)
    assert rules_of(result) == ["near_duplicate", "family"]
    assert [row.id for row in result.kept] == [first.id, deeper.id, deepest.id, its_wording.id]
    assert {row.family for row in result.kept} == {first.id}
    assert result.moved == 3
    assert [row.parent for row in result.kept[1:]] == [twin.id, deeper.id, deeper.id]


def test_a_family_that_was_joined_and_gives_way_itself_takes_all_along():
    best = judged("연차 휴가는 며칠인가요?", 0.9)
    middle = judged("연차 휴가는 며칠인가요 ?", 0.5)
    last = judged("연차 휴가는 며칠일까요?", 0.1)
    deeper = evolved_from(last, "입사 첫해에는 휴가를 어떻게 세나요?")
    result = curate([last, deeper, middle, best], PLAIN)
    assert {row.id: row.family for row in result.kept} == {best.id: best.id, deeper.id: best.id}


LEAVE = (
    ("일반휴학은 통산 몇 년까지 가능한가요?", "통산 3년", "통산 2년"),
    ("일반휴학은 한 번에 얼마 동안 할 수 있나요?", "1년", "6개월"),
    ("육아휴학은 자녀가 몇 세까지 가능한가요?", "만 8세", "만 6세"),
    ("휴학은 누가 승인하나요?", "교무처장", "교무처장의 승인을 받습니다"),
)


def edition(name, number, shuffled=False):
    """Rows of one edition of a document, which is the same whatever its file is called."""
    rows = []
    for place, (question, *answers) in enumerate(LEAVE):
        original = example(
            question if number else question.replace("가능한가요", "되나요"),
            answers[number],
            document_id=f"{number}" * 64,
            source=name,
            page=place + 1,
            evidence=f"{question} 규정에서는 {answers[number]}",
            chunk_ids=(f"{number}-{place}",),
        )
        wording = example(
            f"{number}판에서 {place}번째로 궁금한 것은 {question}",
            original.answer,
            original.id,
            document_id=original.document_id,
            source=name,
            parent=original.id,
        )
        rows += [original, wording]
    return rows[::-1] if shuffled else rows


class TestTwoDocuments:
    @pytest.mark.parametrize("old_name", ["안내_2023.docx", "2023_안내.docx"])
    def test_that_contradict_each_other_are_not_taught_whatever_their_names_are(self, old_name):
        files = {"안내_2026.docx": edition("안내_2026.docx", 0), old_name: edition(old_name, 1)}
        rows = [row for name in sorted(files) for row in files[name]]
        result = curate(rows, CurateConfig())
        assert {row.question for row in result.kept if row.kind == "original"} == {LEAVE[3][0]}
        assert len(result.conflicts) == 3
        for conflict, (_, new, old) in zip(
            sorted(result.conflicts, key=lambda each: each.sides[0].page), LEAVE, strict=False
        ):
            told = {(side.source, side.page, side.answer) for side in conflict.sides}
            page = conflict.sides[0].page
            assert told == {("안내_2026.docx", page, new), (old_name, page, old)}
        assert rules_of(result).count("contradiction") == 12

    def test_give_the_same_rows_in_any_order(self):
        def taught(rows):
            result = curate(rows, CurateConfig())
            return {row.id for row in result.kept}, [each.id for each in result.conflicts]

        new, old = edition("a", 0), edition("b", 1)
        assert taught([*new, *old]) == taught([*old, *new])

    def test_that_agree_keep_one_of_their_rows(self):
        rows = [
            example("복학 신청은 언제 하나요?", answer, document_id=name * 64, source=name)
            for name, answer in (("a", "개강 2주 전까지"), ("b", "개강 14일 전까지 합니다"))
        ]
        result = curate(rows, CurateConfig())
        assert len(result.kept) == 1
        assert result.conflicts == ()
        assert result.kept == curate(rows[::-1], CurateConfig()).kept

    def test_about_other_things_are_both_taught(self):
        rows = [
            example(f"{name} 개관 시간은 언제인가요?", hour, document_id=name * 20, source=name)
            for name, hour in (("도서관", "오전 9시"), ("체육관", "오전 6시"))
        ]
        assert curate(rows, CurateConfig()).kept == rows

    def test_that_quote_the_same_clause_contradict_each_other_in_any_words(self):
        rows = [
            example(
                question,
                answer,
                document_id=name * 64,
                source=name,
                evidence=f"예금 계약은 {answer} 안에 해지할 수 있다.",
            )
            for name, question, answer in (
                ("a", "계약을 물리려면 언제까지 말해야 하나요?", "14일"),
                ("b", "해지할 수 있는 날수를 알려 주세요", "30일"),
            )
        ]
        result = curate(rows, CurateConfig())
        assert result.kept == []
        assert [len(each.sides) for each in result.conflicts] == [2]

    def test_are_both_taught_with_conflicts_keep_and_named_all_the_same(self):
        rows = [*edition("a", 0), *edition("b", 1)]
        result = curate(rows, CurateConfig(conflicts="keep"))
        assert len(result.conflicts) == 3
        assert "contradiction" not in rules_of(result)


FEES = "\u2460 수영장의 월 이용료는 {}원이다."
REFUNDS = "\u2461 환불금은 신청일부터 {}일 이내에 지급한다."
PETS = "\u2460 2층 휴게실에는 안내견을 데리고 들어올 수 {}."


def rule_book(name, fee, days, pets):
    """The passages of one version of a rule book."""
    texts = (FEES.format(fee), REFUNDS.format(days), PETS.format(pets))
    return [
        Chunk(
            id=f"{name}{number}", text=text, document_id=name * 64, source=f"{name}.pdf",
            page=1, start=100 * number, end=100 * number + len(text), section="이용",
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip


def on(chunk, question, answer, **fields):
    """A row about a passage."""
    return example(
        question, answer, document_id=chunk.document_id, source=chunk.source, page=1,
        evidence=chunk.text, **fields,
    )  # fmt: skip


class TestPassages:
    new, old = rule_book("a", "55,000", 7, "있다"), rule_book("b", "48,000", 15, "없다")

    def rows(self):
        return [
            on(self.new[0], "수영장을 한 달 이용하려면 얼마를 내나요?", "55,000원"),
            on(self.old[0], "수영장의 월 이용료는 얼마인가요?", "48,000원"),
            on(self.old[1], "환불은 언제까지 되나요?", "15일 이내"),
            on(self.new[2], "휴게실에 안내견과 함께 들어가도 되나요?", "네, 됩니다."),
            on(self.old[2], "안내견은 2층 휴게실에 들어올 수 있나요?", "아니요."),
        ]

    def curated(self, rows, decisions=()):
        return curate(
            rows,
            CurateConfig(),
            decisions=decisions,
            versions=suspected_versions([*self.old, *self.new]),
        )

    @pytest.mark.parametrize("backwards", [False, True])
    def test_what_versions_have_otherwise_is_not_taught_though_one_was_not_asked(self, backwards):
        result = self.curated(self.rows()[::-1] if backwards else self.rows())
        assert result.kept == []
        told = {
            frozenset((side.source, side.answer) for side in each.sides)
            for each in result.conflicts
        }
        assert told == {
            frozenset({("a.pdf", "55,000원"), ("b.pdf", "48,000원")}),
            frozenset({("b.pdf", "15일 이내"), ("a.pdf", REFUNDS.format(7))}),
            frozenset({("a.pdf", "네, 됩니다."), ("b.pdf", "아니요.")}),
        }

    def test_what_they_have_alike_is_taught(self):
        row = on(self.old[1], "환불금은 언제부터 세나요?", "신청일부터")
        assert self.curated([row]).kept == [row]

    @pytest.mark.parametrize("decision", ["replaces", "both_hold"])
    def test_decisions_between_the_documents_settle_them(self, decision):
        documents = [NamedDocument(id=n * 64, source=f"{n}.pdf") for n in "ba"]
        row = self.rows()[2]
        assert self.curated([row]).kept == []
        decided = decide_documents(decision, *documents, "kim")
        assert self.curated([row], [decided]).kept == [row]

    def test_a_row_that_a_person_accepted_is_right_and_the_passage_wrong(self):
        accepted = Score(scorer="review", kind="human", value=1)
        row = self.rows()[2].model_copy(update={"scores": (accepted,)})
        assert self.curated([row]).kept == [row]


class TestOwnRows:
    def row(self, source, answer, document=""):
        question = "연기는 한 해에 두 번 되나요?" if document else "연기는 한 해에 2회 되나요?"
        return example(question, answer, source=source, document_id=document * 64)

    @pytest.mark.parametrize("backwards", [False, True])
    def test_that_contradict_a_document_are_a_question_for_a_person(self, backwards):
        rows = [self.row("faq.csv", "됩니다."), self.row("rules.pdf", "안 됩니다.", "a")]
        result = curate(rows[::-1] if backwards else rows, CurateConfig())
        assert result.kept == []
        (conflict,) = result.conflicts
        assert conflict.sources == ("faq.csv", "rules.pdf")
        table = NamedDocument(id="own:faq.csv", source="faq.csv")
        document = NamedDocument(id="a" * 64, source="rules.pdf")
        decided = decide_documents("replaces", document, table, "kim")
        assert curate(rows, CurateConfig(), decisions=[decided]).kept == [rows[1]]

    def test_without_a_document_and_rows_that_people_saved_are_as_before(self):
        rows = [self.row("faq.csv", "됩니다."), self.row("faq.csv", "안 됩니다.")]
        assert curate(rows, CurateConfig()).kept == rows[:1]
        saved = self.row(FILES["example"], "됩니다.")
        assert curate([self.row("rules.pdf", "안 됩니다.", "a"), saved], PLAIN).conflicts == ()


def test_conflicts_are_a_table_only_where_there_are_any(context):
    rows = [*edition("a", 0), *edition("b", 1)]
    stage = context(rows, CurateConfig())
    run(stage)
    assert stage.summary["contradictions"] == 3
    assert len(read_table(stage.workspace / "conflicts.parquet", Conflict)) == 3


def test_one_document_that_agrees_with_itself_has_no_table_of_conflicts(context):
    stage = context(edition("a", 0), CurateConfig())
    run(stage)
    assert "contradictions" not in stage.summary
    assert not (stage.workspace / "conflicts.parquet").exists()


def named(number, source=""):
    return NamedDocument(id=f"{number}" * 64, source=source or f"{number}.docx")


class TestDecisionsBetweenDocuments:
    def test_nothing_of_a_replaced_document_is_taught_also_what_contradicts_nothing(self):
        rows = [*edition("new.docx", 0), *edition("old.docx", 1)]
        decision = decide_documents("replaces", named(0), named(1), "kim")
        result = curate(rows, CurateConfig(), decisions=[decision])
        assert {row.source for row in result.kept} == {"new.docx"}
        assert result.conflicts == ()
        assert rules_of(result) == ["replaced"] * 8
        assert {row.example.source for row in result.dropped} == {"old.docx"}

    def test_it_applies_to_a_renamed_and_to_an_edited_document_and_to_no_other(self):
        rows = [*edition("new.docx", 0), *edition("old.docx", 1)]
        for old, conflicts in ((named(1, "x"), 0), (named(7, "old.docx"), 0), (named(7), 3)):
            decision = decide_documents("replaces", named(0), old, "kim")
            assert len(curate(rows, CurateConfig(), decisions=[decision]).conflicts) == conflicts

    def test_two_that_hold_under_conditions_are_taught_where_their_questions_differ(self):
        rows = [*edition("new.docx", 0), *edition("old.docx", 1)]
        decision = decide_documents("both_hold", named(1), named(0), "kim")
        result = curate(rows, CurateConfig(guard=True), decisions=[decision])
        same_words = {LEAVE[1][0]}
        assert {c.sides[0].question for c in result.conflicts} == same_words
        assert not same_words & {row.question for row in result.kept}

    def test_the_latest_counts_until_it_is_withdrawn(self):
        first = decide_documents("replaces", named(0), named(1), "kim")
        second = decide_documents("replaces", named(1), named(0), "kim")
        undo = withdraw_documents("undo", named(0), named(1), "kim")
        assert document_decisions([first, second]) == [second]
        assert document_decisions([first, second, undo]) == [first]
        assert document_decisions([first, second, undo, undo]) == []
        assert collect_reviews([first, undo]) == {}

    def test_conditions_that_people_named_begin_the_questions_of_their_documents(self):
        rows = [row for n in (0, 1) for row in edition(f"{n}.docx", n) if row.kind == "original"]
        when = ("2026년 입학생", "2025년 이전 입학생")
        decision = decide_documents("both_hold", named(0), named(1), "kim", when)
        kept, changed = with_conditions(rows, [decision])
        assert changed == 6
        for number, condition in enumerate(when):
            own = [row for row in kept if row.source == f"{number}.docx"]
            assert [row.question.startswith(f"{condition}: ") for row in own] == [True] * 3 + [
                False
            ]
            assert [row.answer for row in own] == [answers[number] for _, *answers in LEAVE]
            assert [row.family for row in own] == [row.id for row in own]
        result = curate(kept, CurateConfig(), decisions=[decision])
        assert result.conflicts == ()
        assert len(result.kept) == 7
        assert with_conditions(kept, [decision])[0] == kept, "not twice"
        assert with_conditions(rows, [])[0] == rows

    def test_conditions_do_not_hide_that_a_third_document_contradicts_both(self):
        """Both say 3개월: a condition would make their questions unlike that of the third."""
        answers = {"0.docx": "3개월", "1.docx": "3개월까지", "2.docx": "1개월"}
        rows = [
            example("분실물은 얼마 동안 보관하나요?", answer, document_id=name[0] * 64, source=name)
            for name, answer in answers.items()
        ]
        decision = decide_documents("both_hold", named(0), named(1), "kim", ("올해", "작년"))
        assert with_conditions(rows, [decision]) == (rows, 0)
        assert [len(c.sides) for c in curate(rows, PLAIN, decisions=[decision]).conflicts] == [3]

    @pytest.mark.parametrize("conditions", [("", "b"), ("a", ""), ("a", " a ")])
    def test_conditions_that_do_not_tell_the_documents_apart_are_refused(self, conditions):
        with pytest.raises(ValueError, match="a condition of its own"):
            conditions_of(*conditions)
        with pytest.raises(ValidationError):
            decide_documents("both_hold", named(0), named(1), "kim", conditions)
        with pytest.raises(ValidationError):
            decide_documents("replaces", named(0), named(1), "kim", ("a", "b"))


class TestOneDocument:
    def fees(self, *answers):
        question = "공과대학의 수업료는 얼마인가요?"
        return [
            example(question, answer, document_id="a" * 64, source="등록금.xlsx", page=page)
            for page, answer in enumerate(answers, 1)
        ]

    def test_that_contradicts_itself_is_a_question_for_a_person_in_any_order(self):
        rows = self.fees("4,312,000원", "4,520,000원")
        for ordered in (rows, rows[::-1]):
            result = curate(ordered, CurateConfig())
            assert result.kept == []
            (conflict,) = result.conflicts
            assert conflict.sources == ("등록금.xlsx",)
            assert {(side.page, side.answer) for side in conflict.sides} == {
                (1, "4,312,000원"), (2, "4,520,000원"),
            }  # fmt: skip
            assert rules_of(result) == ["contradiction"] * 2
            assert "its document answers the question twice" in result.dropped[0].reason

    def test_that_says_the_same_in_other_words_keeps_one(self):
        result = curate(self.fees("30일", "30일까지 됩니다"), CurateConfig())
        assert len(result.kept) == 1
        assert result.conflicts == ()
        assert rules_of(result) == ["conflicting_answer"]

    def test_wordings_of_two_of_its_questions_are_dropped_and_the_questions_stay(self):
        originals = [
            example(f"{hall} 통금은 몇 시인가요?", hour, document_id="a" * 64, source="a.md")
            for hall, hour in (("1관", "23시"), ("2관", "24시"))
        ]
        wordings = [
            example("통금이 언제죠?", row.answer, row.id, document_id="a" * 64, parent=row.id)
            for row in originals
        ]
        for rows in ([*originals, *wordings], [*originals[::-1], *wordings[::-1]]):
            result = curate(rows, CurateConfig())
            assert {row.id for row in result.kept} == {row.id for row in originals}
            assert rules_of(result) == ["conflicting_answer"] * 2


def test_questions_with_other_numbers_are_about_other_matters_though_their_clauses_are_alike():
    def row(number, document, matter, days):
        clause = f"휴가 {matter}종의 신청 기한은 {days}일이다."
        return SourcedRow(
            *(number, str(number), str(number), "original", document, f"{document}.md", 1, ""),
            *(clause, f"휴가 {matter}종의 신청 기한은 며칠인가요?", f"{days}일", ""),
        )

    other_matters = [row(0, "one", 1, 3), row(1, "two", 2, 5)]
    same_matter = [row(0, "one", 1, 3), row(1, "two", 1, 5)]
    assert find_contradictions(other_matters).conflicts == []
    assert [c.difference for c in find_contradictions(same_matter).conflicts] == ["amount"]
