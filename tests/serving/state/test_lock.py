"""The lock of a server's folder, and what other processes read of it."""

import fcntl
import threading
import time

import pytest

from jangin.core.errors import LockedStoreError
from jangin.serving.state.leases import ATTEMPTS, PAUSE_SECONDS, address_of, running, sole_server
from jangin.serving.state.settings import ServerSettings

ADDRESS = "http://127.0.0.1:8080/v1"


@pytest.fixture
def settings(tmp_path):
    return ServerSettings(folder=tmp_path / "data")


def test_the_address_is_known_while_the_server_holds_the_lock(settings):
    assert address_of(settings) == ""
    with sole_server(settings) as note:
        assert address_of(settings) == "starting"
        note(ADDRESS)
        assert address_of(settings) == "http://127.0.0.1:8080/"
        with pytest.raises(LockedStoreError, match=ADDRESS), sole_server(settings):
            pass
    assert running(settings) == ""


def test_a_server_that_has_said_nothing_yet_is_starting(settings):
    with sole_server(settings):
        (settings.folder / "serving.lock").write_bytes(b"")
        assert address_of(settings) == "starting"


def test_a_process_that_looks_at_the_lock_keeps_no_server_from_starting(settings):
    """It may be stopped between taking the lock and giving it back."""
    settings.folder.mkdir()
    with (settings.folder / "serving.lock").open("w+b") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)

        def leave():
            time.sleep((ATTEMPTS + 1) * PAUSE_SECONDS)
            fcntl.flock(looking, fcntl.LOCK_UN)

        thread = threading.Thread(target=leave)
        thread.start()
        with sole_server(settings) as note:
            note(ADDRESS)
            assert ADDRESS in running(settings)
        thread.join()
