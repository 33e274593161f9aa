"""Background service: checks files that a stopped server left unchecked, removes what expired."""

import logging
import threading
import time
from collections.abc import Callable, Collection

from sqlalchemy import delete, select

from jangin.serving.files.checks import check_file
from jangin.serving.files.store import DELETED, forget_bytes, user_of
from jangin.serving.files.uploads import forget_parts
from jangin.serving.state.server import Server
from jangin.serving.state.tables import Answer, Audit, File, Upload, UploadPart
from jangin.serving.state.trash import sweep

INTERVAL = 60.0
"""Seconds between two rounds."""
CHECKED_AFTER = 600
"""Seconds after which the check of a file that began with its upload must have ended."""
SWEEP_INTERVAL = 86_400
"""Seconds between two looks at all bytes of the storage."""
FORGOTTEN = 86_400
"""Seconds after which bytes that no row names are trash; a request may be writing newer ones."""
log = logging.getLogger("jangin.serving")


class FileKeeper:
    """Looks after files and uploads, once a minute."""

    def __init__(self, server: Server) -> None:
        """Nothing happens before `start`."""
        self._server = server
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)

    def start(self) -> None:
        """Begin the first round."""
        self._thread.start()

    def stop(self) -> None:
        """End after the file in work."""
        self._stopped.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        swept = float(-SWEEP_INTERVAL)
        self._try(self.recheck)
        while not self._stopped.is_set():
            if time.monotonic() - swept >= SWEEP_INTERVAL:
                swept = time.monotonic()
                self._try(self.sweep)
            self._try(self.remove_expired)
            self._stopped.wait(INTERVAL)
            self._try(lambda: self.recheck(self._server.now() - CHECKED_AFTER))

    def _try(self, work: Callable[[], None]) -> None:
        """Do it; database and storage may be away for a while."""
        try:
            work()
        except Exception:
            log.exception("files could not be looked after; trying again")

    def recheck(self, before: int | None = None) -> None:
        """Check the files whose check has not ended: of a stopped server, or of a lost storage.

        Those created `before` this Unix time, or all.
        """
        query = select(File.id).where(File.status == "uploaded")
        if before is not None:
            query = query.where(File.created_at < before)
        with self._server.database.read() as session:
            waiting = session.scalars(query).all()
        for file_id in waiting:
            if self._stopped.is_set():
                return
            check_file(self._server, file_id)

    def remove_expired(self) -> None:
        """Delete expired answers, files that no unfinished job needs, and parts of uploads."""
        now = self._server.now()
        names: list[str] = []
        with self._server.database.write() as session:
            for file in session.scalars(select(File).where(File.expires_at <= now)):
                if user_of(session, file.id) is None:
                    session.delete(file)
                    names.append(file.id)
            session.execute(delete(Answer).where(Answer.expires_at <= now))
            late = select(Upload).where(Upload.status == "pending", Upload.expires_at <= now)
            for upload in session.scalars(late):
                upload.status = "expired"
                names += forget_parts(session, upload.id)
        forget_bytes(self._server, names)

    def sweep(self) -> None:
        """Bytes without a row go to the trash, such as those that a killed server was writing.

        Those of files that were deleted on purpose are deleted: the storage was unreachable then.
        """
        with self._server.database.read() as session:
            known = {*session.scalars(select(File.id)), *session.scalars(select(UploadPart.id))}
        sweep(self._server.storage, known, "files", young_seconds=FORGOTTEN, deleted=self._deleted)

    def _deleted(self, names: Collection[str]) -> set[str]:
        """Which of these names belong to files that were deleted on purpose."""
        query = select(Audit.object).where(Audit.action == DELETED)
        with self._server.database.read() as session:
            return {name for name in session.scalars(query) if name in names}
