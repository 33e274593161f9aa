"""`/v1/x/prepare`: what `jangin prepare` does, for a file of the server.

A table (CSV, TSV, XLSX, JSON, JSON Lines, Parquet) becomes files for fine-tuning. The checks, their
suggestions and the files are those of the command.
"""

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from jangin.core.errors import ConfigError, DataError, SettingsError
from jangin.prepare.engine.build import DROPPED_FILE
from jangin.prepare.options import PrepareOptions
from jangin.serving.files.check_process import elsewhere
from jangin.serving.files.multipart import MB
from jangin.serving.files.objects import FileObject
from jangin.serving.files.prepared_table import prepare_table
from jangin.serving.files.purposes import LONGEST_NAME
from jangin.serving.files.store import find_file, store_file
from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.objects import RequestBody
from jangin.serving.security.access import CallerDep
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.tables import File

router = APIRouter(prefix="/x")

SUFFIXES = frozenset(
    (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx", ".xlsm", ".ods")
)
"""Endings by which a table is read; the only part of a client's name that names a file here."""
MOST_UNPACKED = 256 * MB
"""Bytes inside a packed table."""
_STEM = "table"
_OPTION = re.compile(r"--([a-z]+)")
_ENDING = "_prepared_validation.jsonl"
_preparing = threading.Lock()
"""One table at a time: each may need much memory."""


class PrepareFile(RequestBody):
    """Body of `POST /x/prepare`."""

    file: str
    """Id of the table, of any purpose."""
    format: Literal["chat", "completion", "preference"] = "chat"
    prompt: str = ""
    """Template of the question over columns, such as `{title}`; found by itself where usual."""
    completion: str = ""
    rejected: str = ""
    """Template of the worse answer, for `preference`."""
    system: str = ""
    validation: float = Field(default=0, ge=0, lt=1)
    """Share of the rows for a validation file."""
    test: float = Field(default=0, ge=0, lt=1)
    group: str = ""
    """Column whose rows with one value stay in one split."""
    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    remedies: Literal["recommended", "necessary", "none"] | list[str] = "recommended"
    """Suggestions to accept: necessary ones, recommended ones too, none, or those with these names.
    Optional ones are accepted by name only."""
    write: bool = True
    """False only lists the suggestions."""


@router.post("/prepare")
def prepare_file(body: PrepareFile, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """Check a table, apply remedies, and store its splits as files for fine-tuning."""
    if body.validation + body.test >= 1:
        text = "'validation' and 'test' together must be below 1."
        raise ApiError(400, text, param="test", code="invalid_value")
    with server.database.read() as session:
        row = find_file(session, caller, body.file, server.now())
    suffix = PurePath(row.filename).suffix.lower()
    if suffix not in SUFFIXES:
        raise ApiError(
            400,
            f"'{row.filename}' is no table. Upload a file that ends with one of: "
            f"{', '.join(sorted(SUFFIXES))}.",
            param="file",
            code="invalid_file_format",
        )
    with (
        _preparing,
        server.storage.local_path(row.id) as stored,
        tempfile.TemporaryDirectory(dir=server.settings.folder, prefix=".prepare-") as name,
        _as_reply(row, Path(name)),
    ):
        source = Path(name) / f"{_STEM}{suffix}"
        source.symlink_to(stored.absolute())
        return _prepared(body, server, caller, row, source)


def _prepared(
    body: PrepareFile, server: Server, caller: Caller, row: File, source: Path
) -> dict[str, Any]:
    options = PrepareOptions(
        format=body.format,
        prompt=body.prompt,
        completion=body.completion,
        rejected=body.rejected,
        system=body.system,
        validation=body.validation,
        test=body.test,
        group=body.group,
        seed=body.seed,
    )
    most = min(int(server.settings.limits.file_mb * MB), MOST_UNPACKED)
    arguments = (source, options, body.remedies, most)
    reply, written = elsewhere(partial(prepare_table, write=body.write), *arguments, limited=True)
    notes = [_of_the_api(note, row) for note in reply["notes"]]
    stem = PurePath(row.filename).stem[: LONGEST_NAME - len(_ENDING)]
    files = {}
    for kind, name in written.items():
        with (source.parent / "written" / name).open("rb") as stream:
            stored = store_file(
                server,
                stream,
                caller=caller,
                filename=f"{stem}_prepared_{kind}.jsonl",
                purpose="user_data" if kind == DROPPED_FILE else "fine-tune",
            )
        files[kind] = FileObject.of(stored).model_dump()
    return {"object": "x.prepared_file", "file": row.id, **reply, "notes": notes, "files": files}


@contextmanager
def _as_reply(row: File, folder: Path) -> Iterator[None]:
    """Inside, what is wrong with a table is a 400 that names it as the client did."""
    try:
        yield
    except (ConfigError, DataError, SettingsError) as error:
        text = str(error)
        for path in (folder / "written", folder):
            text = text.replace(f"{path}/", "").replace(str(path), "the server")
        raise ApiError(400, _of_the_api(text, row), param="file", code="invalid_file") from error


def _of_the_api(text: str, row: File) -> str:
    """A sentence of the command line, with the client's file and fields of the body."""
    suffix = PurePath(row.filename).suffix.lower()
    return _OPTION.sub(r"`\1`", text.replace(f"{_STEM}{suffix}", row.filename))
