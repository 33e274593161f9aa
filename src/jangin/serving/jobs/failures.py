"""Why a job failed: a code and a sentence for each error of the stages."""

import errno
from dataclasses import dataclass

from jangin.core.errors import ConfigError, JanginError, MachineError, StoreError, TrainingError
from jangin.serving.jobs.pipeline import NoTrainableTokensError


@dataclass(frozen=True, slots=True)
class Failure:
    """The `error` of a job."""

    code: str
    message: str
    param: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """As the job object shows it."""
        return {"code": self.code, "message": self.message, "param": self.param}


WORKER_LOST = Failure(
    "worker_lost",
    "The process that trained this job ended unexpectedly several times without progress, most "
    "likely for lack of memory. Use a smaller batch_size or a smaller model, and create a new job.",
)
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "could not create a primitive",
)
"""Of CUDA, of torch on a CPU, of the system, of C++, and of oneDNN, which gives no other reason."""
_DISK_FULL = "The disk is full. Free some space and create a new job; finished work is reused."


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception of the pipeline means."""
    text = str(error)
    if isinstance(error, NoTrainableTokensError):
        return Failure("no_trainable_tokens", text, "training_file")
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_MEMORY):
        return Failure("out_of_memory", f"The job ran out of memory: {_plain(error)}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Failure("disk_full", _DISK_FULL)
    if isinstance(error, StoreError) and ("disk is full" in text or "this disk" in text):
        return Failure("disk_full", _DISK_FULL)
    if isinstance(error, TrainingError):
        return _of_training(text)
    if isinstance(error, (ConfigError, MachineError)):
        return Failure("model_not_available", f"The base model cannot be used: {text}", "model")
    if isinstance(error, JanginError):
        return Failure("training_failed", text)
    return Failure("server_error", "The job failed because of an error of the server; see its log.")


def _of_training(text: str) -> Failure:
    if "loss nan" in text or "loss inf" in text or "gradient norm nan" in text:
        return Failure("nan_loss", f"The loss is not a number any more: {text}")
    if "memory" in text and "needs" in text:
        return Failure("out_of_memory", text)
    return Failure("training_failed", text)


def _plain(error: BaseException) -> str:
    text = str(error).strip().split("\n", maxsplit=1)[0]
    if isinstance(error, JanginError):
        return text
    reason = text[:200].rstrip(".") or "an allocation failed"
    return f"{reason}. Use a smaller batch_size, a shorter context_length or a smaller model."
