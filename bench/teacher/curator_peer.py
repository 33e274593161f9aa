"""bespokelabs-curator in its own environment: PORT ROWS FOLDER [missing].

A pydantic reply per row; `missing` returns what there is where some rows got none, which it
otherwise takes for a failure of the whole.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bespokelabs import curator
from datasets import Dataset
from material import CONCURRENCY, instruction
from pydantic import BaseModel

TIMEOUT_SECONDS = 5
UNLIMITED = 1_000_000_000


class Pair(BaseModel):
    """One question with its answer."""

    question: str
    answer: str
    evidence: str


class Pairs(BaseModel):
    """A whole reply."""

    pairs: list[Pair]


class Teacher(curator.LLM):
    """Asks for the pairs of a passage."""

    response_format = Pairs

    def prompt(self, row: dict[str, Any]) -> str:
        """What is asked about a row."""
        return str(row["instruction"])

    def parse(self, row: dict[str, Any], reply: Pairs) -> dict[str, Any]:
        """The row that is kept."""
        return {"number": row["number"], "text": reply.model_dump_json()}


def main() -> None:
    port, rows, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    teacher = Teacher(
        model_name="teacher",
        backend="openai",
        generation_params={"temperature": 0.0},
        backend_params={
            "base_url": f"http://127.0.0.1:{port}/v1",
            "api_key": "none",
            "request_timeout": TIMEOUT_SECONDS,
            "require_all_responses": "missing" not in sys.argv,
            "max_concurrent_requests": CONCURRENCY,
            "max_requests_per_minute": UNLIMITED,
            "max_tokens_per_minute": UNLIMITED,
        },
    )
    data = Dataset.from_list([{"number": n, "instruction": instruction(n)} for n in range(rows)])
    made = teacher(data, working_dir=str(folder / "cache"))
    made = getattr(made, "dataset", made)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as out:
        for row in made:
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
