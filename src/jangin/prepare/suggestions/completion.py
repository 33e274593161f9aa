"""Suggestions for the form of questions and answers, most of them for prompt/completion data."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from jangin.prepare.engine.build import COMPLETION
from jangin.prepare.engine.plan import Plan
from jangin.prepare.suggestions.suggestion import Profile, Suggestion, Suggestions, with_step
from jangin.prepare.transforms.columns import open_tokenizer
from jangin.prepare.transforms.deduplicate import PROMPT
from jangin.prepare.transforms.scrub import Trim

SEPARATORS = (" ->", "\n\n###\n\n", "\n\n===\n\n", "\n\n---\n\n", "\n\n===>\n\n", "\n\n--->\n\n")
LAST_SEPARATOR = "\n\n### =>\n\n"
ENDS = ("\n", ".", " END", "***", "+++", "&&&", "$$$", "@@@", "%%%")
LAST_END = " [END]"


def capitals(profile: Profile) -> Suggestions:
    """Suggest lower case for questions in capitals, which take more tokens; Hangul has no case."""
    import polars as pl

    column = profile.single(profile.plan.prompt)
    if profile.plan.format != "completion" or not column:
        return profile.plan
    text = pl.col(PROMPT)
    letters = profile.count(
        upper=text.str.count_matches(r"\p{Lu}").sum(), lower=text.str.count_matches(r"\p{Ll}").sum()
    )
    if letters["upper"] * 2 > letters["lower"] and letters["upper"]:
        profile.plan = yield Suggestion(
            name="lower case",
            level="recommended",
            finding="more than a third of the letters with case are capitals, which take more "
            "tokens",
            action="write questions in lower case",
            rows=0,
            change=lambda plan: with_step(plan, Trim(type="trim", column=column, lower_case=True)),
        )
    return profile.plan


def _common_affixes(profile: Profile, column: str) -> tuple[str, str]:
    """(common prefix, common suffix) of all texts of a column."""
    import polars as pl

    text, back = pl.col(column), pl.col(column).str.reverse()
    ends = profile.count(a=text.min(), b=text.max(), c=back.min(), d=back.max())
    if ends["a"] is None or ends["a"] == ends["b"]:
        return "", ""
    return _common_prefix(ends["a"], ends["b"]), _common_prefix(ends["c"], ends["d"])[::-1]


def _common_prefix(first: str, last: str) -> str:
    """Common prefix of the first and the last of sorted texts, and so of all of them."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(letter for letter, _ in pairs)


def common_prefixes(profile: Profile) -> Suggestions:
    """Suggest to remove a prefix that all questions, or all answers, share."""
    for template, column, least in (
        (profile.plan.prompt, PROMPT, 13),
        (profile.plan.completion, COMPLETION, 5),
    ):
        source = profile.single(template)
        chat = column == PROMPT and profile.plan.format == "chat" and not profile.plan.system
        if not chat and profile.plan.format != "completion":
            continue  # in a chat, an instruction at the beginning is part of the question
        prefix = _common_affixes(profile, column)[0] if source else ""
        if len(prefix) < least:
            continue
        word = "question" if column == PROMPT else "answer"

        def change(
            plan: Plan, source: str = source, prefix: str = prefix, chat: bool = chat
        ) -> Plan:
            plan = with_step(plan, Trim(type="trim", column=source, beginning=prefix))
            if chat:
                escaped = prefix.strip().replace("{", "{{").replace("}", "}}")
                plan = plan.model_copy(update={"system": escaped})
            return plan

        profile.plan = yield Suggestion(
            name=f"common beginning of every {word}",
            level="optional",
            finding=f"every {word} begins with {prefix[:60]!r}",
            action="make it the system message" if chat else "remove it",
            rows=0,
            change=change,
        )
    return profile.plan


def endings(profile: Profile, tokenizer: Path | None) -> Suggestions:
    """Suggest separator, end mark and leading space for prompt/completion data; chats need none."""
    if profile.plan.format != "completion":
        return profile.plan
    if not _common_affixes(profile, PROMPT)[1]:
        mark = _unused(profile, PROMPT, SEPARATORS, LAST_SEPARATOR)
        profile.plan = yield Suggestion(
            name="separator",
            level="recommended",
            finding="the questions have no common end, so a model cannot recognise where an answer "
            "begins",
            action=f"end every question with {mark!r}",
            rows=0,
            change=lambda plan: plan.model_copy(update={"prompt": plan.prompt + mark}),
        )
    if not profile.labels and not _common_affixes(profile, COMPLETION)[1]:
        end = _unused(profile, COMPLETION, ENDS, LAST_END)
        profile.plan = yield Suggestion(
            name="end of answers",
            level="recommended",
            finding="the answers have no common end, so a model cannot learn where to stop",
            action=f"end every answer with {end!r}",
            rows=0,
            change=lambda plan: plan.model_copy(update={"completion": plan.completion + end}),
        )
    if tokenizer is not None and not profile.plan.completion.startswith(" "):
        encode = open_tokenizer(tokenizer)
        without, with_space = encode(["word answer 답"]), encode([" word answer 답"])
        if len(with_space[0]) <= len(without[0]):
            profile.plan = yield Suggestion(
                name="leading blank",
                level="recommended",
                finding="this tokenizer joins a space with the word after it",
                action="begin every answer with a space",
                rows=0,
                change=lambda plan: plan.model_copy(update={"completion": f" {plan.completion}"}),
            )
    return profile.plan


def _unused(profile: Profile, column: str, marks: Sequence[str], last: str) -> str:
    """The first mark that no text of a column contains; `last` if all are used."""
    import polars as pl

    text = pl.col(column)
    used = profile.count(
        **{str(i): text.str.contains(mark, literal=True).any() for i, mark in enumerate(marks)}
    )
    return next((mark for i, mark in enumerate(marks) if not used[str(i)]), last)
