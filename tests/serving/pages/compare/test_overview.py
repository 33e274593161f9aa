import pytest

from jangin.core.errors import UnreadableStoreError
from jangin.report.i18n.translate import Words
from jangin.serving.pages.compare.overview import Comparisons
from jangin.serving.state.project import OpenProject


def test_the_results_are_computed_once_until_an_answer_is_judged(project):
    comparison = Comparisons().of(OpenProject(project / "project.yaml"))
    words = Words("ko")
    overview = comparison.overview(words, 0)
    assert comparison.overview(words, 0) is overview
    assert comparison.overview(words, 1) is not overview


@pytest.mark.slow
def test_what_goes_wrong_is_said_to_whoever_asks(project):
    comparison = Comparisons().of(OpenProject(project / "project.yaml"))
    evaluation = next(iter(comparison.evaluations.by_variant.values()))
    kept = (evaluation.path / "results.parquet").read_bytes()
    (evaluation.path / "results.parquet").write_bytes(b"damaged")
    try:
        with pytest.raises(UnreadableStoreError, match=r"results\.parquet"):
            comparison.overview(Words("ko"), 0)
    finally:
        (evaluation.path / "results.parquet").write_bytes(kept)
    assert comparison.overview(Words("ko"), 0) is not None
