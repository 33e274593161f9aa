import pytest

from jangin.core.errors import TrainingError
from jangin.core.events import Progress
from jangin.models.starter import random_llama
from jangin.models.tokens.chat_template import select_rows
from jangin.training.loop.config import EarlyStopping, Never, StepMetrics, TrainingConfig
from jangin.training.loop.trainer import best_line, early_stop_reason, train
from jangin.training.objectives.sft import SftObjective


def lines(*losses):
    return [
        StepMetrics(
            step=step,
            epoch=1,
            train_loss=1,
            train_mean_token_accuracy=0,
            valid_loss=loss,
            learning_rate=1,
            grad_norm=1,
            trained_tokens=1,
        )
        for step, loss in enumerate(losses, 1)
    ]


def test_the_best_line_is_the_first_with_the_lowest_validation_loss():
    assert best_line(lines(None, None)) is None
    assert best_line(lines(3.0, None, 0.0, 0.0, 1.0)).step == 3


def test_patience_counts_measurements_without_enough_gain():
    stopping = EarlyStopping(type="validation_loss", patience=2, min_gain=0.1)
    assert early_stop_reason(lines(1.0, 0.95, 0.8, 0.75), stopping) == ""
    assert "2 measurements" in early_stop_reason(lines(1.0, 0.95, None, 0.92), stopping)
    assert early_stop_reason(lines(1.0, 2.0, 3.0), Never()) == ""


def config(**changes):
    fields = {
        "length": {"type": "steps", "steps": 40},
        "learning_rate": 1e-2,
        "examples_per_step": 4,
        "tokens_per_batch": 128,
        "log_every_steps": 4,
        "validate_every_steps": 2,
        "checkpoint_every_steps": 3,
        "precision": "fp32",
        "threads": 1,
        "early_stopping": {"type": "validation_loss", "patience": 3},
        "keep": "best",
    }
    return TrainingConfig.model_validate(fields | changes)


class Watching(Progress):
    """Looks at the checkpoints after every step, and dies at one of them."""

    def __init__(self, folder, dies_at=0):
        super().__init__()
        self.folder, self.dies_at, self.seen = folder / "journal" / "checkpoints", dies_at, []

    def advance(self, bar, steps=1, note=""):
        names = sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []
        self.seen.append(names)
        if len(self.seen) == self.dies_at:
            raise RuntimeError("the machine went away")


def run(tokenizer, data, folder, progress, **changes):
    """Train on half of the rows, validate on the others; they cannot be guessed for long."""
    folder.mkdir(exist_ok=True)
    model = random_llama(tokenizer, "0.5M", 512, 0)
    halves = select_rows(data, range(8)), select_rows(data, range(8, 16))
    objective = SftObjective.of(model, *halves, config(**changes))
    result = train(objective, config(**changes), folder, progress)
    return result, dict(model.state_dict())


@pytest.mark.slow
def test_training_stops_when_validation_no_longer_gains_and_keeps_the_best_weights(
    tokenizer, data, tmp_path
):
    progress = Watching(tmp_path)
    result, weights = run(tokenizer, data, tmp_path, progress)
    assert result.stopped.startswith("3 measurements without a lower validation loss")
    assert result.kept.step < result.last.step < 40
    assert result.kept.valid_loss < result.last.valid_loss
    assert "stopped after step" in progress.messages[-1]
    short = {"type": "steps", "steps": result.kept.step}
    _, last = run(tokenizer, data, tmp_path / "last", Progress(), keep="last")
    assert any(not (weights[name] == last[name]).all() for name in weights)
    fixed = {"schedule": "constant", "warmup_fraction": 0}
    best, weights = run(tokenizer, data, tmp_path / "best", Progress(), **fixed)
    short = {"type": "steps", "steps": best.kept.step}
    _, same = run(tokenizer, data, tmp_path / "short", Progress(), length=short, **fixed)
    assert all((weights[name] == same[name]).all() for name in weights)


@pytest.mark.slow
def test_only_the_last_and_the_best_checkpoint_are_kept(tokenizer, data, tmp_path):
    progress = Watching(tmp_path)
    result, _ = run(tokenizer, data, tmp_path, progress)
    last = progress.seen[-1]
    assert f"best-{result.kept.step:08d}" in last
    assert len([name for name in last if name.startswith("step-")]) == 1
    assert max(len(names) for names in progress.seen) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("step", [5, 10])
def test_a_run_that_dies_keeps_its_best_weights_and_ends_with_the_same_bits(
    tokenizer, data, tmp_path, step
):
    whole, weights = run(tokenizer, data, tmp_path / "whole", Progress())
    assert whole.last.step > 10
    cut = tmp_path / "cut"
    with pytest.raises(RuntimeError, match="went away"):
        run(tokenizer, data, cut, Watching(cut, step))
    again, same = run(tokenizer, data, cut, Progress())
    assert (again.kept, again.last, again.stopped) == (whole.kept, whole.last, whole.stopped)
    assert all((weights[name] == same[name]).all() for name in weights)


@pytest.mark.parametrize("changes", [{"keep": "last"}, {"early_stopping": {"type": "never"}}])
def test_without_validation_rows_there_is_nothing_to_measure(tokenizer, data, changes):
    model = random_llama(tokenizer, "0.5M", 512, 0)
    with pytest.raises(TrainingError, match=r"`keep: best`.*no validation row"):
        SftObjective.of(model, data, None, config(**changes))
