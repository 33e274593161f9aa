"""The command line of instructor: `instructor jobs create-from-file`, and `files list`."""

import subprocess
import sys
import time
from pathlib import Path

from openai import OpenAI

folder, model = Path(sys.argv[1]), sys.argv[2]
program = Path(sys.executable).with_name("instructor")
client = OpenAI()
before = {job.id for job in client.fine_tuning.jobs.list()}
words = ["jobs", "create-from-file", folder / "train.jsonl", "--model", model, "--n-epochs", "1"]
log = folder / "instructor.log"
with log.open("wb") as output:  # it watches the jobs without end, so it is stopped below
    process = subprocess.Popen([program, *words, "--poll", "1"], stdout=output, stderr=output)
try:
    jobs = []
    for _ in range(600):
        jobs = [job for job in client.fine_tuning.jobs.list() if job.id not in before]
        if process.poll() is not None or (jobs and jobs[0].status in ("succeeded", "failed")):
            break
        time.sleep(0.5)
    time.sleep(2)
    assert process.poll() is None, log.read_text()
    assert jobs, log.read_text()
    assert jobs[0].status == "succeeded", jobs
    assert "uploaded successfully" in log.read_text(), log.read_text()
finally:
    process.kill()
    process.wait()
done = subprocess.run([program, "files", "list"], capture_output=True, text=True)
assert done.returncode == 0, done.stderr
assert "train.jsonl"[:5] in done.stdout, done.stdout
print(jobs[0].fine_tuned_model)
