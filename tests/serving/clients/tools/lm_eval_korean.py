"""lm-evaluation-harness: a Korean multiple-choice task and a generation by `local-completions`."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from openai import OpenAI

folder, model = Path(sys.argv[1]), sys.argv[2]
rows = [
    {"question": "하늘은 무슨 색인가요?", "choices": ["파란색", "빨간색"], "answer": 0},
    {"question": "하나 더하기 하나는?", "choices": ["셋", "둘"], "answer": 1},
    {"question": "한국의 수도는?", "choices": ["서울", "부산"], "answer": 0},
]
data = folder / "tiny.jsonl"
data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
shared = f"""
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
doc_to_text: "질문: {{{{question}}}}\\n답:"
"""
(folder / "tiny_ko.yaml").write_text(
    f"""task: tiny_ko{shared}
output_type: multiple_choice
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
  - metric: acc_norm
"""
)
(folder / "tiny_ko_text.yaml").write_text(
    f"""task: tiny_ko_text{shared}
output_type: generate_until
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8}}
metric_list:
  - metric: exact_match
"""
)
client = OpenAI()
train = client.files.create(file=folder / "train.jsonl", purpose="fine-tune")
job = client.fine_tuning.jobs.create(
    model=model, training_file=train.id, hyperparameters={"n_epochs": 1}
)
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.5)
    job = client.fine_tuning.jobs.retrieve(job.id)
assert job.status == "succeeded", job.error
model = job.fine_tuned_model
# Requests for tokens name no model, so the address does.
url = os.environ["OPENAI_BASE_URL"].replace("/v1", f"/models/{model}/v1")
arguments = {
    "model": model,
    "base_url": f"{url}/completions",
    "tokenizer_backend": "remote",
    "auth_token": os.environ["OPENAI_API_KEY"],
    "num_concurrent": 2,
    "max_length": 256,
}
done = subprocess.run(
    [
        *(sys.executable, "-m", "lm_eval", "--model", "local-completions"),
        *("--model_args", ",".join(f"{key}={value}" for key, value in arguments.items())),
        *("--tasks", "tiny_ko,tiny_ko_text", "--include_path", folder, "--output_path", folder),
    ],
    capture_output=True,
    text=True,
    env={**os.environ, "HF_HOME": str(folder / "hf"), "HF_DATASETS_OFFLINE": "1"},
)
assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
(path,) = folder.rglob("results_*.json")
results = json.loads(path.read_text())["results"]
assert 0 <= results["tiny_ko"]["acc,none"] <= 1, results
assert 0 <= results["tiny_ko_text"]["exact_match,none"] <= 1, results
print(json.dumps({name: list(each.values())[:4] for name, each in results.items()}))
