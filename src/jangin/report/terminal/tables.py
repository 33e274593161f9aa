"""Tables for the terminal: plans, rows, results and comparisons."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jangin.core.errors import counted
from jangin.metrics.scores.metric import Metric
from jangin.metrics.scores.table import find_metric
from jangin.report.i18n.translate import value_text
from jangin.report.terminal.console import heading, said, words
from jangin.report.terminal.progress import STATE_STYLE, duration
from jangin.text.normalize import collapse_spaces
from jangin.text.numbers import dollars
from jangin.views.plan import PlanFigures, PlanRow

LEAST_CELL = 8
"""Minimum width in columns of a folded value."""

MOST_UNREAD = 0.1
"""Share of unread answers above which the mean error shows how many answers it is of."""


def replies_beside_prompts(rows: Sequence[Any], total: int) -> list[Any]:
    """Prompts with their replies beside them, each under what it is about and its problem."""
    shown: list[Any] = []
    for row in rows:
        about = Text(f"{row['stage']}: {collapse_spaces(row['about'])}", style="bold")
        reply = Text(row["reply"]) if row["reply"].strip() else words()("data_empty_reply")
        problem = "; ".join(said(line) for line in row["problem"].splitlines())
        table = Table(show_edge=False, pad_edge=False, header_style="dim", expand=True)
        for title in ("prompt", "reply"):
            table.add_column(heading(title), overflow="fold", ratio=1)
        table.add_row(Text(row["prompt"]), reply)
        shown += [about, Text(problem, style="red"), table] if problem else [about, table]
        shown.append("")
    if total > len(rows):
        shown.append(words()("terminal_rows_of", count=str(len(rows)), total=str(total)))
    return shown


def fits_table() -> Table:
    """Tokens of the longest row that fits each card, by base and method."""
    from jangin.models.fits import CARDS, LENGTHS, fits

    title = words()("terminal_fits")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
    for column in ("base", "method", "optimizer", *(f"{card} GiB" for card in CARDS)):
        table.add_column(column, justify="right" if "GiB" in column else "left")
    before = ""
    for fit in fits():
        longest = [f"{tokens // LENGTHS[0]}k" if tokens else "-" for tokens in fit.longest]
        name = "" if fit.base == before else fit.base
        table.add_row(name, fit.method, fit.optimizer, *longest)
        before = fit.base
    return table


def plan_table(plan: PlanFigures) -> Table:
    """Stage, state, why, cost, price and time of a plan."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("variant", "stage", "state", "why", "cost", "price", "time"):
        table.add_column(heading(title), overflow="fold")
    for row in plan.rows:
        step = row.step
        table.add_row(
            heading(row.variants) if row.variants == "all" else row.variants,
            step.stage.name,
            f"[{STATE_STYLE[step.state]}]{heading(step.state)}[/]",
            escape("; ".join(map(said, step.reasons))),
            escape(said(step.cost.text)),
            calls_text(step.calls),
            _time_of(row),
        )
    return table


def _time_of(row: PlanRow) -> str:
    """Seconds that it took, or would take."""
    if not row.seconds:
        return ""
    time = words().duration(row.seconds)
    return time if row.step.state == "cached" else words()("terminal_about", time=time)


def calls_text(calls: Any) -> str:
    """Estimated upper limits of tokens and dollars of requests to models."""
    if not calls.count:
        return ""
    parts = [f"up to {calls.prompt_tokens:,} + {calls.reply_tokens:,} tokens"]
    if calls.unpriced == calls.count:
        parts.append("price unknown")
    else:
        parts.append(f"up to {dollars(calls.usd)}")
        if calls.unpriced:
            parts.append(f"and {counted(calls.unpriced, 'call')} of unknown price")
    return ", ".join(map(said, parts)).replace(", and ", " and ")


def plan_total(plan: PlanFigures, unknown: Sequence[str] | None = None) -> str:
    """The requests of all stages against the budget; empty if there are none and none was paid.

    `unknown`: stages without an estimate; by default all that wait.
    """
    most, likely = plan.most, plan.likely
    if not plan.rows or not (most.count or plan.spent_usd or plan.unpriced):
        return ""
    text = said(f"{counted(most.count, 'call')} to models")
    if likely.count != most.count:
        text = said(f"{likely.count:,} to {counted(most.count, 'call')} to models")
    if most.count:
        text += f", {calls_text(most)}"
        if plan.is_forecast and most.unpriced < most.count:
            text += ", " + said(f"likely about {dollars(likely.usd)}")
    names = ", ".join(dict.fromkeys(plan.waiting if unknown is None else unknown))
    if names and most.count:
        text += "; " + said(f"not counted because they wait for other stages: {names}")
    paid = f"Spent so far: {dollars(plan.spent_usd)}"
    if plan.unpriced:
        paid += f" + {counted(plan.unpriced, 'call')} at an unknown price"
    if plan.limit_usd is None:
        return f"{text}. {said(paid)}."
    paid += f" of {dollars(plan.limit_usd)}"
    return f"{text}. {said(paid)}. {said(_against_budget(plan))}".strip()


def _against_budget(plan: PlanFigures) -> str:
    """What the budget that is left means for these requests; empty where it suffices."""
    most, left = plan.most, plan.left_usd or 0.0
    if most.usd <= left or not most.count:
        return ""
    bound = f"Up to {dollars(most.usd)} of the {dollars(max(left, 0))} that is left of the budget"
    if not plan.would_stop:
        return f"{bound}: it likely suffices."
    calls = counted(plan.likely.count, "call")
    return f"{bound}: would stop after about {plan.affordable:,} of {calls}."


def rows_table(title: str, rows: Sequence[dict[str, Any]], total: int, width: int) -> Table:
    """Rows as a table of `width` columns, with long values truncated.

    Where the headings would be truncated too, each row is a list of names and values.
    """
    shown_of = words()("terminal_rows_of", count=str(len(rows)), total=str(total))
    name = f"{said(title)}: {shown_of}"
    columns = list(rows[0]) if rows else []
    shown = [[_short(column, row[column]) for column in columns] for row in rows]
    columns = [_column(column) for column in columns] or [heading("no rows")]
    widths = [
        max(cell_len(column), min(LEAST_CELL, max((cell_len(row[n]) for row in shown), default=0)))
        for n, column in enumerate(columns)
    ]
    if sum(widths) + 3 * len(widths) + 1 > width:
        return _list_of_rows(name, columns, shown)
    table = Table(title=name, title_justify="left", header_style="dim")
    table.min_width = min(width, cell_len(name))  # or a narrow table folds its title
    for column in columns:
        table.add_column(column, overflow="fold", min_width=cell_len(column))
    for values in shown:
        table.add_row(*map(escape, values))
    return table


def token_text(row: Any) -> Text:
    """A `PreviewRow`: tokens in alternating shades, what is trained green and in brackets."""
    name = f"{row.name}: {row.trained} of {row.tokens} tokens are trained, in ⟦ ⟧"
    text = Text(f"{said(name)}\n", style="bold")
    trained = False
    for number, piece in enumerate(row.pieces):
        if piece.trained != trained:
            trained = piece.trained
            text.append("⟦" if trained else "⟧", "bold green")
        text.append(piece.text.replace("\n", "↵\n"), _TOKEN_STYLES[trained][number % 2])
    return text.append("⟧\n" if trained else "\n", "bold green")


_TOKEN_STYLES = {
    False: ("not bold", "not bold on grey23"),
    True: ("not bold black on green3", "not bold black on dark_sea_green2"),
}
"""Of tokens that are not trained and of those that are, in turn."""


def _list_of_rows(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=heading, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.min_width = cell_len(heading)  # or it is folded to the width of short values
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for index, values in enumerate(rows):
        if index:
            table.add_row("", "")
        for column, value in zip(columns, values, strict=True):
            table.add_row(escape(column), escape(value))
    return table


def _column(name: str) -> str:
    """What a column is called in Korean; in English it is its key, for `--where` and `--csv`."""
    return words().known(f"column_{name}", name) if words().language == "ko" else name


def _short(column: str, value: object) -> str:
    """A value of bounded length; in English as it is stored, for `--where`."""
    if words().language == "ko":
        text = value_text(words(), column, value)
    else:
        text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    text = collapse_spaces(text)
    return text if len(text) <= 120 else text[:117] + "..."


FORM = "form as\ntaught"
"""Heading of the share of answers in the form of a gold answer."""


def result_table(results: Sequence[dict[str, Any]]) -> Table:
    """Accuracy of every variant and system on every test set, with its interval.

    The p value is that of the comparison with the base, or with the first system of an evaluation
    that did not ask the base.
    """
    metric = find_metric(results[0]["measure"])
    score_title = _score_title(metric)
    has_form = any(row.get("form") is not None for row in results)
    against = {row.get("p_against", "base") for row in results if row.get("p_value") is not None}
    mixed = len(against) > 1
    title = f"{words().right(metric.name).lower()} ({heading('95 % Wilson interval')})"
    table = Table(title=title, title_justify="left")
    has_unclear = any(row.get("unclear") for row in results)
    for title in (
        "test set",
        "variant",
        "system",
        "n",
        "right",
        "95 % interval",
        *(["unclear"] if has_unclear else []),
        "p" if mixed else f"p {heading('vs')} {next(iter(against), 'base')}",
        *([FORM] if has_form else []),
        score_title,
        *([metric.unparsable] if metric.unparsable else []),
    ):
        is_figure = title in ("n", "right", "unclear", FORM, score_title, metric.unparsable)
        table.add_column(heading(title), justify="right" if is_figure else "left")
    last = ""
    for row in results:
        if last and row["evidence_set"] != last:
            table.add_section()
        shown = set_name(row["evidence_set"]) if row["evidence_set"] != last else ""
        last = row["evidence_set"]
        p_value = row.get("p_value")
        table.add_row(
            shown,
            heading("all") if row["variant"] == "all" else row["variant"],
            row["system"],
            str(row["n"]),
            f"{100 * row['right']:.1f} %",
            words().interval(row["right_low"], row["right_high"], 1),
            *([str(row.get("unclear", 0))] if has_unclear else []),
            ""
            if p_value is None
            else f"{format_p(p_value)} {heading('vs')} {row['p_against']}"
            if mixed
            else format_p(p_value),
            *([_form(row)] if has_form else []),
            _score(row),
            *([str(row["unparsable"])] if metric.unparsable else []),
        )
    return table


def comparison_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The variants side by side, one line per test set."""
    table = Table(
        title=heading("variants (p: exact McNemar, corrected by Holm)"), title_justify="left"
    )
    has_form = any(row.get("form") is not None for row in rows)
    right = "facts right" if has_form else "right"
    heads = ["test set", "variant", "n", right, "95 % interval", "p", "p corrected", "score"]
    heads += [FORM] if has_form else []
    for title in heads:
        table.add_column(heading(title), justify="left" if title in heads[:2] else "right")
    last = ""
    for row in sorted(rows, key=lambda row: str(row["evidence_set"])):
        if last and row["evidence_set"] != last:
            table.add_section()
        last = row["evidence_set"]
        evaluated = row["n"] is not None
        table.add_row(
            set_name(str(last)),
            row["variant"],
            str(row["n"]) if evaluated else "",
            f"{100 * row['right']:.1f} %" if evaluated else heading("not asked"),
            words().interval(row["right_low"], row["right_high"], 1) if evaluated else "",
            "" if row["p_value"] is None else format_p(row["p_value"]),
            "" if row["p_holm"] is None else format_p(row["p_holm"]),
            _score(row) if evaluated else "",
            *([_form(row)] if has_form else []),
        )
    return table


def effort_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Time, money, steps, tokens and final losses of each variant."""
    table = Table(title=heading("cost of each variant"), title_justify="left")
    table.add_column(heading("variant"))
    for title in (
        "seconds",
        "models asked",
        "cost",
        "steps",
        "trained tokens",
        "train loss",
        "valid loss",
    ):
        table.add_column(heading(title), justify="right")
    for row in {row["variant"]: row for row in rows}.values():
        table.add_row(
            row["variant"],
            f"{row['seconds']:,.0f}",
            said(counted(row["model_calls"], "call")) if row["model_calls"] else "",
            said(row["cost"]),
            *(
                "" if row[name] is None else f"{row[name]:,}"
                for name in ("steps", "trained_tokens")
            ),
            *("" if row[n] is None else f"{row[n]:.3f}" for n in ("train_loss", "valid_loss")),
        )
    return table


def _form(row: dict[str, Any]) -> str:
    """The share of answers in the form of a gold answer."""
    share = row.get("form")
    return "" if share is None else f"{100 * share:.1f} %"


def _score_title(metric: Metric) -> str:
    """Display name of a metric, with a note where lower is better."""
    lower = "" if metric.higher_is_better else f"\n({words()('lower_is_better')})"
    return metric.display[words().language] + lower


def _score(row: dict[str, Any]) -> str:
    """The mean score; with too few readable answers also their number, as the mean misleads."""
    score, n, unread = row["score"], row["n"], row["unparsable"]
    if score is None:
        return "-"
    if find_metric(row["measure"]).is_share:
        return f"{100 * score:.1f}"
    if unread <= MOST_UNREAD * n:
        return f"{score:,.2f}"
    return f"{score:,.2f} [yellow]({said('of ' + counted(n - unread, 'answer'))})[/]"


def set_name(test_set: str) -> str:
    """A test set as a table calls it: `held out paraphrases`."""
    if words().language == "ko":
        return words()(f"name_{test_set}")
    return test_set.replace("_", " ")


def format_p(p_value: float) -> str:
    """A p-value as text: `0.0312` or `< 0.0001`."""
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


# What `jangin gc` prints.


_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
DAY = 86400.0


def size(count: int) -> str:
    """Bytes in words: `1.2 GB`."""
    for unit, bytes_of in _UNITS:
        if count >= bytes_of:
            return f"{count / bytes_of:.1f} {unit}"
    return f"{count} bytes"


def age(seconds: float) -> str:
    """How long ago: `12 days`, below a day as a duration."""
    days = int(seconds / DAY)
    return counted(days, "day") if days else duration(seconds)


def variant_sizes(inventory: Any) -> Table:
    """What each variant takes in the store."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(heading("project file"), overflow="fold")
    table.add_column(heading("variant"), overflow="fold")
    for title in ("takes", "alone"):
        table.add_column(heading(title), justify="right")
    for row in inventory.variants:
        name = escape(row.project.name)
        table.add_row(name, escape(row.variant), size(row.bytes), size(row.own_bytes))
    total = size(inventory.used_bytes)
    table.add_row(heading("together"), "", total, "", style="bold")
    return table


def unused_folders(folders: Sequence[Any]) -> Table:
    """Folders that nothing uses, with size and age."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(heading("unused"), overflow="fold")
    table.add_column(heading("what"))
    table.add_column(heading("size"), justify="right")
    table.add_column(heading("unchanged for"), justify="right")
    for folder in folders:
        what = heading("artifact" if folder.finished else "unfinished work")
        name = f"{folder.stage}/{folder.path.name}"
        table.add_row(name, what, size(folder.bytes), age(folder.age))
    return table


def inventory_notes(inventory: Any, days: float) -> Iterator[str]:
    """Which files count, what is kept for now, what is left of an interrupted call."""
    if inventory.others:
        files = ", ".join(str(path) for path in inventory.others)
        yield f"What these files of the same store use is kept, too: {files}."
    for path in inventory.gone:
        yield f"{path} ran in this store and is not there any more: what it alone used is unused."
    if inventory.waiting:
        count = len(inventory.waiting)
        total = size(sum(folder.bytes for folder in inventory.waiting))
        what = f"{count} folder{'' if count == 1 else 's'} of unfinished work ({total})"
        yield f"{what} that no variant resumes: kept until {days:g} days old."
    if inventory.trash_bytes:
        yield f"{size(inventory.trash_bytes)} are left of an interrupted gc."
    if inventory.cache_bytes:
        kept = size(inventory.cache_bytes)
        yield f"{kept} of pictures and tables that the pages keep: made again when they are needed."
