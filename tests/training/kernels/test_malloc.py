import ctypes
import json
import os
import platform
import subprocess
import sys

import pytest

from jangin.training.kernels import malloc

PAGE_FAULTS = """
import importlib.util, resource, sys

spec = importlib.util.spec_from_file_location("malloc", sys.argv[1])
malloc = importlib.util.module_from_spec(spec)  # without the rest of the kernels, and torch
spec.loader.exec_module(malloc)

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"1" * 2**24) for _ in range(20)]  # 16 MB each, 4,096 pages
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
print(page_faults())
print(malloc.tune_malloc())
page_faults()
print(page_faults())

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

blocks = [bytearray(b"1" * 2**20) for _ in range(640)]
last, blocks = blocks.pop(), None  # 639 MB are free, below a block that is used
print(resident(), malloc.release_freed_memory(2**30), malloc.release_freed_memory(), resident())

heap = malloc.HeapGrowth()
for megabytes in (640, 640, 640, 960, 960):
    blocks = [bytearray(b"1" * 2**20) for _ in range(megabytes)]
    last, blocks = blocks.pop(), None
    print(heap.release())
    del last
"""


def measured():
    """What a fresh process printed."""
    done = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS, malloc.__file__],
        env=os.environ | {"JANGIN_KERNELS": "on"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(word.lower()) for word in done.stdout.split()]


@pytest.mark.long
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_without_page_faults_and_much_of_it_is_returned():
    before, was_done, after, full, *released, emptied, before_all, first, same, grown, again = (
        measured()
    )
    assert was_done
    assert before > 10 * after
    assert released == [False, True]
    assert emptied < full - 600 * 1024
    assert [before_all, first, same, grown, again] == [True, False, False, True, False]


def test_the_heap_is_left_alone_when_the_kernels_are_off(monkeypatch):
    loaded = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    monkeypatch.setenv("JANGIN_KERNELS", "off")
    assert not malloc.tune_malloc()
    assert not malloc.release_freed_memory(0)
    assert not loaded


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    malloc._glibc.cache_clear()
    assert not malloc.tune_malloc()
    assert not malloc.release_freed_memory(0)
    malloc._glibc.cache_clear()
