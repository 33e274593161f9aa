import json
import unicodedata
from pathlib import Path
from typing import Annotated, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from jangin.core.errors import ConfigError, DataError, SettingsError
from jangin.project.file import (
    SECTIONS,
    Project,
    ProjectFile,
    dump_yaml,
    open_project,
    project_schema,
    section_of,
)
from jangin.project.plan import stages_until
from jangin.project.problems import EXAMPLES, config_classes, example_of
from jangin.project.session import open_session
from jangin.project.stages import STAGES
from tests.unprivileged import unprivileged

GOOD = """\
name: handbook
teachers:
  gpt: {type: recorded, model: m, replies: replies.jsonl}
documents:
  load:
    folder: documents
  chunk:
examples:
  synthesize:
    teacher: gpt
    pairs_per_chunk: 3
  paraphrase: {source: {type: teacher, teacher: gpt, count: 5}}
  curate:
  split:
models:
  catalog:
  sft:
  evaluate:
"""
LINES = GOOD.splitlines()


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "project.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


@pytest.fixture
def problems(write):
    """Lines of the error that a file gives, each without the path."""

    def found(text):
        path = write(text)
        with pytest.raises(ConfigError) as caught:
            open_project(path)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{path}:") for line in lines)
        return [line.removeprefix(f"{path}:") for line in lines]

    return found


def replaced(old, new):
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def configs(opened, variant="main"):
    project = opened.variants[variant]
    return {s.name: c for s in STAGES if (c := project.stage_config(s.name)) is not None}


def test_a_right_file_turns_on_the_stages_whose_keys_are_there(write):
    opened = open_project(write(GOOD))
    assert (opened.name, list(opened.variants)) == ("handbook", ["main"])
    assert list(configs(opened)) == [
        *("load", "catalog", "chunk", "synthesize", "paraphrase"),
        *("curate", "split", "sft", "evaluate"),
    ]
    assert configs(opened)["synthesize"].pairs_per_chunk == 3
    assert configs(opened)["paraphrase"].source.temperature == 0.7


def test_the_folder_of_a_project_serves_as_its_file(write):
    path = write(GOOD)
    assert open_project(path.parent) == open_project(path)
    assert open_project(path).folder == path.parent


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match=r"project.yaml does not exist.*jangin new NAME"):
        open_project(tmp_path)


def test_korean_windows_text_is_named_with_its_line_and_the_cure(problems):
    text = GOOD.encode() + "# 한글\n".encode("cp949")
    (line,) = problems(text)
    assert line.startswith(f"{len(LINES) + 1}: this is not UTF-8 (byte {len(GOOD.encode()) + 2})")
    assert "iconv -f cp949 -t utf-8 project.yaml" in line


def test_a_byte_order_mark_of_windows_does_no_harm(write):
    assert open_project(write(b"\xef\xbb\xbf" + GOOD.encode())).name == "handbook"


def test_windows_line_ends_do_no_harm(write):
    assert open_project(write(GOOD.replace("\n", "\r\n"))).name == "handbook"


def test_a_tab_is_named_as_such(problems):
    (line,) = problems(replaced("    folder", "\tfolder"))
    assert line.startswith("6: a tab")


@pytest.mark.parametrize("space", "\u00a0\u3000")
@pytest.mark.parametrize("name", ["load", "chunk"])
def test_a_space_that_only_looks_like_one_is_named_as_such(problems, space, name):
    (line,) = problems(replaced(f"  {name}:", f"{space}{space}{name}:"))
    assert "a no-break or full-width space indents this line" in line
    assert LINES[int(line.split(":")[0]) - 1].startswith(f"  {name}:")


def test_a_full_width_colon_is_named_as_such(problems):
    (line,) = problems(replaced("  curate:", "  curate："))
    assert int(line.split(":")[0]) in (13, 14)
    assert "full-width colon" in line


def test_a_pattern_without_quotes_is_told_to_have_them(problems):
    read = "  read: {path: x, format: {type: table, prompt: {question}}}\n  curate:"
    (line,) = problems(replaced("  curate:", read))
    assert line.startswith("13: examples.read.format.prompt: must be text.")
    assert '"{question}"' in line


def test_a_key_that_stands_twice_is_named_with_both_lines(problems):
    (line,) = problems(replaced("  chunk:\n", "  chunk:\n  load: {folder: x}\n"))
    assert line.startswith("8: ")
    assert "'load'" in line
    assert "line 5" in line


def test_broken_yaml_is_named_with_its_line(problems):
    (line,) = problems(replaced("teacher: gpt, count: 5}}", "teacher: gpt, count: 5}"))
    assert line.split(":")[0] in ("13", "14")
    assert "YAML" in line
    assert "in what begins on line 12" in line


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n", "7\n"])
def test_a_file_that_holds_no_keys_is_told_what_belongs_there(problems, text):
    (line,) = problems(text)
    assert line.startswith("1: ")
    assert "`name:`" in line


SYNTHESIZE = "11: examples.synthesize"


@pytest.mark.parametrize(
    ("old", "new", "place", "facts"),
    [
        ("per_chunk: 3", "per_chnk: 3", f"{SYNTHESIZE}.pairs_per_chnk", ["'pairs_per_chunk'"]),
        ("  curate:", "  currate:", "13: examples.currate", ["'curate'"]),
        ("models:", "model:", "15: model", ["'models'"]),
        ("  split:", "  sft:", "14: examples.sft", ["'models'"]),
        ("pairs_per_chunk: 3", "similar: 1", f"{SYNTHESIZE}.similar", ["'teachers'"]),
        ("chunk: 3", "chunk: three", f"{SYNTHESIZE}.pairs_per_chunk", ["whole number", "'three'"]),
        ("chunk: 3", 'chunk: "3"', f"{SYNTHESIZE}.pairs_per_chunk", ["whole number", "'3'"]),
        ("chunk: 3", "chunk: [3]", f"{SYNTHESIZE}.pairs_per_chunk", ["whole number", "[3]"]),
        ("  sft:", "  sft: {method: full}", "17: models.sft.method", ["{type: full}", "'full'"]),
        ("  split:", "  zzz:", "14: examples.zzz", ["stage", "read, synthesize", "curate, split"]),
        (
            "  sft:",
            "  sft: {method: {type: full, r: 3}}",
            "17: models.sft.method.r",
            ["known keys: type"],
        ),
        (
            "{type: recorded, model: m, replies: replies.jsonl}",
            "{type: model, model: m, base: {type: hub, id: a/b}}",
            "3: teachers.gpt.model",
            ["known keys: base, engine"],
        ),
        ("chunk: 3", "chunk: 0", f"{SYNTHESIZE}.pairs_per_chunk", ["equal to 1", "not 0"]),
        ("    teacher: gpt\n", "", "9: examples.synthesize.teacher", ["required"]),
        ("name: handbook\n", "", "1: name", ["required"]),
        (
            "  split:",
            "  read: {path: x.csv}\n  split:",
            "14: examples.read.format",
            ["required", "'auto'", "'squad'"],
        ),
        (
            "  sft:",
            "  sft: {length: {type: epochs, epochs: x}}",
            "17: models.sft.length.epochs",
            ["whole number"],
        ),
        (
            "    teacher: gpt\n",
            "    teacher: gtp\n",
            "10: examples.synthesize.teacher",
            ["'gtp'", "known: gpt", "`teachers:`"],
        ),
        (
            "teacher: gpt, count: 5}}",
            "count: 5,\n      teacher: gtp}}",
            "13: examples.paraphrase.source.teacher",
            ["'gtp'", "known: gpt"],
        ),
        ("  chunk:\n", "", "8: examples.synthesize", ["chunks", "Turn on chunk"]),
        ("  chunk:\n", "  chunk: off\n", "9: examples.synthesize", ["chunks", "Turn on chunk"]),
    ],
)
def test_one_mistake_is_one_line(problems, old, new, place, facts):
    first, *others = problems(replaced(old, new))
    assert first.startswith(f"{place}: ")
    assert [fact for fact in facts if fact not in first] == []
    assert all("needs" in line for line in others)


@pytest.mark.parametrize(
    ("old", "new", "place", "example"),
    [
        ("    folder: documents", "    folder: documents\n    pattern: '*.pdf'", 7, "pattern"),
        ("  split:", "  split: {test_sources: q.jsonl}", 14, "test_sources"),
        ("  evaluate:", "  evaluate: {systems: {base: on}}", 18, "systems"),
        ("  sft:", "  sft: {method: {type: lora, targets: 4}}", 17, "targets"),
        ("name: handbook", "name: handbook\ntrack: mlflow", 2, "track"),
        ("name: handbook", "name: handbook\nbudget: 5", 2, "budget"),
    ],
)
def test_what_is_no_list_is_told_which_list_is_wanted(problems, old, new, place, example):
    line = problems(replaced(old, new))[-1]
    assert line.startswith(f"{place}: ")
    assert f"{example}: must be a " in line
    assert EXAMPLES[example] in line


def collections(model=ProjectFile, seen=None):
    """(settings class, key, field) of every list and mapping of the project file."""
    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    for name, info in model.model_fields.items():
        if {tuple, dict} & {
            get_origin(kind) for kind in (info.annotation, *get_args(info.annotation))
        }:
            yield model, name, info
        for inner in config_classes(info.annotation):
            yield from collections(inner, seen)


def test_every_list_has_an_example_that_the_file_accepts():
    found = list(collections())
    assert len(found) > 30
    for model, name, info in found:
        text = example_of(name, info.annotation)
        if name == "models":  # of an endpoint: its text names all keys
            continue
        assert text, f"{model.__name__}.{name} has no example"
        example = TypeAdapter(Annotated[info.annotation, info])
        example.validate_json(json.dumps(yaml.safe_load(text)), strict=True)


def test_the_examples_of_the_top_level_make_a_right_file(write):
    top = "".join(f"{key}: {EXAMPLES[key]}\n" for key in ("budget", "track", "prompts"))
    project = open_project(write(top + GOOD)).variants["main"]
    assert project.budget.usd == 5
    assert project.track
    assert project.prompts


def test_errors_of_the_sources_of_a_stage_begin_with_file_line_and_key(write):
    path = write(replaced("folder: documents", "folder: docs"))
    with open_session(path) as session, pytest.raises(DataError) as caught:
        session.plan("main")
    assert str(caught.value).startswith(f"{path}:6: documents.load.folder: ")
    (path.parent / "docs").mkdir()
    for form in ("NFC", "NFD"):  # two files of the same name: no setting is wrong
        (path.parent / "docs" / unicodedata.normalize(form, "규정.txt")).touch()
    with open_session(path) as session, pytest.raises(DataError) as caught:
        session.plan("main")
    assert str(caught.value).startswith(f"{path}:5: documents.load: ")


def test_a_wrong_type_of_a_union_names_what_there_is(problems):
    (line,) = problems(replaced("type: recorded", "type: recored"))
    assert line.startswith("3: teachers.gpt: ")
    assert "did you mean 'recorded'?" in line
    assert "'endpoint', 'recorded'" in line


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ("xyz", "must be 'mlflow', 'wandb', 'tensorboard' or 'trackio', not 'xyz'"),
        ("{type: tensorbord}", "there is no type 'tensorbord'; did you mean 'tensorboard'? "),
        ("{type: mlflow, experimnt: x}", "did you mean 'experiment'?"),
        ("{uri: x}", "`type` is missing. Choose one of 'mlflow', 'wandb', 'tensorboard'"),
        ("7", "must be a block of settings such as {type: mlflow}, not 7"),
    ],
)
def test_an_entry_that_is_neither_a_name_nor_a_mapping_is_one_line(problems, entry, said):
    (line,) = problems(replaced("name: handbook", f"name: handbook\ntrack: [wandb, {entry}]"))
    assert line.startswith("2: track.1")
    assert said in line


def test_a_file_that_may_not_be_read_names_the_line_of_its_stage(write, tmp_path):
    path = write(ROWS)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("question,answer\nwas,das\n")
    (tmp_path / "a.csv").chmod(0)
    with unprivileged(), open_session(path) as session, pytest.raises(DataError) as caught:
        session.plan("main")
    assert str(caught.value).startswith(f"{path}:3: examples.read: {tmp_path / 'a.csv'} cannot be")


@pytest.mark.parametrize(
    ("path", "why"),
    [("nowhere", "is not a folder"), ("model", "has no weights"), (".", "has no config.json")],
)
def test_a_base_that_is_no_model_names_its_line(write, tmp_path, path, why):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    text = f"models:\n  catalog:\n    base: {{type: local, path: {path}}}\n"
    file = write(f"name: base\n{text}")
    with open_session(file) as session, pytest.raises(ConfigError) as caught:
        session.plan("main")
    assert str(caught.value).startswith(f"{file}:4: models.catalog.base: {tmp_path}")
    assert f"{why}" in str(caught.value)


@pytest.mark.parametrize("written", ["1e-4", "1.0e-4", "0.0001", "'1E-4'"])
def test_a_learning_rate_is_a_number_in_every_notation(write, written):
    opened = open_project(write(replaced("  sft:", f"  sft: {{learning_rate: {written}}}")))
    assert configs(opened)["sft"].learning_rate == 1e-4


@pytest.mark.parametrize("written", ["1e-4x", "-1e-4", ".inf", "inf", "nan", "true"])
def test_what_is_no_learning_rate_is_told_with_its_line(problems, written):
    (line,) = problems(replaced("  sft:", f"  sft: {{learning_rate: {written}}}"))
    assert "models.sft.learning_rate: must be a number above 0, or auto" in line


def test_a_file_of_rows_and_a_column_that_are_not_there_name_their_line(write, tmp_path):
    path = write(ROWS)
    for line, key, name in ((4, "path", "a.csv"), (7, "further.0.path", "b.csv")):
        with open_session(path) as session, pytest.raises(DataError) as caught:
            session.plan("main")
        assert str(caught.value).startswith(f"{path}:{line}: examples.read.{key}: ")
        assert f"{name} is not a file" in str(caught.value)
        (tmp_path / name).write_text("Frage,answer\nwas,das\n")
    with open_session(path) as session, pytest.raises(SettingsError) as caught:
        session.run(["main"])
    place = "8: examples.read.further.0.format.prompt: b.csv: "
    assert str(caught.value).startswith(f"{path}:{place}there is no column 'question'")


ROWS = """\
name: rows
examples:
  read:
    path: a.csv
    format: {type: table, prompt: "{Frage}", completion: "{answer}"}
    further:
      - path: b.csv
        format: {type: table, prompt: "{question}", completion: "{answer}"}
"""


def test_a_wrong_key_inside_a_union_is_compared_with_that_variant_of_it(problems):
    (line,) = problems(replaced("replies: replies.jsonl", "replies: r.jsonl, similr: 0.9"))
    assert line.startswith("3: teachers.gpt.similr: ")
    assert "'similar'" in line


def test_all_problems_come_at_once_in_the_order_of_the_file(problems):
    text = (
        GOOD.replace("folder: documents", "folder: 7")
        .replace("pairs_per_chunk: 3", "pair_per_chunk: 3")
        .replace("count: 5", "count: many")
        .replace("  evaluate:", "  evalute:")
    )
    lines = problems(text)
    assert [line.split(":")[0] for line in lines] == ["6", "11", "12", "18"]


def test_no_stage_at_all_is_a_problem(problems):
    (line,) = problems("name: empty\n")
    assert line.startswith("1: ")
    assert "`load:`" in line


VARIANTS = (
    GOOD
    + """\
variants:
  plain:
    examples:
      paraphrase: off
  rich:
    examples: {paraphrase: {source: {count: 9}}}
    models:
      catalog:
        base: {type: hub, id: org/model}
"""
)


def test_variants_lay_their_keys_over_the_same_file(write):
    opened = open_project(write(VARIANTS))
    assert list(opened.variants) == ["plain", "rich"]
    plain, rich = configs(opened, "plain"), configs(opened, "rich")
    assert "paraphrase" not in plain
    source = rich["paraphrase"].source
    assert (source.count, source.teacher) == (9, "gpt")
    assert plain["synthesize"] == rich["synthesize"]
    assert (plain["catalog"].base.type, rich["catalog"].base.type) == ("starter", "hub")


def test_another_type_in_a_variant_replaces_the_whole_thing(write):
    endpoint = "{type: endpoint, model: big, base_url: 'http://127.0.0.1/v1'}"
    own = replaced("replies: replies.jsonl", "replies: r.jsonl, similar: 0.8")
    text = f"{own}variants:\n  live:\n    teachers: {{gpt: {endpoint}}}\n  same:\n"
    text += "    teachers: {gpt: {type: recorded, similar: 0.9}}\n"
    opened = open_project(write(text))
    live, same = (opened.variants[name].teachers["gpt"] for name in ("live", "same"))
    assert (live.type, live.model, live.replies) == ("endpoint", "big", Path("replies.jsonl"))
    assert (same.similar, same.replies) == (0.9, Path("r.jsonl"))


def test_an_empty_variant_is_the_file_itself(write):
    opened = open_project(write(f"{GOOD}variants:\n  as_is:\n  other: {{name: other}}\n"))
    assert configs(opened, "as_is") == configs(open_project(write(GOOD)))
    assert opened.variants["other"].name == "other"


@pytest.mark.parametrize(
    ("override", "place", "fact"),
    [
        (
            "    examples: {paraphrase: {source: {count: many}}}",
            "22: examples.paraphrase.source.count",
            "'many'",
        ),
        (
            "    examples:\n      paraphrase:\n        source:\n          cout: 3",
            "25: examples.paraphrase.source.cout",
            "'count'",
        ),
        ("    nothing", "21: variants.v", "nested keys"),
    ],
)
def test_a_mistake_in_a_variant_is_named_with_its_own_line(problems, override, place, fact):
    (line,) = problems(f"{GOOD}# a comment\nvariants:\n  v:\n{override}\n")
    assert line.startswith(f"{place}: ")
    assert fact in line


def test_a_mistake_of_the_file_is_told_once_however_many_variants_there_are(problems):
    assert len(problems(VARIANTS.replace("pairs_per_chunk: 3", "pairs_per_chunk: 0"))) == 1


def test_variants_that_are_no_mapping_are_told(problems):
    (line,) = problems(f"{GOOD}variants: [a, b]\n")
    assert line.startswith("19: variants: ")


FRAGMENTS = st.sampled_from(
    [
        *("name: x", "documents:", "  load:", "    folder: d", "  chunk: off", "variants:"),
        *("  a: {}", "  b:", "- 1", "? [a]", ": x", "&a [*a]", "{", "}", "null", "2020-01-01: 1"),
        *("1: 2", "~: ~", "!!python/object:os.system x", "examples: on", "teachers: {t: {}}"),
        *("models: {sft: {epochs: .nan}}", "'", "|", "%YAML 9.9", "---", "\t", "\0", "*x", "<<: 1"),
    ]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FRAGMENTS | st.sampled_from(LINES) | st.text(max_size=8), max_size=8))
def test_every_text_gives_a_project_or_a_config_error(write, lines):
    try:
        opened = open_project(write("\n".join(lines).encode(errors="replace")))
    except ConfigError as error:
        assert "project.yaml" in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert opened.variants


def test_a_file_written_by_dump_yaml_is_read_back(write):
    data = yaml.safe_load(GOOD) | {"name": "안내서"}
    text = dump_yaml(data)
    assert "안내서" in text
    assert open_project(write(text)).name == "안내서"


@pytest.mark.parametrize("key", ["2020-01-01", "1", "on", "no", "~", "1.5"])
def test_a_key_that_yaml_reads_as_no_text_is_told_to_be_quoted(problems, write, key):
    text = f"{GOOD}variants:\n  {key}: {{name: x}}\n"
    (line,) = problems(text)
    assert line == f"20: the key {key} is read as a number, a date or a switch. " + (
        f'Put it in quotes: "{key}"'
    )
    quoted = write(text.replace(f"  {key}:", f'  "{key}":'))
    assert list(open_project(quoted).variants) == [key]


def test_anchors_and_merged_keys_serve_to_say_things_once(write):
    text = GOOD.replace("teacher: gpt, count: 5}", "<<: &who {teacher: gpt}, count: 5}")
    assert configs(open_project(write(text)))["paraphrase"].source.teacher == "gpt"


def test_the_schema_names_no_module():
    """pydantic puts the module path into a name that two config classes share."""
    assert not [name for name in json.loads(project_schema())["$defs"] if "__" in name]


def test_the_schema_knows_every_stage_and_forbids_other_keys():
    schema = json.loads(project_schema())
    assert schema["additionalProperties"] is False
    others = {"budget", "cluster", "name", "prompts", "store", "store_options", "teachers", "track"}
    others.add("variants")
    assert set(SECTIONS) | others == set(schema["properties"])
    keys = {key for name in SECTIONS for key in schema["$defs"][name.title()]["properties"]}
    assert keys == {stage.name for stage in STAGES}


def test_every_stage_has_its_section():
    assert {section_of(stage.name) for stage in STAGES} == set(SECTIONS)
    assert isinstance(Project(name="x").stage_config("load"), type(None))


def test_a_wording_of_ones_own_is_checked_where_it_stands(problems):
    own = "prompts:\n  paraphrase:\n    ko: {system: '', user: '$question $answer $tone'}\n"
    (line,) = problems(GOOD + own)
    assert line.startswith(f"{len(LINES) + 3}: prompts.paraphrase.ko: $tone")


JUDGED = GOOD.replace(
    "  curate:\n", "  judge: {teacher: gpt}\n  curate: {min_score: {judge: 0.75}}\n"
)


@pytest.mark.parametrize(
    ("text", "order", "least"),
    [
        (GOOD, ["synthesize", "paraphrase", "curate"], {}),
        (JUDGED, ["synthesize", "judge", "paraphrase", "curate"], {"judge": 0.75}),
        (
            JUDGED.replace("judge: {teacher: gpt}", "judge: {teacher: gpt, kinds: [paraphrase]}"),
            ["synthesize", "paraphrase", "judge", "curate"],
            {"judge": 0.75},
        ),
    ],
)
def test_a_judge_comes_before_paraphrases_unless_it_judges_them(text, order, least, tmp_path):
    (tmp_path / "project.yaml").write_text(text, encoding="utf-8")
    project = open_project(tmp_path).variants["main"]
    stages = stages_until(project, "curate")
    assert [s.name for s, _ in stages if s.name in order] == order
    assert project.stage_config("paraphrase").min_score == least


EXAMPLE_STAGES = ("chunk", "synthesize", "paraphrase", "curate", "split")


@pytest.mark.parametrize(
    ("chunk", "last", "names"),
    [
        ("", "chunk", ["load", "catalog", "chunk"]),
        (" {measure: characters}", "chunk", ["load", "chunk"]),
        (" {measure: characters}", "synthesize", ["load", "chunk", "synthesize"]),
        (" {measure: characters}", "split", ["load", "catalog", *EXAMPLE_STAGES]),
        (" {measure: characters}", "catalog", ["load", "catalog"]),
        (" {measure: characters}", "select", ["load", "catalog", *EXAMPLE_STAGES]),
    ],
)
def test_a_last_stage_brings_the_stages_that_it_needs_and_no_others(write, chunk, last, names):
    text = replaced("  chunk:\n", f"  chunk:{chunk}\n")
    project = open_project(write(text)).variants["main"]
    chosen = [stage.name for stage, _ in stages_until(project, last)]
    assert chosen == names  # all before it where it is off, as `select` is


def test_questions_that_are_only_asked_are_not_reworded(write):
    assert configs(open_project(write(GOOD)))["paraphrase"].not_from == ()
    text = replaced("  split:", "  split: {test_sources: [asked.jsonl]}")
    assert configs(open_project(write(text)))["paraphrase"].not_from == ("asked.jsonl",)


def test_a_hosted_system_without_its_teacher_gets_an_example_and_nothing_else_is_said(problems):
    text = replaced("  evaluate:", "  evaluate: {systems: [base, tuned, {type: hosted}]}")
    (line,) = problems(text)
    assert line.startswith("18: models.evaluate.systems.2.teacher: ")
    assert "{type: hosted, teacher: writer}" in line


def test_a_list_whose_entries_are_wrong_is_not_called_too_short_as_well(problems):
    lines = problems(replaced("  evaluate:", "  evaluate: {systems: [{type: baseline, name: a}]}"))
    assert [line.split(": ")[1] for line in lines] == [
        "models.evaluate.systems.0.method",
        "models.evaluate.systems.0.name",
    ]


def test_a_project_with_an_index_asks_its_default_systems_with_passages_as_well(tmp_path):
    def labels(*lines, index=True, sft=""):
        text = (
            "name: x\ndocuments:\n  load: {folder: d}\n  chunk:\n"
            + ("  index:\n" if index else "")
            + "examples:\n  read: {path: r.csv, format: {type: table}}\n  split:\nmodels:\n"
            f"  catalog: {{base: {{type: starter}}}}\n  sft:{sft}\n  evaluate:\n"
            + "".join(f"    {line}\n" for line in lines)
        )
        (tmp_path / "project.yaml").write_text(text)
        loaded = open_project(tmp_path / "project.yaml")
        config = loaded.variants["main"].stage_config("evaluate")
        return [system.label for system in config.system_configs]

    assert labels() == ["base", "tuned", "base + retrieval", "tuned + retrieval"]
    assert labels(index=False) == ["base", "tuned"]
    # Trained with passages it is always asked with them.
    assert labels(sft=" {passages: {count: 2}}") == ["base", "tuned", "base + retrieval"]
    assert labels("systems: [base, tuned]") == ["base", "tuned"]
    assert labels("seed: 3")[2:] == ["base + retrieval", "tuned + retrieval"]
    assert labels("task: {type: labels, labels: [a, b]}") == ["base", "tuned"]
    with pytest.raises(ConfigError, match=r":\d+: .*systems.*no teacher is called 'tuend'"):
        labels("systems: [{type: retrieval, of: tuend}]")
