"""Passages of the server's project, for models that were trained to read them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jangin.core.records import Message
from jangin.documents.index import open_passages
from jangin.documents.passages import PassageHit, PassagePrompt, Passages, quotation
from jangin.serving.state.project import OpenProject
from jangin.serving.state.server import ServedModel, Server

LONGEST_QUOTATION = 500
"""Characters of a quotation in an address."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What an answer is generated from, best first, and how replies cite it."""

    hits: tuple[PassageHit, ...] = ()
    root: str = ""
    """Of the workbench's addresses; empty for addresses on this server."""

    def of_chat(self, answer: str) -> list[dict[str, Any]]:
        """The `annotations` of a chat's message: all of the answer rests on each passage."""
        return [
            {
                "type": "url_citation",
                "url_citation": {
                    "start_index": 0,
                    "end_index": len(answer),
                    "title": _title(hit),
                    "url": self.root + address(hit, answer),
                    **_place(hit, answer),
                },
            }
            for hit in self.hits
        ]

    def of_response(self, answer: str) -> list[dict[str, Any]]:
        """The `annotations` of a response's text, at its end."""
        return [
            {
                "type": "file_citation",
                "index": len(answer),
                "file_id": hit.chunk.document_id,
                "filename": hit.chunk.source,
                "x_url": self.root + address(hit, answer),
                **_place(hit, answer),
            }
            for hit in self.hits
        ]


NO_SOURCES = Sources()


def address(hit: PassageHit, answer: str) -> str:
    """The page of a passage on the workbench, with its quotation marked."""
    chunk, quoted = hit.chunk, quotation(hit, answer)[:LONGEST_QUOTATION]
    query = f"?{urlencode({'evidence': quoted})}" if quoted else ""
    return f"/pictures/{chunk.document_id}/{chunk.page or 1}{query}"


def _title(hit: PassageHit) -> str:
    chunk = hit.chunk
    page = f"page {chunk.page}" if chunk.page else ""
    return ", ".join(part for part in (chunk.source, page, chunk.section) if part)


def _place(hit: PassageHit, answer: str) -> dict[str, Any]:
    """What OpenAI's citations lack."""
    chunk = hit.chunk
    quoted = quotation(hit, answer)
    return {"x_page": chunk.page, "x_section": chunk.section, "x_quote": quoted}


class ProjectPassages:
    """The newest index of each variant; safe to use from several threads."""

    def __init__(self, server: Server) -> None:
        """`server`: the project of its settings, if any."""
        path = server.settings.project
        self._project = OpenProject(path) if path is not None else None
        self._root = server.settings.public_url.rstrip("/")
        self._lock = threading.Lock()
        self._opened: dict[str, tuple[Path, Passages]] = {}

    def newest(self, variant: str) -> Passages | None:
        """The passages of the last run of a variant that made an index; None without one.

        They are opened again when a run has made others. Raises: JanginError: the project file is
        wrong, or the encoder of the index is not there.
        """
        if self._project is None or not self._project.exists:
            return None
        state = self._project.snapshot().variants.get(variant)
        index = state.last.get("index") if state is not None else None
        if index is None:
            return None
        with self._lock:
            known = self._opened.get(variant)
            if known is None or known[0] != index.path:
                with self._project.session() as session:
                    opened = open_passages(index.path, session.services(variant))
                known = self._opened[variant] = (index.path, opened)
            return known[1]

    def read_by(
        self, model: ServedModel, prompt: Sequence[Message]
    ) -> tuple[tuple[Message, ...], Sources]:
        """(what takes the place of the last turn, its sources) for a model of the project.

        The prompt itself without sources for a model that was trained without passages, where there
        is no index, or where the last turn is no question. Raises as `newest`.
        """
        reads = PassagePrompt.read(model.adapter_folder) if model.adapter_folder else None
        last = prompt[-1]
        if not model.variant or reads is None or last.role != "user" or not last.content.strip():
            return tuple(prompt), NO_SOURCES
        passages = self.newest(model.variant)
        if passages is None:
            return tuple(prompt), NO_SOURCES
        messages, hits = reads.with_passages(passages, prompt)
        return messages, Sources(tuple(hits), self._root)
