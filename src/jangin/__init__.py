"""jangin (장인, master artisan): from an organisation's documents to a specialist language model.

In Python, `jangin.open("folder")` opens a project; docs/python.md shows the rest.

Rooms, bottom up; a room imports only from those before it in this list:
core, text, llm, documents, prepare, examples, metrics, models, inference, evaluation, training,
project, views, report, serving, api, cli.
"""

import os

__version__ = "0.1.0"

# torch bundles a libgomp whose idle threads spin; on a small or busy machine that costs
# 3x to 25x. It is read once, when torch loads, so it must be set before anything else here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# oneDNN keeps a compiled kernel per shape, and every packed batch has another length: with the
# default of 1,024 a bf16 run on a CPU grows by hundreds of MB. With 16, the few shapes that do
# come again, those of attention, would push each other out.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

TYPE_CHECKING = False  # as in `typing`, which takes longer to import than all of this
if TYPE_CHECKING:
    from jangin.api.model import Answer as Answer
    from jangin.api.model import Model as Model
    from jangin.api.outcomes import Plan as Plan
    from jangin.api.outcomes import Results as Results
    from jangin.api.outcomes import Run as Run
    from jangin.api.project import Project as Project
    from jangin.api.project import open as open  # jangin.open, as in tarfile.open
    from jangin.api.tables import Table as Table
    from jangin.core.errors import BudgetError as BudgetError
    from jangin.core.errors import BusyError as BusyError
    from jangin.core.errors import ChatError as ChatError
    from jangin.core.errors import ConfigError as ConfigError
    from jangin.core.errors import DataError as DataError
    from jangin.core.errors import ExportError as ExportError
    from jangin.core.errors import JanginError as JanginError
    from jangin.core.errors import LedgerError as LedgerError
    from jangin.core.errors import LockedStoreError as LockedStoreError
    from jangin.core.errors import MachineError as MachineError
    from jangin.core.errors import MissingReplyError as MissingReplyError
    from jangin.core.errors import RefusedError as RefusedError
    from jangin.core.errors import SettingsError as SettingsError
    from jangin.core.errors import StageError as StageError
    from jangin.core.errors import StoreError as StoreError
    from jangin.core.errors import TooLongError as TooLongError
    from jangin.core.errors import TrainingError as TrainingError
    from jangin.core.events import Event as Event
    from jangin.core.events import Progress as Progress
else:
    _API = {
        **dict.fromkeys(("open", "Project"), "api.project"),
        **dict.fromkeys(("Plan", "Results", "Run"), "api.outcomes"),
        **dict.fromkeys(("Answer", "Model"), "api.model"),
        "Table": "api.tables",
        **dict.fromkeys(("Event", "Progress"), "core.events"),
    }
    """{name: module}; every other public name is an error of `core.errors`."""

    def __getattr__(name: str) -> object:
        """Load what is asked for: `import jangin` itself loads nothing."""
        from importlib import import_module

        if name in _API:
            return getattr(import_module(f"jangin.{_API[name]}"), name)
        if name.endswith("Error"):
            errors = import_module("jangin.core.errors")
            if hasattr(errors, name):
                return getattr(errors, name)
        raise AttributeError(f"module 'jangin' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_API, "JanginError"})
