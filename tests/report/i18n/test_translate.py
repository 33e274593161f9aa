import re
from pathlib import Path
from string import Formatter
from typing import get_args

import jangin.report
from jangin.evaluation.results import EvidenceSet
from jangin.project.stages import STAGES
from jangin.report.i18n.translate import Words, p_text, strings


def test_both_languages_have_the_same_sentences_with_the_same_figures():
    korean, english = strings("ko"), strings("en")
    assert list(korean) == list(english)

    def fields(text):
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    assert [k for k in korean if fields(korean[k]) != fields(english[k])] == []


def test_no_korean_sentence_is_left_in_english_or_the_other_way_round():
    assert not [text for text in strings("en").values() if re.search("[가-힣]", text)]
    latin = [key for key, text in strings("ko").items() if not re.search("[가-힣]", text)]
    assert latin == []


def test_every_evidence_set_has_its_words():
    for name in get_args(EvidenceSet):
        assert {f"set_{name}", f"name_{name}", f"means_{name}"} <= set(strings("ko"))


def test_every_stage_has_its_name():
    assert {f"stage_{stage.name}" for stage in STAGES} <= set(strings("ko"))


def test_every_sentence_is_used_somewhere():
    names = (
        "page.py",
        "data/artifacts.py",
        "sections/data_flow.py",
        "i18n/translate.py",
        "data/verdict.py",
        "templates/report.html.jinja",
        "templates/compare.html.jinja",
        "sections/evaluation.py",
        "templates/report_evaluation.html.jinja",
        "data_page.py",
        "templates/data.html.jinja",
        "../cli/data.py",
        "data/costs.py",
    )
    folder = Path(jangin.report.__file__).parent
    sources = "".join((folder / name).read_text(encoding="utf-8") for name in names)
    quoted = set(re.findall(r"""["'](\w+)["']""", sources))
    put_together = re.compile(
        r"(set|name|means|stage|rule|slice|end|results_intro|kin|script)_|(loss|accuracy)_description"
    )
    assert [k for k in strings("en") if k not in quoted and not put_together.match(k)] == []


def test_a_share_that_is_not_whole_is_never_rounded_to_all_or_nothing():
    words = Words("ko")
    assert [words.percent(share) for share in (0, 0.004, 0.5, 0.996, 1)] == [
        "0%", "0.4%", "50%", "99.6%", "100%",
    ]  # fmt: skip
    assert words.percent(0.9996) == "99.96%"


def test_p_values_are_written_as_people_write_them():
    shown = [p_text(p) for p in (1.0, 0.0499, 0.00312, 0.0003, 0.00001)]
    assert shown == ["p = 1", "p = 0.0499", "p = 0.00312", "p = 0.0003", "p < 0.0001"]
