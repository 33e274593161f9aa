"""A published tutorial's script: star ratings of reviews, tuned by OpenAI's API, step by step.

Only the two environment variables are the user's own. Needs openai, pandas and matplotlib.
"""

import base64
import json
import random
import sys
import time
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from openai import OpenAI

mpl.use("Agg")
folder = Path(sys.argv[1])
model = sys.argv[2]
client = OpenAI()

words = {5: "정말 좋아요", 4: "괜찮아요", 3: "그저 그래요", 2: "별로예요", 1: "최악이에요"}
frame = pd.DataFrame(
    [(f"{word} {number}번째 사용", star) for star, word in words.items() for number in range(8)],
    columns=["review", "star"],
)
random.seed(42)
rows = [
    {
        "messages": [
            {"role": "user", "content": f"{review}\n\n###\n\n"},
            {"role": "assistant", "content": str(star)},
        ]
    }
    for review, star in frame.itertuples(index=False)
]
random.shuffle(rows)
for name, part in (("train", rows[:32]), ("valid", rows[32:])):
    lines = [json.dumps(row, ensure_ascii=False) for row in part]
    (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")

train = client.files.create(file=open(folder / "train.jsonl", "rb"), purpose="fine-tune")
valid = client.files.create(file=open(folder / "valid.jsonl", "rb"), purpose="fine-tune")
job = client.fine_tuning.jobs.create(
    training_file=train.id,
    validation_file=valid.id,
    model=model,
    hyperparameters={"n_epochs": 1},
)
print(job)
for field in (
    *("id", "created_at", "error", "fine_tuned_model", "finished_at", "hyperparameters"),
    *("model", "object", "organization_id", "result_files", "seed", "status"),
    *("trained_tokens", "training_file", "validation_file", "estimated_finish", "integrations"),
):
    assert hasattr(job, field), field

while True:
    job = client.fine_tuning.jobs.retrieve(job.id)
    if job.status in ("succeeded", "failed", "cancelled"):
        break
    time.sleep(0.5)
assert job.status == "succeeded", job
events = client.fine_tuning.jobs.list_events(fine_tuning_job_id=job.id, limit=2)
print([event.message for event in events.data])

content = client.files.content(job.result_files[0])
table = folder / "result.csv"
table.write_bytes(base64.b64decode(content.text.encode("utf-8")))
result = pd.read_csv(table)
assert list(result.columns[:5]) == [
    *("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"),
], result.columns
plot = result.plot(x="step", y=["train_loss", "valid_loss"])
plot.figure.savefig(folder / "loss.png")

reply = client.chat.completions.create(
    model=job.fine_tuned_model,
    messages=[{"role": "user", "content": "정말 좋아요 99번째 사용\n\n###\n\n"}],
    max_tokens=1,
    temperature=0,
)
print(reply.choices[0].message.content)
