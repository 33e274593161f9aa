"""What can be wrong with rows before training, one remedy after another, each with its reason.

What is announced is what goes: each look sees the rows as the remedies taken so far leave them, and
says where its rows were counted before.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jangin.prepare.engine.build import COMPLETION
from jangin.prepare.engine.plan import Plan
from jangin.prepare.engine.profile import MOST_LABELS, ROWS_PER_LABEL
from jangin.prepare.suggestions.completion import capitals, common_parts, endings
from jangin.prepare.suggestions.numbers import (
    mixed_numbers,
    number_counts,
    numbers_of,
    written_numbers,
)
from jangin.prepare.suggestions.suggestion import Look, Offers, Remedy, with_step
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.balance import Balance
from jangin.prepare.transforms.cleaning import odd
from jangin.prepare.transforms.columns import CleanText, Labels, LengthWindow, open_tokenizer
from jangin.prepare.transforms.deduplicate import ANSWER, KEY, PROMPT, Deduplicate, NearDuplicates
from jangin.prepare.transforms.scrub import MaskPersonal
from jangin.text.pii import PERSONAL_DATA, found_in

if TYPE_CHECKING:
    from jangin.prepare.transforms.columns import Columns

FEW = 100
LONG_CHARACTERS = 10_000
MOST_COMPARED = 200_000
"""Rows up to which near copies are looked for, in memory."""
RARE = 5
MOST_REASONS = 5
MOST_NAMED = 8


def remedies(
    draft: Callable[[Plan], "Columns"],
    plan: Plan,
    tokenizer: Path | None,
    context: int,
    balance: int,
    say: Callable[[str], None],
) -> Offers:
    """Offer one remedy after another; send the plan back as it is after each. Returns it."""
    look = Look(draft, plan, say)
    stages: Sequence[Callable[[Look], Offers]] = (
        _first_look,
        _unclean,
        written_numbers,
        _task,
        _personal,
        _copies,
        lambda look: _too_long(look, tokenizer, context),
        capitals,
        common_parts,
        lambda look: endings(look, tokenizer),
        _near_copies,
        lambda look: _balance(look, balance),
    )
    for stage in stages:
        look.plan = yield from stage(look)
    return look.plan


def _first_look(look: Look) -> Offers:
    """Rows that cannot be read or have no answer go; few rows are said to be few."""
    import polars as pl

    frame = look.draft(look.plan).frame
    total = frame.select(pl.len()).collect(engine="streaming").item()
    gone = frame.filter(pl.col(REASON).is_not_null()).group_by(REASON).len()
    counts = gone.sort("len", descending=True).collect(engine="streaming")
    left = total - int(counts["len"].sum())
    look.say(f"{total:,} rows, {left:,} of them with a question and an answer")
    if left < FEW:
        look.say(
            f"{left} rows are few: from some hundred on training is worth it, and every doubling "
            "helps"
        )
    if len(counts):
        listed = "; ".join(
            f"{rows:,} x {reason}" for reason, rows in counts.head(MOST_REASONS).rows()
        )
        if len(counts) > MOST_REASONS:
            rest = counts[MOST_REASONS:]
            listed += f"; and {int(rest['len'].sum()):,} x {len(rest)} other reasons"
        yield Remedy(
            name="unusable rows",
            level="necessary",
            finding=listed,
            question="set these rows aside",
            rows=total - left,
            change=lambda plan: plan,
        )
    return look.plan


def _unclean(look: Look) -> Offers:
    """Zero-width and no-break spaces, decomposed Hangul, doubled blanks.

    Numbers are counted in the same pass over the file.
    """
    import polars as pl

    texts = [pl.col(name) for name in (PROMPT, COMPLETION)]
    odd_texts = pl.any_horizontal(text.str.contains(odd(False)) for text in texts)
    counts = look.count(odd=odd_texts.sum(), **number_counts())
    found = counts.pop("odd")
    look.numbers = numbers_of(look, **counts)
    if found:
        look.plan = yield Remedy(
            name="clean text",
            level="recommended",
            finding=f"{found:,} rows hold invisible characters, no-break or doubled spaces, or "
            "decomposed letters",
            question="make them NFC with single spaces",
            rows=found,
            change=lambda plan: with_step(
                plan, CleanText(type="clean_text", columns=look.columns())
            ),
        )
    return look.plan


def _task(look: Look) -> Offers:
    """What kind of task it is, by the answers; labels that hardly occur."""
    import polars as pl

    answer = pl.col(COMPLETION).str.strip_chars()
    counts = look.frame().group_by(answer=answer).len().sort("len", descending=True)
    first = counts.head(MOST_LABELS + 1).collect(engine="streaming")
    rows = int(look.count(n=pl.len())["n"])
    few = 0 < len(first) <= MOST_LABELS and rows >= ROWS_PER_LABEL * len(first)
    if not few or look.plan.format == "preference":
        look.say("task: free answers")
        return (yield from mixed_numbers(look))
    labels: dict[str, int] = dict(first.iter_rows())
    look.labels = list(labels.values())
    most = max(look.labels)
    look.say(f"task: classification, {len(first)} labels")
    for label, n in sorted(labels.items(), key=lambda item: (len(item[0]), item[0])):
        look.say(f"  {label:>12} {n:>10,} {'█' * max(1, round(30 * n / most))}")
    rare = [label for label, n in labels.items() if n < RARE]
    common = [label for label in labels if label not in rare]
    column = look.single(look.plan.completion)
    if rare and len(common) > 1 and column:
        found = sum(labels[label] for label in rare)
        more = f" and {len(rare) - MOST_NAMED} more" if len(rare) > MOST_NAMED else ""
        look.plan = yield Remedy(
            name="rare labels",
            level="recommended",
            finding=f"{found:,} rows have labels with fewer than {RARE} rows: "
            f"{', '.join(rare[:MOST_NAMED])}{more}",
            question="set their rows aside",
            rows=found,
            change=lambda plan: with_step(
                plan, Labels(type="labels", column=column, labels=tuple(sorted(common)))
            ),
        )
    return look.plan


def _copies(look: Look) -> Offers:
    import polars as pl

    keys = look.left()
    pairs = look.plan.format == "preference"
    step = Deduplicate(type="deduplicate", conflicts="keep" if pairs else "majority")
    gone = step.decide(keys)
    copies = int(gone.is_not_null().sum())
    if copies:
        conflicting = keys.unique([KEY, ANSWER]).filter(pl.col(KEY).is_duplicated())
        conflicts = conflicting[KEY].n_unique()
        rule = f"; {conflicts:,} texts have several answers" if conflicts else ""
        question = "keep one of each, with its most frequent answer"
        look.plan = yield Remedy(
            name="duplicates",
            level="recommended",
            finding=f"{copies:,} rows repeat the question of another row but for case, blanks and "
            f"punctuation{rule}. Copies could stand in training and test alike",
            question="keep each different pair once" if pairs else question,
            rows=copies,
            change=lambda plan: with_step(plan, step),
        )
    look.recount(keys.filter(gone.is_null()) if step in look.plan.steps else keys)
    return look.plan


def _near_copies(look: Look) -> Offers:
    import polars as pl

    rows = int(look.count(n=pl.len())["n"])
    if rows > MOST_COMPARED:
        look.say(f"near copies are not looked for in more than {MOST_COMPARED:,} rows")
        return look.plan
    step = NearDuplicates(type="near_duplicates", same_words=False)
    left = look.left(PROMPT)
    gone = step.decide(left)
    found = int(gone.is_not_null().sum())
    if 2 * found > len(left):
        look.say(
            f"{found:,} of {len(left):,} questions differ from another one by a tenth of their "
            "letters at most, as from one pattern; they stay. To thin them out, see "
            "`near_duplicates`"
        )
    elif found:
        look.plan = yield Remedy(
            name="near copies",
            level="recommended",
            finding=f"{found:,} questions differ from another one with the same answer by a tenth "
            "of their letters at most",
            question="keep one of each",
            rows=found,
            change=lambda plan: with_step(plan, step),
        )
        if step in look.plan.steps:
            look.near = gone
            look.recount(left.filter(gone.is_null()))
    return look.plan


def _too_long(look: Look, tokenizer: Path | None, context: int) -> Offers:
    import polars as pl

    column = look.single(look.plan.prompt)
    step = LengthWindow(type="window", column=column or "-", longer="drop")
    both = pl.concat_str(PROMPT, COMPLETION, separator="\n")
    if tokenizer is not None and context:
        encode = open_tokenizer(tokenizer)
        texts = look.frame().select(PROMPT, text=both).collect(engine="streaming")
        over = [len(offsets) > context for offsets in encode(texts["text"].to_list())]
        long = texts.filter(pl.Series(over, dtype=pl.Boolean))[PROMPT].to_list()
        found, limit = len(long), f"{context:,} tokens"
        sizes = map(len, encode(long))
        long = [text for text, size in zip(long, sizes, strict=True) if size > context]
        questions, is_long = len(long), pl.col(PROMPT).is_in(long)
        step = step.model_copy(update={"maximum_tokens": context, "tokenizer": tokenizer})
    else:
        most, limit = LONG_CHARACTERS, f"{LONG_CHARACTERS:,} characters"
        is_long = pl.col(PROMPT).str.len_chars() > most
        counts = look.count(rows=(both.str.len_chars() > most).sum(), n=is_long.sum())
        found, questions = counts["rows"], counts["n"]
        step = step.model_copy(update={"maximum_characters": most})
    if found and not (column and questions):
        look.say(f"{found:,} rows are over {limit} and will be cut or refused in training")
    elif found:
        some = f", {questions:,} of them by their question alone" if questions < found else ""
        copies = questions - look.left(PROMPT).filter(is_long).height
        again = f"; {copies:,} of these questions were counted as copies already" if copies else ""
        look.plan = yield Remedy(
            name="long rows",
            level="recommended",
            finding=f"{found:,} rows are over {limit}{some}; what is behind that is cut off in "
            f"training{again}",
            question="set rows with such questions aside",
            rows=questions,
            change=lambda plan: with_step(plan, step),
        )
        if look.labels:
            look.recount(look.left())
    return look.plan


def _personal(look: Look) -> Offers:
    import polars as pl

    text = pl.concat_str(PROMPT, COMPLETION, separator="\n")
    hits = look.frame().select(
        **{kind: found_in(text, kind).is_not_null() for kind in PERSONAL_DATA}
    )
    counted = hits.select(pl.all().sum(), pl.any_horizontal(pl.all()).sum().alias("any"))
    there = counted.collect(engine="streaming").row(0, named=True)
    rows = there.pop("any")
    if rows:
        listed = ", ".join(f"{kind.replace('_', ' ')} {n:,}" for kind, n in there.items() if n)
        look.plan = yield Remedy(
            name="personal data",
            level="recommended",
            finding=f"rows that seem to hold personal data: {listed}",
            question="write [email], [phone] and so on in its place",
            rows=rows,
            change=lambda plan: with_step(
                plan, MaskPersonal(type="mask_personal", columns=look.columns())
            ),
        )
    return look.plan


def _balance(look: Look, most: int) -> Offers:
    """Labels of very different frequency: a hint, or what the command line asked for."""
    column = look.single(look.plan.completion)
    counts = look.labels
    if most and not column:
        look.say(f"--balance {most} is left out: it takes answers that are one column")
    elif most:
        step = Balance(type="balance", column=column, most=most)
        found = len(step.decide(look.left(column)).drop_nulls())
        look.plan = yield Remedy(
            name="balance",
            level="recommended",
            finding=f"{found:,} rows are over {most:,} for their answer",
            question="draw so many of each answer",
            rows=found,
            change=lambda plan: with_step(plan, step),
        )
    elif counts and max(counts) > 4 * min(counts):
        look.say(
            f"the most frequent label has {max(counts) / min(counts):.0f} times the rows of the "
            f"rarest. To draw at most so many of each: --balance {max(min(counts), RARE)}"
        )
    return look.plan
