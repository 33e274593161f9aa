from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rapidfuzz.distance import Levenshtein
from tokenizers import Tokenizer, models, pre_tokenizers

from jangin.core.errors import StageError
from jangin.core.ledger import Ledger
from jangin.core.stage import Services, StageContext
from jangin.core.store import Artifact, Manifest
from jangin.core.table import read_table, write_table
from jangin.core.types import Dropped, Example, Message, Score
from jangin.examples.candidates import normalised
from jangin.examples.curate import STAGE, CurateConfig, Window, curate, run

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


def artifact(folder):
    manifest = Manifest(
        format=1,
        stage="some",
        version=1,
        key="k",
        config={},
        inputs={},
        files={},
        content="c",
        summary={},
        created_at=datetime.now(UTC),
    )
    return Artifact(folder, manifest)


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
        inputs = {"examples": artifact(source)}
        if base:
            (tmp_path / "base" / "model").mkdir(parents=True)
            word_tokenizer(tmp_path / "base" / "model" / "tokenizer.json")
            inputs["base"] = artifact(tmp_path / "base")
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
    @settings(deadline=None)
    @given(datasets(), st.sampled_from(["keep", "drop"]))
    def test_ends_in_exactly_one_of_examples_and_dropped(self, rows, conflicts):
        result = curate(rows, CurateConfig(guard=False, conflicts=conflicts))
        went = [dropped.example for dropped in result.dropped]
        assert sorted(map(repr, [*result.kept, *went])) == sorted(map(repr, rows))
        assert curate(rows, CurateConfig(guard=False, conflicts=conflicts)) == result

    @settings(deadline=None)
    @given(datasets())
    def test_that_goes_for_a_twin_names_one_that_stays(self, rows):
        result = curate(rows, PLAIN)
        kept = {row.id for row in result.kept}
        for dropped in result.dropped:
            assert (dropped.twin in kept) == (dropped.rule not in ("empty", "characters"))
            assert dropped.reason

    @settings(deadline=None)
    @given(datasets())
    def test_that_stays_is_no_near_duplicate_of_another(self, rows):
        kept = curate(rows, PLAIN).kept
        for place, row in enumerate(kept):
            for other in kept[:place]:
                limit = 0.95 if row.family == other.family else 0.75
                left, right = normalised(row.question), normalised(other.question)
                # Below these lengths one edit leaves too few 3-grams for MinHash to be sure.
                if min(len(left), len(right)) > 9:
                    assert Levenshtein.normalized_similarity(left, right) < limit


class TestWindows:
    def test_empty_questions_and_answers_go(self):
        result = curate([example(" "), example("질문입니다", "\n"), example("질문 하나")], PLAIN)
        assert [d.reason for d in result.dropped] == ["no question", "no answer"]
        assert len(result.kept) == 1

    def test_lengths_outside_go_with_their_figures(self):
        config = CurateConfig(question_characters=Window(minimum=3, maximum=10), guard=False)
        result = curate([example("가나"), example("가" * 11), example("가나다")], config)
        assert rules_of(result) == ["characters", "characters"]
        assert result.dropped[0].reason == "question: 2 characters, allowed 3 to 10"
        assert [row.question for row in result.kept] == ["가나다"]

    def test_tokens_are_counted_over_all_messages_without_truncation(self, tmp_path):
        tokenizer = word_tokenizer(tmp_path / "tokenizer.json")
        config = CurateConfig(tokens=Window(minimum=1, maximum=6), guard=False)
        rows = [
            example("one two three", "four five six"),
            example("another question here now", "one two", system="be brief"),
        ]
        result = curate(rows, config, tokenizer)
        assert result.tokens == [6]
        assert result.dropped[0].reason == "prompt and answer: 8 tokens, allowed 1 to 6"

    def test_a_window_upside_down_is_refused(self):
        with pytest.raises(ValidationError, match="minimum must not be above maximum"):
            Window(minimum=3, maximum=2)


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

    def test_does_without_a_base(self, context):
        live = context([example("연차 휴가는 며칠인가요?")])
        run(live)
        assert "tokens" not in live.summary

    def test_nothing_left_is_an_error_with_counts_and_a_way_out(self, context):
        with pytest.raises(StageError) as caught:
            run(context([example("가"), example("나"), example(" ")]))
        assert str(caught.value) == (
            "curate left out all 3 examples (2 characters, 1 empty). To keep some, widen "
            "question_characters or answer_characters under curate."
        )

    def test_no_examples_at_all_is_an_error(self, context):
        with pytest.raises(StageError, match="no examples to look at"):
            run(context([]))

    def test_reads_and_makes_what_it_says(self):
        assert (STAGE.reads, STAGE.may_read) == (("examples",), ("base",))
        assert STAGE.makes == ("examples", "dropped")
