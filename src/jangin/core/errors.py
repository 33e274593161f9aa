"""Every error that jangin raises on purpose.

* JanginError            one sentence on what is wrong, one on what to do
  x ConfigError          the project file is wrong; carries file:line
  x DataError            a source file or a record is wrong; carries file, line or row
  x DigestError          a value has no stable bytes, so it cannot have an identity
  x LedgerError          the ledger cannot be read by this version
  x StoreError           the store is locked or cannot be written; the disk is full
    x UnreadableStoreError an artifact or a checkpoint is damaged, or from a newer version
  x StageError           a stage cannot finish; names the stage and how to go on
    x SettingsError      its settings leave nothing to do; says which one to change
  x ChatError            a model could not be asked
    x MissingReplyError  no recorded reply for a request; names it and how to record it
    x RefusedError       the endpoint will never take this request (key, model, quota)
    x StoppedError       the run is stopping, so a request was not sent; no user sees it
  x TrainingError        training cannot start or go on; carries the step or the row
  x ExportError          an exported model is not the trained one; says what differs
  x MachineError         this machine lacks something; says how to install it
"""


class JanginError(Exception):
    """Base of every error raised on purpose; anything else is a bug in jangin."""

    exit_code = 1
    """2 where the user can mend it in a file, a setting or the machine; 1 where it may pass."""


class ConfigError(JanginError):
    """The project file is wrong. The message names file, line and the key to change."""

    exit_code = 2


class DataError(JanginError):
    """A source file or a record is wrong. The message names the file, and the line or row."""

    exit_code = 2


class DigestError(JanginError):
    """A value has no stable bytes, so it cannot take part in an identity."""


class LedgerError(JanginError):
    """The ledger cannot be read by this version."""

    exit_code = 2


class StoreError(JanginError):
    """The store is locked or cannot be written, or the disk is full."""


class UnreadableStoreError(StoreError):
    """An artifact or a checkpoint is damaged or from a newer version; says which and what to do."""

    exit_code = 2


class StageError(JanginError):
    """A stage cannot finish. What it had finished is kept; running again goes on from there."""


class SettingsError(StageError):
    """A stage's settings leave nothing to do. The message says which one to change."""

    exit_code = 2


class ChatError(JanginError):
    """A model could not be asked. The message names the model and the reason."""


class MissingReplyError(ChatError):
    """No recorded reply for a request."""

    exit_code = 2


class RefusedError(ChatError):
    """The endpoint will never take this request: wrong key, unknown model, no quota."""

    exit_code = 2


class StoppedError(ChatError):
    """A request was not sent, because the run is stopping. It is asked when the run goes on."""


class TooLongError(ChatError):
    """Prompt and reply do not fit into the model's context; other requests may."""

    exit_code = 2


class BudgetError(StageError):
    """The next request could cost more than is left of the budget; what is done is kept."""

    exit_code = 2


class TrainingError(JanginError):
    """Training cannot start or go on. The message names the step or the row."""

    exit_code = 2


class ExportError(JanginError):
    """A model cannot be exported, or its export is not the same model; says what differs."""


class MachineError(JanginError):
    """This machine lacks a program or a package. The message says how to install it."""

    exit_code = 2
