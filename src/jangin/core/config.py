"""Base config class: strict, frozen, `Runtime[...]` fields kept out of the cache key."""

from collections.abc import Iterator
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

T = TypeVar("T")


class _NotIdentity:
    """Marks a field that never affects the result, only where or how fast it is computed."""


Runtime = Annotated[T, _NotIdentity()]
"""`folder: Runtime[Path]`: may differ between machines without invalidating an artifact."""


class _RarelySet:
    """Marks a field that hardly any project sets."""


Advanced = Annotated[T, _RarelySet()]
"""`beta2: Advanced[float]`: documented in a table of its own; changes nothing else."""


class _NoIdentityAtDefault:
    """Marks a field that enters the cache key only where it differs from its default."""


Added = Annotated[T, _NoIdentityAtDefault()]
"""`engine: Added[Engine]`: added to a stage after a release. Its default must mean what the stage
did before, so artifacts made before the field existed stay valid."""


class Config(BaseModel):
    """Unknown keys are errors, instances are immutable, descriptions come from docstrings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_kwargs: Any) -> None:
        """Check the fields of a new config class.

        Raises:
            TypeError: A field would not enter the cache key as its declaration suggests.

        """
        for name, field in cls.model_fields.items():
            for fault in _faults(field.annotation):
                raise TypeError(f"{cls.__name__}.{name}: {fault}")

    def identity(self) -> dict[str, Any]:
        """The config as JSON values, at every depth.

        Without `Runtime` fields, and without `Added` fields that have their default.
        """
        dump = self.model_dump(mode="json")
        return {
            name: _identity(getattr(self, name), dump[name])
            for name, field in type(self).model_fields.items()
            if not is_runtime(field) and not self._is_added_default(name, field)
        }

    def _is_added_default(self, name: str, field: FieldInfo) -> bool:
        added = any(isinstance(mark, _NoIdentityAtDefault) for mark in field.metadata)
        return added and getattr(self, name) == field.get_default(call_default_factory=True)


class StageConfig(Config):
    """Settings of one stage."""


def is_runtime(field: FieldInfo) -> bool:
    """True for a field declared with `Runtime[...]`."""
    return any(isinstance(mark, _NotIdentity) for mark in field.metadata)


def is_advanced(field: FieldInfo) -> bool:
    """True for a field declared with `Advanced[...]`."""
    return any(isinstance(mark, _RarelySet) for mark in field.metadata)


def _faults(annotation: object) -> Iterator[str]:
    if isinstance(annotation, _NotIdentity):
        yield "Runtime[...] must enclose the whole type, or it marks nothing"
    if isinstance(annotation, _NoIdentityAtDefault):
        yield "Added[...] must enclose the whole type, or it marks nothing"
    if (get_origin(annotation) or annotation) in (set, frozenset):
        yield "the order of a set differs between processes; use a tuple"
    for argument in get_args(annotation):
        yield from _faults(argument)


def _identity(value: object, dumped: object) -> object:
    """Strip `Runtime` fields from configs inside `value`, whose JSON form is `dumped`."""
    if isinstance(value, Config):
        return value.identity()
    if isinstance(value, tuple | list) and isinstance(dumped, list):
        return [_identity(item, part) for item, part in zip(value, dumped, strict=True)]
    if isinstance(value, dict) and isinstance(dumped, dict):
        return {
            key: _identity(item, part)
            for (key, part), item in zip(dumped.items(), value.values(), strict=True)
        }
    return dumped
