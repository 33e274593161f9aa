"""Exception hierarchy, and how messages count.

* JanginError            one sentence on what is wrong, one on what to do
  x ConfigError          the project file is wrong; carries file:line
  x DataError            a source file or a record is wrong; carries file, line or row
  x DigestError          a value has no canonical JSON, so it has no digest
  x LedgerError          the ledger cannot be read by this version
  x StoreError           the store is locked or cannot be written; the disk is full
    x LockedStoreError     another process works on the same artifact
    x UnreadableStoreError an artifact or a checkpoint is damaged, or from a newer version
  x StageError           a stage cannot finish; names the stage and how to resume
    x SettingsError      its settings leave nothing to do; names the setting to change
    x BudgetError        the next request may exceed the budget
  x ChatError            a request to a model failed
    x MissingReplyError  no recorded reply for a request; names it and how to record it
    x RefusedError       the endpoint will never accept this request (key, model, quota)
    x StoppedError       the run is stopping, so a request was not sent; no user sees it
    x TooLongError       prompt and reply exceed the model's context
  x TrainingError        training cannot start or continue; carries the step or the row
  x ExportError          an exported model differs from the trained one; names the difference
  x MachineError         this machine lacks something; how to install it
"""

from typing import Any


def counted(count: float, one: str, several: str = "") -> str:
    """`1 row`, `2,000 rows`; `several` for other plurals than with an s, and with a verb."""
    number = f"{count:g}" if isinstance(count, float) else f"{count:,}"
    return f"{number} {one if count == 1 else several or f'{one}s'}"


def counted_of(part: int, whole: int, one: str, has: str, have: str) -> str:
    """`1 of 3 rows has`, `2 of 3 rows have`, with the verb for one and for several."""
    return f"{part:,} of {counted(whole, one)} {has if part == 1 else have}"


def all_counted(count: int, one: str, several: str) -> str:
    """`the only row was`, `all 2,000 rows were`."""
    return f"the only {one}" if count == 1 else f"all {counted(count, one, several)}"


class PortableError(Exception):
    """An error that can be pickled with any constructor, so that a worker can send it."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Its class, arguments and attributes; the constructor is not called again."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class JanginError(PortableError):
    """Base of every error raised on purpose; anything else is a bug in jangin."""

    exit_code = 1
    """2 if the user must fix a file, a setting or the machine; 1 if running again may help."""


class ConfigError(JanginError):
    """The project file is wrong. The message names file, line and the key to change."""

    exit_code = 2


class DataError(JanginError):
    """A source file or a record is wrong. The message names the file, and the line or row."""

    exit_code = 2


class DigestError(JanginError):
    """A value has no canonical JSON, so it cannot be part of a digest."""


class LedgerError(JanginError):
    """The ledger cannot be read by this version."""

    exit_code = 2


class StoreError(JanginError):
    """The store is locked or cannot be written, or the disk is full."""


class LockedStoreError(StoreError):
    """Another process works on the same artifact. The message names the process."""


class UnreadableStoreError(StoreError):
    """An artifact or a checkpoint is damaged or from a newer version. The message names it."""

    exit_code = 2


class StageError(JanginError):
    """A stage cannot finish. Its finished work is kept; the next run resumes from there."""


class SettingsError(StageError):
    """A stage's settings leave nothing to do. The message names the setting to change."""

    exit_code = 2


class ChatError(JanginError):
    """A request to a model failed. The message names the model and the reason."""


class BusyError(ChatError):
    """A model of this machine cannot answer now; the same request may succeed later."""


class MissingReplyError(ChatError):
    """No recorded reply for a request."""

    exit_code = 2


class RefusedError(ChatError):
    """The endpoint will never accept this request: wrong key, unknown model, no quota."""

    exit_code = 2
    reason: str = ""
    """Why, without the address and what to do."""


class StoppedError(ChatError):
    """A request was not sent, because the run is stopping. The next run sends it."""


class TooLongError(ChatError):
    """Prompt and reply exceed the model's context; shorter requests may succeed."""

    exit_code = 2


class BudgetError(StageError):
    """The next request could cost more than what is left of the budget; finished work is kept."""

    exit_code = 2


class TrainingError(JanginError):
    """Training cannot start or continue. The message names the step or the row."""

    exit_code = 2


class ExportError(JanginError):
    """A model cannot be exported, or its export differs from it. The message says where."""


class MachineError(JanginError):
    """This machine lacks a program or a package. The message says how to install it."""

    exit_code = 2
