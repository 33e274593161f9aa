"""All tasks. A new task is a file beside this one and a row here."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from jangin.evaluation.tasks.answers import AnswersTask
from jangin.evaluation.tasks.labels import LabelsTask
from jangin.evaluation.tasks.numbers import NumbersTask
from jangin.evaluation.tasks.task import TaskConfig

TASKS: tuple[type[TaskConfig], ...] = (AnswersTask, LabelsTask, NumbersTask)

DEFAULT_TASK = AnswersTask()


def task_type() -> Any:
    """Type of the setting `task` for pydantic: any row of the table."""
    rows: Any = reduce(or_, TASKS)
    return Annotated[rows, Field(discriminator="type")]


if TYPE_CHECKING:
    AnyTask = TaskConfig
else:
    AnyTask = task_type()
