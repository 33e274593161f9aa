"""Results of a batch on disk while it runs; a restarted server continues after the last one."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from jangin.serving.protocol.ids import new_id

OUTPUT, ERRORS = "output.jsonl", "errors.jsonl"


class BatchResults:
    """Two files of lines in the batch's folder: requests that succeeded, and those that failed."""

    def __init__(self, folder: Path) -> None:
        """`folder` is created; complete lines of an interrupted run are kept."""
        self.folder = folder
        self.done: set[str] = set()
        """`custom_id` of every request with a result."""
        self.counts = {OUTPUT: 0, ERRORS: 0}
        self.usage: dict[str, int] = {}
        """Token counts of all replies."""
        folder.mkdir(parents=True, exist_ok=True)
        self._streams: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
        """Count what is there, and continue after it."""
        for name in (OUTPUT, ERRORS):
            for row in self._restore(name):
                self._count(name, row)
            self._streams[name] = (self.folder / name).open("ab")
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        for stream in self._streams.values():
            stream.close()

    def add(self, custom_id: str, status: int, request_id: str, body: Mapping[str, Any]) -> None:
        """Store the reply to a request."""
        response = {"status_code": status, "request_id": request_id, "body": body}
        self._write(OUTPUT if status == 200 else ERRORS, custom_id, response, None)

    def add_error(self, custom_id: str, code: str, message: str) -> None:
        """Store why a request has no reply."""
        self._write(ERRORS, custom_id, None, {"code": code, "message": message})

    def remove(self) -> None:
        """Delete the folder; the results are stored elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(
        self,
        name: str,
        custom_id: str,
        response: Mapping[str, Any] | None,
        error: Mapping[str, Any] | None,
    ) -> None:
        row = {
            "id": new_id("batch_req_", 32),
            "custom_id": custom_id,
            "response": response,
            "error": error,
        }
        stream = self._streams[name]
        stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        self._count(name, row)

    def _count(self, name: str, row: Mapping[str, Any]) -> None:
        self.done.add(row["custom_id"])
        self.counts[name] += 1
        body = (row["response"] or {}).get("body") or {}
        for key, count in (body.get("usage") or {}).items():
            if isinstance(count, int):
                self.usage[key] = self.usage.get(key, 0) + count

    def _restore(self, name: str) -> Iterator[dict[str, Any]]:
        """The whole lines of a file; what follows the last one is cut off."""
        path, end = self.folder / name, 0
        if not path.exists():
            return
        with path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                yield json.loads(line)
        with path.open("r+b") as stream:
            stream.truncate(end)
