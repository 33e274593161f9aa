"""The GPU bench, shapes shrunk, on a CPU: its figures mean nothing here, its paths do."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jangin.models.forward import compiled_layers as layers

BENCH = Path(__file__).resolve().parents[3] / "bench" / "gpu"


@pytest.fixture(scope="module")
def bench():
    """(driver, case) of the bench."""
    sys.path.insert(0, str(BENCH))
    spec = importlib.util.spec_from_file_location("gpu_bench", BENCH / "__main__.py")
    gpu = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = gpu
    spec.loader.exec_module(gpu)
    case = importlib.import_module("case")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield gpu, case
    torch.set_num_threads(threads)
    sys.path.remove(str(BENCH))
    for name in ("gpu_bench", "case", "material", "ours", "peers", "prepare"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    ("only", "cases"),
    [
        pytest.param(["1B", "jangin"], 4, marks=pytest.mark.slow),
        pytest.param([], 17, marks=pytest.mark.long),
    ],
)
def test_cases_of_the_gpu_bench_run_on_a_cpu_with_shapes_shrunk(
    bench, tmp_path, capfd, monkeypatch, only, cases
):
    gpu, case = bench
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--tiny", "--steps", "1", "--out", str(out)]
    assert gpu.main([*words, *(["--only", *only] if only else [])], case.run) == 0
    shown = capfd.readouterr().out
    found = {row["name"]: row for row in json.loads(out.read_text())}
    assert found["bf16 matrix product"]["operations_per_second"] > 0
    ran = [row for row in found.values() if "seconds" in row]
    assert len([row for row in ran if row["job"]["engine"] == "jangin"]) == cases
    for row in ran:
        assert row["seconds"] > 0
        assert row["peak_bytes"] > 0
        assert f"| {row['name']} | " in shown
        if row["job"]["engine"] == "jangin" and row["job"]["task"] not in ("generate", "profile"):
            assert row["predicted_bytes"] > 0
            assert row["packed"] == row["job"]["packed"]
    for row in found.values():
        assert "problem" not in row or row["problem"].endswith("not installed")
    choices = [row for row in ran if row["job"]["task"] == "compile"]
    assert all("kernels" in row["layers"]["because"] for row in choices)
    # All engines are given the same rows.
    sft = {row["tokens"] for row in ran if row["job"]["task"] == "sft"}
    written = {row["tokens"] for row in ran if row["job"]["task"] == "generate"}
    assert len(sft) == len(written) == 1
    assert max(written) < max(sft)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_one_command_shows_what_the_default_chooses_on_a_card(bench, tmp_path, capfd, monkeypatch):
    gpu, case = bench
    monkeypatch.setenv("JANGIN_KERNELS", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(layers, "BACKEND", lambda graph, _: graph)  # inductor's takes a minute
    out = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--tiny", "--out", str(out), "--only", "compile", "1B"]
    assert gpu.main(words, case.run) == 0
    (row,) = [row for row in json.loads(out.read_text()) if row["job"]["task"] == "compile"]
    chosen = row["layers"]
    assert chosen["mode"] in ("eager", "compiled")
    assert min(chosen["eager_seconds_per_step"], chosen["compiled_seconds_per_step"]) > 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if "compile full 1B" in line][
        1:
    ]
    assert f"{chosen['eager_seconds_per_step']:.4g} s a step" in line
    assert f"{chosen['compiled_seconds_per_step']:.4g} s" in line
    steps = chosen["break_even_steps"]
    assert f"break-even {'never' if steps is None else f'after {steps:,} steps'}" in line
    assert line.endswith(f"chosen: {chosen['mode']} |")
    torch.compiler.reset()


@pytest.mark.slow
def test_a_case_that_runs_out_of_memory_says_so_and_the_next_one_runs(bench, tmp_path, capfd):
    gpu, case = bench
    asked = []

    def run(job):
        report = {}
        asked.append(job["task"])
        held = json.loads(out.read_text()) if out.exists() else []
        assert len(held) == len(asked) - 1  # those that are done, whatever happens to this one
        with case.memory_problems(report):
            if job["shape"] == "8B":
                raise torch.OutOfMemoryError("CUDA out of memory")
            report |= {"seconds": 2.0, "tokens": 100, "peak_bytes": 2**30, "operations": 1e9}
        return report

    out = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--only", "generation", "64 rows, jangin", "--out", str(out)]
    assert gpu.main(words, run) == 1
    assert asked == ["product", *["generate"] * 3]
    shown = capfd.readouterr().out
    assert "| generation 1B, 64 rows, jangin | 50 |" in shown
    assert "| generation 8B, 64 rows, jangin | | | | | | out of memory |" in shown


@pytest.mark.slow
def test_other_errors_are_no_result(bench):
    with pytest.raises(ZeroDivisionError), bench[1].memory_problems({}):
        1 / 0  # noqa: B018  the error is wanted


@pytest.mark.long
def test_a_job_has_a_process_of_its_own_whose_failure_is_its_problem(bench):
    job = {"task": "product", "shape": "tiny", "device": "cpu"}
    assert bench[0].in_process(sys.executable, 300)(job)["device_name"] == "CPU"
    assert bench[0].in_process("false", 300)(job) == {"problem": "no output"}


@pytest.mark.slow
def test_model_operations_are_those_of_the_weights_and_of_causal_attention(bench):
    # 64 hidden, 2 layers, 2 of 4 heads for keys, 128 feed-forward, 512 words.
    linear = 2 * (2 * 64 * (64 + 32) + 3 * 64 * 128)
    job = {"shape": "tiny", "method": "full"}
    expected = 6 * (linear * 10 + 64 * 512 * 4) + 6 * 2 * 64 * 10**2
    assert bench[1].operations(job, 6, [4]) == expected
    frozen = bench[1].operations(job | {"method": "lora"}, 6, [4])
    assert frozen == 4 * (linear * 10 + 64 * 512 * 4) + 6 * 2 * 64 * 10**2
    # A second answer of two tokens sees the prompt's keys; the prompt is not computed again.
    second = 6 * (linear * 2 + 64 * 512 * 2) + 6 * 2 * 64 * (8**2 - 6**2)
    assert bench[1].operations(job, 6, [4, 2]) == expected + second


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_way_of_a_checkpoint_folder_runs_on_a_cpu(tmp_path, capfd):
    spec = importlib.util.spec_from_file_location("gpu_checkpoint", BENCH / "checkpoint.py")
    checkpoint = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checkpoint)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path / "checkpoint.json"
    assert checkpoint.main(["--tiny", "--methods", "lora", "--out", str(out)]) == 0
    torch.set_num_threads(threads)
    capfd.readouterr()
    found = json.loads(out.read_text())
    for method in ("lora", "dpo"):
        first, last = found[method]["losses"]
        assert last < first
    assert found["lora"]["checkpoint_bytes"] > 0
    assert found["lora"]["questions"] == 20


def test_prepare_carries_one_library_of_bitsandbytes_and_git_leaves_the_folder_alone(
    bench, tmp_path, monkeypatch
):
    prepare = sys.modules["prepare"]
    folder = tmp_path / ".site"
    asked = []

    def pip(command, check):
        asked.append(command)
        libraries = folder / "bitsandbytes"
        libraries.mkdir(parents=True)
        for name in ("cuda118", "cuda130", "rocm72", "cpu"):
            (libraries / f"libbitsandbytes_{name}.so").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(prepare.subprocess, "run", pip)
    assert prepare.prepare(folder) == 0
    (command,) = asked
    assert {"--no-deps", "pydantic==2.14.3", "liger-kernel==0.8.5", str(folder)} <= set(command)
    kept = {path.stem.removeprefix("libbitsandbytes_") for path in folder.rglob("*.so")}
    assert kept == {"cuda130", "cpu"}
    assert (folder / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("call", ["call1", "call2", "call3"])
def test_a_call_ends_within_600_seconds_and_asks_for_cases_that_exist(bench, call):
    gpu, _ = bench
    script = BENCH / f"{call}.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text().splitlines()
    seconds = [re.match(r".*?(?:timeout|\bbench \w+) (\d+)", line) for line in lines]
    assert 300 < sum(int(found[1]) for found in seconds if found) <= 600
    asked = [found[1] for line in lines if (found := re.search(r"--only '([^']+)'", line))]
    assert asked
    names = [case.name for case in gpu.cases()]
    assert all(any(words in name for name in names) for words in asked)
