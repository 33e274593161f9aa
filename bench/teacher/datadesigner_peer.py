"""NVIDIA DataDesigner in its own environment: PORT ROWS FOLDER; a pydantic reply per row.

It resumes by finished groups of rows, which have 1,000 rows unless told otherwise; here as many as
requests are in flight. Its waits after failures are its own.
"""

import json
import sys
from pathlib import Path
from typing import Any

import data_designer.config as dd
from data_designer.interface import DataDesigner
from material import CONCURRENCY, instruction
from pydantic import BaseModel

TIMEOUT_SECONDS = 5


class Pair(BaseModel):
    """One question with its answer."""

    question: str
    answer: str
    evidence: str


class Pairs(BaseModel):
    """A whole reply."""

    pairs: list[Pair]


def main() -> None:
    port, rows, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    seeds = folder / "seeds.jsonl"
    lines = [json.dumps({"number": n, "instruction": instruction(n)}) for n in range(rows)]
    seeds.write_text("\n".join(lines), encoding="utf-8")
    provider = dd.ModelProvider(
        name="local", endpoint=f"http://127.0.0.1:{port}/v1", api_key="none"
    )
    model = dd.ModelConfig(
        alias="teacher",
        model="teacher",
        provider="local",
        inference_parameters=dd.ChatCompletionInferenceParams(
            temperature=0.0,
            max_tokens=1024,
            timeout=TIMEOUT_SECONDS,
            max_parallel_requests=CONCURRENCY,
        ),
        skip_health_check=True,
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(
        dd.LocalFileSeedSource(path=str(seeds)), sampling_strategy=dd.SamplingStrategy.ORDERED
    )
    builder.add_column(
        dd.LLMStructuredColumnConfig(
            name="reply", prompt="{{ instruction }}", model_alias="teacher", output_format=Pairs
        )
    )
    designer = DataDesigner(artifact_path=folder / "cache", model_providers=[provider])
    designer.set_run_config(dd.RunConfig(buffer_size=CONCURRENCY, disable_early_shutdown=True))
    begun = (folder / "cache" / "lockers").exists()
    resume = dd.ResumeMode.ALWAYS if begun else dd.ResumeMode.NEVER
    result = designer.create(builder, num_records=rows, dataset_name="lockers", resume=resume)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as out:
        for row in result.load_dataset().to_dict("records"):
            text = json.dumps(_plain(row["reply"]))
            out.write(json.dumps({"number": int(row["number"]), "text": text}) + "\n")


def _plain(value: Any) -> Any:
    """The reply as JSON values; Parquet gives its lists as arrays."""
    if isinstance(value, str):
        return json.loads(value)
    pairs = [{name: str(each) for name, each in pair.items()} for pair in value["pairs"]]
    return {"pairs": pairs}


if __name__ == "__main__":
    main()
