"""Templates of graders: `{{item.x}}`, `{{sample.output_text}}`, `{{sample.output_json.y}}`."""

import json
import re
from collections.abc import Mapping
from typing import Any

from jangin.core.errors import PortableError

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
