"""Steps over all rows: one text stands once, with one answer; so no copy can reach a test set."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jangin.core.config import Config

if TYPE_CHECKING:
    import polars as pl

KEY, ANSWER, PROMPT = "__key", "__answer", "__prompt"
OTHER_ANSWER = "another answer to the same text"
SAME_TEXT = "same text as an earlier row"
Match = Literal["exact", "loose"]


class Deduplicate(Config):
    """Of rows with one prompt keep one; several answers to it are a conflict, with a rule."""

    type: Literal["deduplicate"]
    match: Match = "loose"
    """`loose` looks past case, blanks and punctuation, as the check for leaks does."""
    conflicts: Literal["drop", "majority", "first", "last", "keep"] = "majority"
    """`drop` keeps none of the answers, `majority` the most frequent one (of equals the first),
    `keep` every different one."""

    def decide(self, rows: "pl.DataFrame") -> "pl.Series":
        """A reason for each row that goes; `rows` has `KEY` and `ANSWER` as hashes.

        Only of texts with several answers the rows are counted; the rest is a look into a set.
        """
        import polars as pl

        key, pair = rows[KEY], rows[KEY] * 0x9E3779B97F4A7C15 + rows[ANSWER]
        first = pair.is_first_distinct()
        stays, other = first, pl.Series([False]).new_from_index(0, len(rows))
        # In `different` every pair stands once, so a repeated key has several answers.
        different = pl.DataFrame({KEY: key.filter(first), "pair": pair.filter(first)})
        conflicting = different.filter(pl.col(KEY).is_duplicated())
        if len(conflicting) and self.conflicts != "keep":
            disputed = pl.DataFrame({KEY: key, "pair": pair}).with_row_index("place")
            disputed = disputed.filter(pair.is_in(conflicting["pair"].implode()))
            counts = disputed.group_by(KEY, "pair").agg(
                n=pl.len(), first=pl.col("place").min(), last=pl.col("place").max()
            )
            losers = counts.join(self._chosen(counts), on="pair", how="anti")
            other = pair.is_in(losers["pair"].implode())
            stays = first & ~other
        reason = (
            pl.when(other)
            .then(pl.lit(OTHER_ANSWER, pl.Categorical))
            .when(~stays)
            .then(pl.lit(SAME_TEXT, pl.Categorical))
        )
        return pl.select(reason.alias("reason")).to_series()

    def _chosen(self, conflicting: "pl.DataFrame") -> "pl.DataFrame":
        """Of the answers to a text, those that stay."""
        if self.conflicts == "drop":
            return conflicting.clear()
        by, falling = ["first"], [False]
        if self.conflicts == "last":
            by, falling = ["last"], [True]
        elif self.conflicts == "majority":
            by, falling = ["n", "first"], [True, False]
        ordered = conflicting.sort(by, descending=falling)
        return ordered.unique(KEY, keep="first", maintain_order=True)


class NearDuplicates(Config):
    """Of prompts that differ by a few letters keep the first one."""

    type: Literal["near_duplicates"]
    threshold: float = Field(default=0.9, ge=0.5, le=1)
    """Least similarity: 1 - Levenshtein distance / length."""
    same_words: bool = True
    """Content words must be the same too: `3 days` and `5 days` are no duplicates."""
    same_answer: bool = True
    """Answers must be the same too: what is answered otherwise is another question."""

    def decide(self, rows: "pl.DataFrame") -> "pl.Series":
        """A reason for each row that goes; `rows` has `PROMPT` and `ANSWER`, all in memory."""
        import polars as pl

        from jangin.text.dedup.near_duplicates import Rules, find_duplicates

        rules = Rules(threshold=self.threshold, guard=self.same_words)
        gone = find_duplicates(rows[PROMPT].to_list(), rules)
        reasons: list[str | None] = [None] * len(rows)
        answers = rows[ANSWER].to_list()
        for duplicate in gone:
            if not self.same_answer or answers[duplicate.row] == answers[duplicate.twin]:
                reasons[duplicate.row] = f"{duplicate.match} copy of an earlier row"
        return pl.Series("reason", reasons, dtype=pl.Categorical)
