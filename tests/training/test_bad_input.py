"""Messages and exit codes of the command line when a training stage gets bad input."""

import json
import os
import re
import resource
import shutil
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from jangin.cli.main import main
from tests.forked import run_command

HANDBOOK = Path(__file__).parents[2] / "projects" / "handbook"
SFT = {
    "length": {"type": "steps", "steps": 6},
    "learning_rate": 1e-3,
    "examples_per_step": 8,
    "checkpoint_every_steps": 2,
    "precision": "fp32",
    "threads": 1,
}
PAIRS = {"preferences": {"sources": [{"type": "other_answers"}]}}


@pytest.fixture
def jangin(monkeypatch, capsys):
    """Run the command line in this process; returns (exit code, all that was printed)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["jangin", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "400")
        code = 0
        try:
            main()
        except SystemExit as leave:
            code = int(leave.code or 0)
        printed = capsys.readouterr()
        return code, " ".join((printed.out + printed.err).split())

    return call


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The demo without its scan and with a tiny model, made up to `split`."""
    folder = tmp_path_factory.mktemp("prepared") / "handbook"
    shutil.copytree(HANDBOOK, folder, ignore=shutil.ignore_patterns("store", "*.pdf"))
    data = yaml.safe_load((folder / "project.yaml").read_text(encoding="utf-8"))
    del data["variants"]
    del data["examples"]["paraphrase"]
    data["examples"]["split"] = {"unseen_sections": 0.1, "validation": 0.1}
    starter = {"type": "starter", "size": "0.5M", "vocabulary_size": 320, "context_length": 128}
    data["models"] = {"catalog": {"base": starter}, "sft": SFT}
    write(folder, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jangin", "run", "split", "-p", str(folder)])
        with suppress(SystemExit):
            main()
    return folder


@pytest.fixture
def project(prepared, tmp_path):
    """A copy of it, and its settings."""
    folder = tmp_path / "handbook"
    shutil.copytree(prepared, folder)
    return folder


def write(folder, data):
    text = yaml.safe_dump(data, allow_unicode=True, sort_keys=False)
    (folder / "project.yaml").write_text(text, encoding="utf-8")


def settings(folder, sft=None, **models):
    data = yaml.safe_load((folder / "project.yaml").read_text(encoding="utf-8"))
    data["models"]["sft"] |= sft or {}
    data["models"] |= models
    write(folder, data)
    return folder


def other_base(project, change):
    """The starter as a local model of which `change` alters the folder."""
    starter = next(project.glob("store/catalog/*/model"))
    shutil.copytree(starter, project / "base")
    change(project / "base")
    return settings(project, catalog={"base": {"type": "local", "path": "base"}})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sft", "facts"),
    [
        (
            {"max_row_tokens": 30},
            r"\d+ of \d+ rows .* 30 tokens \(`max_row_tokens`\), \d+ tokens .*"
            r"row \d+ \(\w+\) .*\d+ tokens.*`too_long",
        ),
        (
            {"max_row_tokens": 16, "too_long": "drop"},
            r"all \d+ rows .* 16 tokens \(`max_row_tokens`\).*`too_long: drop`",
        ),
        (
            {"max_row_tokens": 16, "too_long": "keep_start"},
            r"row \d+ \(\w+\) .* 16 tokens.*`too_long: drop`",
        ),
        (
            {"method": {"type": "lora", "targets": ["nothing"]}},
            r"project\.yaml:\d+: .*method\.targets: .* no layer nothing, .*use all-linear",
        ),
        (
            {
                "learning_rate": 1e9, "max_gradient_norm": 1e30, "schedule": "constant",
                "warmup_fraction": 0, "log_every_steps": 1,
            },
            r"step \d: loss \S+, gradient norm \S+, on row \d+ \(\w+\), row .*Lower "
            r"`learning_rate`.*(checkpoint, of step \d, is kept|No checkpoint was written before)",
        ),
        ({"early_stopping": {"type": "validation_loss"}}, r"`split` a validation share"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_sentence_and_exit_code_2(project, jangin, sft, facts):
    if "early_stopping" in sft:
        data = yaml.safe_load((project / "project.yaml").read_text(encoding="utf-8"))
        data["examples"]["split"]["validation"] = 0
        write(project, data)
    code, printed = jangin("run", "-p", settings(project, sft))
    assert re.search(facts, printed), printed
    assert code == 2
    assert "Traceback" not in printed
    assert not list(project.glob("store/sft/*/manifest.json"))


@pytest.mark.slow
def test_rows_longer_than_the_model_name_its_context_length(project, jangin):
    data = yaml.safe_load((project / "project.yaml").read_text(encoding="utf-8"))
    data["models"]["catalog"]["base"]["context_length"] = 32
    write(project, data)
    code, printed = jangin("run", "-p", project)
    assert "longer than 32 tokens (the context length of the base model)" in printed
    assert code == 2


@pytest.mark.slow
def test_a_template_without_a_stop_token_gets_the_end_of_text(project, jangin):
    def change(base):
        path = base / "chat_template.jinja"
        text = path.read_text(encoding="utf-8")
        assert "eos_token" in text
        path.write_text(text.replace("+ eos_token", ""), encoding="utf-8")

    folder = other_base(project, change)
    code, printed = jangin("run", "-p", folder)
    assert code == 0, printed
    shown = jangin("show", "tokens", "-p", folder)[1]
    assert "<|end|>⟧" in shown


@pytest.mark.slow
def test_a_model_too_large_for_the_machine_is_refused_before_its_weights_are_read(project, jangin):
    def change(base):
        path = base / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"hidden_size": 65536, "intermediate_size": 2**20}))
        (base / "model.safetensors").write_bytes(b"no weights at all")

    folder = other_base(project, change)
    code, printed = jangin("plan", "-p", folder)
    assert code == 0
    assert jangin("run", "split", "-p", folder)[0] == 0
    assert re.search(r"sft run .*\d{4,}\.\d GiB of \d+\.\d GiB", jangin("plan", "-p", folder)[1])
    code, printed = jangin("run", "-p", folder)
    assert re.search(r"about \d{4,}\.\d GiB of memory, .*\d+\.\d GiB are free", printed)
    for way in ("Lower `tokens_per_batch`", "`method: {type: lora}`", "a smaller base model"):
        assert way in printed
    assert code == 2


@pytest.mark.slow
def test_a_rank_that_vllm_cannot_serve_is_a_warning(project, jangin):
    method = {"type": "lora", "r": 12}
    code, printed = jangin("run", "-p", settings(project, {"method": method}))
    assert re.search(r"rank 12 .*vLLM.*8, 16, 32, 64, 128", printed)
    assert code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dpo", "facts"),
    [
        ({"keep": "best"}, r"dpo\.keep: must be 'last', not 'best'"),
        (
            {"max_row_tokens": 30},
            r"\d+ of \d+ pairs, with \d+ tokens, .* 30 tokens \(`max_row_tokens`\).*"
            r"pair \w+\. .*`too_long: drop`",
        ),
        (
            {"max_row_tokens": 16, "too_long": "drop"},
            r"\d+ of \d+ pairs.* 16 tokens .*shorter prompts",
        ),
        ({"lint": "refuse", "max_length_ratio": 1.01}, r"\d+ of \d+ pairs.*`lint: drop`"),
    ],
)
def test_a_mistake_in_preference_training_is_one_sentence_too(project, jangin, dpo, facts):
    code, printed = jangin("run", "-p", settings(project, dpo=dpo, **PAIRS))
    assert re.search(facts, printed), printed
    assert code == 2


@pytest.mark.slow
def test_the_plan_shows_the_memory_of_every_training_stage(project, jangin):
    steps = {"length": {"type": "steps", "steps": 2}, "precision": "fp32", "gate": "warn"}
    steps |= {"probe_questions": 2, "probe_new_tokens": 4}
    more = {"length": {"type": "steps", "steps": 2}, "precision": "fp32"}
    settings(project, dpo=steps, continue_sft=more, pretrain=more, **PAIRS)
    for stage in ("chunk", "split", "sft", "preferences", "dpo"):
        printed = jangin("plan", "-p", project)[1]
        for name in ("pretrain", "sft", "continue_sft", "dpo"):
            if re.search(rf" {name} run ", printed):
                line = rf" {name} run .*?\d+ steps of .*? epochs? .*? 0\.\d GiB of \d+\.\d GiB"
                assert re.search(line, printed), printed
        assert jangin("run", stage, "-p", project)[0] == 0
    seen = [*project.glob("store/*/*/runtime/training.json")]
    assert {path.parts[-4] for path in seen} == {"pretrain", "sft", "continue_sft", "dpo"}
    for path in seen:
        figures = json.loads(path.read_text())
        assert figures["predicted_memory_bytes"] == sum(figures["memory_plan"].values())
        assert figures["peak_memory_bytes"] > 2**27


def run_until_ctrl_c(*arguments):
    """`jangin`, and Ctrl-C as soon as the checkpoint of the second step is written."""
    begun = []

    def press(event, details):
        if event == "os.rename" and not begun and Path(details[1]).name == "step-00000002":
            begun.append(event)
            os.kill(os.getpid(), signal.SIGINT)

    sys.addaudithook(press)
    run_command(*arguments)


def weights(project, stage="sft", name="model/model.safetensors"):
    (path,) = project.glob(f"store/{stage}/*/{name}")
    return path.read_bytes()


@contextmanager
def files_of_at_most(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_ctrl_c_and_a_full_disk_leave_a_checkpoint_from_which_the_same_model_is_made(
    project, tmp_path, jangin, fork
):
    long = {"length": {"type": "steps", "steps": 12}, "checkpoint_every_steps": 1}
    settings(project, long)
    whole = tmp_path / "whole"
    shutil.copytree(project, whole)
    arguments = ["run", "-p", str(project)]
    process = fork(f"{__name__}:run_until_ctrl_c", arguments, output=tmp_path / "log")
    code, printed = process.wait(), process.printed()
    assert code == 130, printed
    assert "Stopped." in printed
    assert "Traceback" not in printed
    checkpoints = "store/sft/*.partial/journal/checkpoints/*"
    (kept,) = project.glob(checkpoints)
    assert kept.name == "step-00000002"
    assert (kept / "tensors.safetensors").stat().st_size > 1_000_000

    with files_of_at_most(1_000_000):
        code, printed = jangin("run", "-p", project)
    assert code == 1
    assert "larger than this disk or `ulimit -f` allows" in printed
    assert [path.name for path in project.glob(checkpoints)] == [kept.name]

    for folder in (project, whole):
        settings(folder, {"checkpoint_every_steps": 100})  # each is flushed to the disk
    code, printed = jangin("run", "-p", project)
    assert code == 0
    assert "step 2 of 12" in printed
    assert jangin("run", "-p", whole)[0] == 0
    assert weights(project) == weights(whole)


@pytest.mark.slow
def test_a_damaged_or_newer_store_or_ledger_is_one_sentence_and_exit_code_2(project, jangin):
    (manifest,) = project.glob("store/split/*/manifest.json")
    sound = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(sound) | {"format": 99}))
    code, printed = jangin("run", "-p", project)
    assert (code, "was written by a newer jangin (store format 99" in printed) == (2, True)
    manifest.write_text(sound[:100])
    code, printed = jangin("run", "-p", project)
    assert (code, "manifest.json is damaged. Delete the folder" in printed) == (2, True)
    manifest.write_text(sound)
    table = manifest.with_name("splits.parquet")
    table.write_bytes(table.read_bytes()[:200])
    code, printed = jangin("run", "-p", project)
    assert (code, "splits.parquet cannot be read" in printed) == (2, True)
    (project / "store" / "ledger.sqlite").write_bytes(b"no database" * 100)
    code, printed = jangin("run", "-p", project)
    assert (code, "is not a ledger of jangin or is damaged" in printed) == (2, True)
