"""Libraries that trainings import where they need them, for a process whose forks train."""

from importlib import import_module


def load_libraries() -> None:
    """Import the libraries, and use none of them.

    A process that has done this has no threads of its own and has not touched a GPU, so its forks
    may train.
    """
    import_module("transformers.models.llama.modeling_llama")
