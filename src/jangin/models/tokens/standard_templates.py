"""Chat templates for base models, which have none of their own."""

from collections.abc import Mapping
from typing import Any

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
# Gemma has no system role; like its own template, this writes the system turn before the first
# question.
GEMMA = """\
{%- set turns = messages %}{%- set before = '' %}
{%- if messages[0]['role'] == 'system' %}
{%- set before = messages[0]['content'] + '\\n\\n' %}{%- set turns = messages[1:] %}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
{{- (before if loop.first else '') + message['content'] + '<end_of_turn>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}
"""
LLAMA2 = """\
{%- set turns = messages %}{%- set before = '' %}
{%- if messages[0]['role'] == 'system' %}
{%- set before = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}
{%- set turns = messages[1:] %}
{%- endif %}
{%- for message in turns %}
{%- if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + (before if loop.first else '') + message['content'] + ' [/INST]' }}
{%- else %}{{- ' ' + message['content'] + ' ' + eos_token }}{%- endif %}
{%- endfor %}
"""
ALPACA = """\
{%- set titles = {'user': '### Instruction:', 'assistant': '### Response:'} %}
{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'system' %}{{- message['content'] + '\\n\\n' }}
{%- else %}{{- titles[message['role']] + '\\n' + message['content'] }}
{{- (eos_token if message['role'] == 'assistant' else '') + '\\n\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '### Response:\\n' }}{%- endif %}
"""
PLAIN = """\
{%- set titles = {'user': 'Question: ', 'assistant': 'Answer: '} %}
{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'system' %}{{- message['content'] + '\\n\\n' }}
{%- else %}{{- titles[message['role']] + message['content'] }}
{{- eos_token if message['role'] == 'assistant' else '' }}{{- '\\n\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Answer:' }}{%- endif %}
"""
# For models that are called with a prompt. BOS is left to the tokenizer, which adds it to a bare
# prompt too, and does not split words differently after one that is part of the text.
RAW = """\
{%- for message in messages %}{{- message['content'] }}
{{- eos_token if message['role'] == 'assistant' else '' }}
{%- endfor %}
"""

STANDARD: Mapping[str, str] = {
    "chatml": CHATML,
    "alpaca": ALPACA,
    "llama2": LLAMA2,
    "gemma": GEMMA,
    "plain": PLAIN,
    "raw": RAW,
}
"""{value of `chat_template`: Jinja source}."""
_TURN_TOKENS = {
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
}
"""{template: (begin, end) of a turn, in the order in which `auto` looks for them}."""


def fitting_template(tokenizer: Any) -> str:
    """Name of the template for a base model: that whose turn tokens it knows, else `plain`."""
    known = tokenizer.get_vocab()
    fits = (name for name, tokens in _TURN_TOKENS.items() if all(t in known for t in tokens))
    return next(fits, "plain")


def standard_template(name: str, tokenizer: Any) -> tuple[str, str]:
    """(Jinja source, sentence on what differs from the usual one or an empty string).

    Turn tokens that the vocabulary lacks are written as ordinary text, and the end of a turn
    is the end of text.
    """
    source = STANDARD[name]
    begin, end = _TURN_TOKENS.get(name, ("", ""))
    known = tokenizer.get_vocab()
    missing = [token for token in (begin, end) if token and token not in known]
    if end in missing:
        source = source.replace(f"'{end}'", "eos_token")
    if tokenizer.bos_token is None:
        source = source.replace("{{- bos_token }}\n", "").replace("bos_token + ", "")
    if not missing:
        return source, ""
    return source, (
        f"the vocabulary has no {' and no '.join(missing)}, so the template {name} writes turns as "
        "ordinary text and ends answers with the end of text"
    )
