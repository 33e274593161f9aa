import os
import subprocess
import sys
from pathlib import Path

import pytest

from jangin.text.known_questions import KnownQuestions

QUESTIONS = {
    "P-100의 보증 기간은 어떻게 되나요?": ("a", "24개월"),
    "P-100 보증 기간 알려 주세요": ("a", "24개월"),
    "S-10의 보증 기간은 어떻게 되나요?": ("b", "12개월"),
    "P-100의 무게는 어떻게 되나요?": ("c", "20 kg"),
    "수직펌프의 점검 주기는 며칠인가요?": ("d", "30일"),
    "수평펌프의 점검 주기는 며칠인가요?": ("e", "60일"),
    "제12조에 따른 휴가는 며칠인가요?": ("f", "5일"),
    "What is the warranty of the gear pump?": ("g", "12 months"),
    "What is the warranty of the fire pump?": ("h", "24 months"),
}


@pytest.fixture(scope="module")
def fact_of():
    """The fact that a question asks for, or None."""
    facts, answers = zip(*QUESTIONS.values(), strict=True)
    known = KnownQuestions(list(QUESTIONS), facts, answers)

    def find(question):
        nearest = known.nearest(question, 0.3)
        return None if nearest is None else facts[nearest.index]

    return find


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("P-100은 보증 기간이 어떻게 됩니까?", "a"),
        ("S-10의 보증 기간?", "b"),
        ("p-100 무게", "c"),
        ("수평펌프 점검 주기를 알려 주세요", "e"),
        ("제12조에 따른 휴가는 며칠입니까?", "f"),
        ("Tell me the warranty of the fire pump", "h"),
    ],
)
def test_a_question_in_other_words_finds_what_was_taught(fact_of, question, fact):
    assert fact_of(question) == fact


@pytest.mark.parametrize(
    "question",
    [
        "P-200의 보증 기간은 어떻게 되나요?",
        "보증 기간은 어떻게 되나요?",
        "제31조에 따른 휴가는 며칠인가요?",
        "진공펌프의 점검 주기는 며칠인가요?",
        "What is the warranty of the drain pump?",
        "구내식당은 어디에 있나요?",
        "",
        "?!",
    ],
)
def test_another_code_number_or_name_was_not_taught(fact_of, question):
    assert fact_of(question) is None


def test_without_known_questions_none_is_near():
    assert KnownQuestions([], [], []).nearest("휴가는 며칠인가요?") is None


def test_similarities_are_the_same_in_each_process():
    """The order of sets differs between processes, and with it sums of their elements."""
    code = (
        "from tests.text.test_known_questions import QUESTIONS, KnownQuestions\n"
        "known = KnownQuestions(list(QUESTIONS), *zip(*QUESTIONS.values()))\n"
        "alike = [known.most_alike(q + ' 보증 점검 주기', 9) for q in QUESTIONS]\n"
        "print(alike, [known.nearest(q) for q in QUESTIONS])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
        ).stdout
        for seed in "1234"
    }
    assert len(outputs) == 1
