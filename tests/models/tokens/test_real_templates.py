"""Chat templates of real models: files NAME.jinja in the folders that JANGIN_TEMPLATES names.

`make test-templates` takes those that TRL ships.
"""

import copy
import os
import re
from pathlib import Path

import pytest
from transformers import AddedToken

from jangin.core.errors import JanginError, TrainingError
from jangin.models.catalog import Pretrained
from jangin.models.tokens.chat_template import render_prompts, render_rows, stop_token
from jangin.models.tokens.pinned_template import pin_chat_template
from tests.models.tokens.test_pinned_template import (
    HERE,
    SINGLE,
    SYSTEM,
    TURNS,
    asked_ids,
    move_clock,
)

FILES = [
    path
    for folder in filter(None, os.environ.get("JANGIN_TEMPLATES", "").split(os.pathsep))
    for path in sorted(Path(folder).glob("*.jinja"))
    if not path.stem.endswith("_training")  # TRL's own, with marks around what is trained
]
CONTROL = re.compile(
    r"<\|[^|<>\s'\"{}]{1,40}\|?>|<[^|<>\s'\"{}]{1,30}\|>|</?(?:s|start_of_turn|end_of_turn|sop)>"
    r"|\[/?[A-Z_|a-z]{3,20}\]|<｜[^｜]{1,40}｜>|<SPECIAL_\d+>"
)
ENDS = (
    *("im_end", "eot_id", "end_of_turn", "endofturn", "<turn|>", "return", "SPECIAL_12", "</s>"),
    *("end▁of▁sentence", "end_of_text", "END_OF_TURN", "endoftext", "<|end|>", "eos"),
)
"""What names of EOS tokens have in them, those that end a turn first."""
ROWS = {
    "single": (SINGLE, "completion"),
    "system": (SYSTEM, "completion"),
    "last turn": (TURNS, "completion"),
    "all turns": (TURNS, "all_turns"),
}


def pinned_by(tokenizer, source):
    """The tokenizer with this template and its control tokens, as the catalog writes it."""
    changed = copy.deepcopy(tokenizer)
    marks = sorted(set(CONTROL.findall(source)))
    changed.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    ends = [mark for end in ENDS for mark in marks if end in mark]
    changed.eos_token = ends[0] if ends else changed.eos_token
    changed.chat_template = source
    pin_chat_template(changed, Pretrained(), "some/model", HERE)
    return changed


@pytest.mark.skipif(not FILES, reason="JANGIN_TEMPLATES names no folder with templates")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_real_template_trains_what_is_asked_or_is_refused_in_a_sentence(
    tokenizer, path, monkeypatch
):
    try:
        pinned = pinned_by(tokenizer, path.read_text(encoding="utf-8"))
    except JanginError as error:
        pytest.skip(f"refused: {error}")
    refused = []
    for name, (messages, train_on) in ROWS.items():
        try:
            rows = render_rows(pinned, [messages], ["row 1"], train_on)
        except TrainingError as error:
            refused.append(f"{name}: {error}")
            continue
        ids, trained = rows.row(len(rows) - 1)
        prompt = asked_ids(pinned, messages[:-1])
        assert prompt == render_prompts(pinned, [messages[:-1]])[0]
        assert ids[: len(prompt)].tolist() == prompt
        assert not trained[len(prompt) - 1]
        assert messages[-1].content in pinned.decode(ids[len(prompt) :][trained[len(prompt) :]])
        assert stop_token(pinned) in ids[trained]
        move_clock(monkeypatch, 2031)
        later = render_rows(pinned, [messages], ["row 1"], train_on)
        assert later.ids.tolist() == rows.ids.tolist()
        monkeypatch.undo()
    if len(refused) == len(ROWS):
        pytest.skip(f"refused: {refused[0]}")
