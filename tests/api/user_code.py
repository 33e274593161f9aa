"""What users write: mypy checks it with the package, and that it sees the mistakes at the end."""

from collections.abc import Iterator
from pathlib import Path

import jangin

project: jangin.Project = jangin.open("pumps", store=Path("store"))
own = jangin.open({"name": "own", "documents": {"load": None}}, folder=".")
plan: jangin.Plan = project.plan(until="split")
run: jangin.Run = project.run("split", variant="main", progress=print)
failed: int = run.failed
results: jangin.Results = run.results
value: object = project.table("examples", "page > 3")[0]["question"]
rows: int = len(project.table("examples").to_polars())
answer: jangin.Answer = project.ask("?")
text: str = answer.text + answer.source
whole: str = project.model("main").chat([{"role": "user", "content": "?"}])
pieces: Iterator[str] = project.model().chat("?", stream=True)
count: int = project.export("train.jsonl", "openai", split="all")
page: Path = project.report()


events: list[jangin.Event] = []


def work(progress: jangin.Progress) -> int:
    try:
        project.run(progress=progress)
    except jangin.JanginError as error:
        return error.exit_code
    return 0


work(jangin.Progress(events.append))
jangin.opn("pumps")  # type: ignore[attr-defined]  # the error is wanted
project.run(progress="loud")  # type: ignore[arg-type]  # as above
project.model().chat(3)  # type: ignore[call-overload]  # as above
