"""distilabel in its own environment: PORT ROWS FOLDER; a text per row, its cache on."""

import json
import sys
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration
from material import CONCURRENCY, instruction

TIMEOUT_SECONDS = 5


def main() -> None:
    port, rows, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    with Pipeline(name="lockers", cache_dir=folder / "cache") as pipeline:
        load = LoadDataFromDicts(
            data=[{"number": n, "instruction": instruction(n)} for n in range(rows)],
            batch_size=CONCURRENCY,
        )
        model = OpenAILLM(
            model="teacher",
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key="none",
            timeout=TIMEOUT_SECONDS,
            generation_kwargs={"temperature": 0.0, "max_new_tokens": 1024},
        )
        load >> TextGeneration(llm=model, input_batch_size=CONCURRENCY)
    made = pipeline.run(use_cache=True)["default"]["train"]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as out:
        for row in made:
            out.write(json.dumps({"number": row["number"], "text": row["generation"]}) + "\n")


if __name__ == "__main__":
    main()
