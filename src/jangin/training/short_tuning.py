"""A few steps of supervised fine-tuning, so that `select` can compare what base models learn."""

from jangin.core.errors import TrainingError, all_counted
from jangin.core.events import Progress
from jangin.core.stage import ShortTuning


def tune_briefly(request: ShortTuning, progress: Progress) -> None:
    """Train the base with the default settings of `sft` and write the model to `request.folder`.

    Raises `TrainingError` where no row fits the context of the model, the predicted memory is not
    free, or training fails; `MachineError` where the base model's files are missing.
    """
    from jangin.models.loading import load_tokenizer
    from jangin.models.tokens.chat_template import limit_rows, render_rows
    from jangin.training.distributed.fit import fit, row_limit, work_of
    from jangin.training.loop.config import Full, Lora, Steps
    from jangin.training.loop.weights import Start, save_trained
    from jangin.training.objectives.sft import SftTask
    from jangin.training.preflight.learning_rate import with_rate
    from jangin.training.preflight.memory import guard_memory
    from jangin.training.sft import SftConfig

    request.folder.mkdir(parents=True, exist_ok=True)
    config = SftConfig(
        method=Full() if request.method == "full" else Lora(type="lora"),
        length=Steps(type="steps", steps=request.steps),
        examples_per_step=request.examples_per_step,
        too_long="drop",
        seed=request.seed,
    )
    config = with_rate(config, request.base, progress)
    tokenizer = load_tokenizer(request.base)
    rows = render_rows(
        tokenizer,
        [(*example.prompt, example.completion) for example in request.examples],
        [example.id for example in request.examples],
        config.train_on,
    )
    limit = row_limit(request.base, config)
    fitting, _ = limit_rows(rows, *limit, config.too_long)
    if not len(fitting):
        raise TrainingError(
            f"{all_counted(len(rows), 'training row is', 'training rows are')} longer than "
            f"{limit[0]} tokens ({limit[1]}), so "
            "this base model cannot be tried on them. Remove it, or make the rows shorter."
        )
    task = SftTask(Start(request.base), fitting, None)
    guard_memory(request.base, config, work_of(task), progress)
    trained = fit(task, config, request.folder, progress)
    save_trained(
        trained.model, tokenizer, request.folder, fitting.stop_ids, trained.dtype, request.base
    )
