"""What can be wrong with rows before training, one remedy after another, each with its reason."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jangin.examples.balance import Balance
from jangin.examples.cells import REASON
from jangin.examples.clean import odd
from jangin.examples.columns import CleanText, Labels, Window, open_tokenizer
from jangin.examples.describe import MOST_LABELS, PERSONAL_DATA, ROWS_PER_LABEL
from jangin.examples.prepare import COMPLETION, Plan
from jangin.examples.same_prompt import ANSWER, KEY, PROMPT, Deduplicate, NearDuplicates
from jangin.examples.scrub import MaskPersonal
from jangin.examples.steps import key_of
from jangin.pipeline.completion_remedies import capitals, common_parts, endings
from jangin.pipeline.remedy import Look, Offers, Remedy, with_step

if TYPE_CHECKING:
    from jangin.examples.columns import Columns

FEW = 100
LONG_CHARACTERS = 10_000
MOST_COMPARED = 200_000
"""Rows up to which near copies are looked for, in memory."""
RARE = 5


def remedies(
    draft: Callable[[Plan], "Columns"],
    plan: Plan,
    tokenizer: Path | None,
    context: int,
    balance: int,
    say: Callable[[str], None],
) -> Offers:
    """Offer one remedy after another; send the plan back as it is after each. Returns it."""
    look = Look(draft, plan, say, {})
    stages: Sequence[Callable[[Look], Offers]] = (
        _first_look,
        _unclean,
        _task,
        _copies,
        _near_copies,
        lambda look: _too_long(look, tokenizer, context),
        capitals,
        common_parts,
        lambda look: endings(look, tokenizer),
        _personal,
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
        listed = "; ".join(f"{rows:,} x {reason}" for reason, rows in counts.head(5).iter_rows())
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
    """Zero-width and no-break spaces, decomposed Hangul, doubled blanks."""
    import polars as pl

    texts = [pl.col(name) for name in (PROMPT, COMPLETION)]
    found = look.count(n=pl.any_horizontal(t.str.contains(odd(False)) for t in texts).sum())["n"]
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
        return look.plan
    look.labels = dict(first.iter_rows())
    most = max(look.labels.values())
    look.say(f"task: classification, {len(first)} labels")
    for label, n in sorted(look.labels.items(), key=lambda item: (len(item[0]), item[0])):
        look.say(f"  {label:>12} {n:>10,} {'█' * max(1, round(30 * n / most))}")
    rare = [label for label, n in look.labels.items() if n < RARE]
    common = [label for label in look.labels if label not in rare]
    column = look.single(look.plan.completion)
    if rare and len(common) > 1 and column:
        look.plan = yield Remedy(
            name="rare labels",
            level="recommended",
            finding=f"labels with fewer than {RARE} rows: {', '.join(rare[:8])}",
            question="set their rows aside",
            rows=sum(look.labels[label] for label in rare),
            change=lambda plan: with_step(
                plan, Labels(type="labels", column=column, labels=tuple(sorted(common)))
            ),
        )
    return look.plan


def _copies(look: Look) -> Offers:
    import polars as pl

    frame = look.frame().select(key_of(PROMPT, "loose"), pl.col(COMPLETION).hash(13).alias(ANSWER))
    keys = frame.collect(engine="streaming")
    copies = len(keys) - keys[KEY].n_unique()
    if copies:
        conflicting = keys.unique([KEY, ANSWER]).filter(pl.col(KEY).is_duplicated())
        conflicts = conflicting[KEY].n_unique()
        rule = f"; {conflicts:,} texts have several answers" if conflicts else ""
        pairs = look.plan.format == "preference"
        question = "keep one of each, with its most frequent answer"
        look.plan = yield Remedy(
            name="duplicates",
            level="recommended",
            finding=f"{copies:,} rows repeat the question of another row but for case, blanks and "
            f"punctuation{rule}. Copies could stand in training and test alike",
            question="keep each different pair once" if pairs else question,
            rows=copies,
            change=lambda plan: with_step(
                plan, Deduplicate(type="deduplicate", conflicts="keep" if pairs else "majority")
            ),
        )
    return look.plan


def _near_copies(look: Look) -> Offers:
    import polars as pl

    rows = int(look.count(n=pl.len())["n"])
    if rows > MOST_COMPARED:
        look.say(f"near copies are not looked for in more than {MOST_COMPARED:,} rows")
        return look.plan
    step = NearDuplicates(type="near_duplicates", same_words=False)
    exact = key_of(PROMPT, "loose")
    answer = pl.col(COMPLETION).str.strip_chars().hash().alias(ANSWER)
    prompts = look.frame().select(PROMPT, exact, answer)
    prompts = prompts.unique(KEY, keep="first", maintain_order=True)
    found = int(step.decide(prompts.collect(engine="streaming")).is_not_null().sum())
    if 2 * found > rows:
        look.say(
            f"{found:,} of {rows:,} questions differ from another one by a tenth of their letters "
            "at most, as from one pattern; they stay. To thin them out, see `near_duplicates`"
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
    return look.plan


def _too_long(look: Look, tokenizer: Path | None, context: int) -> Offers:
    import polars as pl

    both = pl.concat_str(PROMPT, COMPLETION, separator="\n")
    column = look.single(look.plan.prompt)
    if tokenizer is not None and context:
        encode = open_tokenizer(tokenizer)
        texts = look.frame().select(text=both).collect(engine="streaming")["text"]
        sizes = [len(offsets) for offsets in encode(texts.to_list())]
        found, limit = sum(size > context for size in sizes), f"{context:,} tokens"
        step = Window(
            type="window", column=column or "-", maximum_tokens=context, tokenizer=tokenizer,
            longer="drop",
        )  # fmt: skip
    else:
        found = look.count(n=(both.str.len_chars() > LONG_CHARACTERS).sum())["n"]
        limit = f"{LONG_CHARACTERS:,} characters"
        step = Window(
            type="window", column=column or "-", maximum_characters=LONG_CHARACTERS, longer="drop"
        )
    if found and not column:
        look.say(f"{found:,} rows are over {limit} and will be cut or refused in training")
    elif found:
        look.plan = yield Remedy(
            name="long rows",
            level="recommended",
            finding=f"{found:,} rows are over {limit}; what is behind that is cut off in training",
            question="set rows with such questions aside",
            rows=found,
            change=lambda plan: with_step(plan, step),
        )
    return look.plan


def _personal(look: Look) -> Offers:
    import polars as pl

    text = pl.concat_str(PROMPT, COMPLETION, separator="\n")
    found = look.count(
        **{kind: text.str.contains(pattern).sum() for kind, pattern in PERSONAL_DATA.items()}
    )
    there = {kind: rows for kind, rows in found.items() if rows}
    if there:
        listed = ", ".join(f"{kind.replace('_', ' ')} {rows:,}" for kind, rows in there.items())
        look.plan = yield Remedy(
            name="personal data",
            level="recommended",
            finding=f"rows that seem to hold personal data: {listed}",
            question="write [email], [phone] and so on in its place",
            rows=sum(there.values()),
            change=lambda plan: with_step(
                plan, MaskPersonal(type="mask_personal", columns=look.columns())
            ),
        )
    return look.plan


def _balance(look: Look, most: int) -> Offers:
    """Labels of very different frequency: a hint, or what the command line asked for."""
    column = look.single(look.plan.completion)
    counts = look.labels.values()
    if most and column:
        found = sum(max(0, rows - most) for rows in counts)
        look.plan = yield Remedy(
            name="balance",
            level="recommended",
            finding=f"{found:,} rows are over {most:,} for their answer",
            question="draw so many of each answer",
            rows=found,
            change=lambda plan: with_step(plan, Balance(type="balance", column=column, most=most)),
        )
    elif counts and max(counts) > 4 * min(counts):
        look.say(
            f"the most frequent label has {max(counts) / min(counts):.0f} times the rows of the "
            f"rarest. To draw at most so many of each: --balance {max(min(counts), RARE)}"
        )
    return look.plan
