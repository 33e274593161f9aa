"""How often a wrong answer is shown with a source: python bench/grading/tracing.py [STORE].

A catalogue of 12 products with 8 attributes each, named by codes or by words, in Korean and
English; all questions are of a few templates and values repeat. A simulated model answers each
question in a taught and in held-out wordings, 4 in 10 wrongly, mostly with the value of another
product. Questions about products and attributes that were never taught are always wrong. Prints how
answers are shown, and how the rule showed them that was in use before: same answer first, then 0.6
letter similarity. With the folder of a store: the same for the tuned answers of its evaluations.
"""

import random
import sys
from collections import Counter
from pathlib import Path

from rapidfuzz import fuzz

from jangin.core.parquet import read_table
from jangin.core.records import Example, Message, SplitExample
from jangin.evaluation.tasks.task import Prediction
from jangin.inference.ask import TaughtQuestions
from jangin.metrics.facts import grade_facts
from jangin.text.korean import FORMS, particle
from jangin.text.normalize import letters_and_digits

CODES = ["P-100", "P-200", "P-300", "P-400", "S-10", "S-20", "S-30", "V-1", "V-2", "H-50", "H-60"]
CODES += ["X-900"]
NAMES_KO = [
    "수직펌프",
    "수평펌프",
    "배수펌프",
    "급수펌프",
    "기어펌프",
    "진공펌프",
    "소화펌프",
    "약품펌프",
]
NAMES_KO += ["수중펌프", "다단펌프", "자흡펌프", "순환펌프"]
NAMES_EN = [
    "vertical pump",
    "horizontal pump",
    "drain pump",
    "feed pump",
    "gear pump",
    "vacuum pump",
]
NAMES_EN += ["fire pump", "dosing pump", "submersible pump", "multistage pump", "booster pump"]
NAMES_EN += ["circulation pump"]
UNKNOWN = {
    "codes": ["P-500", "S-40", "Z-10"],
    "ko": ["냉각펌프", "튜브펌프", "모래펌프"],
    "en": ["cooling pump", "tube pump", "sand pump"],
}
ATTRIBUTES_KO = {
    "보증 기간": ["12개월", "24개월", "36개월"],
    "최대 유량": ["10 m3/h", "20 m3/h", "40 m3/h"],
    "소비 전력": ["2 kW", "4 kW", "8 kW"],
    "무게": ["20 kg", "35 kg", "50 kg"],
    "가격": ["350,000원", "890,000원", "1,200,000원"],
    "점검 주기": ["3개월", "6개월", "12개월"],
    "최대 압력": ["5 bar", "10 bar", "16 bar"],
    "재질": ["주철", "스테인리스", "청동"],
}
ATTRIBUTES_EN = {
    "warranty period": ["12 months", "24 months", "36 months"],
    "maximum flow": ["10 m3/h", "20 m3/h", "40 m3/h"],
    "power consumption": ["2 kW", "4 kW", "8 kW"],
    "weight": ["20 kg", "35 kg", "50 kg"],
    "price": ["$350", "$890", "$1,200"],
    "inspection interval": ["3 months", "6 months", "12 months"],
    "maximum pressure": ["5 bar", "10 bar", "16 bar"],
    "material": ["cast iron", "stainless steel", "bronze"],
}
UNKNOWN_ATTRIBUTES = {"ko": ["소음", "색상"], "en": ["noise level", "colour"]}
TAUGHT_KO = [
    "{0}의 {1}은(는) 어떻게 되나요?",
    "{0} {1} 알려 주세요.",
    "{0}의 {1}은(는) 얼마인가요?",
]
TAUGHT_EN = ["What is the {1} of the {0}?", "Tell me the {1} of the {0}."]
HELD_OUT_KO = [
    "혹시 {0} {1} 값이 궁금한데요?",
    "{0} 제품 {1}이(가) 뭐예요?",
    "카탈로그에 적힌 {0}의 {1}?",
]
HELD_OUT_EN = ["Which {1} does the {0} have?", "{0}: {1}?", "I need the {1} for a {0}, please."]
WRONG_SHARE = 0.4


def fill(form: str, product: str, attribute: str) -> str:
    """The question, with the particle that fits."""
    for written in FORMS:
        form = form.replace(f"{{1}}{written}", f"{{1}}{particle(attribute, written)}")
    return form.format(product, attribute)


def example(question: str, answer: str, family: str, page: int) -> Example:
    """A taught question."""
    turns = (Message(role="user", content=question),)
    answered = Message(role="assistant", content=answer)
    return Example.make(
        turns,
        answered,
        (family,),
        kind="original",
        family=family,
        source="catalogue.pdf",
        page=page,
    )


def shown_before(question: str, answer: str, examples: list[Example]) -> bool:
    """The rule before: a source is shown."""
    given, asked = letters_and_digits(answer), letters_and_digits(question)

    def similar(taught: Example) -> tuple[bool, float]:
        same = letters_and_digits(taught.answer) == given
        return same, fuzz.ratio(asked, letters_and_digits(taught.question)) / 100

    same, similarity = max(map(similar, examples))
    return same and similarity >= 0.6


def catalogue(products: list[str], unknown: list[str], language: str, seed: int) -> None:
    """One simulated model on one catalogue."""
    korean = language == "ko"
    attributes = ATTRIBUTES_KO if korean else ATTRIBUTES_EN
    taught, held_out = (TAUGHT_KO, HELD_OUT_KO) if korean else (TAUGHT_EN, HELD_OUT_EN)
    rng = random.Random(seed)
    facts = {(p, a): rng.choice(values) for p in products for a, values in attributes.items()}
    examples = [
        example(fill(form, p, a), value, f"{p} {a}", products.index(p) + 1)
        for (p, a), value in facts.items()
        for form in taught
    ]
    index = TaughtQuestions(examples)
    counts: Counter[tuple[str, str]] = Counter()
    for form in (taught[0], *held_out):
        for product in [*products, *unknown]:
            values_of = [*attributes.items()]
            if product in products:  # the worst case: a value that was taught for the product
                own = [facts[product, attribute] for attribute in attributes]
                values_of += [(attribute, own) for attribute in UNKNOWN_ATTRIBUTES[language]]
            for attribute, values in values_of:
                gold = facts.get((product, attribute), "")
                answer = gold
                if not gold or rng.random() < WRONG_SHARE:
                    others = values if rng.random() < 0.8 else rng.choice([*attributes.values()])
                    answer = rng.choice([value for value in others if value != gold])
                kind = "right" if answer == gold else "wrong" if gold else "never taught"
                question = fill(form, product, attribute)
                counts[kind, index.trace(question, answer).status] += 1
                counts[kind, "before"] += shown_before(question, answer, examples)
    show(f"catalogue {language}, {products[0]} ...", counts)


def show(name: str, counts: Counter[tuple[str, str]]) -> None:
    """One line for each kind of answer."""
    for kind in ("right", "wrong", "never taught"):
        found = {status: counts[kind, status] for status in ("taught", "differs", "not_taught")}
        if total := sum(found.values()):
            print(
                f"{name}: {kind} answers {total}: {found['taught']} with a source, "
                f"{found['differs']} with another taught answer, {found['not_taught']} not taught; "
                f"before: {counts[kind, 'before']} with a source"
            )


def evaluations(store: Path) -> None:
    """The tuned answers of every evaluation of a store."""
    import json

    splits = {
        json.loads((path.parent / "manifest.json").read_text())["content"]: path
        for path in store.glob("split/*/splits.parquet")
    }
    for path in sorted(store.glob("evaluate/*/predictions.parquet")):
        inputs = json.loads((path.parent / "manifest.json").read_text())["inputs"]
        rows = read_table(splits[inputs["splits"]], SplitExample)
        examples = [row.example for row in rows if row.split == "train"]
        index = TaughtQuestions(examples)
        counts: Counter[tuple[str, str]] = Counter()
        for p in read_table(path, Prediction):
            if p.system != "tuned" or p.evidence_set == "seen_questions":
                continue
            right = grade_facts(p.prediction, p.gold, p.question).right
            untaught = p.evidence_set == "unseen_sections"
            kind = "right" if right else "never taught" if untaught else "wrong"
            counts[kind, index.trace(p.question, p.prediction).status] += 1
            counts[kind, "before"] += shown_before(p.question, p.prediction, examples)
        show(f"{path.parent.name[:8]} ({len(examples)} rows)", counts)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        evaluations(Path(sys.argv[1]))
    else:
        catalogue(CODES, UNKNOWN["codes"], "ko", 1)
        catalogue(NAMES_KO, UNKNOWN["ko"], "ko", 2)
        catalogue(CODES, UNKNOWN["codes"], "en", 3)
        catalogue(NAMES_EN, UNKNOWN["en"], "en", 4)
