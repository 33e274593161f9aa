import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import Field, SerializeAsAny

from jangin.core.config import Runtime, StageConfig
from jangin.core.errors import ChatError, StageError, StoreError
from jangin.core.events import Progress, StepBegins, StepEnds
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table
from jangin.core.records import Record
from jangin.core.stage import Cost, Services, Stage
from jangin.core.store import Artifact, Store
from jangin.documents.chunk import STAGE as CHUNK
from jangin.documents.chunk import ChunkConfig
from jangin.examples.synthesis.question_answer import Pairs
from jangin.llm.ask import CachedChat
from jangin.llm.replies import ask_structured, make_request
from jangin.models.catalog import STAGE as CATALOG
from jangin.models.catalog import CatalogConfig
from jangin.project.file import LoadedProject, Project
from jangin.project.plan import PlannedStage, base_dependent_chunks, explain, plan, shared_steps
from jangin.project.runner import BEGUN, finished_artifacts, run
from tests.conftest import make_manifest


class Word(Record):
    """A row of these tests."""

    text: str


class ReadConfig(StageConfig):
    """Words from a file."""

    folder: Runtime[Path] = Path("documents")
    lower: bool = False


class ShoutConfig(StageConfig):
    """Words with something behind them."""

    suffix: str = "!"
    workers: Runtime[int] = 1
    fail_after: Runtime[int] = 99


class TeachConfig(StageConfig):
    """One question about every word."""

    teacher: str = "fake"
    concurrency: Runtime[int] = 2


class CountConfig(StageConfig):
    """How many words there are."""


class Toy(Project):
    """A project whose stages are those of these tests."""

    settings: dict[str, SerializeAsAny[StageConfig]] = Field(default_factory=dict)

    def stage_config(self, stage):
        return self.settings.get(stage)


def read(context):
    folder = context.services.project_folder / context.config.folder
    text = (folder / "words.txt").read_text()
    words = (text.lower() if context.config.lower else text).split()
    context.write("words", Word, [Word(text=word) for word in words])
    context.summary["words"] = len(words)


def shout(context):
    """Resumes from its journal, so that a word is shouted once."""
    done = {word.text for word in context.done("shouted", Word)}
    for word in context.read("words", Word):
        text = word.text + context.config.suffix
        if text not in done:
            SHOUTED.append(text)
            if len(SHOUTED) == context.config.fail_after:
                raise StageError("shout: out of breath. Run again to resume.")
            context.note("shouted", [Word(text=text)])
    context.write("words", Word, context.done("shouted", Word))


def teach(context):
    chat = context.services.chat(context.config.teacher)
    words = context.read("words", Word)
    questions = [
        make_request(
            word.text,
            context.services.prompts.find("paraphrase", "en"),
            Pairs,
            {"model": chat.model},
            {"question": word.text, "answer": "", "count": 1},
        )
        for word in words
    ]
    answers, _ = ask_structured(context, chat, questions, Pairs, context.config.concurrency, "t")
    context.write("taught", Word, [Word(text=word.text) for word in words if word.text in answers])


def count(context):
    leftover = context.workspace / f"leftover{len(COUNTED)}"
    leftover.write_text("")
    assert [leftover] == list(context.workspace.iterdir())
    COUNTED.append(len(context.read("words", Word)))
    if COUNTED[-1] == 0:
        raise StageError("count: there are no words. Write some.")
    leftover.unlink()
    context.write("count", Word, [Word(text=str(COUNTED[-1]))])


SHOUTED: list[str] = []
COUNTED: list[int] = []
STAGES = (
    Stage(
        name="read",
        version=1,
        reads=(),
        makes=("words",),
        run=read,
        sources=lambda config, folder: {"words.txt": folder / config.folder / "words.txt"},
    ),
    Stage(name="shout", version=1, reads=("words",), makes=("words",), run=shout, resumable=True),
    Stage(
        name="teach",
        version=1,
        reads=("words",),
        makes=("taught",),
        run=teach,
        teachers=lambda config: (config.teacher,),
        cost=lambda context: Cost(calls=len(context.read("words", Word))),
    ),
    Stage(
        name="count", version=1, reads=("words",), makes=("count",), run=count, may_read=("taught",)
    ),
)
WITHOUT_TEACHER = {"read": ReadConfig(), "shout": ShoutConfig(), "count": CountConfig()}


@pytest.fixture(autouse=True)
def nothing_done_yet():
    SHOUTED.clear()
    COUNTED.clear()


class Workplace:
    """A project folder with a file of words, a store in it, and a way to run it."""

    def __init__(self, folder):
        self.folder = folder
        self.chat = FakeChat(lambda _request: '{"pairs": []}')
        (folder / "documents").mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(folder / "store" / "ledger.sqlite")

    @property
    def store(self):
        return Store(self.folder / "store")

    def write(self, text):
        (self.folder / "documents" / "words.txt").write_text(text)

    def services(self, _variant="main"):
        chat = CachedChat(self.chat, self.ledger)
        return Services(self.folder, lambda _name: chat, self.ledger)

    def open(self, variants):
        projects = {name: Toy(name="toy", settings=s) for name, s in variants.items()}
        return LoadedProject(self.folder / "project.yaml", "toy", projects)

    def run(self, settings=None, *, stages=STAGES, last=None, subscriber=None, **variants):
        opened = self.open(variants or {"main": settings or WITHOUT_TEACHER})

        def services(variant):
            own = self.services(variant)
            return (
                own
                if subscriber is None
                else dataclasses.replace(own, progress=Progress(subscriber))
            )

        return run(opened, self.store, services, opened.variants, last, stages)

    def plan(self, settings=None, stages=STAGES):
        project = Toy(name="toy", settings=settings or WITHOUT_TEACHER)
        return list(plan("main", project, self.store, self.services(), stages=stages))

    def outcomes(self):
        with closing(sqlite3.connect(self.ledger.path)) as connection:
            rows = connection.execute("SELECT outcome FROM runs ORDER BY id").fetchall()
        return [outcome for (outcome,) in rows]


@pytest.fixture
def place(tmp_path):
    made = Workplace(tmp_path / "project")
    made.write("One two three")
    yield made
    made.ledger.close()


def changed(name, **fields):
    config = WITHOUT_TEACHER[name].model_copy(update=fields)
    return {**WITHOUT_TEACHER, name: config}


def states(steps):
    return {step.stage.name: step.state for step in steps}


def reasons(steps):
    return {step.stage.name: step.reasons for step in steps}


def words(place, stage="shout"):
    path = place.store.latest(stage).path / "words.parquet"
    return [word.text for word in read_table(path, Word)]


def test_the_first_run_makes_everything_and_says_that_nothing_was_there(place):
    steps = place.run()
    assert states(steps) == dict.fromkeys(("read", "shout", "count"), "run")
    assert set(reasons(steps).values()) == {("never ran",)}
    assert words(place) == ["One!", "two!", "three!"]
    assert steps[0].artifact.manifest.summary == {"words": 3}
    assert all(step.seconds > 0 for step in steps)


def test_the_second_run_does_nothing(place):
    place.run()
    steps = place.run()
    assert set(states(steps).values()) == {"cached"}
    assert (len(SHOUTED), len(COUNTED)) == (3, 1)
    assert all(step.artifact is not None for step in steps)


def test_a_runtime_change_makes_nothing_anew(place):
    place.run()
    assert set(states(place.run(changed("shout", workers=8))).values()) == {"cached"}


def test_a_changed_setting_makes_that_stage_and_what_follows_anew_and_says_why(place):
    place.run()
    steps = place.run(changed("shout", suffix="?"))
    assert states(steps) == {"read": "cached", "shout": "run", "count": "run"}
    assert reasons(steps)["shout"] == ("suffix: '!' -> '?'",)
    assert reasons(steps)["count"] == ("words changed",)


def test_a_changed_file_is_named_as_the_reason(place):
    place.run()
    place.write("One two")
    steps = place.run()
    assert reasons(steps)["read"] == ("file:words.txt changed",)
    assert words(place) == ["One!", "two!"]


def test_a_stage_that_gives_the_same_content_again_stops_the_rest(place):
    place.write("one two three")
    place.run()
    steps = place.run(changed("read", lower=True))
    assert states(steps) == {"read": "run", "shout": "cached", "count": "cached"}
    assert reasons(steps)["read"] == ("lower: False -> True",)


def test_going_back_to_earlier_settings_finds_the_earlier_artifacts(place):
    place.run()
    place.run(changed("shout", suffix="?"))
    assert set(states(place.run()).values()) == {"cached"}


def test_a_raised_version_is_a_reason(place):
    place.run()
    newer = (STAGES[0], dataclasses.replace(STAGES[1], version=2), *STAGES[2:])
    steps = place.run(stages=newer)
    assert states(steps) == {"read": "cached", "shout": "run", "count": "cached"}
    assert reasons(steps)["shout"] == ("version 1 -> 2",)


def test_a_deleted_artifact_is_made_again(place):
    steps = place.run()
    shutil.rmtree(steps[1].artifact.path)
    again = place.run()
    assert reasons(again)["shout"] == ("never ran",)
    assert states(again)["count"] == "cached"
    place.run(changed("shout", suffix="?"))
    shutil.rmtree(place.store.root / "shout" / again[1].key[:16])
    third = place.run()
    assert reasons(third)["shout"] == ("suffix: '?' -> '!'",)


def test_an_optional_input_that_appears_or_goes_is_a_reason(place):
    place.run()
    with_teacher = {**WITHOUT_TEACHER, "teach": TeachConfig()}
    assert reasons(place.run(with_teacher))["count"] == ("taught is new",)
    assert states(place.run())["count"] == "cached"


def test_a_run_up_to_a_stage_ends_there(place):
    assert list(states(place.run(last="shout"))) == ["read", "shout"]


def test_a_failed_stage_that_can_resume_goes_on_where_it_was(place):
    with pytest.raises(StageError, match="out of breath"):
        place.run(changed("shout", fail_after=3))
    assert place.store.find("shout", "0" * 64) is None
    steps = place.run()
    assert states(steps) == {"read": "cached", "shout": "resume", "count": "run"}
    assert reasons(steps)["shout"] == ("an earlier run did not finish",)
    assert SHOUTED == ["One!", "two!", "three!", "three!"]
    assert words(place) == ["One!", "two!", "three!"]


def test_the_seconds_of_a_resumed_stage_include_what_was_interrupted_or_killed(place):
    def seconds():
        (shout,) = [step for step in place.plan() if step.stage.name == "shout"]
        return place.ledger.seconds_of("shout", shout.key) or 0.0

    with pytest.raises(StageError):
        place.run(changed("shout", fail_after=2))
    parts = [seconds()]
    assert parts[0] > 0
    (partial,) = place.store.root.glob("shout/*.partial")
    key = next(step.key for step in place.plan() if step.stage.name == "shout")
    place.ledger.put(BEGUN, key, repr(partial.stat().st_mtime - 100))  # what a kill leaves
    with pytest.raises(StageError):
        place.run(changed("shout", fail_after=3))
    parts.append(seconds())
    assert 100 < parts[1] - parts[0] < 110
    place.run()
    assert parts[1] < seconds() < parts[1] + 10
    assert place.ledger.get(BEGUN, key) is None


def test_a_run_that_meets_another_one_at_work_says_only_that(place):
    with pytest.raises(StageError):
        place.run(changed("shout", fail_after=2))
    seen = []
    key = place.plan()[1].key

    def see(event):
        if isinstance(event, StepBegins):
            seen.append(event.step.stage.name)

    with place.store.lock("shout", key), pytest.raises(StoreError, match="another jangin run"):
        place.run(subscriber=see)
    assert seen == []


def test_a_torn_journal_loses_one_row_and_not_the_run(place):
    with pytest.raises(StageError):
        place.run(changed("shout", fail_after=3))
    (journal,) = place.store.root.glob("shout/*.partial/journal/shouted.jsonl")
    journal.write_bytes(journal.read_bytes()[:-4])
    place.run()
    assert words(place) == ["One!", "two!", "three!"]


def test_a_failed_stage_that_cannot_resume_starts_clean(place):
    place.write("")
    for _ in range(2):
        with pytest.raises(StageError, match="there are no words"):
            place.run()
    assert COUNTED == [0, 0]
    assert len(list(place.store.root.glob("count/*.partial/leftover*"))) == 1


def test_how_a_run_ended_stands_in_the_ledger(place):
    def stop(event):
        if isinstance(event, StepBegins) and event.step.stage.name == "count":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.run(subscriber=stop)
    with pytest.raises(StageError):
        place.run({**changed("shout", suffix="?", fail_after=4)})
    place.run()
    assert place.outcomes() == [
        "stopped",
        "failed: shout: out of breath. Run again to resume.",
        "done",
    ]


def test_moving_the_project_folder_makes_nothing_anew(place, tmp_path):
    place.run()
    place.ledger.close()
    place.folder.rename(tmp_path / "다른 곳")
    moved = Workplace(tmp_path / "다른 곳")
    assert set(states(moved.run()).values()) == {"cached"}
    moved.ledger.close()


def test_moving_the_documents_makes_nothing_anew(place):
    place.run()
    (place.folder / "documents").rename(place.folder / "texts")
    assert set(states(place.run(changed("read", folder=Path("texts")))).values()) == {"cached"}


def test_what_variants_share_is_made_once(place):
    steps = place.run(calm=WITHOUT_TEACHER, loud=changed("shout", suffix="!!"))
    by_variant = {
        name: {s.stage.name: s.state for s in steps if s.variant == name}
        for name in ("calm", "loud")
    }
    assert set(by_variant["calm"].values()) == {"run"}
    assert by_variant["loud"] == {"read": "cached", "shout": "run", "count": "run"}
    assert len(list(place.store.root.glob("read/*/manifest.json"))) == 1


def test_subscribers_see_each_beginning_and_each_end(place):
    seen = []

    def see(event):
        if isinstance(event, StepBegins):
            seen.append(f"begins {event.step.stage.name}")
        elif isinstance(event, StepEnds):
            seen.append(f"{event.step.state} {event.step.stage.name}")

    place.run(last="shout")
    place.run(subscriber=see)
    assert seen == ["cached read", "cached shout", "begins count", "run count"]


def test_a_plan_changes_nothing_and_tells_what_waits(place):
    settings = {**WITHOUT_TEACHER, "teach": TeachConfig()}
    before = sorted(place.folder.rglob("*"))
    steps = place.plan(settings)
    assert sorted(place.folder.rglob("*")) == before
    assert states(steps) == {"read": "run", "shout": "waits", "teach": "waits", "count": "waits"}
    assert reasons(steps)["shout"] == ("after read",)
    assert reasons(steps)["count"] == ("after shout, teach",)


def test_a_plan_tells_what_it_will_cost_and_how_long_it_took(place):
    settings = {**WITHOUT_TEACHER, "teach": TeachConfig()}
    place.run(settings, last="shout")
    steps = {step.stage.name: step for step in place.plan(settings)}
    assert steps["teach"].cost.calls == 3
    assert steps["shout"].seconds > 0
    assert [step.state for step in steps.values()] == ["cached", "cached", "run", "waits"]
    assert place.chat.calls == []


def test_a_plan_says_when_it_will_resume(place):
    with pytest.raises(StageError):
        place.run(changed("shout", fail_after=2))
    assert states(place.plan()) == {"read": "cached", "shout": "resume", "count": "waits"}


def test_a_teacher_is_asked_once_even_when_its_stage_is_made_again(place):
    settings = {**WITHOUT_TEACHER, "teach": TeachConfig()}
    steps = place.run(settings)
    shutil.rmtree(next(step for step in steps if step.stage.name == "teach").artifact.path)
    assert states(place.run(settings))["teach"] == "run"
    assert len(place.chat.calls) == 3
    assert place.ledger.count_calls().asked_again == 0


def test_other_teachers_are_unloaded_before_a_stage_that_loads_a_model(place):
    events = []

    def begin(name):
        return lambda context: events.append(name) or context.write("words", Word, [])

    stages = (
        Stage(name="read", version=1, reads=(), makes=("words", "base"), run=begin("read")),
        Stage(name="shout", version=1, reads=("words",), makes=("words",), run=begin("shout")),
        Stage(
            name="teach",
            version=1,
            reads=("base", "words"),
            makes=("words",),
            run=begin("teach"),
            teachers=lambda config: (config.teacher,),
        ),
    )
    settings = {"read": ReadConfig(), "shout": ShoutConfig(), "teach": TeachConfig()}
    opened = place.open({"main": settings})
    services = dataclasses.replace(place.services(), unload=lambda kept: events.append([*kept]))
    run(opened, place.store, lambda _variant: services, ["main"], None, stages)
    assert events == ["read", "shout", ["fake"], "teach"]


def test_another_model_behind_the_same_name_is_a_reason(place):
    settings = {**WITHOUT_TEACHER, "teach": TeachConfig()}
    place.run(settings)
    place.chat.model = "better"
    assert reasons(place.run(settings))["teach"] == ("teacher:fake changed",)


def test_a_stage_without_any_reply_is_not_published_and_asks_again_next_time(place):
    settings = {**WITHOUT_TEACHER, "teach": TeachConfig(concurrency=1)}

    def answer(_request):
        if len(place.chat.calls) <= 3:
            raise ChatError("endpoint is down")
        return '{"pairs": []}'

    place.chat.answer = answer
    with pytest.raises(StageError, match="3 of 3 requests got no reply"):
        place.run(settings)
    assert place.store.latest("teach") is None
    assert states(place.run(settings))["teach"] == "run"
    assert len(place.chat.calls) == 6


def test_artifacts_behind_one_that_is_out_of_date_are_not_among_the_finished_ones(place):
    place.run()
    opened = place.open({"same": WITHOUT_TEACHER, "other": changed("shout", suffix="?")})
    found = {
        variant: list(
            finished_artifacts(variant, opened, place.store, place.services(), None, STAGES)
        )
        for variant in opened.variants
    }
    assert found == {"same": ["read", "shout", "count"], "other": ["read"]}


def test_a_damaged_artifact_is_one_sentence_with_the_folder_to_delete(place):
    steps = place.run()
    (steps[0].artifact.path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="Delete the folder"):
        place.run()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.project import test_runner as t
    real = t.shout
    def noted(context):
        note = type(context).note
        def die(self, journal, records):
            note(self, journal, records)
            os.kill(os.getpid(), signal.SIGKILL)
        type(context).note = die
        real(context)
    stages = (t.STAGES[0], t.dataclasses.replace(t.STAGES[1], run=noted), *t.STAGES[2:])
    t.Workplace(Path(sys.argv[1])).run(stages=stages)
"""


@pytest.mark.slow
def test_a_killed_run_leaves_no_lock_and_loses_nothing_that_was_noted(place):
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(place.folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    steps = place.run()
    assert states(steps) == {"read": "cached", "shout": "resume", "count": "run"}
    assert SHOUTED == ["two!", "three!"]
    assert words(place) == ["One!", "two!", "three!"]
    assert place.outcomes() == [None, "done"]


def other_folder(place):
    """Two variants whose settings are equal; only the words that they read differ."""
    (place.folder / "elsewhere").mkdir()
    (place.folder / "elsewhere" / "words.txt").write_text("four five")
    here = WITHOUT_TEACHER
    return {"here": here, "there": {**here, "read": ReadConfig(folder=Path("elsewhere"))}}


def planned(place, variants):
    opened = place.open(variants)
    steps = [
        step
        for name in variants
        for step in plan(name, opened.variants[name], place.store, place.services(), stages=STAGES)
    ]
    return {(names, step.stage.name) for names, step in shared_steps(steps)}


def test_variants_that_read_other_files_have_rows_of_their_own_before_and_after_they_ran(place):
    variants = other_folder(place)
    apart = {(name, stage) for name in variants for stage in WITHOUT_TEACHER}
    assert planned(place, variants) == apart
    place.run(**variants)
    assert planned(place, variants) == apart


def test_variants_that_share_every_input_share_every_row(place):
    variants = {"one": WITHOUT_TEACHER, "two": changed("shout", suffix="?")}
    shared = {("all", "read"), *((n, s) for n in variants for s in ("shout", "count"))}
    assert planned(place, variants) == shared
    place.run(last="shout", **variants)
    assert planned(place, variants) == shared


def chunk_steps(**measure):
    bases = {
        "gemma": CatalogConfig(base={"type": "local", "path": "a"}),
        "starter": CatalogConfig(),
    }
    return [
        step
        for name, base in bases.items()
        for step in (
            PlannedStage(name, CATALOG, base, "waits"),
            PlannedStage(name, CHUNK, ChunkConfig(**measure), "waits"),
        )
    ]


def test_the_plan_warns_where_another_base_would_cut_and_pay_for_other_chunks():
    warning = base_dependent_chunks(chunk_steps())
    assert "gemma, starter" in warning
    assert "chunk: {measure: characters}" in warning
    assert base_dependent_chunks(chunk_steps(measure="characters")) == ""
    assert base_dependent_chunks(chunk_steps()[:2]) == ""


def test_the_reason_for_another_base_is_one_line_whatever_its_settings_and_files():
    starter = {"base": {"type": "starter", "size": "3M", "vocabulary_size": 2048, "seed": 0}}
    files = {f"file:{name}": "0" for name in ("config.json", "model.safetensors", "vocab.txt", "x")}
    manifest = make_manifest(stage="catalog", config=starter, inputs={"documents": "0"})
    config = CatalogConfig(base={"type": "local", "path": "models/gemma"})
    inputs = {"documents": "0", **files}
    assert explain(CATALOG, config, inputs, Artifact(Path(), manifest)) == (
        "base: starter 3M -> local", "file:config.json and 3 more are new"
    )  # fmt: skip
    changed_files = make_manifest(config=config.identity(), inputs=dict.fromkeys(inputs, "1"))
    assert explain(CATALOG, config, inputs, Artifact(Path(), changed_files)) == (
        "documents changed", "file:config.json and 3 more changed"
    )  # fmt: skip
