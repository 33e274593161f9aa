"""Provisional tables in place of what earlier stages would make, to estimate later stages."""

import json
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

from jangin.core.config import StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import JanginError, counted
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table
from jangin.core.records import (
    Chunk,
    Document,
    Example,
    Message,
    PreferencePair,
    Query,
    RankedSnippet,
    Snippet,
    Split,
    SplitExample,
)
from jangin.core.stage import StageContext
from jangin.documents import chunk
from jangin.documents.formats import format_of, page_count
from jangin.documents.load import LoadConfig, find_files
from jangin.documents.queries import (
    QueriesConfig,
    QuestionFile,
    SeedWords,
    queries,
    read_titles,
    read_words,
)
from jangin.documents.rank import RankConfig
from jangin.documents.readers.reader import PageReading, ReaderSettings, SourceFile
from jangin.documents.reading import join_pages
from jangin.documents.search import SearchConfig
from jangin.examples import curate, read, review
from jangin.examples.evolve import EvolveConfig
from jangin.examples.judge import JudgeConfig
from jangin.examples.paraphrase import ParaphraseConfig, TeacherSource
from jangin.examples.split import SplitConfig, accepted_so_far
from jangin.examples.synthesis.modes import mode_of
from jangin.examples.synthesis.table_facts import facts
from jangin.examples.synthesis.teacher import ModeConfig
from jangin.examples.synthesize import SynthesizeConfig
from jangin.models.catalog import CatalogConfig, Gguf, Hub, Local
from jangin.models.gguf.header import read_header
from jangin.models.shape import STARTER_SHAPES, cached_folder, likely_config
from jangin.project.setup.replay import Replay
from jangin.text.language import language_of
from jangin.training.preferences import PreferencesConfig, select_examples

# A quick look into the documents, without OCR and within a time limit, to estimate costs.


Level = Literal["likely", "most"]
"""What an estimate is: what a run usually makes, or the most that it can make."""
SECONDS = 15.0
"""Time after which no further file is opened."""
PAGE_CHARACTERS = 900
"""Length that a page without a text layer is taken to have where no page has one."""
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"))


@dataclass(slots=True)
class QuickReading:
    """Documents of some of the files, with borrowed text on pages that only OCR can read."""

    files: int
    """Number of files that `load` would read."""
    opened: int = 0
    documents: list[Document] = field(default_factory=list)
    pages: int = 0
    """Pages of the opened files."""
    ocr_pages: int = 0
    """Those without a text layer."""
    borrowed: set[str] = field(default_factory=set)
    """Ids of the documents with such pages."""
    scale: float = 1.0
    """Size of all files divided by that of the opened ones."""
    chunks: int = 0
    """Estimated number of chunks of all files, once they were cut."""
    factor: float = 1.0
    """Chunks divided by those that represent them."""

    @property
    def text(self) -> str:
        """What the estimates rest on, in a sentence."""
        of = "" if self.opened == self.files else f" of {self.files:,}"
        noun = "file" if self.files == 1 else "files" if not of else "files (a sample)"
        scans = (
            f", {self.ocr_pages:,} of which to be read by OCR and counted like the others"
            if self.ocr_pages
            else ""
        )
        return (
            f"Estimated from {self.opened:,}{of} {noun} with {counted(self.pages, 'page')}{scans}: "
            f"about {counted(self.chunks, 'chunk')}. The run counts exactly"
        )


def read_quickly(
    config: LoadConfig, project_folder: Path, ledger: Ledger, seconds: float | None = None
) -> QuickReading:
    """Read files in a seeded random order until the time limit.

    Raises `DataError` where there is no folder or no file.
    """
    files = find_files(config, project_folder)
    settings = ReaderSettings(ledger, Progress(), ocr="never")
    names = sorted(files)
    random.Random(0).shuffle(names)  # the same sample each time
    result = QuickReading(len(files))
    texts: list[tuple[str, list[str]]] = []
    size = 0
    end = time.monotonic() + (SECONDS if seconds is None else seconds)
    for name in names:
        if result.opened and time.monotonic() > end:
            break
        texts.append((name, list(_pages(SourceFile(name, files[name], ""), settings))))
        result.opened += 1
        size += files[name].stat().st_size
    total = sum(path.stat().st_size for path in files.values())
    result.scale = total / size if size else 1.0
    paged = [page for _, pages in texts if len(pages) > 1 for page in pages if page.strip()]
    borrowed = _borrowed(paged)
    for name, pages in sorted(texts):
        result.pages += len(pages)
        result.ocr_pages += sum(not page.strip() for page in pages)
        whole = [page if page.strip() else next(borrowed) for page in pages]
        if whole:
            result.documents.append(_document(name, whole))
            if whole != pages:
                result.borrowed.add(result.documents[-1].id)
    return result


def _pages(file: SourceFile, settings: ReaderSettings) -> Iterator[str]:
    """Text of each page; empty for one that only OCR can read."""
    suffix = file.path.suffix.lower()
    row = format_of(suffix)
    if suffix in PICTURES:
        yield from [""] * page_count(file.path)
        return
    if row is None or row.read is None:
        return
    try:
        yield from (reading.text for reading in row.read(file, settings))
    except JanginError:  # such as a PDF of scans
        yield from [""] * page_count(file.path)
    except Exception:  # noqa: BLE001  # a damaged file is the business of `load`
        return


def _borrowed(written: list[str]) -> Iterator[str]:
    """Texts for pages that only OCR can read: those of other pages in turn, else made-up ones."""
    words = "가나다라마바사아자차카타파하"
    source = written or [
        " ".join(f"{words[n % 14]}{words[(n + k) % 14]}다." for k in range(PAGE_CHARACTERS // 4))
        for n in range(14)
    ]
    number = 0
    while True:
        yield source[number % len(source)]
        number += 1


def _document(name: str, pages: list[str]) -> Document:
    text, places = join_pages([PageReading(page) for page in pages])
    return Document(
        id=digest_value([name])[:16],
        source=name,
        text=text,
        pages=places,
        language=language_of(text),
    )


# Provisional tables for the results of `queries`, `search` and `rank`, for estimates.


SHARE = {"titles": 0.7, "snippets": 0.8, "ranked": 0.6, "answers": 0.8}
"""{what: share of the most that a run usually keeps}."""
SNIPPET = "가나다 라마바 사아자 차카타 파하. " * 8
"""Text of a result where the project has no chunks: about as long as those of web engines."""


def queried(context: StageContext[QueriesConfig], level: Level, _reading: object) -> bool:
    """The questions of a file, or made-up ones: a number for each word, or one for each title."""
    source = context.config.source
    if isinstance(source, QuestionFile):
        queries(context)
        return True
    path = context.services.project_folder / source.file
    if isinstance(source, SeedWords):
        words, _ = read_words(path, lambda _note: None)
        rows = [
            Query.make(f"{line.text} 질문은 무엇인가요 {number}?", line.text)
            for line in words
            for number in range(source.per_word)
        ]
    else:
        titles = read_titles(path, lambda _note: None)
        count = _part("titles", len(titles), level)
        rows = [Query.make(line.text, line.seed_word) for line in titles[:count]]
    context.write("queries", Query, rows)
    return bool(rows)


def searched(context: StageContext[SearchConfig], level: Level, _reading: object) -> bool:
    """As many results for each question as the engine gives, with texts of the chunks."""
    engine = context.config.engine
    chunks = context.read("chunks", Chunk) if context.has("chunks") else []
    texts = cycle([row.text for row in chunks] or [SNIPPET])
    count = _part("snippets", min(engine.results, 10), level)
    rows = [
        Snippet(
            id=f"{query.id}{number}", query_id=query.id, place=number, text=text, engine=engine.type
        )
        for query in context.read("queries", Query)
        for number, text in enumerate(islice(texts, count), start=1)
    ]
    context.write("snippets", Snippet, rows)
    return bool(rows)


def ranked(context: StageContext[RankConfig], level: Level, _reading: object) -> bool:
    """The first results of each question; usually fewer where there is a threshold."""
    config = context.config
    most = _part("ranked", config.top_k, level) if config.threshold > 0 else config.top_k
    rows = [
        RankedSnippet(snippet=row, rank=row.place, score=1.0, ranker=config.ranker.type)
        for row in context.read("snippets", Snippet)
        if row.place <= most
    ]
    context.write("ranked", RankedSnippet, rows)
    return bool(rows)


def answered(context: StageContext[Any], level: Level) -> list[Example]:
    """An answer to each question that has results."""
    rows = {query.id: query for query in context.read("queries", Query)}
    first = {
        row.snippet.query_id: row.snippet
        for row in context.read("ranked", RankedSnippet)
        if row.rank == 1
    }
    kept = [name for name in rows if name in first]
    return [
        Example.make(
            (Message(role="user", content=rows[name].text),),
            Message(role="assistant", content=f"{first[name].text[:80]} {number}"),
            (),
            kind="original",
            evidence=first[name].text,
            seed_word=rows[name].seed_word,
        )
        for number, name in enumerate(kept[: _part("answers", len(kept), level)])
    ]


def _part(what: str, most: int, level: Level) -> int:
    return most if level == "most" else max(1, round(SHARE[what] * most))


KEPT = 0.85
"""Share of a teacher's rows that usually pass the row checks."""
LIKELY_PAIRS = 0.8
"""Share of the examples that usually give a pair of each source."""
MOST_CHUNKS = 1_000
"""Chunks that represent more chunks."""


def write_tables(
    context: StageContext[Any],
    level: Level,
    reading: QuickReading | None,
    past: Replay | None = None,
) -> bool:
    """Write what the stage would make; False where that cannot be predicted.

    `past`: what it makes of the replies that are there; only what they lack is made up.
    """
    if past is not None:
        return _completed(context, level, past)
    make = _MAKERS.get(type(context.config))
    if make is None:
        return False
    return make(context, level, reading)


def _completed(context: StageContext[Any], level: Level, past: Replay) -> bool:
    """The known rows, and others in place of those that a teacher has not written yet."""
    rows, unknown = list(past.rows), past.subjects
    if past.stopped and context.has("examples"):
        rows = context.read("examples", Example)
    if isinstance(context.config, SynthesizeConfig):
        if context.has("ranked"):
            return _synthesized(context, level, None)
        rows += _rows_of_chunks(context, level, unknown, past)
    else:
        lacking = [row for row in rows if unknown is None or row.id in unknown]
        rows += [new for row in lacking for new in _made_of(context.config, row, level)]
    context.write("examples", Example, rows)
    return bool(rows)


def _made_of(config: StageConfig, row: Example, level: Level) -> Iterator[Example]:
    """What a teacher is likely to make of a row."""
    if isinstance(config, ParaphraseConfig) and isinstance(config.source, TeacherSource):
        count = config.source.count if level == "most" else round(config.source.count * 0.95)
        yield from _rewritten(row, count, "paraphrase")
    elif isinstance(config, EvolveConfig):
        yield from _rewritten(row, config.rounds * config.per_example, "evolved")


def _documents(context: StageContext[Any], _level: Level, reading: QuickReading | None) -> bool:
    if reading is None or not reading.documents:
        return False
    context.write("documents", Document, reading.documents)
    return True


def _base(context: StageContext[CatalogConfig], _level: Level, _reading: object) -> bool:
    """A config.json, and the tokenizer of a local model: enough to estimate memory and tokens."""
    base, folder = context.config.base, context.workspace / "model"
    if isinstance(base, Local):
        source = (context.services.project_folder / base.path).resolve()
        if not (source / "config.json").exists():
            return False
        folder.symlink_to(source, target_is_directory=True)
        return True
    if isinstance(base, Hub):
        return _hub_base(base, folder)
    if isinstance(base, Gguf):
        file = context.services.project_folder / base.path
        return _write_config(folder, read_header(file, "models: catalog: base").config)
    hidden, layers, feed_forward, heads = STARTER_SHAPES[base.size]
    config = {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": feed_forward,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "vocab_size": base.vocabulary_size,
        "max_position_embeddings": base.context_length,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    return _write_config(folder, config)


def _write_config(folder: Path, config: Mapping[str, Any]) -> bool:
    """Write the sizes of a model as its config.json; False where there are none."""
    if not config:
        return False
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
    return True


def _hub_base(base: Hub, folder: Path) -> bool:
    """The model in the hub's cache, else the config of a usual model of its size."""
    cached, likely = cached_folder(base.id, base.revision), likely_config(base.id)
    if cached is not None:
        folder.symlink_to(cached, target_is_directory=True)
    elif likely is not None:
        _write_config(folder, likely)
    return bool(cached or likely)


def _chunks(context: StageContext[Any], _level: Level, reading: QuickReading | None) -> bool:
    """The chunks of the documents that were read, repeated for those that were not."""
    chunk.run(context)
    rows = read_table(context.workspace / "chunks.parquet", Chunk)
    if reading is None or not rows:
        return bool(rows)
    wanted = round(len(rows) * reading.scale)
    count = min(wanted, MOST_CHUNKS)
    reading.chunks, reading.factor = wanted, wanted / count
    if count != len(rows):
        copies = islice(cycle(rows), count)
        more = [
            row.model_copy(update={"id": digest_value([row.id, number])[:16]})
            for number, row in enumerate(copies)
        ]
        context.write("chunks", Chunk, more)
    return True


def _synthesized(context: StageContext[SynthesizeConfig], level: Level, _reading: object) -> bool:
    """Questions on every chunk, with words of the chunk so that their lengths are about right."""
    own = context.read("examples", Example) if context.has("examples") else []
    rows: list[Example] = []
    if context.has("ranked") and any(
        "ranked" in mode_of(m).wants for m in context.config.active_modes
    ):
        rows += answered(context, level)
    if context.has("chunks"):
        rows += _rows_of_chunks(context, level)
    context.write("examples", Example, [*own, *rows])
    return bool(own or rows)


def _rows_of_chunks(
    context: StageContext[SynthesizeConfig],
    level: Level,
    only: Collection[str] | None = None,
    past: Replay | None = None,
) -> list[Example]:
    """Rows of all chunks, or of some: likely those of an equal chunk before, else made up.

    Of made-up ones there are likely as many as the last run got.
    """
    as_before = past if past is not None and level == "likely" else Replay()
    usual, before = as_before.usual, as_before.before
    languages: Mapping[str, str] = {}
    if context.has("documents"):
        documents = context.read("documents", Document)
        languages = {document.id: document.language for document in documents}
    mean = sum(usual.values()) / len(usual) if usual else None
    due, rows = 0.0 if mean is None else 0.5, list[Example]()
    for row in context.read("chunks", Chunk):
        if only is not None and row.id not in only:
            continue
        if row.text in before:
            here = {"chunk_ids": (row.id,), "document_id": row.document_id, "source": row.source}
            again = [each.model_copy(update=here) for each in before[row.text]]
            rows += again
            due += len(again)
            continue
        korean = languages.get(row.document_id, "ko") == "ko"
        if mean is None:
            due += rows_of_chunk(context.config, row, level)
        else:
            due += usual.get(row.id, mean)
        while len(rows) + 1 <= due:
            rows.append(_example(row, len(rows), korean=korean))
    return rows


def rows_of_chunk(config: SynthesizeConfig, row: Chunk, level: Level) -> float:
    """Number of rows that the modes make of a chunk: at most, or usually."""
    modes = (mode for mode in config.active_modes if mode_of(mode).reads_chunks)
    return sum(rows_of_mode(mode, row, level) for mode in modes)


def rows_of_mode(mode: ModeConfig, row: Chunk, level: Level) -> float:
    """The same of one mode. Usually, a teacher finds no more questions than there are facts."""
    in_chunk = len(facts(row.text))
    most = getattr(mode, "pairs_per_chunk", 0) * getattr(mode, "rounds", 1)
    if mode.type == "table_facts":
        most = in_chunk if row.table else 0
    most = most or 1
    return float(most) if level == "most" else KEPT * min(most, in_chunk)


def _example(row: Chunk, number: int, *, korean: bool) -> Example:
    lengths = (24, 14, 45) if korean else (60, 30, 110)
    step = 7 * number % max(1, len(row.text) - lengths[2])
    question, answer, evidence = (row.text[step : step + length] for length in lengths)
    return Example.make(
        (Message(role="user", content=f"{question} {number}?"),),
        Message(role="assistant", content=f"{answer} {number}"),
        (row.id,),
        kind="original",
        document_id=row.document_id,
        source=row.source,
        page=row.page,
        section=row.section,
        evidence=evidence,
    )


def _extended(context: StageContext[Any], level: Level, _reading: object) -> bool:
    rows = context.read("examples", Example)
    more = [new for row in rows for new in _made_of(context.config, row, level)]
    context.write("examples", Example, [*rows, *more])
    return True


def _rewritten(row: Example, count: int, kind: str) -> Iterator[Example]:
    for number in range(count):
        text = f"{row.question[number:]}{row.question[:number]} {number}"
        yield Example.make(
            (*row.prompt[:-1], Message(role="user", content=text)),
            row.completion,
            row.chunk_ids,
            kind=kind,
            family=row.family,
            document_id=row.document_id,
            source=row.source,
            section=row.section,
            parent=row.id,
        )


def _unchanged(context: StageContext[Any], _level: Level, _reading: object) -> bool:
    context.write("examples", Example, context.read("examples", Example))
    return True


def _read(context: StageContext[Any], _level: Level, _reading: object) -> bool:
    read.run(context)
    return True


def _reviewed(context: StageContext[Any], _level: Level, _reading: object) -> bool:
    """The rows with the decisions of people: all that are about rows of files, which are real."""
    review.review(context)
    return True


def _split(context: StageContext[SplitConfig], _level: Level, _reading: object) -> bool:
    """Families in their order by the shares of the settings, without a search for near copies."""
    config = context.config
    families: dict[str, list[Example]] = {}
    for row in context.read("examples", Example):
        families.setdefault(row.family, []).append(row)
    if config.review == "required":
        families = dict(islice(families.items(), accepted_so_far(context)))
    shares: list[tuple[Split, float]] = [
        ("unseen_sections", config.unseen_sections),
        ("validation", config.validation),
        ("test", config.test),
    ]
    sides = [name for name, share in shares for _ in range(round(share * len(families)))]
    taught = len(families) - len(sides)
    taught = min(taught, config.training_questions or taught)
    rows: list[SplitExample] = []
    for number, family in enumerate(families.values()):
        if number < len(sides):
            rows.append(SplitExample(example=family[0], split=sides[number]))
        elif number < len(sides) + taught:
            first = 1 + config.held_out_paraphrases
            held, others = family[1:first], family[first:]
            train = [family[0], *others[: config.training_paraphrases]]
            rows += [SplitExample(example=row, split="train") for row in train]
            rows += [SplitExample(example=row, split="held_out_paraphrases") for row in held]
    context.write("splits", SplitExample, rows)
    return bool(rows)


def _paired(context: StageContext[PreferencesConfig], level: Level, _reading: object) -> bool:
    """A pair of each source for the training examples that the settings draw."""
    splits = context.read("splits", SplitExample)
    train = [row.example for row in splits if row.split == "train"]
    origins = {"sampling": "sampling", "distractors": "distractor", "other_answers": "other_answer"}
    rows: list[PreferencePair] = []
    for source in context.config.sources:
        examples = select_examples(train, context.config)
        kept = examples if level == "most" else examples[: round(LIKELY_PAIRS * len(examples))]
        rows += [
            PreferencePair.make(
                each.prompt,
                each.completion,
                Message(role="assistant", content=f"{each.answer} 아님"),
                origin=origins.get(source.type, "file"),
                family=each.family,
                example_id=each.id,
            )
            for each in kept
        ]
    context.write("pairs", PreferencePair, rows)
    return bool(rows)


Maker = Callable[[StageContext[Any], Level, QuickReading | None], bool]
_MAKERS: Mapping[type[StageConfig], Maker] = {
    LoadConfig: _documents,
    CatalogConfig: _base,
    chunk.ChunkConfig: _chunks,
    read.ReadConfig: _read,
    SynthesizeConfig: _synthesized,
    EvolveConfig: _extended,
    ParaphraseConfig: _extended,
    JudgeConfig: _unchanged,
    curate.CurateConfig: _unchanged,
    review.ReviewConfig: _reviewed,
    SplitConfig: _split,
    QueriesConfig: queried,
    SearchConfig: searched,
    RankConfig: ranked,
    PreferencesConfig: _paired,
}
"""{settings of a stage: how its output is made up}; the cost of later stages follows from it."""
