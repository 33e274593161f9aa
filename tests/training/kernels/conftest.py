"""The tests of the kernels run with the kernels enabled, whatever JANGIN_KERNELS is outside."""

import pytest

from jangin.models.device import KERNELS_VARIABLE


@pytest.fixture(autouse=True)
def _kernels_on(monkeypatch):
    monkeypatch.setenv(KERNELS_VARIABLE, "on")
