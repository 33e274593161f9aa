"""Options of tokenization and order: `TrainOn`, `Order`, `TooLong`."""

from typing import Literal

TrainOn = Literal["completion", "all_turns", "last_turn", "everything"]
Order = Literal["shuffled", "as_given"]
TooLong = Literal["refuse", "drop", "keep_start", "keep_end", "truncate"]
