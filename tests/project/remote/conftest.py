"""Working copies of two machines that share a bucket, which is kept in memory."""

from dataclasses import dataclass, replace

import pytest

from jangin.core.events import Progress
from jangin.core.parquet import TableWriter, part_path
from jangin.core.records import Message
from jangin.core.store import Store
from jangin.project.remote import Bucket, Exchange

KEY, OTHER_KEY = "ab" * 32, "cd" * 32
URL = "s3://bucket/rules"


@dataclass
class Machine:
    store: Store
    exchange: Exchange
    progress: Progress

    def build(self, texts=("one", "two"), key=KEY, **files):
        """An artifact with a table in parts and other files, which is not shared yet."""
        workspace = self.store.workspace("chunk", key, keep=False)
        for number, text in enumerate(texts):
            with TableWriter(part_path(workspace / "t.parquet", number), Message, part=True) as t:
                t.add([Message(role="user", content=text)])
        for name, content in files.items():
            (workspace / name).write_bytes(content)
        return self.store.publish("chunk", 1, key, {"size": 3}, {"documents": "d"}, {})

    def share(self, *texts, **options):
        return self.store.share(self.build(*([texts] if texts else [])), **options)


@pytest.fixture
def memory():
    obstore = pytest.importorskip("obstore.store")
    return obstore.MemoryStore()


@pytest.fixture
def machine(tmp_path, memory):
    """name -> a machine with a folder of this name."""

    def open_machine(name, **changes):
        root = tmp_path / name / "store"
        root.mkdir(parents=True, exist_ok=True)
        progress = Progress()
        bucket = Bucket(memory, URL)
        exchange = Exchange(URL, {}, root, progress, lambda _url, _options: bucket)
        exchange = replace(exchange, **changes)
        return Machine(Store(root, exchange), exchange, progress)

    return open_machine


@pytest.fixture
def names(memory):
    """Calls for the names of all objects, by the folder that they begin with."""
    import obstore

    def listed(folder=""):
        found_names = {each["path"] for batch in obstore.list(memory) for each in batch}
        return {name for name in found_names if name.startswith(folder)}

    return listed
