"""A PostgreSQL of the tests' own: in a new folder, on a free port, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from tests.shared import free_port


def programs():
    """The folder with initdb and postgres; None where PostgreSQL is not installed."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


def _is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Postgresql:
    """A server process; `url` is that of the user `tests`, without a database."""

    def __init__(self, folder):
        self.folder = folder
        self._programs = programs()
        self._as = self._owner()
        self._run("initdb", "-D", folder / "data", "-U", "tests", "-A", "trust", "--no-sync")
        self.port = free_port()
        self.start()

    def _owner(self):
        """PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        account = pwd.getpwnam("nobody")
        os.chown(self.folder, account.pw_uid, account.pw_gid)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def _run(self, name, *arguments):
        command = [self._programs / name, *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as)

    def start(self):
        options = ("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-k", str(self.folder))
        command = [self._programs / "postgres", "-D", self.folder / "data", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *options], stdout=log, stderr=log, cwd=self.folder, **self._as
            )
        deadline = time.monotonic() + 200
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def _answers(self):
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=100).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self):
        """As a power failure: with the processes of connections, which outlive the server."""
        server = psutil.Process(self.process.pid)
        server.suspend()  # accepts no connection while its processes are listed
        processes = [*server.children(), server]
        for each in processes:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()
        while any(_is_alive(each) for each in processes):
            time.sleep(0.01)

    def stop(self):
        self.process.terminate()  # waits for connections to end
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def url(self, name):
        return f"postgresql://tests@127.0.0.1:{self.port}/{name}"

    def new_database(self, encoding="UTF8"):
        """The URL of an empty database."""
        name = f"db{time.monotonic_ns()}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(
                f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
            )
        return self.url(name)


@contextmanager
def run_postgresql():
    # Not below pytest's folder: only root may enter that one.
    folder = Path(tempfile.mkdtemp(prefix="jangin-postgresql-"))
    try:
        server = Postgresql(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
