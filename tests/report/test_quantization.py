import pytest

from jangin.core.errors import StoreError
from jangin.core.ledger import CallCount
from jangin.evaluation.results import Comparison
from jangin.project.release.quantization import QuantizationCost, quantization_costs
from jangin.report.page import build_report
from tests.report.workshop import PROJECT, Workshop, predictions

CALLS = CallCount(requests=1, answered=1, asked_again=0)


@pytest.fixture
def artifacts(tmp_path):
    return Workshop(tmp_path).made(main=predictions(5))


@pytest.fixture
def record(artifacts):
    """The file in the store that says what a GGUF file of the model cost."""
    model = artifacts["main"]["sft"]
    row = Comparison(
        evidence_set="test", a="tuned", b="mine.gguf", n=50, right_a=0.8, right_b=0.7, only_a=6,
        only_b=1, p_value=0.125, smallest_visible=0.12, measure="character_f1", score_n=50,
        score_gain=-0.1, score_gain_low=-0.2, score_gain_high=0.0, score_p=0.1,
    )  # fmt: skip
    stage, key = model.manifest.stage, model.path.name
    path = model.path.parents[1] / "exports" / f"{stage}-{key}" / "mine.gguf.json"
    path.parent.mkdir(parents=True)
    cost = QuantizationCost(file="mine.gguf", bytes=3 * 2**20, comparisons=(row,))
    path.write_text(cost.model_dump_json())
    return path


@pytest.mark.usefixtures("record")
@pytest.mark.parametrize(
    ("language", "title", "shares"),
    [
        (
            "en",
            "Cost of quantizing",
            ("80\N{NO-BREAK SPACE}% [67 to", "70\N{NO-BREAK SPACE}% [56 to"),
        ),
        ("ko", "양자화의 비용", ("80% [67~89%]", "70% [56~81%]")),
    ],
)
def test_the_report_shows_what_quantizing_cost_in_points(
    artifacts, tmp_path, language, title, shares
):
    page = build_report(Workshop(tmp_path).open(PROJECT), artifacts, CALLS, language)
    row = page[page.index(f"<h3>{title}</h3>") :].split("</tr>")[1]
    assert "mine.gguf (3 MiB)" in row
    assert all(share in row for share in shares)
    assert "\N{MINUS SIGN}10.0 (p = 0.125)" in row


def test_a_model_without_such_a_file_has_no_such_section(artifacts, tmp_path):
    page = build_report(Workshop(tmp_path).open(PROJECT), artifacts, CALLS, "en")
    assert "Cost of quantizing" not in page


def test_a_damaged_record_is_named(artifacts, record):
    record.write_text("{")
    with pytest.raises(StoreError, match=r"mine\.gguf\.json is damaged. Delete it"):
        quantization_costs(artifacts["main"]["sft"])
