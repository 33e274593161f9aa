"""What every training imports, for a process whose forks train."""


def load_libraries() -> None:
    """Import the libraries and modules of training, and use none of them.

    A process that has done this has no threads of its own and has not touched a GPU, so its forks
    may train.
    """
    import jangin.models.starter
    import jangin.models.tokens.preview
    import jangin.text.dedup.components
    import jangin.training.distributed.fit
    import jangin.training.dpo
    import jangin.training.objectives.sft
    import jangin.training.sft  # noqa: F401
