import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AddedToken

from jangin.core.errors import TrainingError
from jangin.core.records import Message
from jangin.models.tokens.chat_template import (
    limit_rows,
    render_prompt,
    render_prompts,
    render_rows,
)
from jangin.models.tokens.rendering import EncodedText, SpecialTokens, encode_texts, render_texts

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} "
    "[/INST]{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA, "mistral": MISTRAL}

user = st.text("가나다라 ab1?\n", min_size=1, max_size=12)
answer = st.text("네아니오 일이삼9.", min_size=1, max_size=12).filter(lambda s: s.strip())


def with_template(tokenizer, template):
    changed = copy.deepcopy(tokenizer)
    changed.add_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    changed.chat_template = template
    return changed


@pytest.fixture(scope="module")
def templated(tokenizer):
    own = {"ours": copy.deepcopy(tokenizer)}
    return own | {name: with_template(tokenizer, t) for name, t in TEMPLATES.items()}


def turns(*texts):
    roles = ("user", "assistant") * len(texts)
    return tuple(Message(role=r, content=t) for r, t in zip(roles, texts, strict=False))


def slow_reference(tokenizer, messages):
    """Trained ids by another way: tokenize the prompt alone, the rest is the completion."""
    wire = [m.model_dump() for m in messages]
    prompt = tokenizer.apply_chat_template(wire[:-1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(wire, tokenize=False)
    prompt_ids = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(prompt))
    ids = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(whole))
    assert ids[: len(prompt_ids)] == prompt_ids
    special = [i for i, t in enumerate(ids) if t in tokenizer.added_tokens_decoder]
    return ids[: special[-1] + 1], list(range(len(prompt_ids), special[-1] + 1))


@settings(max_examples=25)
@given(st.lists(user, min_size=1, max_size=4), answer)
@pytest.mark.parametrize("name", ["ours", *TEMPLATES])
def test_the_mask_equals_a_slow_reference(templated, name, questions, reply):
    tokenizer = templated[name]
    rows = [turns(question, reply.strip()) for question in questions]
    rendered = render_rows(tokenizer, rows, [f"row {i}" for i in range(len(rows))])
    for number, messages in enumerate(rows):
        ids, trained = rendered.row(number)
        expected_ids, expected_places = slow_reference(tokenizer, messages)
        assert ids.tolist() == expected_ids
        assert np.flatnonzero(trained).tolist() == expected_places


@pytest.mark.parametrize("name", ["ours", *TEMPLATES])
def test_the_prompt_is_a_prefix_of_the_row_and_the_stop_token_is_trained(templated, name):
    tokenizer = templated[name]
    messages = turns("연차휴가는 며칠인가요?", "15일입니다.", "병가는요?", "30일입니다.")
    rendered = render_rows(tokenizer, [messages], ["row 1"])
    ids, trained = rendered.row(0)
    prompt = render_prompt(tokenizer, messages[:-1])
    assert ids[: len(prompt)].tolist() == prompt
    assert not trained[: len(prompt)].any()
    assert trained[len(prompt) :].all()
    assert rendered.stop_ids == (int(ids[-1]),)
    assert ids[-1] in tokenizer.added_tokens_decoder
    if tokenizer.bos_token in tokenizer.chat_template:
        assert (ids == tokenizer.bos_token_id).sum() == 1


def test_all_turns_trains_every_answer_and_everything_trains_all_but_the_first_token(tokenizer):
    messages = turns("하나?", "답 하나", "둘?", "답 둘")
    every = render_rows(tokenizer, [messages], ["row 1"], "all_turns")
    ids, trained = every.row(0)
    assert tokenizer.decode(ids[trained]) == "답 하나<|end|>답 둘<|end|>"
    _, whole = render_rows(tokenizer, [messages], ["row 1"], "everything").row(0)
    assert not whole[0]
    assert whole[1:].all()


def test_a_tokenizer_that_adds_bos_itself_gets_exactly_one(tokenizer):
    from tokenizers.processors import TemplateProcessing

    adding = copy.deepcopy(tokenizer)
    adding.chat_template = MISTRAL.replace("{{ bos_token }}", "")
    bos = adding.bos_token_id
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", bos)]
    )
    messages = turns("병가는요?", "30일입니다.")
    ids, _ = render_rows(adding, [messages], ["row 1"]).row(0)
    prompt = render_prompt(adding, messages[:-1])
    assert ids[0] == bos
    assert (ids == bos).sum() == 1
    assert ids[: len(prompt)].tolist() == prompt


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        (turns("질문"), "row 7 does not end with an assistant turn"),
        (turns("질문", ""), "row 7 has no trained token"),
        (turns("질문 <|end|>", "답"), "control token"),
    ],
)
def test_a_row_that_cannot_be_trained_is_refused_with_its_number(tokenizer, messages, says):
    with pytest.raises(TrainingError, match=says):
        render_rows(tokenizer, [turns("괜찮은", "행"), messages], ["row 6", "row 7"])


def test_a_template_without_a_stop_token_is_refused(tokenizer):
    silent = with_template(tokenizer, MISTRAL.replace("{{ eos_token }}", "\n"))
    with pytest.raises(TrainingError, match=r"row 1.*no stop token"):
        render_rows(silent, [turns("질문", "답")], ["row 1"])


def test_a_template_that_writes_bos_twice_is_refused(tokenizer):
    doubled = with_template(tokenizer, "{{ bos_token }}" + MISTRAL)
    with pytest.raises(TrainingError, match="twice"):
        render_rows(doubled, [turns("질문", "답")], ["row 1"])


def test_a_template_that_refuses_the_roles_names_the_row(tokenizer):
    gemma = with_template(tokenizer, GEMMA)
    row = (Message(role="system", content="짧게"), *turns("질문", "답"))
    with pytest.raises(TrainingError, match=r"row 1: .*System role not supported"):
        render_rows(gemma, [row], ["row 1"])


def test_a_template_that_rewrites_earlier_turns_gives_every_trained_turn_a_row_of_its_own(
    tokenizer,
):
    thinking = with_template(tokenizer, THINKING)
    messages = turns("하나?", "답 하나", "둘?", "답 둘")
    ids, trained = render_rows(thinking, [messages], ["row 1"]).row(0)
    assert thinking.decode(ids[trained]) == "<think>\n\n</think>\n\n답 둘<|im_end|>"
    every = render_rows(thinking, [messages], ["row 1"], "all_turns")
    assert every.names == ("row 1, turn 2", "row 1, turn 4")
    for number, turn in enumerate((1, 3)):
        ids, trained = every.row(number)
        prompt = render_prompt(thinking, messages[:turn])
        assert ids[~trained].tolist() == prompt
        answer = f"<think>\n\n</think>\n\n{messages[turn].content}<|im_end|>"
        assert thinking.decode(ids[trained]) == answer


def test_a_model_without_a_chat_template_is_refused(tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(TrainingError, match="no chat template"):
        render_prompts(bare, [turns("질문")])


def test_too_long_rows_are_refused_with_counts_until_a_policy_is_chosen(tokenizer):
    rows = [turns("짧은 질문", "답"), turns("연차휴가는 " * 9, "인사팀에 냅니다. " * 3)]
    rendered = render_rows(tokenizer, rows, ["row 1", "row 2"])
    limit = int(rendered.lengths[1]) - 5
    with pytest.raises(TrainingError, match=r"1 of 2 rows .* 5 tokens would be lost.*row 2"):
        limit_rows(rendered, limit, "`max_row_tokens`", "refuse")
    dropped, lost = limit_rows(rendered, limit, "`max_row_tokens`", "drop")
    assert (dropped.names, lost.rows, lost.tokens) == (("row 1",), 1, limit + 5)
    whole, _ = rendered.row(1)
    start, lost = limit_rows(rendered, limit, "`max_row_tokens`", "keep_start")
    assert start.row(1)[0].tolist() == whole[:limit].tolist()
    assert (lost.rows, lost.tokens) == (1, 5)
    end, _ = limit_rows(rendered, limit, "`max_row_tokens`", "keep_end")
    assert end.row(1)[0].tolist() == [whole[0], *whole[-(limit - 1) :]]
    assert limit_rows(rendered, limit + 5, "", "refuse")[0] is rendered


def test_cutting_a_row_down_to_no_trained_token_is_refused(tokenizer):
    rendered = render_rows(tokenizer, [turns("연차휴가는 " * 9, "네")], ["row 1"])
    with pytest.raises(TrainingError, match=r"row 1 has no trained token left"):
        limit_rows(rendered, 10, "", "keep_start")


def several_answers():
    roles = ("system", "user", "assistant", "user", "assistant", "assistant")
    texts = ("짧게", "하나?", "답 하나", "둘?", "답 둘", "그리고 셋")
    return tuple(Message(role=r, content=t) for r, t in zip(roles, texts, strict=True))


@pytest.mark.parametrize(
    ("train_on", "trained"),
    [
        ("completion", "그리고 셋<|end|>"),
        ("last_turn", "답 둘<|end|>그리고 셋<|end|>"),
        ("all_turns", "답 하나<|end|>답 둘<|end|>그리고 셋<|end|>"),
    ],
)
def test_train_on_chooses_the_last_message_the_last_turn_or_all_turns(tokenizer, train_on, trained):
    ids, mask = render_rows(tokenizer, [several_answers()], ["row 1"], train_on).row(0)
    assert tokenizer.decode(ids[mask]) == trained


def test_a_message_of_weight_0_is_not_trained_and_no_row_changes_its_tokens(tokenizer):
    rows, names = [several_answers()] * 2, ["row 1", "row 2"]
    weights = [(0, 0, 1, 0, 0, 1), (0, 0, 0, 0, 1, 0)]
    plain = render_rows(tokenizer, rows, names, "all_turns")
    weighted = render_rows(tokenizer, rows, names, "all_turns", weights)
    first, second = weighted.row(0), weighted.row(1)
    assert tokenizer.decode(first[0][first[1]]) == "답 하나<|end|>그리고 셋<|end|>"
    assert tokenizer.decode(second[0][second[1]]) == "답 둘<|end|>"
    assert first[0].tolist() == plain.row(0)[0].tolist()
    assert second[0].tolist() == plain.row(0)[0][: len(second[0])].tolist()


def test_weights_that_leave_nothing_or_contradict_the_setting_are_refused(tokenizer):
    rows = [several_answers()]
    with pytest.raises(TrainingError, match=r"row 1 has no trained token.*weight 0"):
        render_rows(tokenizer, rows, ["row 1"], "completion", [(1, 1, 1, 1, 1, 0)])
    with pytest.raises(TrainingError, match=r"row 1 has weights, but `train_on: everything`"):
        render_rows(tokenizer, rows, ["row 1"], "everything", [(1, 1, 1, 1, 1, 1)])


@settings(max_examples=25)
@given(st.lists(user, min_size=1, max_size=3), answer)
@pytest.mark.parametrize("name", ["ours", *TEMPLATES])
def test_turns_found_by_special_tokens_are_those_found_by_offsets(templated, name, asked, reply):
    tokenizer = templated[name]
    messages = turns(*(text for question in asked for text in (question, reply.strip())))
    (text,) = render_texts(tokenizer, [messages], ask=False)
    (before,) = render_texts(tokenizer, [messages[:-1]], ask=True)
    (quick,) = encode_texts(tokenizer, [text])
    plain = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    added = len(quick.ids) - len(plain)
    # Without the positions of the special tokens, offsets decide.
    slow = EncodedText(text, quick.ids, [], added, SpecialTokens(tokenizer))
    assert quick.answer_begins(len(before)) == slow.answer_begins(len(before))
    (fast, stop), (exact, slow_stop) = (
        row.trained(len(before), len(text)) for row in (quick, slow)
    )
    assert (list(fast), stop) == (list(exact), slow_stop)
