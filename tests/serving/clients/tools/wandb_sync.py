"""W&B's own sync of a fine-tuning job, into an offline run, which cannot hold data sets."""

import json
import sys
from pathlib import Path

from openai import OpenAI
from wandb.integration.openai.fine_tuning import WandbLogger

folder = Path(sys.argv[1])
client = OpenAI()
train = (folder / "train.jsonl").open("rb")
file = client.files.create(file=train, purpose="fine-tune")
job = client.fine_tuning.jobs.create(
    training_file=file.id,
    validation_file=file.id,
    model=sys.argv[2],
    hyperparameters={"n_epochs": 2},
    integrations=[{"type": "wandb", "wandb": {"project": "p"}}],
)
logged = []
log = WandbLogger._log_fine_tune.__func__


def watched(cls, *words, **named):
    """Notes what the sync gives to the run."""
    write = cls._run.log
    cls._run.log = lambda metrics, **more: (logged.append(metrics), write(metrics, **more))
    return log(cls, *words, **named)


WandbLogger._log_fine_tune = classmethod(watched)
WandbLogger._logged_in = True  # an offline run has no account
WandbLogger.sync(fine_tune_job_id=job.id, openai_client=client, project="p", log_datasets=False)
runs = list(folder.glob("wandb/offline-run-*/*.wandb"))
assert len(runs) == 1, runs
assert logged, "no step was logged"
assert {"train_loss", "train_accuracy"} <= set(logged[0]), logged[0]
assert any("valid_loss" in step for step in logged), logged
print(json.dumps(logged[-1]))
