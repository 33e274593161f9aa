"""Suggestions for any table, in order, each with the number of rows that it affects.

Each suggestion is computed on the rows that the accepted ones leave, so that the number of rows it
announces is the number that will be dropped.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jangin.core.errors import counted
from jangin.prepare.engine.build import COMPLETION, HISTORY, REJECTED
from jangin.prepare.engine.plan import Plan
from jangin.prepare.engine.profile import MAX_LABELS, ROWS_PER_LABEL
from jangin.prepare.suggestions.completion import capitals, common_prefixes, endings
from jangin.prepare.suggestions.numbers import (
    formatted_numbers,
    mixed_numbers,
    number_counts,
    numeric_answers,
)
from jangin.prepare.suggestions.suggestion import Profile, Suggestion, Suggestions, with_step
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.balance import Balance
from jangin.prepare.transforms.cleaning import odd
from jangin.prepare.transforms.columns import CleanText, Labels, LengthWindow, open_tokenizer
from jangin.prepare.transforms.deduplicate import ANSWER, KEY, PROMPT, Deduplicate, NearDuplicates
from jangin.prepare.transforms.scrub import (
    CONTROL_MARK,
    MaskPersonal,
    StripControlTokens,
)
from jangin.text.pii import PERSONAL_DATA, found_in

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns

FEW = 100
LONG_CHARACTERS = 10_000
MAX_COMPARED = 200_000
"""Maximum number of rows that are compared with each other, in memory."""
RARE = 5
MAX_REASONS = 5
MAX_NAMED = 8


def suggestions(
    transform: Callable[[Plan], "Columns"],
    plan: Plan,
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
            "rows on, and each "
            "doubling improves it"
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
            f"{copies:,} of {counted(len(kept), 'question')} differ from another one in at most "
            "a tenth of "
            "their letters, as if from one template; they are kept. To drop some, use "
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
            f"{counted(counts['rows'] - counts['ends'], 'row holds', 'rows hold')} control "
            "tokens of a model within their "
            f"texts, such as {counts['first']}; they are kept, and training takes them for the "
            "ends of turns"
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
