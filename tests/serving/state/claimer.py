"""A process that claims jobs until none is left and prints their ids; for `test_leases.py`."""

import sys
import time
from pathlib import Path

from sqlalchemy import select

from jangin.serving.state.database import Database
from jangin.serving.state.leases import claim, new_owner
from jangin.serving.state.server import migrate
from jangin.serving.state.tables import Job


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(url, begin, shared):
    """Claim jobs of the database at `url` once the file `begin` exists.

    After its first job it waits for the file `shared`: each process has got one.
    """
    database = Database(url)
    migrate(database)
    say("ready")
    while not Path(begin).exists():
        time.sleep(0.001)
    waiting = select(Job).where(Job.status == "queued").order_by(Job.seq)
    owner = new_owner()
    while True:
        with database.write() as session:
            job = claim(session, waiting, owner=owner, now=int(time.time()), seconds=600)
        if job is None:
            break
        say(job.id)
        while not Path(shared).exists():
            time.sleep(0.001)
        time.sleep(0.001)
    database.close()
