"""Provisional tables in place of what earlier stages would make, to estimate later stages."""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

from jangin.core.config import StageConfig
from jangin.core.digest import digest_value
from jangin.core.records import Chunk, Document, Example, Message, Split, SplitExample
from jangin.core.stage import StageContext
from jangin.documents import chunk
from jangin.documents.load import LoadConfig
from jangin.examples import curate, read
from jangin.examples.evolve import EvolveConfig
from jangin.examples.judge import JudgeConfig
from jangin.examples.paraphrase import ParaphraseConfig, TeacherSource
from jangin.examples.split import SplitConfig
from jangin.examples.synthesis.facts import facts
from jangin.examples.synthesis.mode import ModeConfig
from jangin.examples.synthesize import SynthesizeConfig
from jangin.models.catalog import CatalogConfig, Local, Starter
from jangin.models.shape import STARTER_SHAPES
from jangin.project.setup.quick_reading import QuickReading

Level = Literal["likely", "most"]
KEPT = 0.85
"""Share of a teacher's rows that usually pass the row checks."""
MOST_CHUNKS = 1_000
"""Chunks that represent more chunks."""


def stand_in(context: StageContext[Any], level: Level, reading: QuickReading | None) -> bool:
    """Write what the stage would make; False where that cannot be predicted."""
    make = _MAKERS.get(type(context.config))
    if make is None:
        return False
    return make(context, level, reading)


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
    if not isinstance(base, Starter):
        return False
    hidden, layers, feed_forward, heads = STARTER_SHAPES[base.size]
    folder.mkdir()
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
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return True


def _chunks(context: StageContext[Any], _level: Level, reading: QuickReading | None) -> bool:
    """The chunks of the documents that were read, repeated for those that were not."""
    chunk.run(context)
    rows = rows_in(context.workspace, "chunks", Chunk)
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


def rows_in(folder: Path, kind: str, record: type[Any]) -> list[Any]:
    """Rows of a table that a stand-in wrote."""
    from jangin.core.parquet import read_table

    return read_table(folder / f"{kind}.parquet", record)


def _synthesized(context: StageContext[SynthesizeConfig], level: Level, _reading: object) -> bool:
    """Questions on every chunk, with words of the chunk so that their lengths are about right."""
    own = context.read("examples", Example) if context.has("examples") else []
    rows: list[Example] = []
    if context.has("chunks"):
        languages: Mapping[str, str] = {}
        if context.has("documents"):
            documents = context.read("documents", Document)
            languages = {document.id: document.language for document in documents}
        due = 0.0
        for row in context.read("chunks", Chunk):
            korean = languages.get(row.document_id, "ko") == "ko"
            due += rows_of_chunk(context.config, row, level)
            while len(rows) + 1 <= due:
                rows.append(_example(row, len(rows), korean=korean))
    context.write("examples", Example, [*own, *rows])
    return bool(own or rows)


def rows_of_chunk(config: SynthesizeConfig, row: Chunk, level: Level) -> float:
    """Number of rows that the modes make of a chunk: at most, or usually."""
    return sum(rows_of_mode(mode, row, level) for mode in config.active_modes)


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


def _with_wordings(context: StageContext[ParaphraseConfig], level: Level, _reading: object) -> bool:
    source = context.config.source
    count = source.count if isinstance(source, TeacherSource) else 0
    if level == "likely":
        count = round(count * 0.95)
    rows: list[Example] = []
    for row in context.read("examples", Example):
        rows += [row, *_rewritten(row, count, "paraphrase")]
    context.write("examples", Example, rows)
    return True


def _evolved(context: StageContext[EvolveConfig], _level: Level, _reading: object) -> bool:
    rows = context.read("examples", Example)
    count = context.config.rounds * context.config.per_example
    evolved = [new for row in rows for new in _rewritten(row, count, "evolved")]
    context.write("examples", Example, [*rows, *evolved])
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


def _split(context: StageContext[SplitConfig], _level: Level, _reading: object) -> bool:
    """Families in their order by the shares of the settings, without a search for near copies."""
    config = context.config
    families: dict[str, list[Example]] = {}
    for row in context.read("examples", Example):
        families.setdefault(row.family, []).append(row)
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


Maker = Callable[[StageContext[Any], Level, QuickReading | None], bool]
_MAKERS: Mapping[type[StageConfig], Maker] = {
    LoadConfig: _documents,
    CatalogConfig: _base,
    chunk.ChunkConfig: _chunks,
    read.ReadConfig: _read,
    SynthesizeConfig: _synthesized,
    EvolveConfig: _evolved,
    ParaphraseConfig: _with_wordings,
    JudgeConfig: _unchanged,
    curate.CurateConfig: _unchanged,
    SplitConfig: _split,
}
"""{settings of a stage: how its output is made up}; the cost of later stages follows from it."""
