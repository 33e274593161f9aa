"""A step over all rows: no value of a column stands more often than it may, drawn by weight."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jangin.core.config import Config
from jangin.core.errors import SettingsError

if TYPE_CHECKING:
    import polars as pl


class Balance(Config):
    """Rows fall into slots by a value; a slot over its cap is drawn from without replacement."""

    type: Literal["balance"]
    column: str
    """A number falls into the slot of its rounded value, another text into its own."""
    most: int = Field(ge=1)
    """Rows that a slot keeps."""
    all_from: float | None = None
    """Slots of numbers from here on keep all of their rows."""
    weight_column: str = ""
    """Column whose values have weights, such as a category."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each value; a row of weight 5 is drawn before one of weight 1 most of the time."""
    other_weight: float = Field(default=1, gt=0)
    """Of values that have none."""
    seed: int = Field(default=42, ge=0)

    def decide(self, rows: "pl.DataFrame") -> "pl.Series":
        """A reason for each row that goes.

        Drawing one after another by weight is taking the largest u ** (1 / weight), u uniform:
        Efraimidis and Spirakis 2006.
        """
        import numpy as np
        import polars as pl

        from jangin.prepare.transforms.columns import as_text, round_half_up

        if any(weight <= 0 for weight in self.weights.values()):
            raise SettingsError("balance: a weight is not above 0. Use filter to drop a category.")
        text = pl.col(self.column).fill_null("").cast(pl.String)
        number = text.cast(pl.Float64, strict=False)
        slot = pl.coalesce(as_text(round_half_up(number)), text)
        weight = pl.lit(self.other_weight)
        if self.weight_column:
            weight = pl.col(self.weight_column).replace_strict(
                self.weights, default=self.other_weight, return_dtype=pl.Float64
            )
        drawn = np.random.default_rng(self.seed).random(len(rows))
        frame = rows.select(slot=slot, number=number, weight=weight).with_columns(
            draw=pl.Series(drawn).log() / pl.col("weight")
        )
        place = pl.col("draw").rank("ordinal", descending=True).over("slot")
        over = place > self.most
        if self.all_from is not None:
            over &= (pl.col("number") < self.all_from).fill_null(value=True)
        reason = pl.format(f"slot {{}} of {self.column} is full", pl.col("slot"))
        found = frame.select(reason=pl.when(over).then(reason))
        return found["reason"].cast(pl.Categorical)
