"""Read table rows as examples: templates, chats, prompt/completion, the Hugging Face hub."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from jangin.core.config import Config
from jangin.core.digest import short_digest
from jangin.core.errors import DataError, MachineError, SettingsError
from jangin.core.records import Example, Message
from jangin.prepare.engine.build import (
    COMPLETION,
    HISTORY,
    QUESTION,
    SYSTEM,
    apply_row_steps,
    order_rows,
)
from jangin.prepare.engine.plan import AsGiven, Order, PreparePlan
from jangin.prepare.tables.readers import OpenTable, TableSettings, open_table, table_from_frame
from jangin.prepare.tables.schema import INTERNAL_COLUMNS, RAW, REASON, ROW
from jangin.prepare.transforms.chats import chat_column, history_turns, read_messages
from jangin.prepare.transforms.columns import Filter
from jangin.prepare.transforms.deduplicate import ANSWER, PROMPT
from jangin.prepare.transforms.pairs import pair_columns
from jangin.prepare.transforms.steps import Step, key_of, match_mode, split_steps, update_reasons
from jangin.text.normalize import nfc

# Read SQuAD JSON (also KorQuAD 1.0): articles, paragraphs, questions with answers.


_SENTENCE_END = re.compile(r"[.!?。](?=\s)|\n")


class Squad(Config):
    """The JSON format of SQuAD. A repeated question becomes one example with all its answers."""

    type: Literal["squad"]
    unit: Literal["paragraph", "article"] = "paragraph"
    """Unit that `split` holds out: single paragraphs, or whole articles."""


class _Answer(BaseModel):
    text: str
    answer_start: int = -1


class _Question(BaseModel):
    question: str
    answers: list[_Answer] = Field(default_factory=list)


class _Paragraph(BaseModel):
    context: str
    qas: list[_Question]


class _Article(BaseModel):
    title: str = ""
    paragraphs: list[_Paragraph]


class _File(BaseModel):
    data: list[_Article]


@dataclass(frozen=True, slots=True)
class Unusable:
    """A question that gives no example."""

    path: str
    """Such as `data[0].paragraphs[2].qas[1]`."""
    reason: str
    text: str


def read_squad(text: str, source: str, settings: Squad) -> tuple[list[Example], list[Unusable]]:
    """(examples in the order of the file, questions that gave none).

    Raises `DataError` with the path inside the file where it is not SQuAD's JSON.
    """
    try:
        articles = _File.model_validate_json(text).data
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{source}: {where + ': ' if where else ''}{first['msg']}. This is not "
            "SQuAD's JSON: {data: [{title, paragraphs: [{context, qas: [{question, answers}]}]}]}."
        ) from error
    by_question: dict[str, list[_Sighting]] = {}
    unusable: list[Unusable] = []
    for sighting in _sightings(articles, settings):
        question, texts = sighting.question, sighting.answers
        if question and texts:
            by_question.setdefault(question, []).append(sighting)
        else:
            reason = "the question is empty" if not question else "it has no answer"
            unusable.append(Unusable(sighting.path, reason, question))
    return [_squad_example(sightings, source) for sightings in by_question.values()], unusable


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A question in one paragraph."""

    path: str
    question: str
    answers: tuple[str, ...]
    evidence: str
    section: str
    paragraph_id: str
    article_id: str


def _sightings(articles: list[_Article], settings: Squad) -> Iterator[_Sighting]:
    for a, article in enumerate(articles):
        title = nfc(article.title.replace("_", " ").strip()) or str(a + 1)
        article_id = short_digest([title, *(p.context for p in article.paragraphs)])
        for p, paragraph in enumerate(article.paragraphs):
            section = f"{title} > {p + 1}" if settings.unit == "paragraph" else title
            for q, item in enumerate(paragraph.qas):
                texts = [nfc(answer.text.strip()) for answer in item.answers]
                yield _Sighting(
                    path=f"data[{a}].paragraphs[{p}].qas[{q}]",
                    question=nfc(item.question.strip()),
                    answers=tuple(dict.fromkeys(text for text in texts if text)),
                    evidence=_sentence(paragraph.context, item.answers),
                    section=section,
                    paragraph_id=short_digest(paragraph.context),
                    article_id=article_id,
                )


def _sentence(context: str, answers: list[_Answer]) -> str:
    """The sentence with the first answer; empty where its offset is wrong."""
    if not answers or not 0 <= answers[0].answer_start < len(context):
        return ""
    start = answers[0].answer_start
    end = start + len(answers[0].text)
    if context[start:end] != answers[0].text:
        return ""
    before = [match.end() for match in _SENTENCE_END.finditer(context, 0, start)]
    after = _SENTENCE_END.search(context, end)
    first, last = before[-1] if before else 0, after.end() if after else len(context)
    return nfc(context[first:last].strip())


def _squad_example(sightings: list[_Sighting], source: str) -> Example:
    """One example of all occurrences of a question; its first answer is the completion."""
    first = sightings[0]
    answers = dict.fromkeys(answer for sighting in sightings for answer in sighting.answers)
    completion, *others = answers
    return Example.make(
        prompt=(Message(role="user", content=first.question),),
        completion=Message(role="assistant", content=completion),
        chunk_ids=tuple(dict.fromkeys(sighting.paragraph_id for sighting in sightings)),
        kind="original",
        answers=tuple(others),
        document_id=first.article_id,
        source=source,
        section=first.section,
        evidence=first.evidence,
    )


class Template(Config):
    """How a row becomes a prompt and an answer."""

    source: Literal["columns", "messages"] = "columns"
    """`messages`: the rows contain chats; the steps see their texts as the columns `system`,
    `prompt` and `completion`. To read chats without steps, use `{type: chat}`."""
    prompt: str = "{prompt}"
    """Pattern of the question; `{column}` is replaced by the value of that column, as in
    `{review}\\n\\n###\\n\\n`."""
    completion: str = "{completion}"
    """Pattern of the answer. A leading space, which older completion models need, is kept."""
    system: str = ""
    """Pattern of the system message; where it is empty, there is none."""
    group: str = ""
    """Column, such as a document's id; rows with the same value stay in the same split."""
    steps: tuple[Step, ...] = ()
    """Transforms of the rows: first those that work row by row, then those that need all rows."""
    order: Order = AsGiven()
    """Order of the examples: `as_given`, `shuffled` or `sorted` by answer."""

    def plan(self) -> PreparePlan:
        """The same as a plan of `prepare`, without a split."""
        return PreparePlan(
            source=self.source,
            prompt=self.prompt,
            completion=self.completion,
            system=self.system,
            group=self.group,
            steps=self.steps,
            order=self.order,
            validation=0,
            test=0,
        )


class TableRows(Template):
    """A CSV, TSV, XLSX, JSON, JSONL or Parquet file, through a template."""

    type: Literal["table"]
    table: TableSettings = TableSettings()
    """How the file is read."""


class HubRows(Template):
    """A data set of the Hugging Face hub, from its cache or from a folder, through a template."""

    type: Literal["hub"]
    id: str = Field(min_length=1)
    """Id such as `klue`, or a folder of data files or of `save_to_disk`, relative to the project
    file; the bytes of a folder enter the key. Labels that are numbers stay numbers."""
    revision: str = "main"
    """Branch, tag or commit; name a commit to pin it."""
    config: str = ""
    """Configuration (subset) of the data set, such as `ynat`."""
    split: str = "train"
    """Split to read."""


class Chats(Config):
    """Lines of `{"messages": [...]}` with any number of turns; the last message is the answer.

    ShareGPT's `conversations` with `from` and `value` are read, too.
    """

    type: Literal["chat"]


class PromptCompletion(Config):
    """Rows with the columns `prompt` and `completion`, used unchanged."""

    type: Literal["prompt_completion"]


class AutoRows(Config):
    """Rows of a form that is known by its columns, as `prepare` knows it.

    Chats, question and answer under their usual names, Alpaca, labelled answers, SQuAD's JSON.
    """

    type: Literal["auto"]


Rows = TableRows | HubRows | Chats | PromptCompletion | AutoRows


@dataclass(frozen=True, slots=True)
class ReadRows:
    """The examples of a file."""

    examples: list[Example]
    """In order."""
    unusable: list[Unusable]
    """Rows that gave none."""
    left_out: tuple[str, ...] = ()
    """Columns that are not used, where the form was recognised."""
    not_public: tuple[str, tuple[str, ...]] | None = None
    """(column, its cells) that marks rows as not for use, which are among `unusable`."""


def read_rows(path: Path, format: Rows, project_folder: Path) -> ReadRows:
    """The rows of a file, a hub's data set or a folder.

    Raises `DataError` for rows that cannot be read, `SettingsError` for columns that are missing.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if isinstance(format, HubRows):
            rows = _from_template(
                open_hub(format, project_folder), format.plan(), project_folder, format.id
            )
        elif isinstance(format, TableRows):
            table = open_table(path, format.table, work)
            rows = _public_rows(table, format.plan(), project_folder, path.name)
        elif isinstance(format, AutoRows):
            rows = _recognised(open_table(path, TableSettings(), work), project_folder, path)
        elif isinstance(format, Chats):
            rows = _from_chats(open_table(path, TableSettings(), work), path.name)
        else:
            table = open_table(path, TableSettings(), work)
            rows = _from_template(
                table, PreparePlan(validation=0, test=0), project_folder, path.name
            )
    return rows


def _recognised(table: OpenTable, project_folder: Path, path: Path) -> ReadRows:
    """The rows of a table whose columns say what they are.

    Raises `DataError` where they do not.
    """
    from jangin.prepare.options import PrepareOptions
    from jangin.prepare.shapes import first_plan, left_out

    try:
        plan = first_plan(table, PrepareOptions(validation=0, test=0), path)
    except DataError as error:
        if pair_columns(table.columns) is not None:
            raise DataError(
                f"{path.name} holds preference pairs, which are no examples. Name the file under "
                "models.preferences.sources as {type: file, path: ...}."
            ) from error
        raise DataError(
            f"{path.name}: the columns {', '.join(table.columns)} do not show which are prompt "
            f"and completion. Name them with {{type: table, prompt: '{{...}}', "
            "completion: '{...}'}."
        ) from error
    if plan.source == "messages" and not plan.steps:
        rows = _from_chats(table, path.name)
    else:
        rows = _public_rows(table, plan, project_folder, path.name)
    flag = rows.not_public[0] if rows.not_public else ""
    unused = tuple(name for name in left_out(table, plan) if name != flag)
    return replace(rows, left_out=unused)


def _public_rows(
    table: OpenTable, plan: PreparePlan, project_folder: Path, source: str
) -> ReadRows:
    """The rows but those that a column such as `공개` marks as not for use."""
    from jangin.prepare.shapes import not_public

    marked = not_public(table, [step.column for step in plan.steps if isinstance(step, Filter)])
    if marked is None:
        return _from_template(table, plan, project_folder, source)
    drop = Filter(type="filter", column=marked.column, values=marked.values, action="drop")
    plan = plan.model_copy(update={"steps": (drop, *plan.steps)})
    rows = _from_template(table, plan, project_folder, source)
    return replace(rows, not_public=(marked.column, marked.cells))


def open_hub(format: HubRows, project_folder: Path) -> OpenTable:
    """The rows of a data set of the hub, or of a folder of this machine.

    Raises `MachineError` without the package `datasets`, `DataError` without the data set.
    """
    import polars as pl

    try:
        import datasets
    except ImportError as error:
        raise MachineError(
            f"reading {format.id} from the hub needs the package datasets. Install it with: "
            "pip install 'jangin[hub]'"
        ) from error
    folder = hub_folder(format, project_folder)
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        if folder is not None and (folder / "state.json").exists():
            rows = datasets.load_from_disk(str(folder))
        else:
            rows = datasets.load_dataset(
                str(folder or format.id),
                format.config or None,
                split=format.split,
                revision=None if folder else format.revision,
            )
    except (OSError, ValueError, RuntimeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise DataError(
            f"{format.id} ({format.split}) cannot be loaded: {why}. Check id, config, split and "
            "revision, and the connection."
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()
    # `rows.data` would be the whole file, even where only some rows are selected.
    frame = pl.from_arrow(rows.with_format("arrow")[:])
    if not isinstance(frame, pl.DataFrame):
        raise DataError(f"{format.id} is not a table. Name another data set.")
    return table_from_frame(frame.lazy(), format.id)


def hub_folder(format: HubRows, project_folder: Path) -> Path | None:
    """The folder that `id` names, or None for a data set of the hub."""
    folder = project_folder / format.id
    return folder if folder.is_dir() else None


def _from_template(
    table: OpenTable, plan: PreparePlan, project_folder: Path, source: str
) -> ReadRows:
    import polars as pl

    columns = apply_row_steps(table, plan, project_folder)
    _, whole = split_steps(plan.steps)
    if plan.group:
        columns.require("group", plan.group)
    keys = [key_of(PROMPT, match_mode(plan.steps)), pl.col(COMPLETION).hash(13).alias(ANSWER)]
    frame = columns.frame.with_columns(keys).collect(engine="streaming")
    for step in whole:
        frame = frame.with_columns(update_reasons(step, frame))
    answers = frame.filter(pl.col(REASON).is_null())[ANSWER]
    if len(answers) > 1 and answers.n_unique() == 1 and any(s.type == "labels" for s in plan.steps):
        raise DataError(
            f"all {len(answers)} remaining rows of {source} have the same label, so a model cannot "
            "learn to choose. Add rows with other labels, or correct the labels step."
        )
    kept = order_rows(frame.filter(pl.col(REASON).is_null()), plan.order)
    gone = frame.filter(pl.col(REASON).is_not_null())
    return ReadRows(
        [_example(row, plan, source) for row in kept.iter_rows(named=True)],
        [
            Unusable(f"line {row[ROW]}", row[REASON], row[RAW] or row[PROMPT] or "")
            for row in gone.select(ROW, REASON, RAW, PROMPT).iter_rows(named=True)
        ],
    )


def _example(row: dict[str, object], plan: PreparePlan, source: str) -> Example:
    system = str(row.get(SYSTEM) or "")
    group = str(row[plan.group] or "") if plan.group else ""
    messages = [Message(role="system", content=system)] if system else []
    turns = history_turns(str(row.get(HISTORY) or ""))
    messages += [Message(role=turn["role"], content=turn["content"]) for turn in turns]
    messages.append(Message(role="user", content=str(row.get(QUESTION) or row[PROMPT])))
    return Example.make(
        prompt=tuple(messages),
        completion=Message(role="assistant", content=str(row[COMPLETION])),
        kind="original",
        document_id=group,
        section=group,
        source=source,
    )


def _from_chats(table: OpenTable, source: str) -> ReadRows:

    column = chat_column(table.columns)
    if column not in table.columns:
        raise SettingsError(
            f"type: there is no column messages. The columns are: {', '.join(table.columns)}. Read "
            "it as `{type: table}`, with a prompt and a completion made of these columns."
        )
    system = next((n for n in table.columns if n.lower() in ("system", "system_prompt")), "")
    names = [*INTERNAL_COLUMNS, column, *([system] if system else [])]
    frame = table.frame.select(names).collect(engine="streaming")
    rows = ReadRows([], [])
    for row in frame.iter_rows(named=True):
        path = f"line {row[ROW]}"
        if row[REASON] is not None:
            rows.unusable.append(Unusable(path, row[REASON], row[RAW] or ""))
            continue
        messages = read_messages(row[column] or "")
        if isinstance(messages, str):
            rows.unusable.append(Unusable(path, messages, row[column] or ""))
            continue
        if system and row[system] and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": row[system]}, *messages]
        weighted = any("weight" in message for message in messages)
        weights = tuple(message.get("weight", 1) for message in messages) if weighted else ()
        *prompt, answer = (Message(role=m["role"], content=m["content"]) for m in messages)
        example = Example.make(
            tuple(prompt), answer, weights=weights, kind="original", source=source
        )
        rows.examples.append(example)
    return rows


def tokenizers_of(format: object) -> list[Path]:
    """Tokenizer files that the steps of a format use, which its digest must cover."""
    steps = format.steps if isinstance(format, Template) else ()
    return [step.file for step in steps if step.type == "window" and step.counts_tokens]
