import ctypes
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
"""


def measured():
    """(page faults before, whether it was done, page faults after) in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS, malloc.__file__],
        env=os.environ | {"JANGIN_KERNELS": "on"},
        capture_output=True,
        text=True,
        check=True,
    )
    before, was_done, after = done.stdout.split()
    return int(before), was_done == "True", int(after)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_without_page_faults():
    before, was_done, after = measured()
    assert was_done
    assert before > 10 * after


def test_the_heap_is_left_alone_when_the_kernels_are_off(monkeypatch):
    loaded = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    monkeypatch.setenv("JANGIN_KERNELS", "off")
    assert not malloc.tune_malloc()
    assert not loaded


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not malloc.tune_malloc()
