"""The layers that an adapter names, checked against the base before any other work."""

from collections.abc import Callable
from typing import Any

from jangin.core.errors import SettingsError, TrainingError
from jangin.core.stage import StageContext
from jangin.training.loop.config import Adapter


def target_check(stage: str) -> Callable[[StageContext[Any]], None]:
    """`Stage.check` of a stage that trains adapters on `base`.

    It raises `SettingsError` where a name in `targets` is that of no layer. The base is built
    without weights for it, so that takes seconds, and only where names are given.
    """

    def check(context: StageContext[Any]) -> None:
        method = context.config.method
        if not isinstance(method, Adapter) or isinstance(method.targets, str):
            return
        from jangin.models.loading import model_without_weights, outside_of_text
        from jangin.training.loop.weights import refuse_unknown_targets

        model = model_without_weights(context.folder("base"))
        try:
            refuse_unknown_targets(model, method.targets, outside_of_text(model))
        except TrainingError as error:
            text = str(error).removeprefix("`targets`: ")
            raise SettingsError(f"{stage}.method.targets: {text}") from error

    return check
