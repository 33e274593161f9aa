"""What a synthesis mode is: its settings, its prompts, and two functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, get_args

from jangin.core.config import Config
from jangin.core.reasons import Reason
from jangin.core.records import Chunk
from jangin.examples.checks.passage import Passage
from jangin.examples.synthesis.novelty import NoveltyFilter
from jangin.examples.synthesis.teacher import SynthesisOutput, TeacherSession
from jangin.llm.replies.structured import StructuredRequest


class ModeConfig(Config):
    """Settings of a mode; a subclass narrows `type` to a `Literal` of the mode's name."""

    type: str


M = TypeVar("M", bound=ModeConfig)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The requests of a mode, for `jangin plan`."""

    questions: Sequence[StructuredRequest]
    """Requests that can be written before any reply is known."""
    later: int = 0
    """Largest number of further requests, which depend on replies."""


def _asks_about_every_chunk(_config: ModeConfig, _chunk: Chunk) -> Reason:
    return Reason()


@dataclass(frozen=True, slots=True)
class SynthesisMode(Generic[M]):
    """One kind of row that `synthesize` can make. `modes.MODES` lists all of them."""

    config: type[M]
    """Class of its settings."""
    templates: tuple[str, ...]
    """Names of its prompts in `core/templates`."""
    make: Callable[[TeacherSession, M, Sequence[Passage], NoveltyFilter], SynthesisOutput]
    """Ask the teacher, check its rows, and return those that are kept and those that are not.

    The passages are those of all chunks; there are none unless `wants` has `documents` and
    `chunks`. The mode reads other kinds from the session's context."""
    estimate: Callable[[TeacherSession, M, Sequence[Passage]], Estimate]
    """The requests that `make` would send."""
    wants: tuple[str, ...] = ("documents", "chunks")
    """Kinds of artifacts that it reads."""
    skip_reason: Callable[[M, Chunk], Reason] = _asks_about_every_chunk
    """Why the mode does not ask about a chunk; empty where it does."""

    @property
    def name(self) -> str:
        """Name of the mode in a project file."""
        return str(get_args(self.config.model_fields["type"].annotation)[0])

    @property
    def reads_chunks(self) -> bool:
        """True if the mode asks about chunks."""
        return "chunks" in self.wants
