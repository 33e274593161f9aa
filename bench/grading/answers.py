"""Graded answers in Korean and English: facts, and the ways in which people and models say them.

A form is a template of an answer to one fact. `held out` forms and cases were written with the
others and first graded when the measure was finished.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jangin.text.korean import with_particles


@dataclass(frozen=True)
class Fact:
    """A question, its short answer, a wrong one, and the beginning of a sentence that answers."""

    question: str
    gold: str
    other: str
    subject: str


@dataclass(frozen=True)
class Graded:
    """An answer and whether it is right."""

    language: str
    kind: str
    """`form`: right in other words; `wrong`: wrong from a template; `case`: written by hand."""
    held_out: bool
    question: str
    gold: str
    answer: str
    right: bool


FACTS_KO = [
    Fact("점심시간은 몇 분인가요?", "30분", "60분", "점심시간은"),
    Fact("연차휴가는 며칠인가요?", "15일", "10일", "연차휴가는"),
    Fact("P-100의 보증 기간은 어떻게 되나요?", "24개월", "12개월", "P-100의 보증 기간은"),
    Fact("출장 식비는 하루에 얼마인가요?", "35,000원", "30,000원", "출장 식비는 하루에"),
    Fact("휴가 신청은 누가 승인하나요?", "팀장", "인사팀장", "휴가 신청을 승인하는 사람은"),
    Fact("급여는 언제 지급되나요?", "매월 25일", "매월 10일", "급여가 지급되는 날은"),
    Fact("비상 연락처는 어느 부서인가요?", "안전관리팀", "총무팀", "비상 연락처는"),
    Fact("본사는 어디에 있나요?", "부산", "창원", "본사는"),
    Fact("윤활유는 어떤 제품을 쓰나요?", "HB-OIL-32", "HB-OIL-46", "윤활유는"),
    Fact("수습 기간은 얼마인가요?", "3개월", "6개월", "수습 기간은"),
    Fact("최대 진동 한계는 얼마인가요?", "4.5 mm/s", "7.1 mm/s", "최대 진동 한계는"),
    Fact("안전 교육 담당자는 누구인가요?", "김민수", "박영희", "안전 교육 담당자는"),
]
FACTS_EN = [
    Fact("How long is the warranty of the P-100?", "24 months", "12 months", "The warranty"),
    Fact("How long is the lunch break?", "30 minutes", "60 minutes", "The lunch break"),
    Fact("How many days of annual leave are there?", "15 days", "10 days", "The annual leave"),
    Fact("Who approves a leave request?", "the team leader", "the HR manager", "The approver"),
    Fact("Where is the head office?", "Busan", "Changwon", "The head office location"),
    Fact("What is the daily meal allowance?", "$35", "$30", "The daily meal allowance"),
    Fact("Which oil does the pump use?", "HB-OIL-32", "HB-OIL-46", "The oil of the pump"),
    Fact("When are salaries paid?", "the 25th of each month", "the 10th of each month", "The date"),
    Fact("What is the probation period?", "3 months", "6 months", "The probation period"),
    Fact("What is the vibration limit?", "4.5 mm/s", "7.1 mm/s", "The vibration limit"),
    Fact("Who is the safety officer?", "Minsu Kim", "Yuna Park", "The safety officer"),
    Fact("Which team handles repairs?", "Maintenance", "Logistics", "The team for repairs"),
]

RIGHT_KO = [
    "{gold}입니다.",
    "{gold}이에요.",
    "{gold}이다.",
    "정답은 {gold}입니다.",
    "답변: {gold}",
    "규정에 따르면 {gold}입니다.",
    "{subject} {gold}입니다.",
    "**{gold}**",
    "네, {gold}입니다.",
    "“{gold}”",
]
RIGHT_KO_HELD_OUT = [
    "답은 {gold}예요.",
    "취업규칙 제12조에 따르면 {subject} {gold}입니다.",
    "문의하신 내용에 대한 답변은 {gold}입니다.",
    "{subject} {gold}{으로} 정해져 있습니다.",
    "규정상 {gold}입니다.",
    "{gold} 입니다",
    "- {gold}",
    "결론적으로 {gold}입니다.",
    "{subject} {gold}이라고 규정되어 있습니다.",
    "{gold}입니다. 감사합니다.",
]
WRONG_KO = [
    "{other}입니다.",
    "{gold} 또는 {other}입니다.",
    "{gold}{이} 아닙니다.",
    "{gold} 이상입니다.",
    "{subject} {other}입니다.",
    "{gold}{이} 아니라 {other}입니다.",
    "정답은 {other}입니다.",
    "{gold}, {other}",
    "1{gold}",
    "{gold}인지 알 수 없습니다.",
]
WRONG_KO_HELD_OUT = [
    "{gold}인지 {other}인지 확실하지 않습니다.",
    "{gold}, 단 임원은 {other}입니다.",
    "{gold} 미만입니다.",
    "{other}입니다. {gold}{은} 작년까지의 기준입니다.",
    "{gold}{와} {other}입니다.",
    "{subject} {gold}이라고 할 수 없습니다.",
    "예전에는 {gold}이었습니다.",
    "문서에 {gold}에 대한 내용은 없습니다.",
    "{gold}이나 {other}",
    "{subject} {gold}보다 많습니다.",
]
RIGHT_EN = [
    "It is {gold}.",
    "The answer is {gold}.",
    "{gold}.",
    "Answer: {gold}",
    "According to the handbook, it is {gold}.",
    "{subject} is {gold}.",
    "**{gold}**",
    "It's {gold}",
    '"{gold}"',
    "Based on the document, the answer is {gold}.",
]
RIGHT_EN_HELD_OUT = [
    "That would be {gold}.",
    "As stated in section 4 of the manual, {subject} is {gold}.",
    "{subject} is set at {gold}.",
    "- {gold}",
    "The correct answer is: {gold}",
    "Per the policy, it is {gold}.",
    "In short: {gold}.",
    "The handbook says it is {gold}.",
    "Sure! The answer is {gold}.",
    "A: {gold}.",
]
WRONG_EN = [
    "It is {other}.",
    "{gold} or {other}.",
    "It is not {gold}.",
    "At least {gold}.",
    "{subject} is {other}.",
    "It is not {gold} but {other}.",
    "The answer is {other}.",
    "{gold}, {other}",
    "It isn't {gold}.",
    "I do not know whether it is {gold}.",
]
WRONG_EN_HELD_OUT = [
    "Either {gold} or {other}, depending on the contract.",
    "{gold}, but {other} for managers.",
    "Less than {gold}.",
    "It is {other}. {gold} was the rule until last year.",
    "{gold} and {other}.",
    "{subject} is never {gold}.",
    "It used to be {gold}.",
    "The document does not mention {gold}.",
    "It might be {gold}.",
    "More than {gold}, I think.",
]

MARKS = {"이": "이(가)", "은": "은(는)", "와": "와(과)", "으로": "(으)로"}


def fill(form: str, fact: Fact) -> str:
    """The form with a fact in it, and the particles that fit."""
    for short, mark in MARKS.items():
        form = form.replace(f"{{gold}}{{{short}}}", f"{{gold}}{mark}")
    return with_particles(form, vars(fact)).format(**vars(fact))


def from_templates() -> Iterator[Graded]:
    """Every form with every fact."""
    sets = (
        ("ko", FACTS_KO, True, RIGHT_KO, RIGHT_KO_HELD_OUT),
        ("ko", FACTS_KO, False, WRONG_KO, WRONG_KO_HELD_OUT),
        ("en", FACTS_EN, True, RIGHT_EN, RIGHT_EN_HELD_OUT),
        ("en", FACTS_EN, False, WRONG_EN, WRONG_EN_HELD_OUT),
    )
    for language, facts, right, *forms in sets:
        for held_out, group in enumerate(forms):
            for form in group:
                for fact in facts:
                    yield Graded(
                        language,
                        "form" if right else "wrong",
                        bool(held_out),
                        fact.question,
                        fact.gold,
                        fill(form, fact),
                        right,
                    )


def by_hand() -> Iterator[Graded]:
    """The cases of `cases.tsv`: language, set, verdict, question, gold, answer."""
    lines = Path(__file__).with_name("cases.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        language, part, verdict, question, gold, answer = line.split("\t")
        held_out, right = part == "held_out", verdict == "right"
        yield Graded(language, "case", held_out, question, gold, answer.replace("\\n", "\n"), right)


def all_answers() -> list[Graded]:
    """Templates first."""
    return [*from_templates(), *by_hand()]
