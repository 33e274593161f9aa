import re

import jinja2
import pytest

from jangin.models.starter import CHAT_TEMPLATE
from jangin.training.export.gguf_export import chat_format, modelfile

CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('no system role') }}{% endif %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ first if loop.first }}{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
CONVERSATIONS = [
    [("user", "Hi?")],
    [("user", "Hi?"), ("assistant", "Yes."), ("user", "And?")],
    [("system", "Be nice."), ("user", "Hi?"), ("assistant", "Yes."), ("user", "And?")],
]


def ollama(template, turns):
    """What Ollama makes of a conversation: the template in Jinja, which has the same constructs."""
    steps = (
        (r"{{ if (\.System) }}", "{% if system %}"),
        (r'{{ if eq \.Role "(\w+)" }}', r"{% if m.role == '\1' %}"),
        (r"{{ else }}", "{% else %}"),
        (r"{{ range \.Messages }}(.*){{ end }}$", r"{% for m in messages %}\1{% endfor %}"),
        (r"{{ end }}", "{% endif %}"),
        (r"{{ \.System }}", "{{ system }}"),
        (r"{{ \.Content }}", "{{ m.content }}"),
    )
    for before, after in steps:
        template = re.sub(before, after, template, flags=re.DOTALL)
    system = next((content for role, content in turns if role == "system"), "")
    messages = [{"role": role, "content": content} for role, content in turns]
    environment = jinja2.Environment(keep_trailing_newline=True)
    return environment.from_string(template).render(system=system, messages=messages)


@pytest.fixture
def with_template(tokenizer):
    def change(template):
        tokenizer.chat_template = template
        return tokenizer

    yield change
    tokenizer.chat_template = CHAT_TEMPLATE


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML, GEMMA2, GEMMA3])
def test_ollama_renders_a_conversation_as_the_chat_template_does(with_template, template):
    tokenizer = with_template(template)
    form = chat_format(tokenizer)
    for turns in CONVERSATIONS:
        if form.system_head is None and turns[0][0] == "system":
            assert template == GEMMA2
            continue
        messages = [{"role": role, "content": content} for role, content in turns]
        expected = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        assert ollama(form.go_template(), turns) == expected


def test_a_bos_that_llama_cpp_adds_is_left_out(with_template):
    tokenizer = with_template(GEMMA3)
    assert chat_format(tokenizer, tokenizer.bos_token).head == "<start_of_turn>user\n"


def test_a_template_whose_turns_differ_has_no_format(with_template):
    assert chat_format(with_template("{{ messages[-1].content }} {{ messages | length }}")) is None


def test_a_modelfile_names_file_stop_tokens_and_greedy_answers(tokenizer):
    text = modelfile("mine.gguf", chat_format(tokenizer), ["<|end|>", '"\n'], 512)
    lines = text.splitlines()
    assert lines[0] == "FROM ./mine.gguf"
    assert lines[1].startswith('TEMPLATE """{{ if .System }}<|bos|><|system|>{{ .System }}')
    assert 'PARAMETER stop "<|end|>"' in lines
    assert r'PARAMETER stop "\"\n"' in lines
    assert "PARAMETER temperature 0" in lines
    assert "PARAMETER num_ctx 512" in lines
