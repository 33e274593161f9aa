"""Workers forked from the test process, which has loaded torch and transformers already."""

import gc
import io
import json
import os
import signal
import sys
import time
import warnings

import pytest
import torch

from jangin.models.loading import load_tokenizer
from jangin.models.starter import make_starter
from jangin.models.tokens.chat_template import render_rows, select_rows
from jangin.training.distributed import worker
from jangin.training.loop.process_group import torchrun_group
from jangin.training.loop.weights import Start
from jangin.training.objectives.sft import SftTask
from tests.shared import free_port

__all__ = ("forked_workers", "on_processes")


class ForkedWorkers:
    """What torchrun does, as far as `launch.watch` sees it: a process that waits for its workers.

    One worker that fails ends the others.
    """

    def __init__(self, task, config, log, node=None):
        read_end, write_end = os.pipe()
        self.returncode = None
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                os.close(read_end)
                status = _run_agent(task, config, write_end, log, node)
            finally:
                os._exit(status)
        os.close(write_end)
        self.stdout = os.fdopen(read_end, encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stdout.close()
        self.wait()

    def poll(self):
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self):
        while self.poll() is None:
            time.sleep(0.01)

    def terminate(self):
        os.killpg(self.pid, signal.SIGTERM)


def _run_agent(task, config, write_end, log, node):
    os.setsid()
    os.dup2(write_end, 1)
    with log.open("wb") as errors:
        os.dup2(errors.fileno(), 2)
    port = node.port if node else free_port()
    first = node.rank * config.devices if node else 0
    workers = [
        _fork_worker(task, rank, config, first + rank, port) for rank in range(config.devices)
    ]
    os.close(1)
    os.close(write_end)
    status = 0
    while workers:
        ended, code = os.wait()
        workers.remove(ended)
        if code:
            status = 1
            for other in workers:
                os.kill(other, signal.SIGTERM)
    return status


def _replace_thread_pool():
    """Torch's first call after a fork replaces the pool of the parent; two threads that both make
    that call can meet no pool ("pool INTERNAL ASSERT FAILED")."""
    torch.set_num_threads(1)


def _fork_worker(task, local_rank, config, rank, port):
    child = os.fork()
    if child:
        return child
    gc.freeze()  # or each collection would copy the pages of the parent's objects
    _replace_thread_pool()
    status = 1
    try:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(config.processes),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        # Those of the parent belong to pytest.
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(number, "w", closefd=False), line_buffering=True)
            for number in (1, 2)
        )
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warnings.resetwarnings()  # in a worker of torchrun they are no errors either
        status = worker.main(task)
    except BaseException:  # noqa: BLE001  as the interpreter would print it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def on_processes(size, function):
    """What `function(group)` returned in each of `size` forked processes, by rank."""
    port = free_port()
    pipes = [os.pipe() for _ in range(size)]
    children = []
    for rank in range(size):
        child = os.fork()
        if not child:
            gc.freeze()
            status = 1
            try:
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                }  # fmt: skip
                warnings.resetwarnings()
                torch.set_num_threads(1)
                with torchrun_group() as group:
                    os.write(pipes[rank][1], json.dumps(function(group)).encode())
                status = 0
            except BaseException:  # noqa: BLE001  as the interpreter would print it
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    assert not failed, "see what the processes wrote"
    results = []
    for read_end, write_end in pipes:
        os.close(write_end)
        with os.fdopen(read_end, "rb") as stream:
            results.append(json.loads(stream.read()))
    return results


@pytest.fixture
def forked_workers(monkeypatch):
    """Workers start in a tenth of a second instead of ten; another test starts torchrun."""
    monkeypatch.setattr("jangin.training.distributed.launch.start_workers", ForkedWorkers)


@pytest.fixture
def task(conversations, tmp_path):
    """11 rows for training and 5 for validation, on a starter."""
    texts = [message.content for pair in conversations for message in pair]
    shape = {"size": "0.5M", "vocabulary_size": 400, "context_length": 128, "seed": 0}
    make_starter(tmp_path / "base" / "model", texts, **shape)
    start = Start(tmp_path / "base")
    names = [f"row {i}" for i in range(len(conversations))]
    rendered = render_rows(load_tokenizer(start.base), conversations, names)
    return SftTask(start, select_rows(rendered, range(11)), select_rows(rendered, range(11, 16)))
