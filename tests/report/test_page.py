import html as entities
import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from jangin.core.errors import ConfigError
from jangin.core.ledger import CallCount
from jangin.core.parquet import read_table
from jangin.core.records import Example
from jangin.evaluation.results import Result
from jangin.examples.curation.contradictions import Conflict, ConflictSide
from jangin.examples.reviews.log import LOG, NamedDocument, append_decisions, decide_documents
from jangin.report.data.glance import kind_of_system
from jangin.report.i18n.translate import Words, strings
from jangin.report.page import build_report, short
from tests.report.workshop import HOSTILE, ORDER, ORIGINALS, PROJECT, Workshop, predictions

CALLS = CallCount(requests=31, answered=29, asked_again=2)


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)


@pytest.fixture(scope="module")
def made_page(tmp_path_factory):
    """A page about two variants, one of which is clearly better, and its workshop."""
    workshop = Workshop(tmp_path_factory.mktemp("workshop"))
    made = workshop.made(plain=predictions(2), paraphrased=predictions(11, unseen_right=1))
    return build_report(workshop.open(), made, CALLS, "en"), workshop


@pytest.fixture
def page(made_page):
    return made_page[0]


class Balance(HTMLParser):
    """Counts tags that are left open or closed twice."""

    VOID = frozenset({"meta", "br", "link", "img", "hr"})

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.tags, self.attributes = [], [], Counter(), []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def section(page, name):
    """Text of one section, tags taken out, blanks drawn together."""
    body = re.search(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)[1]
    body = re.sub(r"<(style|title|desc)\b.*?</\1>", " ", body, flags=re.DOTALL)
    return " ".join(entities.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def verdict(page):
    """(tone, text) of the sentence at the top."""
    found = re.search(r'<div class="verdict (\w+)".*?</span>(.*?)</div>', page, re.DOTALL)
    return found[1], " ".join(entities.unescape(re.sub(r"<[^>]*>", " ", found[2])).split())


def test_the_page_needs_nothing_but_itself(page):
    parsed = Balance()
    parsed.feed(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert not [n for n, _ in parsed.attributes if n in ("src", "srcset") or n.startswith("on")]
    assert {v[0] for n, v in parsed.attributes if n in ("href", "xlink:href")} == {"#"}
    bare = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://|@import|url\((?!#)", bare)


def test_every_tag_is_closed_and_every_id_stands_once(page):
    parsed = Balance()
    parsed.feed(page)
    assert not parsed.wrong + parsed.open
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_every_link_of_the_contents_has_a_target(page):
    parsed = Balance()
    parsed.feed(page)
    targets = {value[1:] for name, value in parsed.attributes if name == "href"}
    assert len(targets) > 8
    assert targets <= {value for name, value in parsed.attributes if name == "id"}


def test_every_picture_is_well_formed(page):
    pictures = re.split(r'(?=<svg class="chart")', page)[1:]
    assert len(pictures) > 10
    for picture in pictures:
        end = picture.rfind("</svg>") + len("</svg>")
        assert ET.fromstring(picture[:end]).get("role") == "img"


def test_a_hostile_question_is_shown_as_text(page):
    assert "<script" not in page
    assert entities.escape(HOSTILE).replace("&#x27;", "&#39;") in page


def test_a_hostile_variant_is_shown_as_text(workshop):
    text = PROJECT + 'variants:\n  "<b onclick=x>": {}\n'
    made = workshop.made(**{"<b onclick=x>": predictions(3)})
    parsed = Balance()
    parsed.feed(build_report(workshop.open(text), made, CALLS, "en"))
    assert not parsed.tags["b"]


def test_the_counts_of_the_path_are_those_of_the_tables(page):
    path = section(page, "path")
    for text in (
        "documents: 1", "pages: 6, of which OCR: 3", "unreadable files: 1", "chunks: 5",
        "examples: 12", "failed requests: 2", "examples: 24", "dropped examples: 6",
        "train: 12", "Held-out paraphrases: 12", "unused examples: 3", "steps: 20",
        "parameters: 3,000", "questions: 16",
    ):  # fmt: skip
        assert text in path


def test_the_result_table_holds_what_the_evaluation_wrote(made_page):
    page, workshop = made_page
    shown, words = section(page, "results"), Words("en")
    tables = list((workshop.store.root / "evaluate").glob("*/results.parquet"))
    assert len(tables) == 2
    for row in (row for table in tables for row in read_table(table, Result)):
        interval = words.interval(row.right_low, row.right_high, 1)
        figures = f"{row.n} {words.percent(row.right, 1)} [{interval}]"
        assert " ".join(figures.split()) in shown


def test_dropped_examples_stand_with_their_count_reason_and_twin(page):
    shown = section(page, "dropped")
    assert "Of 30 examples, 6 were dropped." in shown
    assert "nearly the same question 5" in shown
    assert "no question or no answer 1" in shown
    assert "Reason alike Kept instead 1번 휴가는 며칠입니까? original → 1일" in shown


def test_failed_replies_are_counted_by_kind_of_reason(page):
    shown = section(page, "failed")
    assert "usable reply: 2." in shown
    assert "evidence supported to … < … 2" in shown
    assert "evidence supported to 0.31 < 0.90" in shown
    assert "규정/취업 규칙.pdf · 제1조" in shown


def test_coverage_names_the_chunks_that_gave_nothing_and_why(page):
    shown = section(page, "coverage")
    percent = round(100 * (50 + 51 + 52 + 53) / (50 + 51 + 52 + 53 + 54))
    assert f"규정/취업 규칙.pdf 4 / 5 {percent} %" in shown
    assert "Chunks without an example 1" in shown
    assert "the teacher gave no row 규정/취업 규칙.pdf" in shown
    assert "80 % of chunks" in section(page, "path")


def test_files_and_pages_say_why_they_were_not_read_as_they_are(page):
    assert "잠김.pdf it has a password. Open it." in section(page, "unreadable")
    assert "스캔.pdf 3 부품 48-8ㅅＬ-07 HB-BAL-07 61" in section(page, "ocr")
    assert "b.md" in section(page, "unreadable")
    for text in ("Of 6 pages, 3 had no", "2–3, 5 no text layer 90", "reordered: 4"):
        assert text in section(page, "ocr")


def test_both_counts_of_files_that_were_not_read_say_the_same(page):
    missed = "1 file was not read."
    assert missed in page
    shown = section(page, "unreadable")
    assert f"{missed} 1 more were left out on purpose: copies" in shown
    assert shown.index("잠김.pdf") < shown.index("b.md")


def test_lengths_curves_and_provenance_are_there(page):
    for text in ("n = 24.", "n = 5.", "95%: 33"):
        assert text in section(page, "lengths")
    assert "Training plain 20 0.400 0.450" in section(page, "curves")
    provenance = section(page, "provenance")
    assert "31 requests, 29 answers, 2 requests" in provenance
    assert "tesseract 5.3.0 machine that ran the stage" in provenance
    assert "torch 2.13.0+made machine that ran the stage" in provenance
    assert f"{Words('en')('stage_load')} plain, paraphrased" in provenance


def test_what_compiling_a_training_was_worth_is_shown(page):
    said = "compiled: a step took 0.51 s before and 0.37 s compiled, after 38.2 s of compiling."
    assert f"{said} Compiling pays after 1,273 steps." in page


def test_the_memory_of_a_training_is_shown_as_predicted_and_as_measured(page):
    curves = section(page, "curves")
    assert "Method, device Predicted Measured Predicted / measured" in curves
    assert curves.count("full · CPU 1.50 GiB 2.00 GiB 75 %") == 2


def test_only_what_decides_the_result_is_shown_of_the_settings(page):
    assert "training_paraphrases 0 100" in section(page, "settings")
    assert "teacher.internal" not in page
    assert "secret-folder" not in page


@pytest.mark.slow
@pytest.mark.parametrize("count", range(len(ORDER)))
def test_stages_that_are_not_made_yet_leave_one_sentence(workshop, count):
    everything = workshop.made(plain=predictions(2), paraphrased=predictions(11))
    made = {name: {s: all_[s] for s in ORDER[:count]} for name, all_ in everything.items()}
    page = build_report(workshop.open(), made, CALLS, "en")
    for stage in ORDER[count:]:
        assert f"Not run yet: {Words('en')(f'stage_{stage}')}." in page
    tone, text = verdict(page)
    assert tone == "none"
    assert f"{2 * count} of 16" in text
    assert text.endswith("jangin run")


def test_a_stage_that_is_off_is_not_called_unfinished(workshop):
    page = build_report(workshop.open(), {}, CALLS, "en")
    (off,) = re.findall(r"Off in this project: (.*)\.", page)
    name = Words("en")("stage_paraphrase")
    assert name in off.split(", ")
    assert f"Not run yet: {name}." not in page


@pytest.mark.slow
def test_a_leak_goes_before_every_figure(workshop):
    shared = workshop.examples_stages()
    made = {
        "plain": shared | workshop.models_stages("plain", predictions(2)),
        "paraphrased": shared | workshop.models_stages("paraphrased", predictions(11), 0.0833),
    }
    page = build_report(workshop.open(), made, CALLS, "en")
    tone, text = verdict(page)
    assert tone == "bad"
    assert f"8.3 % of {Words('en')('set_held_out_paraphrases')}" in text
    assert "paraphrased: not publishable" in section(page, "results")
    assert "plain: not publishable" not in section(page, "results")
    assert "사본 질문 원래 질문 0.93" in section(page, "results")


@pytest.mark.slow
def test_the_same_artifacts_give_the_same_page(workshop):
    made, opened = workshop.made(plain=predictions(2), paraphrased=predictions(9)), workshop.open()
    assert build_report(opened, made, CALLS, "ko") == build_report(opened, made, CALLS, "ko")


def test_the_language_is_that_of_most_documents(workshop):
    for language in ("ko", "en"):
        loaded = {"load": workshop.examples_stages(language)["load"]}
        page = build_report(workshop.open(), {"plain": loaded}, CALLS)
        assert f'<html lang="{language}">' in page


def test_an_unknown_language_is_an_error_that_names_the_known_ones(workshop):
    with pytest.raises(ConfigError, match=r"Choose ko, en or auto"):
        build_report(workshop.open(), {}, CALLS, "fr")


@pytest.mark.slow
def test_the_first_screen_answers_four_questions(workshop):
    artifacts = workshop.made(plain=predictions(2), paraphrased=predictions(11, unseen_right=1))
    for language in ("en", "ko"):
        page = build_report(workshop.open(), artifacts, CALLS, language)
        first = page.split("<nav")[0]
        answers = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", first)
        assert len(answers) == 4
        can, cost, hosted, missing = (answer for _, answer in answers)
        assert re.search(r"11\D+12|12\D+11", can), can
        assert cost in (strings(language)["glance_free"],)
        assert "type: hosted" in hosted
        assert missing
        timed = build_report(workshop.open(), artifacts, CALLS, language, (), 780.0)
        assert (
            f"{cost} {Words(language)('glance_time', time=Words(language).duration(780))}" in timed
        )


def test_durations_are_said_in_the_language_of_the_page():
    for seconds, korean, english in (
        (12.4, "12초", "12 s"), (89, "89초", "89 s"), (780, "13분", "13 min"),
        (7500, "2시간 5분", "2 h 5 min"),
    ):  # fmt: skip
        assert (Words("ko").duration(seconds), Words("en").duration(seconds)) == (korean, english)


@pytest.mark.parametrize(
    ("label", "kind"),
    [("base", "base"), ("tuned", "tuned"), ("sft", "tuned"), ("gpt", "hosted"),
     ("nearest", "baseline")],
)  # fmt: skip
def test_systems_are_told_apart_by_kind(label, kind):
    assert kind_of_system(label) == kind


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("소성" + " 이내에" * 40, "소성 이내에 … (×40)"),
        ("생" + "\ufffd" * 93, "생\ufffd … (×93)"),
        ("1,000,000,000,000,000,000원", "1,000,000,000,000,000,000원"),
        ("----------", "----------"),
        ("네네네네네", "네네네네네"),
    ],
)
def test_what_a_model_repeats_is_shown_once(text, shown):
    assert short(text).rstrip() == shown


def test_conflicts_stand_with_files_pages_and_answers_and_what_was_decided(workshop):
    sides = [
        ConflictSide(
            document=name, source=f"{name}.pdf", page=page, section="제4조", question="몇 대까지?",
            answer=answer, evidence=answer, example=name, family=name,
        )
        for name, page, answer in (("new", 3, "2대"), ("old", 5, "1대"))
    ]  # fmt: skip
    conflict = Conflict(id="c", difference="amount", sides=tuple(sides))
    tables = {"examples": (Example, ORIGINALS), "conflicts": (Conflict, [conflict])}
    made = {"curate": workshop.publish("curate", tables, {"contradictions": 1})}
    page = build_report(workshop.open(PROJECT), {"main": made}, CALLS, "en")
    shown = section(page, "contradictions")
    for words in ("new.pdf ↔ old.pdf", "2대", "1대", "page 3", "page 5", "Not decided yet"):
        assert words in shown
    named = [NamedDocument(id=side.document, source=side.source) for side in sides]
    append_decisions(workshop.folder / LOG, [decide_documents("replaces", *named, "kim")])
    page = build_report(workshop.open(PROJECT), {"main": made}, CALLS, "en")
    assert "Decided. Run again" in section(page, "contradictions")
    assert "new.pdf replaces old.pdf" in section(page, "contradictions")
