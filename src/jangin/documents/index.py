"""Stage `index`: passages to be searched, by BM25 and, if wanted, a text encoder."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, TypeAdapter

from jangin.core.config import StageConfig
from jangin.core.model_protocols import (
    EncoderConfig,
    HubEncoder,
    LocalEncoder,
    TextEncoder,
    encoder_files,
)
from jangin.core.records import Chunk, Document
from jangin.core.stage import Services, Stage, StageContext
from jangin.documents.bm25 import PassageIndex
from jangin.documents.passages import SETTINGS, VECTORS, Passages
from jangin.text.korean import kiwi_version

_ENCODER: TypeAdapter[HubEncoder | LocalEncoder | None] = TypeAdapter(EncoderConfig | None)


class IndexConfig(StageConfig):
    """How passages are found for a question, in training, evaluation and `jangin ask`."""

    encoder: EncoderConfig | None = None
    """Text encoder whose ranking is joined with that of BM25 by reciprocal rank: `hub` or `local`;
    without one, BM25 alone."""
    section_characters: int = Field(default=0, ge=0, le=100_000)
    """A passage that was found is read with its neighbours of the same section, up to this number
    of characters together; 0: the passage alone."""


def run(context: StageContext[IndexConfig]) -> None:
    """Write the passages, the BM25 index over them and their vectors."""
    import numpy as np

    config = context.config
    chunks = context.read("chunks", Chunk)
    languages = [document.language for document in context.read("documents", Document)]
    texts = [chunk.text for chunk in chunks]
    index = PassageIndex.build(texts, lambda every: context.track(every, "index"))
    index.save(context.workspace)
    context.write("passages", Chunk, chunks)
    settings = {
        "language": max(dict.fromkeys(languages), key=languages.count, default="en"),
        "section_characters": config.section_characters,
        "encoder": config.encoder and config.encoder.model_dump(mode="json"),
    }
    (context.workspace / SETTINGS).write_text(json.dumps(settings), "utf-8")
    if config.encoder is not None:
        encoder = context.services.open_encoder(config.encoder)
        np.save(context.workspace / VECTORS, encoder.encode(texts, "passage"))
        context.summary["encoder"] = encoder.source
    context.summary.update(passages=len(chunks), terms=[len(p.vocabulary) for p in index.parts])


def open_passages(folder: Path, services: Services) -> Passages:
    """The passages of an `index` artifact; an encoder is loaded with the first question.

    Raises: ConfigError, MachineError: the encoder is not there.
    """
    settings = json.loads((folder / SETTINGS).read_text("utf-8"))
    config = _ENCODER.validate_python(settings["encoder"])
    encoder: TextEncoder | None = None if config is None else services.open_encoder(config)
    return Passages.open(folder, encoder)


def _sources(config: IndexConfig, folder: Path) -> Mapping[str, Path]:
    if config.encoder is None:
        return {}
    return encoder_files(config.encoder, folder, "documents: index: encoder: path")


STAGE = Stage(
    name="index",
    version=1,
    reads=("documents", "chunks"),
    makes=("index",),
    run=run,
    sources=_sources,
    machine=lambda _config: {"kiwipiepy": kiwi_version()},
    maps=lambda config: config.encoder is not None,
)
