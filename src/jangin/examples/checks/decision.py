"""`Decision`: whether a filter keeps a row, and the records that are written of dropped rows."""

from dataclasses import dataclass

from jangin.core.reasons import Reason
from jangin.core.records import Dropped, Example, Score
from jangin.llm.replies import Failed


@dataclass(frozen=True, slots=True)
class Decision:
    """What a filter decides about one row: a dropped row has the name of a rule and a reason."""

    rule: str = ""
    """Empty for a row that is kept."""
    reason: Reason = Reason()  # noqa: RUF009  immutable
    scores: tuple[Score, ...] = ()
    """Of a row that is kept, from the checks that it passed."""
    twin: int | None = None
    """Index of the row that is kept in place of a duplicate."""

    @property
    def keep(self) -> bool:
        """True if no rule drops the row."""
        return not self.rule

    def failed(self, subject: str, request: str, reply: str) -> Failed:
        """The record of a row of a teacher's reply that this decision drops."""
        return Failed(
            subject=subject,
            request=request,
            reason=self.reason,
            reply=reply,
            kind="rejected",
            rule=self.rule,
        )

    def dropped(self, example: Example, twin: str = "") -> Dropped:
        """The record of an example that this decision drops; `twin` is the id of the one kept."""
        return Dropped(example=example, rule=self.rule, reason=self.reason, twin=twin)


KEEP = Decision()


def drop(rule: str, reason: Reason, twin: int | None = None) -> Decision:
    """The decision of a rule to drop a row."""
    return Decision(rule, reason, twin=twin)
