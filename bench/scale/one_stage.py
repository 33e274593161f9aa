"""One stage on the artifacts in a folder, in this process: CPU-seconds and peak memory as JSON.

python one_stage.py STAGE SCRATCH DOCUMENTS
"""

import hashlib
import json
import resource
import sys
import time
from pathlib import Path

from jangin.core.digest import digest_value
from jangin.core.ledger import Ledger
from jangin.core.stage import Services, StageContext
from jangin.core.store import Artifact, Manifest, Store
from jangin.project.stages import find_stage

SETTINGS = {
    "load": {"folder": "documents", "pattern": ["**/*.md"], "ocr": {"type": "never"}},
    "chunk": {"measure": "characters"},
    "curate": {},
    "split": {},
}
INPUTS = {
    "chunk": {"documents": "load"},
    "curate": {"examples": "generated"},
    "split": {"examples": "curate"},
}


def peak_mb() -> int:
    """Largest resident memory of this process; `ru_maxrss` begins with that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10


def main() -> None:
    name, scratch = sys.argv[1], Path(sys.argv[2])
    stage = find_stage(name)
    store = Store(scratch / "store")
    settings = type_of(stage)
    config = settings.model_validate(SETTINGS[name])
    inputs = {kind: artifact(store, maker) for kind, maker in INPUTS.get(name, {}).items()}
    ledger = Ledger(scratch / "store" / "ledger.sqlite")
    services = Services(scratch, lambda _name: None, ledger)
    key = key_of(name)
    workspace = store.workspace(name, key, keep=False)
    context = StageContext(config, inputs, workspace, services)
    begin, before = time.perf_counter(), used()
    stage.run(context)
    ran = used()
    published = store.publish(name, stage.version, key, config.identity(), {}, context.summary)
    ledger.close()
    print(
        json.dumps(
            {
                "stage": name,
                "cpu_s": round(used() - before, 2),
                "publish_s": round(used() - ran, 2),
                "wall_s": round(time.perf_counter() - begin, 2),
                "peak_mb": peak_mb(),
                "content": published.manifest.content[:16],
                "summary": digest_value(context.summary)[:16],
            }
        )
    )


def type_of(stage: object) -> type:
    from importlib import import_module

    module = import_module(stage.run.__module__)
    return getattr(module, f"{stage.name.title()}Config")


def artifact(store: Store, stage: str) -> Artifact:
    """The artifact of an earlier stage, or generated rows, which have no manifest."""
    path = store.root / stage / key_of(stage)[:16]
    if (path / "manifest.json").exists():
        return store.find(stage, key_of(stage))
    manifest = Manifest.model_construct(content="", files={}, summary={}, stage=stage)
    return Artifact(path, manifest)


def key_of(stage: str) -> str:
    return hashlib.sha256(stage.encode()).hexdigest()


def used() -> float:
    """CPU-seconds of this process and of its children that ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


if __name__ == "__main__":
    main()
