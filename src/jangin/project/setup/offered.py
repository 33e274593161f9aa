"""What stands in the way of a plan's teachers: models that are gone, or will be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from jangin.core.errors import JanginError
from jangin.llm.offers import HOSTED_SECONDS, Offer, offers_of
from jangin.llm.prices import listed
from jangin.project.plan import PlannedStage
from jangin.project.session import Session
from jangin.project.source.teachers import EndpointTeacher

MOST_NAMED = 8
SOON_DAYS = 90
"""A model that is switched off within this time is mentioned."""


@dataclass(slots=True)
class ModelLists:
    """The lists of models of the endpoints of one plan; each is asked once."""

    _known: dict[str, tuple[Offer, ...]] = field(default_factory=dict)

    def notes(self, session: Session, steps: Sequence[PlannedStage]) -> Iterator[str]:
        """A sentence for each teacher of the steps that run whose model is not offered, or ends."""
        for step in steps:
            teachers = session.project.variants[step.variant].teachers
            for name in step.stage.teachers(step.config) if step.state != "cached" else ():
                teacher = teachers[name]
                if isinstance(teacher, EndpointTeacher):
                    yield from self._note(teacher)

    def _note(self, teacher: EndpointTeacher) -> Iterator[str]:
        offers = self._offers(teacher)
        provider = teacher.known_provider
        page = f" ({provider.models_page})" if provider is not None else ""
        row = listed(provider.address if provider is not None else "", teacher.model)
        offer = next((each for each in offers if each.model == teacher.model), None)
        others = ", ".join(_nearest(teacher.model, offers))
        instead = f" It offers {others}." if others else ""
        if offers and offer is None:
            yield (
                f"{teacher.base_url} does not offer model {teacher.model!r}.{instead} "
                f"Change `model:` of the teacher{page}."
            )
            return
        off = offer.off if offer is not None and offer.off is not None else row and row.off
        if off and (off - datetime.now(UTC).date()).days <= SOON_DAYS:
            yield (
                f"{teacher.base_url} switches model {teacher.model!r} off on {off}.{instead} "
                f"Change `model:` of the teacher{page}."
            )

    def _offers(self, teacher: EndpointTeacher) -> tuple[Offer, ...]:
        """The list of models; empty where the endpoint has none, or is not to be asked."""
        if teacher.base_url not in self._known:
            try:
                offers = offers_of(teacher.base_url, teacher.key_variable, HOSTED_SECONDS)
            except JanginError:  # a run says what is wrong; there may be no such list at all
                offers = ()
            self._known[teacher.base_url] = offers
        return self._known[teacher.base_url]


def _nearest(model: str, offers: Sequence[Offer]) -> list[str]:
    """Names of some other models, those that are written alike first."""
    from rapidfuzz import fuzz, process

    others = [offer.model for offer in offers if offer.model != model]
    matches = process.extract(model, others, scorer=fuzz.ratio, limit=MOST_NAMED)
    return [name for name, _, _ in matches]
