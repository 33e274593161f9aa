import ctypes
import platform
import resource

import pytest
import torch

from jangin.training.kernels import malloc as heap


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_of_freed_batches_is_not_asked_for_again():
    assert heap.keep_heap()

    def page_faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        made = [torch.ones(2**20) for _ in range(20)]  # 4 MB each, 1,024 pages
        del made
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    page_faults()
    assert page_faults() < 1024


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not heap.keep_heap()
