import pytest

from jangin.core.errors import SettingsError
from jangin.project.session import open_session

PROJECT = """\
name: targets
examples:
  read: {path: faq.csv, format: {type: table, prompt: "{question}", completion: "{answer}"}}
  curate:
  split: {unseen_sections: 0, held_out_paraphrases: 0}
models:
  catalog: {base: {type: starter, size: 3M, vocabulary_size: 400}}
  sft: {method: {type: lora, targets: [q_proj, %s]}, length: {type: steps, steps: 1}}
"""


@pytest.fixture
def project(tmp_path):
    """A table and a project whose only training has this target."""
    rows = "".join(f"how many of {n}?,{n} of them\n" for n in range(30))
    (tmp_path / "faq.csv").write_text(f"question,answer\n{rows}")

    def write(target):
        (tmp_path / "project.yaml").write_text(PROJECT % target)
        return tmp_path / "project.yaml"

    return write


def test_a_layer_that_the_base_lacks_is_told_before_other_work(project):
    path = project("query")
    with open_session(path) as session:
        with pytest.raises(SettingsError) as caught:
            session.run(["main"])
        assert "curate" not in session.artifacts("main")
        assert "catalog" in session.artifacts("main")
    assert str(caught.value).startswith(f"{path}:8: models.sft.method.targets: ")
    assert "has no layer query, only down_proj, " in str(caught.value)


def test_layers_of_the_base_pass_the_check(project):
    with open_session(project("down_proj")) as session:
        session.run(["main"], "curate")
        assert "curate" in session.artifacts("main")
