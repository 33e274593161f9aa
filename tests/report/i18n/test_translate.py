import re
from pathlib import Path
from string import Formatter
from typing import get_args

import jangin
from jangin.evaluation.self_preference import BY_STRENGTH
from jangin.evaluation.slices import Dimension
from jangin.evaluation.tasks.prediction import TestSet
from jangin.metrics.scores.table import METRICS
from jangin.project.stages import STAGES
from jangin.report.i18n.translate import Words, p_text, strings
from jangin.text.language import SCRIPT_CLASSES


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


def quoted_words(folder, *patterns):
    """Every quoted word in the files below a folder."""
    texts = (path.read_text("utf-8") for pattern in patterns for path in folder.rglob(pattern))
    return {word for text in texts for word in re.findall(r"""["'](\w+)["']""", text)}


SOURCE = Path(jangin.__file__).parent
IN_SOURCE = quoted_words(SOURCE / "report", "*.py", "*.jinja") | quoted_words(
    SOURCE / "cli", "*.py"
)
SETS = get_args(TestSet)
COMPOSED = {
    "stage": [stage.name for stage in STAGES],
    "set": SETS,
    "name": SETS,
    "means": SETS,
    "slice": get_args(Dimension),
    "kin": BY_STRENGTH,
    "end": ("low", "high"),
    "script": (*SCRIPT_CLASSES, "none"),
    "glance": (*SETS, "unread", "lines", "chunks", "failures"),
    "compare": ("better_real", "worse_real", "better_chance", "worse_chance"),
}
"""{first part: second parts} of the keys that the source composes; each must have a sentence."""
OPTIONAL = {
    "results_intro": tuple(METRICS),
    "rule": quoted_words(SOURCE / "examples", "*.py"),
}
"""The same of keys that have a sentence to fall back on."""
DESCRIBED = {f"{kind}_description" for kind in ("loss", "accuracy")}


def unused(keys):
    """The keys that nothing in the source can ask for."""
    composed = {
        f"{first}_{second}"
        for first, seconds in (COMPOSED | OPTIONAL).items()
        for second in seconds
    }
    return [key for key in keys if key not in IN_SOURCE | composed | DESCRIBED]


def test_every_composed_key_has_its_sentence():
    composed = {f"{first}_{second}" for first, seconds in COMPOSED.items() for second in seconds}
    assert sorted((composed | DESCRIBED) - set(strings("ko"))) == []


def test_every_sentence_is_used_somewhere():
    assert unused(strings("en")) == []


def test_a_sentence_that_nothing_asks_for_is_seen():
    dead = ["name_nothing", "stage_nothing", "rule_no_such_rule", "right_nothing", "old_sentence"]
    assert unused(["report", "name_test", *dead]) == dead


def test_a_share_that_is_not_whole_is_never_rounded_to_all_or_nothing():
    words = Words("ko")
    assert [words.percent(share) for share in (0, 0.004, 0.5, 0.996, 1)] == [
        "0%", "0.4%", "50%", "99.6%", "100%",
    ]  # fmt: skip
    assert words.percent(0.9996) == "99.96%"


def test_p_values_are_written_as_people_write_them():
    shown = [p_text(p) for p in (1.0, 0.0499, 0.00312, 0.0003, 0.00001)]
    assert shown == ["p = 1", "p = 0.0499", "p = 0.00312", "p = 0.0003", "p < 0.0001"]
