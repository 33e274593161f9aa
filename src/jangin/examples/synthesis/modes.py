"""The table of synthesis modes: `synthesize` knows a mode by its row and by nothing else."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from jangin.examples.synthesis.grounded_answers import GROUNDED_ANSWERS
from jangin.examples.synthesis.instruction import INSTRUCTION
from jangin.examples.synthesis.multiple_choice import MULTIPLE_CHOICE
from jangin.examples.synthesis.question_answer import QUESTION_ANSWER
from jangin.examples.synthesis.summary import SUMMARY
from jangin.examples.synthesis.table_facts import TABLE_FACTS
from jangin.examples.synthesis.teacher import ModeConfig, SynthesisMode

MODES: tuple[SynthesisMode[Any], ...] = (
    QUESTION_ANSWER,
    MULTIPLE_CHOICE,
    SUMMARY,
    INSTRUCTION,
    GROUNDED_ANSWERS,
    TABLE_FACTS,
)

if TYPE_CHECKING:
    AnyMode = ModeConfig
else:
    AnyMode = Annotated[reduce(or_, (mode.config for mode in MODES)), Field(discriminator="type")]
    """Settings of any mode, chosen by `type`."""


def mode_of(config: ModeConfig) -> SynthesisMode[Any]:
    """The row of the mode that these settings belong to."""
    return next(mode for mode in MODES if mode.config is type(config))
