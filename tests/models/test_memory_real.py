"""The memory plan of real pretrained models: minutes each, so only where a folder holds them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REAL_MODELS = os.environ.get("JANGIN_REAL_MODELS", "")
BENCH = Path(__file__).parents[2] / "bench" / "memory"


@pytest.mark.slow
@pytest.mark.skipif(not REAL_MODELS, reason="JANGIN_REAL_MODELS names no folder")
@pytest.mark.parametrize("case", ["full-bf16", "lora-bf16", "dpo full-bf16", "dpo lora-bf16"])
def test_the_peak_of_a_real_model_is_within_10_percent_of_the_plan(case):
    model = str(Path(REAL_MODELS) / "SmolLM2-135M-Instruct")
    words = ["--model", model, "--only", case, "--steps", "2", "--tokens", "2048"]
    command = [sys.executable, str(BENCH), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"([+-] *[\d.]+)%\s*$", done.stdout.splitlines()[1])
    assert found, done.stdout
    assert abs(float(found[1].replace(" ", ""))) <= 10, done.stdout
