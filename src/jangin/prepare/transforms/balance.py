"""Cap the rows per value of a column, by weighted sampling."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jangin.core.config import Config
from jangin.core.errors import SettingsError

if TYPE_CHECKING:
    import polars as pl


class Balance(Config):
    """Group rows by a value and sample a group above the cap, without replacement."""

    type: Literal["balance"]
    column: str
    """Column whose values are the groups; a number belongs to the group of its rounded value."""
    most: int = Field(ge=1)
    """Maximum number of rows of a group."""
    all_from: float | None = None
    """Groups of numbers from this value on keep all of their rows."""
    weight_column: str = ""
    """Column whose values have weights, such as a category."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Sampling weight of each value: a row of weight 5 is usually drawn before one of weight 1."""
    other_weight: float = Field(default=1, gt=0)
    """Weight of values that are not in `weights`."""
    seed: int = Field(default=42, ge=0)

    def drop_reasons(self, rows: "pl.DataFrame") -> "pl.Series":
        """The drop reason of each row (Categorical), null for kept rows.

        Weighted sampling without replacement takes the largest u ** (1 / weight), u uniform in
        [0, 1): Efraimidis and Spirakis (2006), algorithm A-Res.

        Raises `SettingsError` if a weight is not above 0.
        """
        import numpy as np
        import polars as pl

        from jangin.prepare.transforms.columns import as_text, round_half_up

        for value, weight in self.weights.items():
            if weight <= 0:
                raise SettingsError(
                    f"balance: the weight {weight:g} of {value!r} is not above 0. Raise it, or "
                    "drop such rows with filter."
                )
        text = pl.col(self.column).fill_null("").cast(pl.String)
        number = text.cast(pl.Float64, strict=False)
        slot = pl.coalesce(as_text(round_half_up(number)), text)
        weights = pl.lit(self.other_weight)
        if self.weight_column:
            weights = pl.col(self.weight_column).replace_strict(
                self.weights, default=self.other_weight, return_dtype=pl.Float64
            )
        uniform = np.random.default_rng(self.seed).random(len(rows))
        frame = rows.select(slot=slot, number=number, weight=weights).with_columns(
            priority=pl.Series(uniform).log() / pl.col("weight")
        )
        over = pl.col("priority").rank("ordinal", descending=True).over("slot") > self.most
        if self.all_from is not None:
            over &= (pl.col("number") < self.all_from).fill_null(value=True)
        reason = pl.format(f"slot {{}} of {self.column} is full", pl.col("slot"))
        reasons = frame.select(reason=pl.when(over).then(reason))
        return reasons["reason"].cast(pl.Categorical)
