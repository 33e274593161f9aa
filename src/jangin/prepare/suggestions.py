"""Fixes that are offered for a table, each with the evidence for it."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jangin.core.errors import counted, counted_of
from jangin.prepare.engine.build import COMPLETION, HISTORY, REJECTED
from jangin.prepare.engine.plan import PreparePlan
from jangin.prepare.engine.profile import MAX_LABELS, ROWS_PER_LABEL
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.columns import (
    CleanText,
    Labels,
    LengthWindow,
    Number,
    as_text,
    counts_of,
    is_number,
    number_of,
    odd,
    open_tokenizer,
)
from jangin.prepare.transforms.deduplicate import ANSWER, KEY, PROMPT, Deduplicate, NearDuplicates
from jangin.prepare.transforms.steps import (
    CONTROL_MARK,
    TABLE_STEPS,
    Balance,
    MaskPersonal,
    RowStep,
    StripControlTokens,
    TableStep,
    Trim,
    columns_in,
    key_of,
    match_mode,
    split_steps,
)
from jangin.text.pii import PERSONAL_DATA, found_in

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns


# One suggested fix, and the profile of the rows that it is based on.


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A change of the plan, and the evidence for it."""

    name: str
    level: Literal["necessary", "recommended", "optional"]
    """`optional`: only the user can know whether it is right, so -y does not accept it."""
    finding: str
    """What is wrong, with figures; a sentence without its full stop."""
    action: str
    """What accepting it does, in the imperative."""
    rows: int
    """Rows that it changes or drops; 0 if it affects every row."""
    change: Callable[[PreparePlan], PreparePlan]


Suggestions = Generator[Suggestion, PreparePlan, PreparePlan]
"""Yields suggestions, receives the plan after each one, returns the last plan."""


@dataclass(frozen=True, slots=True)
class NumericAnswers:
    """Counts of a column of answers of which most are one number."""

    column: str
    rows: int
    """Answers that are one number."""
    formatted: int
    """Those of `rows` with a sign, separators or a unit."""
    other: int
    """Answers that are not one number."""


@dataclass(slots=True)
class Profile:
    """The rows under the current plan, and what is known about them."""

    transform: Callable[[PreparePlan], "Columns"]
    """The table after the row steps of a plan."""
    plan: PreparePlan
    notify: Callable[[str], None]
    """Shows a line to the user."""
    labels: list[int] = field(default_factory=list)
    """Number of rows of each label; empty if the answers are not labels."""
    numbers: NumericAnswers | None = None
    """Set if the answers are one column and nearly all of them are numbers."""
    near: "pl.Series | None" = None
    """Drop reasons of the accepted step `near_duplicates`, kept because it is slow."""

    def frame(self) -> "pl.LazyFrame":
        """The rows that the row steps keep, with prompt and answer."""
        import polars as pl

        return self.transform(self.plan).frame.filter(pl.col(REASON).is_null())

    def count(self, **measures: "pl.Expr") -> dict[str, Any]:
        """Aggregates over the rows that the row steps keep; one pass over the file."""
        return self.frame().select(**measures).collect(engine="streaming").row(0, named=True)

    def kept(self, *names: str) -> "pl.DataFrame":
        """`KEY`, `ANSWER` and the columns `names` of the rows that all steps keep.

        `names` must include `PROMPT` if the plan has `near_duplicates` and `near` is not set.
        """
        import polars as pl

        key = key_of(PROMPT, match_mode(self.plan.steps))
        answer = pl.col(COMPLETION).str.strip_chars().hash(13).alias(ANSWER)
        rows = self.frame().select(key, answer, *names).collect(engine="streaming")
        for step in split_steps(self.plan.steps)[1]:
            known = self.near if isinstance(step, NearDuplicates) else None
            rows = rows.filter((step.drop_reasons(rows) if known is None else known).is_null())
        return rows

    def recount(self, rows: "pl.DataFrame") -> None:
        """Update `labels` from the kept rows."""
        if self.labels:
            self.labels = rows[ANSWER].value_counts()["count"].to_list()

    def single(self, template: str) -> str:
        """The column if a template is nothing but one column, else an empty string."""
        names = columns_in(template)
        return names[0] if len(names) == 1 and template == f"{{{names[0]}}}" else ""

    def columns(self) -> tuple[str, ...]:
        """All columns that are used by a template, once each."""
        plan = self.plan
        templates = (plan.prompt, plan.completion, plan.rejected, plan.system)
        turns = () if plan.source == "columns" else ("history",)
        names = (name for text in templates for name in columns_in(text))
        return tuple(dict.fromkeys((*names, *turns)))


def with_step(plan: PreparePlan, step: RowStep | TableStep) -> PreparePlan:
    """The plan with one more step; table steps stay last."""
    table_steps = [old for old in plan.steps if isinstance(old, TABLE_STEPS)]
    row_steps = [old for old in plan.steps if not isinstance(old, TABLE_STEPS)]
    if isinstance(step, TABLE_STEPS):
        table_steps.append(step)
    else:
        row_steps.append(step)
    return plan.model_copy(update={"steps": (*row_steps, *table_steps)})


# Suggestions for the form of questions and answers, most of them for prompt/completion data.


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
            plan: PreparePlan, source: str = source, prefix: str = prefix, chat: bool = chat
        ) -> PreparePlan:
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


# Suggestions for numeric answers: formatted for people, or mixed with other cells.


NEARLY_ALL = 0.9
MANY = 0.5
_PLAIN = r"^\s*[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?\s*$"


def number_counts() -> "dict[str, pl.Expr]":
    """Aggregates that `numeric_answers` needs, to be computed in any pass over all rows."""
    import polars as pl

    text = pl.col(COMPLETION)
    number = is_number(text)
    return {
        "rows": number.sum(),
        "formatted": (number & ~text.str.contains(_PLAIN)).sum(),
        "other": (~number).sum(),
        "example": text.filter(~number).first(),
    }


def numeric_answers(
    profile: Profile, rows: int, formatted: int, other: int, example: str
) -> NumericAnswers | None:
    """The counts if nearly all answers are numbers and come from one column, else None."""
    column = profile.single(profile.plan.completion)
    total = rows + other
    if not rows or not column or profile.plan.format == "preference":
        return None
    if rows >= NEARLY_ALL * total:
        return NumericAnswers(column, rows, formatted, other)
    if rows >= MANY * total:
        _notify_mixed(profile, rows, other, example)
    return None


def _notify_mixed(profile: Profile, rows: int, other: int, example: str) -> None:
    """Show that answers are mixed: what `3/4` among numbers means, only the user can decide."""
    profile.notify(
        f"{counted_of(rows, rows + other, 'answer', 'is', 'are')} numbers, {other:,} are not, such "
        f"as {example.strip()!r}; they are kept. If the model should learn numbers, correct or "
        "remove the others in the file and run prepare again"
    )


def _effect(profile: Profile, column: str) -> dict[str, Any]:
    """Effect of the step of both suggestions: {dropped, other, changed, before, after}."""
    import polars as pl

    text, value = pl.col("text"), pl.col("value")
    dropped = ~is_number(text) | value.is_null() | (pl.col("several") > 1)
    changed = ~dropped & as_text(value).ne(text)
    signs = changed & ~text.str.contains(_PLAIN)
    shown = pl.when(signs.any()).then(signs).otherwise(changed)
    cells = profile.frame().select(text=column, value=number_of(column), several=counts_of(column))
    counts = cells.select(
        dropped=dropped.sum(),
        other=text.filter(dropped).first(),
        changed=changed.sum(),
        before=text.filter(shown).first(),
        after=as_text(value.filter(shown).first()),
    )
    return counts.collect(engine="streaming").row(0, named=True)


def _step(column: str) -> Number:
    return Number(type="number", column=column, only=True)


def formatted_numbers(profile: Profile) -> Suggestions:
    """Suggest plain numbers for formatted ones, so that equal numbers are equal texts."""
    numbers = profile.numbers
    if numbers is None or not numbers.formatted:
        return profile.plan
    effect = _effect(profile, numbers.column)
    dropped, changed = effect["dropped"], effect["changed"]
    if not changed:
        return profile.plan
    other = ""
    if dropped:
        other = f"; {dropped:,} are not one number, such as {effect['other'].strip()!r}"
    profile.plan = yield Suggestion(
        name="numbers",
        level="recommended",
        finding=f"{counted(changed, 'answer is', 'answers are')} numbers with signs, separators, "
        "units or trailing zeros, "
        f"such as {effect['before'].strip()!r}{other}",
        action=f"write them like {effect['after']}"
        + (", and drop the rows that are not one number" if dropped else ""),
        rows=dropped + changed,
        change=lambda plan: with_step(plan, _step(numbers.column)),
    )
    return profile.plan


def mixed_numbers(profile: Profile) -> Suggestions:
    """Suggest to drop the few answers without a digit, such as `ask us`, among plain numbers."""
    import polars as pl

    numbers = profile.numbers
    if numbers is None or numbers.formatted or not numbers.other:
        return profile.plan
    text = pl.col(COMPLETION)
    odd = ~is_number(text) & text.str.contains("[0-9]")
    counts = profile.count(digits=odd.any(), first=text.filter(odd).first())
    if counts["digits"]:
        _notify_mixed(profile, numbers.rows, numbers.other, counts["first"])
        return profile.plan
    effect = _effect(profile, numbers.column)
    dropped, changed = effect["dropped"], effect["changed"]
    shorter = f"{effect['before']!r} as {effect['after']!r}" if changed else ""
    profile.plan = yield Suggestion(
        name="numbers",
        level="recommended",
        finding=f"{counted(numbers.rows, 'answer is', 'answers are')} numbers, and "
        f"{numbers.other:,} hold none, such as "
        f"{effect['other'].strip()!r}",
        action="drop the rows without a number"
        + (f", and shorten {changed:,} numbers, such as {shorter}" if changed else ""),
        rows=dropped + changed,
        change=lambda plan: with_step(plan, _step(numbers.column)),
    )
    return profile.plan


# Suggestions for any table, in order, each with the number of rows that it affects.
#
# Each suggestion is computed on the rows that the accepted ones leave, so that the number of rows
# it announces is the number that will be dropped.


FEW = 100
LONG_CHARACTERS = 10_000
MAX_COMPARED = 200_000
"""Maximum number of rows that are compared with each other, in memory."""
RARE = 5
MAX_REASONS = 5
MAX_NAMED = 8


def suggestions(
    transform: Callable[[PreparePlan], "Columns"],
    plan: PreparePlan,
    tokenizer: Path | None,
    context: int,
    balance: int,
    notify: Callable[[str], None],
) -> Suggestions:
    """Yield one suggestion after another; send back the plan after each. Returns the last plan.

    `transform` gives the table after the row steps of a plan, `notify` shows a line to the user.
    `context` is the maximum number of tokens of a row, `balance` of rows per answer; 0: none.
    """
    profile = Profile(transform, plan, notify)
    checks: Sequence[Callable[[Profile], Suggestions]] = (
        _unusable_rows,
        _unclean_text,
        formatted_numbers,
        _task,
        _personal_data,
        _control_tokens,
        _duplicates,
        lambda profile: _long_rows(profile, tokenizer, context),
        capitals,
        common_prefixes,
        lambda profile: endings(profile, tokenizer),
        _near_duplicates,
        lambda profile: _balance(profile, balance),
    )
    for check in checks:
        profile.plan = yield from check(profile)
    return profile.plan


def _unusable_rows(profile: Profile) -> Suggestions:
    """Rows that cannot be parsed or have no answer must be dropped; notify if few remain."""
    import polars as pl

    frame = profile.transform(profile.plan).frame
    total = frame.select(pl.len()).collect(engine="streaming").item()
    dropped = frame.filter(pl.col(REASON).is_not_null()).group_by(REASON).len()
    counts = dropped.sort("len", descending=True).collect(engine="streaming")
    kept = total - int(counts["len"].sum())
    profile.notify(f"{counted(total, 'row')}, {kept:,} of them with a question and an answer")
    if kept < FEW:
        profile.notify(
            f"{counted(kept, 'row is', 'rows are')} few: training is useful from a few hundred "
            "rows on, and each doubling improves it"
        )
    if len(counts):
        listed = "; ".join(
            f"{rows:,} x {reason}" for reason, rows in counts.head(MAX_REASONS).rows()
        )
        if len(counts) > MAX_REASONS:
            rest = counts[MAX_REASONS:]
            listed += f"; and {int(rest['len'].sum()):,} x {len(rest)} other reasons"
        yield Suggestion(
            name="unusable rows",
            level="necessary",
            finding=listed,
            action="drop these rows",
            rows=total - kept,
            change=lambda plan: plan,
        )
    return profile.plan


def _unclean_text(profile: Profile) -> Suggestions:
    """Invisible characters, no-break and double spaces, decomposed Hangul.

    Numbers are counted in the same pass over the file.
    """
    import polars as pl

    texts = [pl.col(name) for name in (PROMPT, COMPLETION)]
    odd_texts = pl.any_horizontal(text.str.contains(odd(False)) for text in texts)
    counts = profile.count(odd=odd_texts.sum(), **number_counts())
    rows = counts.pop("odd")
    profile.numbers = numeric_answers(profile, **counts)
    if rows:
        profile.plan = yield Suggestion(
            name="clean text",
            level="recommended",
            finding=f"{counted(rows, 'row holds', 'rows hold')} invisible characters, no-break or "
            "double spaces, or "
            "decomposed letters",
            action="normalise them to NFC with single spaces",
            rows=rows,
            change=lambda plan: with_step(
                plan, CleanText(type="clean_text", columns=profile.columns())
            ),
        )
    return profile.plan


def _has_conversations(profile: Profile) -> bool:
    """True if some row is a chat of several turns, whose last reply alone is no label."""
    import polars as pl

    return profile.plan.source != "columns" and bool(
        profile.count(any=(pl.col(HISTORY) != "").any())["any"]
    )


def _task(profile: Profile) -> Suggestions:
    """Notify of the kind of task, by the answers; suggest to drop rare labels."""
    import polars as pl

    answer = pl.col(COMPLETION).str.strip_chars()
    counts = profile.frame().group_by(answer=answer).len().sort("len", descending=True)
    first = counts.head(MAX_LABELS + 1).collect(engine="streaming")
    rows = int(profile.count(n=pl.len())["n"])
    few = 0 < len(first) <= MAX_LABELS and rows >= ROWS_PER_LABEL * len(first)
    if not few or profile.plan.format == "preference" or _has_conversations(profile):
        profile.notify("task: free answers")
        return (yield from mixed_numbers(profile))
    labels: dict[str, int] = dict(first.iter_rows())
    profile.labels = list(labels.values())
    most = max(profile.labels)
    profile.notify(f"task: classification, {counted(len(first), 'label')}")
    for label, n in sorted(labels.items(), key=lambda item: (len(item[0]), item[0])):
        profile.notify(f"  {label:>12} {n:>10,} {'█' * max(1, round(30 * n / most))}")
    rare = [label for label, n in labels.items() if n < RARE]
    common = [label for label in labels if label not in rare]
    column = profile.single(profile.plan.completion)
    if rare and len(common) > 1 and column:
        rare_rows = sum(labels[label] for label in rare)
        more = f" and {len(rare) - MAX_NAMED} more" if len(rare) > MAX_NAMED else ""
        profile.plan = yield Suggestion(
            name="rare labels",
            level="recommended",
            finding=f"{counted(rare_rows, 'row has', 'rows have')} labels with fewer than {RARE} "
            "rows: "
            f"{', '.join(rare[:MAX_NAMED])}{more}",
            action="drop these rows",
            rows=rare_rows,
            change=lambda plan: with_step(
                plan, Labels(type="labels", column=column, labels=tuple(sorted(common)))
            ),
        )
    return profile.plan


def _duplicates(profile: Profile) -> Suggestions:
    """Suggest to keep one row of each question.

    Of two labels or numbers that are equally frequent at least one is wrong, so neither is trained;
    of free answers both may be right, and the first one is kept.
    """
    import polars as pl

    keys = profile.kept()
    pairs = profile.plan.format == "preference"
    one_is_right = bool(profile.labels) or profile.numbers is not None
    rule_of_ties: Literal["clear_majority", "majority"] = (
        "clear_majority" if one_is_right else "majority"
    )
    step = Deduplicate(type="deduplicate", conflicts="keep" if pairs else rule_of_ties)
    reasons = step.drop_reasons(keys)
    copies = int(reasons.is_not_null().sum())
    if copies:
        conflicting = keys.unique([KEY, ANSWER]).filter(pl.col(KEY).is_duplicated())
        conflicts = conflicting[KEY].n_unique()
        rule = (
            (f"; {counted(conflicts, 'question has', 'questions have')} several answers")
            if conflicts
            else ""
        )
        ties = 0 if pairs else _ties(keys)
        rule += f", {ties:,} of them equally often" if ties else ""
        settled = (
            "; where two are equally frequent, none: the rows are set aside"
            if one_is_right
            else ", the first of those that are equally frequent"
        )
        profile.plan = yield Suggestion(
            name="duplicates",
            level="recommended",
            finding=f"{counted(copies, 'row repeats', 'rows repeat')} the question of another row, "
            "ignoring case, spaces "
            f"and punctuation{rule}. A copy of a training row could be in the test set",
            action="keep each different pair once"
            if pairs
            else "keep one of each, with its most frequent answer" + (settled if ties else ""),
            rows=copies,
            change=lambda plan: with_step(plan, step),
        )
    profile.recount(keys.filter(reasons.is_null()) if step in profile.plan.steps else keys)
    return profile.plan


def _ties(keys: "pl.DataFrame") -> int:
    """Number of questions of which two answers are the most frequent."""
    import polars as pl

    counts = keys.group_by(KEY, ANSWER).len()
    most = counts.filter(pl.col("len") == pl.col("len").max().over(KEY))
    return int(most.filter(pl.col(KEY).is_duplicated())[KEY].n_unique())


def _near_duplicates(profile: Profile) -> Suggestions:
    import polars as pl

    rows = int(profile.count(n=pl.len())["n"])
    if rows > MAX_COMPARED:
        profile.notify(f"near duplicates are not searched in more than {MAX_COMPARED:,} rows")
        return profile.plan
    step = NearDuplicates(type="near_duplicates", same_words=False)
    kept = profile.kept(PROMPT)
    reasons = step.drop_reasons(kept)
    copies = int(reasons.is_not_null().sum())
    if 2 * copies > len(kept):
        profile.notify(
            f"{copies:,} of {counted(len(kept), 'question')} differ from another one in at most a "
            "tenth of their letters, as if from one template; they are kept. To drop some, use "
            "`near_duplicates`"
        )
    elif copies:
        profile.plan = yield Suggestion(
            name="near copies",
            level="recommended",
            finding=f"{counted(copies, 'question differs', 'questions differ')} from another one "
            "with the same answer in at most "
            "a tenth of their letters",
            action="keep one of each",
            rows=copies,
            change=lambda plan: with_step(plan, step),
        )
        if step in profile.plan.steps:
            profile.near = reasons
            profile.recount(kept.filter(reasons.is_null()))
    return profile.plan


def _long_rows(profile: Profile, tokenizer: Path | None, context: int) -> Suggestions:
    import polars as pl

    column = profile.single(profile.plan.prompt)
    step = LengthWindow(type="window", column=column or "-", longer="drop")
    both = pl.concat_str(PROMPT, COMPLETION, separator="\n")
    if tokenizer is not None and context:
        encode = open_tokenizer(tokenizer)
        texts = profile.frame().select(PROMPT, text=both).collect(engine="streaming")
        over = [len(offsets) > context for offsets in encode(texts["text"].to_list())]
        long = texts.filter(pl.Series(over, dtype=pl.Boolean))[PROMPT].to_list()
        rows, limit = len(long), f"{context:,} tokens"
        sizes = map(len, encode(long))
        long = [text for text, size in zip(long, sizes, strict=True) if size > context]
        questions, is_long = len(long), pl.col(PROMPT).is_in(long)
        step = step.model_copy(update={"maximum_tokens": context, "tokenizer": tokenizer})
    else:
        maximum, limit = LONG_CHARACTERS, f"{LONG_CHARACTERS:,} characters"
        is_long = pl.col(PROMPT).str.len_chars() > maximum
        counts = profile.count(rows=(both.str.len_chars() > maximum).sum(), n=is_long.sum())
        rows, questions = counts["rows"], counts["n"]
        step = step.model_copy(update={"maximum_characters": maximum})
    if rows and not (column and questions):
        profile.notify(
            f"{counted(rows, 'row is', 'rows are')} over {limit}; training truncates or refuses "
            "them"
        )
    elif rows:
        some = f", {questions:,} of them by the question alone" if questions < rows else ""
        copies = questions - profile.kept(PROMPT).filter(is_long).height
        again = f"; {copies:,} of these questions are already counted as duplicates"
        profile.plan = yield Suggestion(
            name="long rows",
            level="recommended",
            finding=(
                f"{counted(rows, 'row is', 'rows are')} over {limit}{some}; training truncates "
                "the rest"
            )
            + (again if copies else ""),
            action="drop the rows with such questions",
            rows=questions,
            change=lambda plan: with_step(plan, step),
        )
        if profile.labels:
            profile.recount(profile.kept())
    return profile.plan


def _personal_data(profile: Profile) -> Suggestions:
    import polars as pl

    text = pl.concat_str(PROMPT, COMPLETION, separator="\n")
    hits = profile.frame().select(
        **{kind: found_in(text, kind).is_not_null() for kind in PERSONAL_DATA}
    )
    sums = hits.select(pl.all().sum(), pl.any_horizontal(pl.all()).sum().alias("any"))
    counts = sums.collect(engine="streaming").row(0, named=True)
    rows = counts.pop("any")
    if rows:
        listed = ", ".join(f"{kind.replace('_', ' ')} {n:,}" for kind, n in counts.items() if n)
        profile.plan = yield Suggestion(
            name="personal data",
            level="optional",
            finding=f"{counted(rows, 'row seems', 'rows seem')} to hold personal data: {listed}",
            action="replace it by [email], [phone] and so on",
            rows=rows,
            change=lambda plan: with_step(
                plan, MaskPersonal(type="mask_personal", columns=profile.columns())
            ),
        )
    return profile.plan


def _control_tokens(profile: Profile) -> Suggestions:
    """Suggest to remove control tokens at the ends of texts; notify of those within."""
    import polars as pl

    names = (PROMPT, COMPLETION, *([REJECTED] if profile.plan.rejected else []))
    at_end = rf"^\s*{CONTROL_MARK}|{CONTROL_MARK}\s*$"
    anywhere = [pl.col(name).str.contains(CONTROL_MARK) for name in names]
    ends = [pl.col(name).str.contains(at_end) for name in names]
    first = pl.coalesce(pl.col(name).str.extract(f"({CONTROL_MARK})") for name in names)
    counts = profile.count(
        rows=pl.any_horizontal(anywhere).sum(),
        ends=pl.any_horizontal(ends).sum(),
        first=first.drop_nulls().first(),
    )
    if counts["rows"] > counts["ends"]:
        profile.notify(
            f"{counted(counts['rows'] - counts['ends'], 'row holds', 'rows hold')} control tokens "
            f"of a model within their texts, such as {counts['first']}; they are kept, and "
            "training takes them for the ends of turns"
        )
    if counts["ends"]:
        profile.plan = yield Suggestion(
            name="control tokens",
            level="recommended",
            finding=f"{counted(counts['ends'], 'row begins', 'rows begin')} or end with control "
            "tokens of a model, such as "
            f"{counts['first']}",
            action="remove them there",
            rows=counts["ends"],
            change=lambda plan: with_step(
                plan,
                StripControlTokens(type="strip_control_tokens", columns=profile.columns()),
            ),
        )
    return profile.plan


def _balance(profile: Profile, most: int) -> Suggestions:
    """Apply --balance; without it, notify if the labels differ much in frequency."""
    column = profile.single(profile.plan.completion)
    counts = profile.labels
    if most and not column:
        profile.notify(f"--balance {most} is ignored: it needs answers that are a single column")
    elif most:
        step = Balance(type="balance", column=column, most=most)
        dropped = len(step.drop_reasons(profile.kept(column)).drop_nulls())
        profile.plan = yield Suggestion(
            name="balance",
            level="recommended",
            finding=(
                f"{counted(dropped, 'row is', 'rows are')} over the limit of {most:,} for their "
                "answer"
            ),
            action="sample down to that number of rows per answer",
            rows=dropped,
            change=lambda plan: with_step(plan, step),
        )
    elif counts and max(counts) > 4 * min(counts):
        profile.notify(
            f"the most frequent label has {max(counts) / min(counts):.0f} times the rows of the "
            "rarest. To limit the number of rows per label: "
            f"--balance {max(min(counts), RARE)}"
        )
    return profile.plan
