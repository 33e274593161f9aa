"""`/v1/x/jobs/{id}/export`: the model of a job as an archive.

The model is written and checked by a process of its own, `python -m jangin.serving.jobs.export`:
the server itself never loads weights.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from jangin.core.errors import JanginError
from jangin.serving.jobs.erasure import EXPORTS
from jangin.serving.jobs.pipeline import VARIANT
from jangin.serving.jobs.routes import find_job
from jangin.serving.protocol.errors import ApiError, invalid_state, no_such_model, server_error
from jangin.serving.security.access import CallerDep
from jangin.serving.security.audit import record
from jangin.serving.state.server import ServerDep
from jangin.serving.state.tables import StoredModel

router = APIRouter(prefix="/x/jobs")
log = logging.getLogger("jangin.serving.export")

Format = Literal["peft", "merged", "gguf"]
BLOCK = 1 << 20
_TAR = tarfile.BLOCKSIZE
_writing = threading.Lock()


@router.get("/{job_id}/export", response_class=StreamingResponse)
def export_model(
    job_id: str, server: ServerDep, caller: CallerDep, format: Format = "merged"
) -> StreamingResponse:
    """A tar archive of the job's model: its adapter, merged weights, or a GGUF file.

    Before it is sent, the export is loaded again and its answers are compared with those of the
    trained model.
    """
    with server.database.read() as session:
        job = find_job(session, caller, job_id)
        if job.status != "succeeded":
            raise invalid_state(f"Job {job_id} is {job.status}; only a finished job has a model.")
        name = str(job.fine_tuned_model)
        query = select(StoredModel).where(
            StoredModel.name == name, StoredModel.deleted_at.is_(None)
        )
        model = session.scalars(query).first()
    if model is None:
        raise no_such_model(name)
    if format == "peft" and model.kind != "adapter":
        raise ApiError(
            400,
            f"Job {job_id} trained all weights, so there is no adapter. Export it as 'merged'.",
            param="format",
            code="invalid_value",
        )
    tail = name.rsplit(":", 1)[-1]
    folder = server.settings.folder.absolute()
    out = folder / EXPORTS / f"{tail}-{format}"
    with _writing:
        if not out.exists():
            _write(
                {
                    "project": str(folder / "jobs" / job_id / "project.yaml"),
                    "store": str(server.settings.store.absolute()),
                    "model": str(server.settings.path_of(model.path)),
                    "base": str(server.settings.path_of(model.base)),
                    "form": "adapter" if format == "peft" else format,
                    "out": str(out),
                }
            )
    with server.database.write() as session:
        record(session, caller, "model.export", name, server.now())
    return StreamingResponse(
        tar_blocks(out),
        media_type="application/x-tar",
        headers={
            "content-disposition": f'attachment; filename="{out.name}.tar"',
            "content-length": str(tar_length(out)),
        },
    )


def _write(request: dict[str, str]) -> None:
    """Run the process that exports; raises `ApiError` with its sentence where it fails."""
    process = run_exporter(json.dumps(request).encode())
    if process.returncode == 0:
        return
    text = process.stdout.decode(errors="replace").strip()
    log.error("export failed: %s %s", text, process.stderr.decode(errors="replace")[-2000:])
    raise server_error(f"The model could not be exported. {text}".strip())


def run_exporter(given: bytes) -> "subprocess.CompletedProcess[bytes]":
    """A process that writes the export `given`, which it reads from stdin, until its end."""
    return subprocess.run(
        [sys.executable, "-m", "jangin.serving.jobs.export"],
        input=given,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )


def tar_blocks(folder: Path) -> Iterator[bytes]:
    """A tar archive of a folder, block by block."""
    for path in _files(folder):
        info = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
        info.size, info.mtime = path.stat().st_size, int(path.stat().st_mtime)
        info.mode = 0o644
        yield info.tobuf(tarfile.GNU_FORMAT)
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                yield block
        yield bytes(-info.size % _TAR)
    yield bytes(2 * _TAR)


def tar_length(folder: Path) -> int:
    """Bytes of the archive; names are short enough for one header each."""
    sizes = [path.stat().st_size for path in _files(folder)]
    return sum(_TAR + size + -size % _TAR for size in sizes) + 2 * _TAR


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Export with the settings on stdin; the message of an error goes to stdout."""
    given: dict[str, Any] = json.loads(sys.stdin.read())
    from jangin.project.release.finish import canaries, run_record
    from jangin.project.session import open_session
    from jangin.training.export.export import export_model as write_export

    out = Path(given["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open_session(Path(given["project"]), Path(given["store"])) as session:
            record, prompts = run_record(session, VARIANT), canaries(session, VARIANT)
        base, model = Path(given["base"]), Path(given["model"])
        write_export(base, model, out, given["form"], record, prompts)
    except JanginError as error:
        sys.stdout.write(str(error))
        return 1
    finally:
        shutil.rmtree(out.with_name(f".{out.name}.partial"), ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
