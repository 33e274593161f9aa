"""Which systems an evaluation asks: models as they are, prompted, with search, hosted, or none."""

from typing import Annotated, Literal

from pydantic import Field

from jangin.core.config import Config, Runtime

LocalModel = Literal["base", "tuned", "sft"]
"""`tuned` is the last model that a stage made, `sft` the one before preference tuning."""
Method = Literal[
    "constant",
    "random",
    "nearest",
    "linear",
    "bow_linear",
    "tfidf_svr",
    "tfidf_logistic",
    "forest",
]


class FewShotSystem(Config):
    """A model that is shown training examples before each question."""

    type: Literal["few_shot"]
    of: LocalModel = "base"
    """Which model is asked."""
    shots: int = Field(default=4, ge=1, le=64)
    """Examples shown, drawn once with the seed and the same for all questions."""

    @property
    def label(self) -> str:
        """Name in tables."""
        return f"{self.of} {self.shots}-shot"


class RetrievalSystem(Config):
    """A model that gets the passages which a search over the project's documents finds."""

    type: Literal["retrieval"]
    of: LocalModel = "base"
    """Which model is asked."""
    passages: int = Field(default=3, ge=1, le=50)
    """How many, the best last, next to the question."""

    @property
    def label(self) -> str:
        """Name in tables."""
        return f"{self.of} + retrieval"


class HostedSystem(Config):
    """A model behind an endpoint."""

    type: Literal["hosted"]
    teacher: str
    """Name of a model under `teachers`."""
    shots: int = Field(default=0, ge=0, le=64)
    """Training examples shown before each question."""
    instruction: str = ""
    """A system message before the question, such as what form the answer has."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Requests in flight at once."""

    @property
    def label(self) -> str:
        """Name in tables."""
        return f"{self.teacher} {self.shots}-shot" if self.shots else self.teacher


class BaselineSystem(Config):
    """A predictor that needs no language model, fitted on the training examples."""

    type: Literal["baseline"]
    method: Method
    """constant: the most frequent answer or the mean; nearest: the answer of the most similar
    question; the others are scikit-learn's, on labels or numbers."""

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.method


OtherSystem = Annotated[
    FewShotSystem | RetrievalSystem | HostedSystem | BaselineSystem, Field(discriminator="type")
]
System = LocalModel | OtherSystem
AnySystem = LocalModel | FewShotSystem | RetrievalSystem | HostedSystem | BaselineSystem


def label_of(system: AnySystem) -> str:
    """Name of a system in tables."""
    return system if isinstance(system, str) else system.label


def model_of(system: AnySystem) -> LocalModel | None:
    """The model of this machine that a system asks, or None."""
    if isinstance(system, str):
        return system
    return system.of if isinstance(system, FewShotSystem | RetrievalSystem) else None
