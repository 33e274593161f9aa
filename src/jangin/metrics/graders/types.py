"""The types of graders that the API takes, and what makes one invalid."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from jangin.core.config import Config
from jangin.core.errors import PortableError
from jangin.metrics.graders.formula import Formula, FormulaError
from jangin.metrics.graders.templates import TemplateError, check_template
from jangin.metrics.scores.similarity import SIMILARITIES

MOST_SOURCE_BYTES = 256 * 1024
"""Longest source of a Python grader, as at OpenAI."""


class InvalidGraderError(PortableError):
    """A grader cannot be run as it is written.

    `param` is the path of the wrong value, such as `grader.graders.exact.operation`; `code` one of
    `missing_required_parameter`, `unknown_parameter` and `invalid_value`.
    """

    def __init__(self, message: str, param: str, code: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def _template(text: str) -> str:
    try:
        check_template(text)
    except TemplateError as error:
        raise ValueError(str(error)) from None
    return text


Template = Annotated[str, AfterValidator(_template)]
"""A text with `{{item.x}}`, `{{sample.output_text}}` or `{{sample.output_json.y}}` in it."""


class StringCheck(Config):
    """1 if two texts are equal, differ, or one contains the other; else 0."""

    type: Literal["string_check"]
    name: str
    input: Template
    reference: Template
    operation: Literal["eq", "ne", "like", "ilike"]
    """`like`: the input contains the reference; `ilike`: the same in any letter case."""


class TextSimilarity(Config):
    """How similar two texts are, by one of the functions in `jangin.metrics.scores.similarity`."""

    type: Literal["text_similarity"] = "text_similarity"
    name: str
    input: Template
    reference: Template
    evaluation_metric: str
    pass_threshold: float | None = None
    """Accepted because evals use it; a grader's reward is the score itself."""

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.evaluation_metric not in SIMILARITIES:
            names = ", ".join(f"'{name}'" for name in SIMILARITIES)
            raise ValueError(f"'{self.evaluation_metric}' is no metric. Supported are: {names}.")
        return self


class ContentText(Config):
    """A part of a message: text."""

    type: Literal["input_text", "output_text", "text"]
    text: Template
    prompt_cache_breakpoint: Any = None


class GraderMessage(Config):
    """A message to the model that grades."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Template | ContentText | list[Template | ContentText]
    type: Literal["message"] = "message"

    @property
    def template(self) -> str:
        """The texts of all parts, one below the other."""
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "\n".join(part if isinstance(part, str) else part.text for part in parts)


class SamplingParams(Config):
    """How the model that grades is sampled."""

    seed: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    max_completions_tokens: int | None = Field(default=None, ge=1)
    reasoning_effort: str | None = None


class ScoreModel(Config):
    """A model gives a number within a range."""

    type: Literal["score_model"]
    name: str
    model: str
    input: list[GraderMessage] = Field(min_length=1)
    range: tuple[float, float] = (0.0, 1.0)
    sampling_params: SamplingParams = SamplingParams()
    pass_threshold: float | None = None
    """As that of `TextSimilarity`."""

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.range[0] < self.range[1]:
            raise ValueError("The first number of 'range' must be below the second.")
        return self


class LabelModel(Config):
    """A model chooses a label; 1 if it is a passing one, else 0."""

    type: Literal["label_model"]
    name: str
    model: str
    input: list[GraderMessage] = Field(min_length=1)
    labels: list[str] = Field(min_length=1)
    passing_labels: list[str] = Field(min_length=1)
    sampling_params: SamplingParams = SamplingParams()

    @model_validator(mode="after")
    def _is_subset(self) -> Self:
        if unknown := [label for label in self.passing_labels if label not in self.labels]:
            raise ValueError(f"'{unknown[0]}' of 'passing_labels' is not one of 'labels'.")
        return self


class PythonGrader(Config):
    """`grade(sample, item) -> float` of a source text, run where the server's settings allow it."""

    type: Literal["python"]
    name: str
    source: str
    pass_threshold: float | None = None
    """As that of `TextSimilarity`."""
    image_tag: str = ""
    """Accepted and ignored: the interpreter is the server's own."""

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        if len(self.source.encode()) > MOST_SOURCE_BYTES:
            raise ValueError(f"'source' is longer than {MOST_SOURCE_BYTES} bytes.")
        try:
            compile(self.source, "grader", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"'source' is not valid Python: {error}.") from None
        return self


SingleGrader = Annotated[
    StringCheck | TextSimilarity | ScoreModel | LabelModel | PythonGrader,
    Field(discriminator="type"),
]


class MultiGrader(Config):
    """A formula over the rewards of other graders."""

    type: Literal["multi"]
    name: str
    graders: dict[str, SingleGrader] = Field(min_length=1)
    """{name in the formula: grader}. A single grader is taken under its own name."""
    calculate_output: str

    @model_validator(mode="before")
    @classmethod
    def _single(cls, data: Any) -> Any:
        """The specification types `graders` as one grader, the guide as a table of them."""
        graders = data.get("graders") if isinstance(data, Mapping) else None
        if isinstance(graders, Mapping) and isinstance(graders.get("type"), str):
            return {**data, "graders": {str(graders.get("name")): graders}}
        return data

    @model_validator(mode="after")
    def _formula_parses(self) -> Self:
        try:
            Formula.parse(self.calculate_output, self.graders)
        except FormulaError as error:
            raise ValueError(f"'calculate_output': {error}") from None
        return self


Grader = Annotated[
    StringCheck | TextSimilarity | ScoreModel | LabelModel | PythonGrader | MultiGrader,
    Field(discriminator="type"),
]
AnyGrader = StringCheck | TextSimilarity | ScoreModel | LabelModel | PythonGrader | MultiGrader
GRADER: TypeAdapter[AnyGrader] = TypeAdapter(Grader)
TYPES = ("string_check", "text_similarity", "score_model", "label_model", "python", "multi")


def parse_grader(data: object) -> AnyGrader:
    """The grader of a request's `grader` value.

    Raises:
        InvalidGraderError: It is no grader, or cannot be run as it is written.

    """
    if isinstance(data, Mapping) and data.get("type") not in TYPES:
        names = ", ".join(f"'{name}'" for name in TYPES)
        text = f"Invalid value: {data.get('type')!r}. Supported values are: {names}."
        raise InvalidGraderError(text, "grader.type", "invalid_value")
    try:
        return GRADER.validate_python(data)
    except ValidationError as error:
        raise _first_error(error) from None
    except RecursionError:
        raise InvalidGraderError(
            "The grader is nested too deeply.", "grader", "invalid_value"
        ) from None


def _first_error(error: ValidationError) -> InvalidGraderError:
    first = error.errors(include_url=False, include_context=False)[0]
    parts = [str(part) for part in first["loc"] if str(part) not in TYPES]
    param = ".".join(["grader", *parts])
    if first["type"] == "missing":
        text = f"Missing required parameter: '{param}'."
        return InvalidGraderError(text, param, "missing_required_parameter")
    if first["type"] == "extra_forbidden":
        text = f"Unknown parameter: '{param}'."
        return InvalidGraderError(text, param, "unknown_parameter")
    reason = first["msg"].removeprefix("Value error, ")
    return InvalidGraderError(f"Invalid '{param}': {reason}", param, "invalid_value")
