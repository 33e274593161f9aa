"""One thing has one name in Korean, in every catalogue, guide and README."""

import re
from pathlib import Path

import polib
import pytest

import jangin

ROOT = Path(__file__).parents[3]
CATALOGUES = sorted((Path(jangin.__file__).parent / "report/i18n/ko").glob("*.po"))
READMES = [ROOT / "README.ko.md", *sorted(ROOT.glob("projects/*/README.ko.md"))]
DOCUMENTS = [*sorted(ROOT.glob("docs/guides/*.ko.md")), *READMES]
TERMS = (
    ("예제", "example", r"문답|예시"),
    ("조각", "chunk", r"청크|이 예제를 만든 문단"),
    ("변형", "variant", r"변이|버전끼리"),
    (
        "모델",
        "system that is compared",
        r"(?<!파일 )(?<!운영 )시스템(?! ?(설정대로|메시지|프롬프트))",
    ),
    ("기본 모델", "base model", r"기반 모델|(?<!데이터)베이스"),
    ("교사 모델", "teacher", r"선생|티처"),
    ("심사 모델", "judge", r"심사자|채점 모델|판정 모델|평가자"),
    ("근거", "evidence", r"증거"),
    ("선호 쌍", "preference pair", r"선호쌍|비교 쌍"),
    ("학습", "training", r"훈련|트레이닝"),
    ("미세 조정", "fine-tuning, OpenAI's name", r"미세조정|파인 ?튜닝"),
    ("단계", "stage", r"스테이지"),
    ("답", "answer, reply", r"답변|대답|기록된 응답"),
    ("쪽", "page of a document", r"\d ?페이지|페이지 그림|(배운|가르친|의심스러운) 페이지"),
    ("검토", "review", r"검수"),
    ("판단", "decision of a reviewer", r"내 결정|개 결정|결정을 반영"),
)
"""(the name, what it is in English, what it is not called)."""


@pytest.mark.parametrize(("name", "_english", "others"), TERMS, ids=[term[0] for term in TERMS])
def test_one_thing_has_one_name(name, _english, others):
    pattern = re.compile(others)
    texts = [(path, e.msgstr) for path in CATALOGUES for e in polib.pofile(path.read_text("utf-8"))]
    texts += [(path, line) for path in DOCUMENTS for line in path.read_text("utf-8").splitlines()]
    wrong = [f"{path.name}: {text}" for path, text in texts if pattern.search(text)]
    assert wrong == [], f"write {name}"
    assert any(name in text for _, text in texts)
