"""The types of graders that the API takes, and what makes one invalid."""

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from jangin.core.config import Config
from jangin.core.errors import PortableError, counted
from jangin.metrics.scores.similarity import SIMILARITIES

# Templates of graders: `{{item.x}}`, `{{sample.output_text}}`, `{{sample.output_json.y}}`.


_VARIABLE = re.compile(r"\{\{([^{}]*)\}\}")
_PATH = re.compile(r"[^\s.\[\]]+(?:\.[^\s.\[\]]+|\[\d+\])*")
_STEP = re.compile(r"[^.\[\]]+")
NAMESPACES = ("item", "sample")


class TemplateError(PortableError):
    """A variable does not exist; `key` is the error of the grader's result that this is."""

    def __init__(self, message: str, key: str = "invalid_variable_error") -> None:
        super().__init__(message)
        self.key = key


class Values:
    """What templates can refer to: a row of a data set and the answer of a model."""

    def __init__(self, item: Mapping[str, Any], output_text: str) -> None:
        self.item = item
        self.sample: dict[str, Any] = {"output_text": output_text}
        try:
            self.sample["output_json"] = json.loads(output_text)
        except (ValueError, RecursionError):
            self.is_json = False
        else:
            self.is_json = True

    def value(self, path: str) -> Any:
        """The value of a path such as `item.answers[0].text`.

        Raises:
            TemplateError: It does not exist.

        """
        current: Any = {"item": self.item, "sample": self.sample}
        steps = _STEP.findall(path)
        if steps[:2] == ["sample", "output_json"] and not self.is_json:
            raise TemplateError(
                f"{{{{{path}}}}}: the sample is not valid JSON.", "sample_parse_error"
            )
        for step in steps:
            if isinstance(current, Mapping) and step in current:
                current = current[step]
            elif isinstance(current, list) and step.isdecimal() and int(step) < len(current):
                current = current[int(step)]
            else:
                raise TemplateError(f"{{{{{path}}}}} does not exist: there is no '{step}'.")
        return current


def check_template(text: str) -> None:
    """Check the variables of a template without values.

    Raises:
        TemplateError: A variable has an unknown namespace or is not a path.

    """
    for match in _VARIABLE.finditer(text):
        path = match[1].strip()
        namespace = path.partition(".")[0].partition("[")[0]
        if not _PATH.fullmatch(path) or namespace not in NAMESPACES:
            raise TemplateError(
                f"The template variable {match[0]} is not of the form "
                "{{item.NAME}} or {{sample.NAME}}."
            )


def item_fields(text: str) -> set[str]:
    """The fields of items that templates in a text name: `x` of `{{item.x[0].y}}`."""
    paths = (_STEP.findall(match[1].strip()) for match in _VARIABLE.finditer(text))
    return {path[1] for path in paths if len(path) > 1 and path[0] == "item"}


def fill(text: str, values: Values) -> str:
    """The template with its variables replaced; what is not a text is inserted as JSON.

    Raises:
        TemplateError: A variable does not exist.

    """

    def shown(match: re.Match[str]) -> str:
        value = values.value(match[1].strip())
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return _VARIABLE.sub(shown, text)


# Formulas of multi graders: arithmetic over rewards, evaluated without `eval`.


MOST_CHARACTERS = 2000
FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": lambda *values: min(values),
    "max": lambda *values: max(values),
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
OF_MANY = ("min", "max")
"""Functions that take any number of values; the others take one."""
BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class FormulaError(Exception):
    """A formula is not arithmetic over known names, or has no finite value."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula: numbers, names of graders, `+ - * / ^` and a few functions."""

    tree: ast.expr

    @classmethod
    def parse(cls, text: str, names: Collection[str]) -> "Formula":
        """Parse a formula over these names.

        Raises:
            FormulaError: It has anything else in it.

        """
        if len(text) > MOST_CHARACTERS:
            raise FormulaError(f"the formula is longer than {MOST_CHARACTERS} characters.")
        try:
            tree = ast.parse(text.replace("^", "**").strip(), mode="eval").body
            _check(tree, names)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise FormulaError(f"'{text[:80]}' is not a formula.") from None
        return cls(tree)

    def value(self, rewards: Mapping[str, float]) -> float:
        """The formula's value, in floating point throughout, so that no power grows large.

        Raises:
            FormulaError: It has none, as 1 / 0.

        """
        try:
            result = float(_evaluate(self.tree, rewards))
        except (ArithmeticError, ValueError) as error:
            raise FormulaError(f"the formula has no value: {error}.") from None
        if not math.isfinite(result):
            raise FormulaError("the formula has no finite value.")
        return result


def _check(node: ast.expr, names: Collection[str]) -> None:
    match node:
        case ast.Constant(value=bool() as value):
            raise FormulaError(f"'{value}' is not a number.")
        case ast.Constant(value=int() | float()):
            return
        case ast.Name(id=name):
            if name not in names:
                known = ", ".join(sorted(names))
                raise FormulaError(f"'{name}' is not a grader. Its graders are: {known}.")
        case ast.UnaryOp(op=op, operand=operand) if type(op) in UNARY:
            _check(operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            _check(left, names)
            _check(right, names)
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]):
            if function not in FUNCTIONS:
                raise FormulaError(
                    f"'{function}' cannot be called. Known are: {', '.join(FUNCTIONS)}."
                )
            if not arguments or (len(arguments) > 1 and function not in OF_MANY):
                raise FormulaError(
                    f"'{function}' does not take {counted(len(arguments), 'value')}."
                )
            for argument in arguments:
                _check(argument, names)
        case _:
            text = ast.unparse(node)[:80]
            raise FormulaError(f"'{text}' is not allowed: only numbers, names, + - * / ^ are.")


def _evaluate(node: ast.expr, rewards: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return rewards[name]
        case ast.UnaryOp(op=op, operand=operand):
            return UNARY[type(op)](_evaluate(operand, rewards))
        case ast.BinOp(left=left, op=op, right=right):
            return BINARY[type(op)](_evaluate(left, rewards), _evaluate(right, rewards))
        case ast.Call(func=ast.Name(id=function), args=arguments):
            return float(FUNCTIONS[function](*(_evaluate(value, rewards) for value in arguments)))
    raise ValueError("unreachable: the formula was checked")


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


class GraderSampling(Config):
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
    sampling_params: GraderSampling = GraderSampling()
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
    sampling_params: GraderSampling = GraderSampling()

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
