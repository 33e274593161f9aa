"""Background service: checks files that a stopped server left unchecked, removes what expired."""

import logging
import threading
import time

from sqlalchemy import select

from jangin.serving.database.tables import File, Upload, UploadPart
from jangin.serving.files.checks import check_file
from jangin.serving.files.store import user_of
from jangin.serving.files.uploads import forget_parts
from jangin.serving.state.server import Server

INTERVAL = 60.0
"""Seconds between two rounds."""
FORGOTTEN = 86_400
"""Seconds after which bytes that no row names are removed; a request may be writing newer ones."""
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
        try:
            self.recheck()
            self.remove_forgotten()
        except Exception:
            log.exception("the files of the last run could not be checked")
        while not self._stopped.is_set():
            try:
                self.remove_expired()
            except Exception:  # the database may be away for a while
                log.exception("expired files could not be removed")
            self._stopped.wait(INTERVAL)

    def recheck(self) -> None:
        """Check the files whose check did not end before the last server stopped."""
        with self._server.database.read() as session:
            waiting = session.scalars(select(File.id).where(File.status == "uploaded")).all()
        for file_id in waiting:
            if self._stopped.is_set():
                return
            check_file(self._server, file_id)

    def remove_expired(self) -> None:
        """Delete expired files that no unfinished job needs, and the parts of expired uploads."""
        now = self._server.now()
        names: list[str] = []
        with self._server.database.write() as session:
            for file in session.scalars(select(File).where(File.expires_at <= now)):
                if user_of(session, file.id) is None:
                    session.delete(file)
                    names.append(file.id)
            late = select(Upload).where(Upload.status == "pending", Upload.expires_at <= now)
            for upload in session.scalars(late):
                upload.status = "expired"
                names += forget_parts(session, upload.id)
        for name in names:
            self._server.storage.delete(name)

    def remove_forgotten(self) -> None:
        """Delete bytes without a row: those of a request that a killed server was writing."""
        before = time.time() - FORGOTTEN
        old = [name for name, changed in self._server.storage.names() if changed < before]
        with self._server.database.read() as session:
            known = {*session.scalars(select(File.id)), *session.scalars(select(UploadPart.id))}
        for name in old:
            if name not in known:
                self._server.storage.delete(name)
