from dataclasses import replace

from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table, write_table
from jangin.core.records import Chunk, Document, Example, Message, SplitExample
from jangin.core.stage import StageContext
from jangin.documents.index import STAGE as INDEX
from jangin.documents.index import IndexConfig
from jangin.documents.passages import Passages, cited
from jangin.evaluation.evaluate import STAGE as EVALUATE
from jangin.evaluation.evaluate import EvaluateConfig
from jangin.evaluation.grounded import (
    LIMIT,
    TRAINED_WITH,
    Grounding,
    SearchLimit,
    best_score,
    grounded_verdict,
    measure_grounding,
    measure_limit,
)
from jangin.evaluation.recall import Recall
from jangin.evaluation.results import grade_prediction
from jangin.llm.ask import CachedChat
from tests.conftest import make_artifact

TOPICS = ("maternity", "parking", "meals", "travel", "sickness", "uniforms", "lockers", "phones")
TEXTS = [f"The allowance for {topic} is {40 + n} euros." for n, topic in enumerate(TOPICS)]


def passages():
    return Passages.of(
        [
            Chunk(
                id=f"c{row}", document_id="d", source="d.md", text=text, start=0, end=len(text),
                page=1, section="",
            )
            for row, text in enumerate(TEXTS)
        ]
    )  # fmt: skip


def example(number, question="", evidence=""):
    topic = TOPICS[number]
    prompt = (Message(role="user", content=question or f"What is paid for {topic}?"),)
    answer = Message(role="assistant", content=f"{40 + number} euros")
    return Example.make(prompt, answer, (f"c{number}",), kind="original", evidence=evidence)


def hits(question, count=3):
    (found,) = passages().search([question], count)
    return found


def test_the_passage_that_has_the_answer_is_cited_else_the_best_of_the_search():
    found = hits("allowance for parking")
    assert found[0].chunk.id == "c1"
    other = found[2]
    assert cited(found, other.text.split(" is ")[1]) == other
    assert cited(found, "nobody knows") == found[0]
    assert cited([], "41 euros") is None


def test_citations_facts_and_recall_are_counted_on_what_the_system_read():
    examples = [example(number) for number in range(4)]
    answers = ("40 euros", "41 euros", "99 euros", "43 euros")
    predictions = [
        grade_prediction(each, "unseen_sections", "tuned + retrieval", answer)
        for each, answer in zip(examples, answers, strict=True)
    ]
    predictions += [grade_prediction(examples[0], "unseen_sections", "tuned", "40 euros")]
    by_id = {each.id: each for each in examples}
    (row,) = measure_grounding(predictions, by_id, passages(), {"tuned + retrieval": 1}, None)
    assert (row.system, row.n, row.right) == ("tuned + retrieval", 4, 3)
    assert (row.known, row.own_read) == (4, 4)
    # "99 euros" is in no passage; the only one that was read is cited nevertheless, and it is right
    assert (row.stating, row.faithful, row.citation_right) == (4, 3, 4)
    assert (row.answered, row.right_answered) == (4, 3)
    (strict,) = measure_grounding(predictions, by_id, passages(), {"tuned + retrieval": 1}, 1.0)
    assert (strict.answered, strict.right_answered) == (0, 0)


def test_a_cited_passage_with_the_quotation_is_right_though_the_question_is_of_another():
    asked = example(0, "What is paid for parking?", evidence=TEXTS[1])
    prediction = grade_prediction(asked, "test", "base + retrieval", "41 euros")
    by_id = {asked.id: asked}
    (row,) = measure_grounding([prediction], by_id, passages(), {"base + retrieval": 1}, None)
    assert (row.own_read, row.citation_right) == (0, 1)


def test_the_limit_separates_questions_with_their_passage_from_those_without():
    train = [example(n % 8, f"{TOPICS[n % 8]} allowance, {n}") for n in range(24)]
    rows = measure_limit(passages(), train, {"test": [example(n) for n in range(8)]}, seed=0)
    (row,) = rows
    assert (row.calibrated_on, row.n) == (24, 8)
    assert row.refused_rightly > row.refused_wrongly
    kept = [best_score(hits(example(n).question)) >= row.limit for n in range(8)]
    assert kept.count(False) == row.refused_wrongly
    assert best_score(hits("Wie ist das Wetter?")) < row.limit
    assert measure_limit(passages(), train[:19], {"test": [example(0)]}, seed=0) == []


def test_an_evaluation_with_an_index_writes_what_the_search_finds_and_what_answers_cite(
    stage_context, tmp_path
):
    rows = [
        SplitExample(example=example(n % 8, f"{TOPICS[n % 8]} allowance, {n}"), split="train")
        for n in range(24)
    ]
    rows += [SplitExample(example=example(n), split="unseen_sections") for n in range(8)]
    config = EvaluateConfig(systems=({"type": "retrieval", "of": "gpt"},), seen_limit=0)
    context = stage_context(config, rows)
    chunks = list(passages().chunks)
    document = Document(id="d", source="d.md", text="text", pages=(), language="en")
    inputs = dict(context.inputs)
    for name, record, table in (
        ("chunks", Chunk, chunks),
        ("documents", Document, [document]),
        ("index", Chunk, chunks),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write_table(folder / f"{name}.parquet", record, table)
        inputs[name] = make_artifact(folder)
    INDEX.run(StageContext(IndexConfig(), inputs, tmp_path / "index", context.services))
    fake = FakeChat(lambda request: request.messages[-1].content.split("?")[0][-9:], model="m")
    chat = CachedChat(fake, context.services.ledger)
    services = replace(context.services, chat=lambda _: chat)
    context = replace(context, inputs=inputs, services=services)
    EVALUATE.run(context)

    recall = read_table(context.workspace / "recall.parquet", Recall)
    assert [(row.depth, row.n, row.recall) for row in recall] == [
        (1, 8, 1.0), (3, 8, 1.0), (10, 8, 1.0),
    ]  # fmt: skip
    (limit,) = read_table(context.workspace / "limits.parquet", SearchLimit)
    assert context.summary[LIMIT] == limit.limit
    (row,) = read_table(context.workspace / "grounding.parquet", Grounding)
    assert (row.system, row.n, row.right) == ("gpt + retrieval", 8, 0)
    assert (row.known, row.own_read) == (8, 8)
    assert row.answered == 8 - limit.refused_wrongly
    assert TRAINED_WITH not in context.summary


def verdict(trained_with=False, **right):
    """The verdict where each system has its first questions right, of 40."""
    rows = []
    for system, count in right.items():
        for number in range(40):
            prompt = (Message(role="user", content=f"How many days is leave {number}?"),)
            answer = Message(role="assistant", content=f"{number + 100} days")
            asked = Example.make(prompt, answer, (), kind="original")
            text = asked.answer if number < count else "I do not know"
            name = system.replace("_", " + ", 1) if "_" in system else system
            rows.append(grade_prediction(asked, "unseen_sections", name, text))
    return grounded_verdict(rows, ("unseen_sections", "test"), trained_with=trained_with)


def test_a_model_that_was_trained_with_passages_is_judged_by_the_answers_that_it_gave_with_them():
    found = verdict(trained_with=True, base=0, tuned=39, base_retrieval=20)
    assert (found.right, found.rival, found.outcome) == (39 / 40, "base + retrieval", "better")
    assert verdict(base=0, tuned=39, base_retrieval=20) is None


def test_the_tuned_model_is_compared_with_the_best_that_needs_no_training_and_corrected():
    found = verdict(base=0, tuned=0, base_retrieval=20, gpt_retrieval=32, tuned_retrieval=39)
    assert (found.rival, found.rivals, found.n) == ("gpt + retrieval", 3, 40)
    assert found.outcome == "better"
    assert found.comparison.p_value == 2 / 2**7
    assert found.p_holm == found.comparison.p_value  # the largest of the three is not multiplied
    # Against the base alone this would be significant.
    assert verdict(base=0, base_retrieval=30, tuned_retrieval=33).outcome == "level"
    assert verdict(base=0, base_retrieval=30, tuned_retrieval=12).outcome == "worse"
    assert verdict(tuned=3, tuned_retrieval=33).outcome == "alone"
    assert verdict(base=3, tuned=33) is None
