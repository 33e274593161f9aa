"""Provisional tables in place of what earlier stages would make, to estimate later stages."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from jangin.core.config import StageConfig
from jangin.core.digest import digest_value
from jangin.core.parquet import read_table
from jangin.core.records import (
    Chunk,
    Document,
    Example,
    Message,
    PreferencePair,
    Split,
    SplitExample,
)
from jangin.core.stage import StageContext
from jangin.documents import chunk
from jangin.documents.load import LoadConfig
from jangin.documents.queries import QueriesConfig
from jangin.documents.rank import RankConfig
from jangin.documents.search import SearchConfig
from jangin.examples import curate, read, review
from jangin.examples.evolve import EvolveConfig
from jangin.examples.judge import JudgeConfig
from jangin.examples.paraphrase import ParaphraseConfig, TeacherSource
from jangin.examples.split import SplitConfig, accepted_so_far
from jangin.examples.synthesis.facts import facts
from jangin.examples.synthesis.mode import ModeConfig
from jangin.examples.synthesis.modes import mode_of
from jangin.examples.synthesize import SynthesizeConfig
from jangin.models.catalog import CatalogConfig, Gguf, Hub, Local
from jangin.models.gguf.header import read_header
from jangin.models.shape import STARTER_SHAPES, cached_folder, likely_config
from jangin.project.setup import provisional_search
from jangin.project.setup.quick_reading import Level, QuickReading
from jangin.project.setup.replay import Replay
from jangin.training.preferences import PreferencesConfig, select_examples

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
        rows += provisional_search.answered(context, level)
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
    QueriesConfig: provisional_search.queried,
    SearchConfig: provisional_search.searched,
    RankConfig: provisional_search.ranked,
    PreferencesConfig: _paired,
}
"""{settings of a stage: how its output is made up}; the cost of later stages follows from it."""
