import pytest

from jangin.evaluation.results import Comparison
from jangin.inference.llama_cpp import has_llama_cpp
from jangin.project.release.quantization import describe


def test_the_card_shows_both_shares_with_intervals_and_the_change_in_points():
    row = Comparison(
        evidence_set="test",
        a="tuned",
        b="mine.gguf",
        n=50,
        right_a=0.8,
        right_b=0.7,
        only_a=6,
        only_b=1,
        p_value=0.125,
        smallest_visible=0.12,
        measure="character_f1",
        score_n=50,
        score_gain=-0.1,
        score_gain_low=-0.2,
        score_gain_high=0.0,
        score_p=0.1,
    )
    line = describe([row]).splitlines()[-1]
    assert line.startswith("| test | 50 | tuned | 80.0% (67.0% to 88.8%) | mine.gguf | 70.0% (")
    assert line.endswith("| -10.0 | 0.125 |")


@pytest.mark.skipif(not has_llama_cpp(), reason="llama-cpp-python is not installed")
@pytest.mark.slow
def test_a_merged_gguf_is_asked_the_questions_of_the_evaluation(project, tmp_path):
    import json

    from typer.testing import CliRunner

    from jangin.cli.main import app

    out = tmp_path / "mine"
    done = CliRunner().invoke(
        app, ["merge", str(out), "-f", "gguf", "--quantize", "f32", "-p", str(project)]
    )
    assert done.exit_code == 0, done.output
    rows = json.loads((out / "quantization.json").read_text())
    # In fp32 the file answers as the model does.
    assert all(row["right_a"] == row["right_b"] and row["score_gain"] == 0 for row in rows)
    assert "## Cost of this format" in (out / "README.md").read_text()
