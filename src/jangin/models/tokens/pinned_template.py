"""The chat template of a pretrained base with its settings written into it.

What renders it (training, evaluation, transformers, vLLM) then needs no settings: whether to think,
the date of today and the stop token are part of its Jinja source.
"""

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from jinja2 import TemplateError, TemplateSyntaxError
from tokenizers import AddedToken

from jangin.core.errors import ConfigError
from jangin.models.tokens.rendering import CONTROL_TOKENS, SpecialTokens
from jangin.text.reasoning import closing_tag

# Chat templates for base models, which have none of their own.


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


_OFF = {
    "enable_thinking": "false",
    "thinking": "false",
    "reasoning": "false",
    "skip_reasoning": "true",
    "thinking_budget": "0",
}
_ON = {
    "enable_thinking": "true",
    "thinking": "true",
    "reasoning": "true",
    "force_reasoning": "true",
}
_SWITCHES: Mapping[str, Mapping[str, str]] = {"off": _OFF, "on": _ON, "keep": {}}
"""{setting: {variable that templates ask whether to think: its value in Jinja}}."""
_EFFORT = "reasoning_effort"
_PAD_FREE = {"d": "day", "m": "month"}
"""Directives of strftime that `-` frees from leading zeros, as attributes of a date."""
_QUESTION, _ANSWER = "question 7", "answer 9"


class TemplateSettings(Protocol):
    """The settings of `Pretrained` that a chat template can hold."""

    @property
    def thinking(self) -> str:
        """`off`, `on` or `keep`."""
        ...

    @property
    def chat_template(self) -> str:
        """`auto`, a name in `STANDARD`, or a path."""
        ...

    @property
    def stop(self) -> str | None:
        """Token that ends an answer where the template writes none."""
        ...

    @property
    def date(self) -> date:
        """What a template writes as the date of today."""
        ...

    @property
    def control_tokens(self) -> str:
        """`refuse` or `escape`."""
        ...


def pin_chat_template(
    tokenizer: Any, settings: TemplateSettings, model: str, folder: Path
) -> dict[str, Any]:
    """Write the settings into the tokenizer's chat template; returns what to say about it.

    That is `chat_template` and `chat_template_note` where it is not the model's own, and `date`
    where it writes the date of today. `model`: its name for messages; `folder`: of the project
    file, to which paths are relative.

    Raises:
        ConfigError: the template is missing or cannot render a question and its answer, or the
            stop token is unknown or not the template's.

    """
    source, notes = _source(tokenizer, settings.chat_template, model, folder)
    named = source.values() if isinstance(source, Mapping) else (source,)
    if any(_mentions(text, "strftime_now") for text in named):
        notes |= {"date": settings.date.isoformat()}
    if isinstance(source, Mapping):  # several by name, of which `default` is for conversations
        own = {name: _pinned(tokenizer, text, settings, model) for name, text in source.items()}
        tokenizer.chat_template = dict(own)
    else:
        tokenizer.chat_template = _pinned(tokenizer, source, settings, model)
    if settings.control_tokens != "refuse":
        tokenizer.init_kwargs[CONTROL_TOKENS] = settings.control_tokens
    return notes


def date_macro(source: str, day: date) -> str:
    """Jinja that defines `strftime_now` as `day` at midnight for the directives in a template."""
    steps = []
    for flag, directive in dict.fromkeys(re.findall(r"%(-?)([A-Za-z])", source)):
        attribute = _PAD_FREE.get(directive) if flag else None
        value = str(getattr(day, attribute)) if attribute else day.strftime(f"%{directive}")
        steps.append(f" | replace('%{flag}{directive}', '{value}')")
    return f"{{%- macro strftime_now(format) %}}{{{{- format{''.join(steps)} }}}}{{%- endmacro %}}"


def _source(
    tokenizer: Any, wanted: str, model: str, folder: Path
) -> tuple[str | Mapping[str, str], dict[str, Any]]:
    """(Jinja source or several by name, a message about it)."""
    if wanted == "auto":
        if tokenizer.chat_template:
            return tokenizer.chat_template, {}
        wanted = fitting_template(tokenizer)
    if wanted in STANDARD:
        source, note = standard_template(wanted, tokenizer)
        return source, {"chat_template": wanted} | ({"chat_template_note": note} if note else {})
    path = folder / wanted
    try:
        return path.read_text(encoding="utf-8"), {"chat_template": path.name}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the chat template {path} of {model} cannot be read: {error}. Correct "
            f"`chat_template`: auto, {', '.join(STANDARD)}, or a Jinja file."
        ) from error


def _pinned(tokenizer: Any, source: str, settings: TemplateSettings, model: str) -> str:
    """The source between what the settings put before and after it."""
    source = source.removesuffix("\n")  # Jinja drops it at the end, but not before what follows
    before = _switches(source, settings.thinking)
    if _mentions(source, "strftime_now"):
        before = date_macro(source, settings.date) + before
    probe = f"{before}\n{source}" if before else source
    prompt = _rendered(tokenizer, probe, [_QUESTION], model)
    if settings.chat_template != "raw" and _lacks_bos(tokenizer, prompt):
        before = "{{- bos_token }}" + (before or "{%- set begun = true %}")
    tag = closing_tag(prompt) if settings.thinking == "off" else ""
    after = ""
    if tag:
        gap = "\n" if prompt.endswith("\n") else "\n\n"
        after += (
            "{% if add_generation_prompt and not (enable_thinking | default(false)) %}"
            f"{{{{- {_quoted(f'{gap}{tag}')} + '\\n\\n' }}}}{{% endif %}}"
        )
    answered = _rendered(tokenizer, probe, [_QUESTION, _ANSWER], model)
    stop = _missing_stop(tokenizer, answered, settings.stop, model)
    if stop:
        after += (
            "{% if not add_generation_prompt and messages[-1]['role'] == 'assistant' %}"
            f"{{{{- {_quoted(stop)} }}}}{{% endif %}}"
        )
    return (f"{before}\n{source}" if before else source) + after


def _switches(source: str, thinking: str) -> str:
    """Jinja that sets the variables of the template that decide about thinking, unless given."""
    values = dict(_SWITCHES[thinking])
    if thinking == "off":
        values[_EFFORT] = "'none'" if re.search(r"""["']none["']""", source) else "'low'"
    return "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {value} %}}{{%- endif %}}"
        for name, value in values.items()
        if _mentions(source, name)
    )


def _mentions(source: str, variable: str) -> bool:
    """Whether a variable of this name occurs in a template, and not only an attribute or a text."""
    return re.search(rf"(?<![\w.'\"]){variable}(?![\w'\"])", source) is not None


def _rendered(tokenizer: Any, source: str, turns: list[str], model: str) -> str:
    """A question, or a question and its answer, in the template."""
    roles = ("user", "assistant")
    messages = [{"role": r, "content": t} for r, t in zip(roles, turns, strict=False)]
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                chat_template=source,
                tokenize=False,
                add_generation_prompt=len(turns) == 1,
            )
        )
    except TemplateSyntaxError as error:
        raise ConfigError(
            f"the chat template of {model} is not valid Jinja: line {error.lineno}: "
            f"{error.message}. Correct the file, or choose another `chat_template`."
        ) from error
    except (TemplateError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the chat template of {model} cannot render a question and its answer: {error}. "
            "Correct the file, or choose another `chat_template`."
        ) from error


def _lacks_bos(tokenizer: Any, prompt: str) -> bool:
    """Whether the tokenizer begins a text with BOS that the template leaves to it.

    Servers and `apply_chat_template` add none to a rendered conversation.
    """
    bos = tokenizer.bos_token
    adds = bos is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return adds and not prompt.startswith(bos)


def _missing_stop(tokenizer: Any, answered: str, wanted: str | None, model: str) -> str:
    """The stop token to write after an answer; empty where the template writes one itself."""
    if wanted is not None and tokenizer.convert_tokens_to_ids(wanted) in (
        None,
        tokenizer.unk_token_id,
    ):
        raise ConfigError(
            f"`stop: {wanted}` is no token of {model}. Name one of its special tokens, such as "
            f"{tokenizer.eos_token}."
        )
    if wanted is not None:
        # Known as special, it is found in texts and taken off answers.
        tokenizer.add_tokens([AddedToken(wanted, special=True, normalized=False)])
    tail = answered[answered.rfind(_ANSWER) + len(_ANSWER) :]
    special = SpecialTokens(tokenizer)
    written = [tail[start:end] for start, end in special.spans(tail)]
    if written:
        if wanted is not None and wanted not in written:
            raise ConfigError(
                f"`stop: {wanted}`: the chat template of {model} ends an answer with {written[0]} "
                "already. Remove `stop`."
            )
        return ""
    stop = wanted if wanted is not None else tokenizer.eos_token
    if stop is None:
        raise ConfigError(
            f"the chat template of {model} writes no token after an answer, and the tokenizer has "
            "no end of text, so a tuned model would never stop. Name one with `stop`."
        )
    return str(stop)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
