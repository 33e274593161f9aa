"""A full disk, too little memory and a vanished base model, each in the middle of a running job.

    python -m bench.serving.shortages

Needs root, to mount a small disk. Exits 1 unless each job ends `failed` with its code and a
sentence, the server answers all the time, and the job after each of them succeeds.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from tests.serving.jobs.conftest import upload, wait_for, wait_for_step
from tests.serving.jobs.material import chats
from tests.serving.jobs.server_process import server_process

SETTINGS = """
models:
  tiny: {base: {type: starter, size: 0.5M, vocabulary_size: 400}, sft: {checkpoint_every_steps: 5}}
  base: {base: {type: local, path: BASE}, sft: {checkpoint_every_steps: 5}}
"""


@contextmanager
def small_disk(folder, size):
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def create(client, training, model="tiny", epochs=4):
    return client.fine_tuning.jobs.create(
        model=model,
        training_file=training,
        seed=1,
        hyperparameters={"n_epochs": epochs, "batch_size": 1},
    ).id


def is_alive(server):
    root = str(server.client.base_url).removesuffix("/v1/")
    with urllib.request.urlopen(f"{root}/healthz", timeout=10) as reply:
        return reply.status == 200


def full_disk(server, training, store):
    """The store is a disk of a few MB: training cannot write its first checkpoint."""
    failed = wait_for(server.client, create(server.client, training))
    subprocess.run(["mount", "-o", "remount,size=256m", store], check=True)
    return failed


def too_little_memory(server, training, _store):
    """The worker may allocate no more than what it has: the kernel refuses the next pages."""
    job = create(server.client, training, epochs=40)
    wait_for_step(server.client, job, 2)
    status = Path(f"/proc/{server.worker}/status").read_text()
    used = int(status.partition("VmSize:")[2].split()[0]) << 10
    resource.prlimit(server.worker, resource.RLIMIT_AS, (used, used))
    return wait_for(server.client, job)


def vanished_base(server, training, _store):
    """The folder of the base is deleted while the job is paused; then it is read again."""
    jobs = server.client.fine_tuning.jobs
    job = create(server.client, training, model="base", epochs=40)
    wait_for_step(server.client, job, 2)
    jobs.pause(job)
    shutil.rmtree(server.folder / "base")
    jobs.resume(job)
    return wait_for(server.client, job)


FAULTS = (
    (full_disk, "disk_full"),
    (too_little_memory, "out_of_memory"),
    (vanished_base, "model_not_available"),
)


def base_model(folder, server, training):
    """A base of one's own, from the model of a finished job."""
    wait_for(server.client, create(server.client, training, epochs=1), "succeeded")
    trained = next((folder / "data" / "store" / "sft").glob("*/model"))
    shutil.copytree(trained, folder / "base")


def main():
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder, store = Path(name), Path(name) / "data" / "store"
        settings = SETTINGS.replace("BASE", str(folder / "base"))
        with small_disk(store, "6m"), server_process(folder, settings) as server:
            training = upload(server.client, chats(12))
            for fault, code in FAULTS:
                begun = time.monotonic()
                if fault is vanished_base:
                    base_model(folder, server, training)
                job, alive = fault(server, training, store), is_alive(server)
                after = wait_for(server.client, create(server.client, training, epochs=1))
                good = (job.status, job.error.code, after.status) == ("failed", code, "succeeded")
                bad += not (good and alive)
                print(f"{fault.__name__}: {job.status} {job.error.code}: {job.error.message}")
                print(
                    f"  server alive {alive}, next job {after.status}, "
                    f"{time.monotonic() - begun:.0f} s"
                )
    return bad


if __name__ == "__main__":
    sys.exit(main())
