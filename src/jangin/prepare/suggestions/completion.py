"""Remedies for the form of questions and answers; most are for plain completions only."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from jangin.prepare.engine.build import COMPLETION
from jangin.prepare.engine.plan import Plan
from jangin.prepare.suggestions.suggestion import Look, Offers, Remedy, with_step
from jangin.prepare.transforms.columns import open_tokenizer
from jangin.prepare.transforms.deduplicate import PROMPT
from jangin.prepare.transforms.scrub import Trim

SEPARATORS = (" ->", "\n\n###\n\n", "\n\n===\n\n", "\n\n---\n\n", "\n\n===>\n\n", "\n\n--->\n\n")
LAST_SEPARATOR = "\n\n### =>\n\n"
ENDS = ("\n", ".", " END", "***", "+++", "&&&", "$$$", "@@@", "%%%")
LAST_END = " [END]"


def capitals(look: Look) -> Offers:
    """Mostly capitals, which cost tokens; said of Latin letters only, for Hangul has no case."""
    import polars as pl

    column = look.single(look.plan.prompt)
    if look.plan.format != "completion" or not column:
        return look.plan
    text = pl.col(PROMPT)
    found = look.count(
        upper=text.str.count_matches(r"\p{Lu}").sum(), lower=text.str.count_matches(r"\p{Ll}").sum()
    )
    if found["upper"] * 2 > found["lower"] and found["upper"]:
        look.plan = yield Remedy(
            name="lower case",
            level="recommended",
            finding="more than a third of all cased letters are capitals, which take more tokens",
            question="write questions in lower case",
            rows=0,
            change=lambda plan: with_step(plan, Trim(type="trim", column=column, lower_case=True)),
        )
    return look.plan


def _ends(look: Look, column: str) -> tuple[str, str]:
    """(common beginning, common end) of all texts of a column."""
    import polars as pl

    text, back = pl.col(column), pl.col(column).str.reverse()
    found = look.count(a=text.min(), b=text.max(), c=back.min(), d=back.max())
    if found["a"] is None or found["a"] == found["b"]:
        return "", ""
    return _shared(found["a"], found["b"]), _shared(found["c"], found["d"])[::-1]


def _shared(first: str, last: str) -> str:
    """What the first and the last of sorted texts, and so all of them, begin with."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(letter for letter, _ in pairs)


def common_parts(look: Look) -> Offers:
    """A beginning that all questions, or all answers, share teaches nothing."""
    for pattern, column, least in (
        (look.plan.prompt, PROMPT, 13),
        (look.plan.completion, COMPLETION, 5),
    ):
        source = look.single(pattern)
        chat = column == PROMPT and look.plan.format == "chat" and not look.plan.system
        if not chat and look.plan.format != "completion":
            continue  # in a chat an instruction at the beginning is how the model is asked
        beginning = _ends(look, column)[0] if source else ""
        if len(beginning) < least:
            continue
        word = "question" if column == PROMPT else "answer"
        question = "make it the system message" if chat else "take it off"

        def change(
            plan: Plan, source: str = source, part: str = beginning, chat: bool = chat
        ) -> Plan:
            plan = with_step(plan, Trim(type="trim", column=source, beginning=part))
            if chat:
                escaped = part.strip().replace("{", "{{").replace("}", "}}")
                plan = plan.model_copy(update={"system": escaped})
            return plan

        look.plan = yield Remedy(
            name=f"common beginning of every {word}",
            level="recommended",
            finding=f"every {word} begins with {beginning[:60]!r}",
            question=question,
            rows=0,
            change=change,
        )
    return look.plan


def endings(look: Look, tokenizer: Path | None) -> Offers:
    """Separator, end and leading blank: only plain completions need them, chats have turns."""
    if look.plan.format != "completion":
        return look.plan
    if not _ends(look, PROMPT)[1]:
        mark = _unused(look, PROMPT, SEPARATORS, LAST_SEPARATOR)
        look.plan = yield Remedy(
            name="separator",
            level="recommended",
            finding="the questions have no common end, so a model cannot tell where an answer "
            "begins",
            question=f"end every question with {mark!r}",
            rows=0,
            change=lambda plan: plan.model_copy(update={"prompt": plan.prompt + mark}),
        )
    if not look.labels and not _ends(look, COMPLETION)[1]:
        end = _unused(look, COMPLETION, ENDS, LAST_END)
        look.plan = yield Remedy(
            name="end of answers",
            level="recommended",
            finding="the answers have no common end, so a model cannot tell where to stop",
            question=f"end every answer with {end!r}",
            rows=0,
            change=lambda plan: plan.model_copy(update={"completion": plan.completion + end}),
        )
    if tokenizer is not None and not look.plan.completion.startswith(" "):
        encode = open_tokenizer(tokenizer)
        without, with_blank = encode(["word answer 답"]), encode([" word answer 답"])
        if len(with_blank[0]) <= len(without[0]):
            look.plan = yield Remedy(
                name="leading blank",
                level="recommended",
                finding="this tokenizer joins a blank with the word behind it",
                question="begin every answer with a blank",
                rows=0,
                change=lambda plan: plan.model_copy(update={"completion": f" {plan.completion}"}),
            )
    return look.plan


def _unused(look: Look, column: str, marks: Sequence[str], last: str) -> str:
    import polars as pl

    text = pl.col(column)
    found = look.count(
        **{str(i): text.str.contains(mark, literal=True).any() for i, mark in enumerate(marks)}
    )
    return next((mark for i, mark in enumerate(marks) if not found[str(i)]), last)
