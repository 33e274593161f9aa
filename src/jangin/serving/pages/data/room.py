"""What all pages of the data share: the variant that they are about, and how values are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from jangin.core.store import Artifact
from jangin.serving.pages.visit import PageError
from jangin.serving.state.project import OpenProject


@dataclass(frozen=True, slots=True)
class DataRoom:
    """The artifacts of one variant, and the names of all variants."""

    variant: str
    variants: tuple[str, ...]
    artifacts: Mapping[str, Artifact]
    """{stage: artifact} in the order in which data flows."""

    def address(self, path: str = "", **fields: object) -> str:
        """An address in this room, with the variant where there are several."""
        return address(f"/data{path}", variant=self._named, **fields)

    @property
    def _named(self) -> str:
        return self.variant if len(self.variants) > 1 else ""


def data_room(project: OpenProject, variant: str) -> DataRoom:
    """The data of a variant, by default of the first that has any.

    Raises: PageError: there is no such variant.
    """
    states = project.snapshot().variants
    if variant and variant not in states:
        raise PageError(404, "data_no_variant", variant=variant)
    chosen = variant or next((name for name, state in states.items() if state.last), "")
    chosen = chosen or next(iter(states))
    return DataRoom(chosen, tuple(states), states[chosen].last)


def address(path: str, **fields: object) -> str:
    """A path with a query of the fields that are not empty."""
    given = [(key, value) for key, value in fields.items() if value not in ("", None, False)]
    return f"{path}?{urlencode(given, doseq=True)}" if given else path
