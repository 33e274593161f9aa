"""What asking models cost each variant, out of the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass

from jangin.core.ledger import Bill
from jangin.core.store import Artifact
from jangin.project.session import Session
from jangin.project.stages import STAGES
from jangin.report.i18n.translate import Words
from jangin.text.numbers import dollars


@dataclass(frozen=True, slots=True)
class VariantCost:
    """What teachers, judges and hosted models took for one variant."""

    bill: Bill
    unknown: tuple[str, ...] = ()
    """Stages that ask models and whose calls this store never noted."""

    @property
    def usd(self) -> float | None:
        """Dollars of the calls whose price is known; None where there is no such sum."""
        if self.unknown or (self.bill.unpriced and not self.bill.usd):
            return None
        return round(self.bill.usd, 6)

    def text(self, words: Words) -> str:
        """In a few words, for a table; never 0 where the cost is unknown."""
        if self.unknown:
            return words("cost_unknown", stages=", ".join(self.unknown))
        usd = dollars(self.bill.usd)
        if self.bill.unpriced:
            unpriced = words("cost_unpriced", count=self.bill.unpriced)
            return f"{usd} + {unpriced}" if self.bill.usd else unpriced
        if self.bill.recorded and not self.bill.calls:
            return words("cost_recorded", usd=usd)
        return usd if self.bill.calls else words("cost_nothing_asked", usd=usd)


def variant_costs(
    session: Session, artifacts: Mapping[str, Mapping[str, Artifact]]
) -> dict[str, VariantCost]:
    """The cost of every variant; shared costs were paid once and count for each."""
    asks = {stage.name: stage.teachers for stage in STAGES}
    costs = {}
    for variant, stages in artifacts.items():
        project = session.project.variants[variant]
        keys = {name: artifact.manifest.key for name, artifact in stages.items()}
        unknown = tuple(
            name
            for name, key in keys.items()
            if (config := project.stage_config(name)) is not None
            and asks[name](config)
            and not session.ledger.has_uses(key)
        )
        costs[variant] = VariantCost(session.ledger.bill(tuple(keys.values())), unknown)
    return costs
