import pytest

from jangin.core.parquet import write_table
from jangin.core.records import Example, Message
from jangin.evaluation.results import grade_prediction
from jangin.evaluation.tasks.task import Prediction
from jangin.project.file import open_project
from jangin.views.artifacts import Lengths, differences, groups_of, samples, settings
from jangin.views.losses import page_ranges
from tests.conftest import make_artifact


def prediction(number, *, right, name="held_out_paraphrases", system="tuned"):
    prompt = (Message(role="user", content=f"{name} {number}번 휴가는 며칠입니까?"),)
    answer = Message(role="assistant", content=f"{number}일")
    example = Example.make(prompt, answer, (), kind="original", source="규정.md")
    return grade_prediction(example, name, system, example.answer if right else "모릅니다")


@pytest.fixture
def evaluations(tmp_path):
    """{variant: {"evaluate": artifact}} with these predictions."""

    def make(**variants):
        made = {}
        for variant, rows in variants.items():
            folder = tmp_path / variant
            folder.mkdir()
            write_table(folder / "predictions.parquet", Prediction, rows)
            made[variant] = {"evaluate": make_artifact(folder, stage="evaluate", key=variant)}
        return made

    return make


def test_samples_stand_beside_what_the_other_models_said(evaluations):
    mine = [prediction(n, right=n % 2 == 0) for n in range(16)]
    base = [prediction(n, right=False, system="base") for n in range(16)]
    made = evaluations(plain=mine + base, paraphrased=mine + base)
    drawn = samples(made, "paraphrased")
    assert (len(drawn.rows), drawn.right, drawn.all_right, drawn.all_wrong) == (16, 8, 8, 8)
    for sample in drawn.rows:
        said = [(a.variant, a.prediction.system) for a in sample.answers]
        assert said == [("paraphrased", "tuned"), ("plain", "tuned"), ("paraphrased", "base")]
        assert len({a.prediction.example_id for a in sample.answers}) == 1


@pytest.mark.parametrize(
    ("right", "wrong", "drawn_right", "drawn"),
    [(40, 15, 10, 20), (40, 3, 17, 20), (2, 40, 2, 20), (4, 5, 4, 9), (0, 30, 0, 20)],
)
def test_right_and_wrong_get_the_same_room_while_there_are_enough(
    evaluations, right, wrong, drawn_right, drawn
):
    rows = [prediction(n, right=n < right) for n in range(right + wrong)]
    found = samples(evaluations(main=rows), "main")
    assert (found.right, len(found.rows)) == (drawn_right, drawn)


def test_every_evidence_set_is_among_the_samples(evaluations):
    rows = [prediction(n, right=True, name="seen_questions") for n in range(200)]
    rows += [prediction(n, right=True) for n in range(3)]
    found = samples(evaluations(main=rows), "main")
    sets = [sample.main.evidence_set for sample in found.rows]
    assert sets.count("held_out_paraphrases") == 3


def test_the_draw_does_not_depend_on_the_order_of_the_table(evaluations):
    rows = [prediction(n, right=n % 3 == 0) for n in range(60)]
    made = evaluations(forwards=rows, backwards=rows[::-1])
    questions = [
        [s.main.question for s in samples(made, name).rows] for name in ("forwards", "backwards")
    ]
    assert questions[0] == questions[1]


def test_variants_that_share_an_artifact_are_one_group(evaluations):
    made = evaluations(a=[prediction(1, right=True)], b=[prediction(2, right=True)])
    made["c"] = made["a"]
    made["d"] = {}
    assert [group.variants for group in groups_of(made, "evaluate")] == [("a", "c"), ("b",)]


@pytest.fixture
def variants(tmp_path):
    path = tmp_path / "project.yaml"
    path.write_text(
        "name: x\ndocuments: {load: {folder: f}, chunk: {}}\nvariants:\n"
        "  short: {documents: {chunk: {max_characters: 300}}}\n"
        "  scanned: {documents: {load: {folder: g, ocr: {type: always}}}}\n"
    )
    return open_project(path).variants


def test_only_settings_that_decide_the_result_are_compared(variants):
    assert differences(variants) == [
        ("documents.load.ocr.type", {"short": "auto", "scanned": "always"}),
        ("documents.chunk.max_characters", {"short": "300", "scanned": "900"}),
    ]


def test_lines_in_which_variants_differ_are_marked(variants):
    marked = [[line.strip() for line, differs in s.lines if differs] for s in settings(variants)]
    assert marked == [
        ["type: auto", "max_characters: 300"],
        ["type: always", "max_characters: 900"],
    ]


def test_percentiles_are_values_that_occur():
    lengths = Lengths("x", (), (7, 1, 3, 2))
    assert [lengths.percentile(p) for p in (1, 5, 50, 75, 95, 100)] == [1, 1, 2, 3, 7, 7]


def test_runs_of_pages_are_drawn_together():
    assert page_ranges([1, 2, 3, 7, 9, 10]) == "1–3, 7, 9–10"
    assert page_ranges([]) == ""
