"""Exact duplicates, conflicting answers and near duplicates of prompts.

Each prompt is kept once, with one answer, so that no copy of a training row is in the test set.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jangin.core.config import Config

if TYPE_CHECKING:
    import polars as pl

KEY, ANSWER, PROMPT = "__key", "__answer", "__prompt"
"""Hash of the prompt (uint64), hash of the answer (uint64), the prompt."""
OTHER_ANSWER = "another answer to the same text"
SAME_TEXT = "same text as an earlier row"
Match = Literal["exact", "loose"]
Conflicts = Literal["drop", "majority", "clear_majority", "first", "last", "keep"]


class Deduplicate(Config):
    """Keep one row of each prompt; if a prompt has different answers, resolve the conflict."""

    type: Literal["deduplicate"]
    match: Match = "loose"
    """`loose` ignores case, spaces and punctuation, as the check for leaks does."""
    conflicts: Conflicts = "majority"
    """`drop` keeps none of the answers, `majority` the most frequent one (the first of ties),
    `clear_majority` the most frequent one and none of ties, `keep` every different one."""

    def drop_reasons(self, rows: "pl.DataFrame") -> "pl.Series":
        """The drop reason of each row (Categorical), null for kept rows.

        `rows` has the columns `KEY` and `ANSWER`, hashes as uint64. Only the rows of prompts with
        several answers are counted; for all others a set lookup is enough.
        """
        import polars as pl

        key, pair = rows[KEY], rows[KEY] * 0x9E3779B97F4A7C15 + rows[ANSWER]
        first = pair.is_first_distinct()
        kept, other = first, pl.Series([False]).new_from_index(0, len(rows))
        # Each pair is in `distinct` once, so a repeated key there has several answers.
        distinct = pl.DataFrame({KEY: key.filter(first), "pair": pair.filter(first)})
        conflicting = distinct.filter(pl.col(KEY).is_duplicated())
        if len(conflicting) and self.conflicts != "keep":
            disputed = pl.DataFrame({KEY: key, "pair": pair}).with_row_index("index")
            disputed = disputed.filter(pair.is_in(conflicting["pair"].implode()))
            counts = disputed.group_by(KEY, "pair").agg(
                n=pl.len(), first=pl.col("index").min(), last=pl.col("index").max()
            )
            losers = counts.join(self._chosen(counts), on="pair", how="anti")
            other = pair.is_in(losers["pair"].implode())
            kept = first & ~other
        reason = (
            pl.when(other)
            .then(pl.lit(OTHER_ANSWER, pl.Categorical))
            .when(~kept)
            .then(pl.lit(SAME_TEXT, pl.Categorical))
        )
        return pl.select(reason.alias("reason")).to_series()

    def _chosen(self, conflicting: "pl.DataFrame") -> "pl.DataFrame":
        """The answer that is kept of each prompt."""
        import polars as pl

        if self.conflicts == "drop":
            return conflicting.clear()
        if self.conflicts == "clear_majority":
            most = conflicting.filter(pl.col("n") == pl.col("n").max().over(KEY))
            return most.filter(pl.col(KEY).is_unique())
        by, falling = ["first"], [False]
        if self.conflicts == "last":
            by, falling = ["last"], [True]
        elif self.conflicts == "majority":
            by, falling = ["n", "first"], [True, False]
        ordered = conflicting.sort(by, descending=falling)
        return ordered.unique(KEY, keep="first", maintain_order=True)


class NearDuplicates(Config):
    """Keep the first of prompts that differ by a few letters."""

    type: Literal["near_duplicates"]
    threshold: float = Field(default=0.9, ge=0.5, le=1)
    """Minimum similarity: 1 - Levenshtein distance / length."""
    same_words: bool = True
    """The content words must also be the same: `3 days` and `5 days` are no duplicates."""
    same_answer: bool = True
    """The answers must also be the same: prompts with different answers are both kept."""

    def drop_reasons(self, rows: "pl.DataFrame") -> "pl.Series":
        """The drop reason of each row (Categorical), null for kept rows.

        `rows` has the columns `PROMPT` and `ANSWER`, all in memory.
        """
        import polars as pl

        from jangin.text.dedup.near_duplicates import DuplicateRules, find_duplicates

        rules = DuplicateRules(threshold=self.threshold, guard=self.same_words)
        duplicates = find_duplicates(rows[PROMPT].to_list(), rules)
        reasons: list[str | None] = [None] * len(rows)
        answers = rows[ANSWER].to_list()
        for duplicate in duplicates:
            if not self.same_answer or answers[duplicate.row] == answers[duplicate.twin]:
                reasons[duplicate.row] = f"{duplicate.match} copy of an earlier row"
        return pl.Series("reason", reasons, dtype=pl.Categorical)
