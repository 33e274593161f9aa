"""Kiln's own fine-tuning of OpenAI models: it splits a dataset, uploads it and watches the job."""

import asyncio
import json
import sys
import time
from pathlib import Path

from kiln_ai.adapters.fine_tune.base_finetune import FineTuneStatusType
from kiln_ai.adapters.fine_tune.openai_finetune import OpenAIFinetune
from kiln_ai.datamodel import (
    DatasetSplit,
    DataSource,
    DataSourceType,
    Project,
    StructuredOutputMode,
    Task,
    TaskOutput,
    TaskRun,
)
from kiln_ai.datamodel.datamodel_enums import ChatStrategy, ModelProviderName
from kiln_ai.datamodel.dataset_split import Train80Val20SplitDefinition
from kiln_ai.datamodel.run_config import RunConfigProperties

folder, model = Path(sys.argv[1]), sys.argv[2]
PERSON = DataSource(type=DataSourceType.human, properties={"created_by": "kim"})
rows = [json.loads(line)["messages"] for line in (folder / "train.jsonl").open(encoding="utf-8")]

project = Project(name="pumps", path=folder / "project.kiln")
project.save_to_file()
task = Task(name="answer", instruction=rows[0][0]["content"], parent=project)
task.save_to_file()
for _, question, answer in [*rows, *rows]:
    output = TaskOutput(output=answer["content"], source=PERSON)
    run = TaskRun(input=question["content"], input_source=PERSON, output=output, parent=task)
    run.save_to_file()
dataset = DatasetSplit.from_task("facts", task, Train80Val20SplitDefinition)
dataset.save_to_file()


start = OpenAIFinetune.create_and_start(
    dataset=dataset,
    provider_id="openai",
    provider_base_model_id=model,
    train_split_name="train",
    validation_split_name="val",
    system_message=task.instruction,
    thinking_instructions=None,
    data_strategy=ChatStrategy.single_turn,
    parameters={"n_epochs": 1, "seed": 42},
    run_config=RunConfigProperties(
        model_name=model,
        model_provider_name=ModelProviderName.openai,
        prompt_id="simple_prompt_builder",
        structured_output_mode=StructuredOutputMode.default,
    ),
)
adapter, record = asyncio.run(start)
while (status := asyncio.run(adapter.status())).status == FineTuneStatusType.running:
    time.sleep(0.5)
assert status.status == FineTuneStatusType.completed, status
assert record.fine_tune_model_id.startswith("ft:"), record
print(record.fine_tune_model_id)
