"""The tests of the kernels run with the kernels enabled, also where JANGIN_KERNELS is off."""

import pytest

from jangin.models.device import KERNELS_VARIABLE


@pytest.fixture(autouse=True)
def _kernels_on(monkeypatch):
    monkeypatch.setenv(KERNELS_VARIABLE, "on")
