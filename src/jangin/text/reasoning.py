"""Separation of an answer from the reasoning that a model wrote before it.

The formats are those of the models' chat templates. A new one is a row of `TAGS` or `FRAMES`.
"""

import re
from dataclasses import dataclass

TAGS = (
    ("<think>", "</think>"),  # DeepSeek, Qwen, GLM, EXAONE 4, SmolLM3, Granite, Phi
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("[THINK]", "[/THINK]"),  # Mistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("◁think▷", "◁/think▷"),  # Kimi
)
"""(opening, closing) around reasoning that precedes an answer."""
FRAMES = (
    ("<response>", "</response>"),  # Granite
    ("<answer>", "</answer>"),  # Hunyuan
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),  # Cohere
)
"""(opening, closing) around the answer itself, where reasoning precedes it."""
CHANNEL = "<|channel|>"
"""Begins the name of a channel in OpenAI's harmony format, which gpt-oss writes."""
MARKERS = (*(tag for pair in (*TAGS, *FRAMES) for tag in pair), CHANNEL, "<|message|>")

_FINAL = re.compile(r"<\|channel\|>\s*final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_HARMONY_TOKEN = re.compile(r"<\|(?:channel|message|start|end|return|constrain|call)\|>")


@dataclass(frozen=True, slots=True)
class ReasonedAnswer:
    """A generated text in its two parts, both without surrounding white space."""

    answer: str
    """Empty where the reasoning never ended."""
    reasoning: str = ""
    ended: bool = True
    """False if the text stops before the reasoning ends."""
    start: int = 0
    """Index of the character at which the answer begins in the text; its length without one."""


def split_reasoning(text: str, closing: str = "") -> ReasonedAnswer:
    """The answer of a generated text, and the reasoning before it.

    `closing`: the tag that `closing_tag` found for the prompt, where the prompt itself has begun
    the reasoning.
    """
    if not closing and text.lstrip().startswith(CHANNEL):
        return _split_channels(text)
    opening, closing = next(
        (
            (before, after)
            for before, after in TAGS
            if text.lstrip().startswith(before) or after == closing
        ),
        ("", closing),
    )
    if not closing:
        # The opening tag may be in a prompt that is not known, such as an endpoint's.
        closing = next((after for before, after in TAGS if _ends(text, before, after)), "")
    if not closing:
        return ReasonedAnswer(text.strip())
    begin = len(text) - len(text.lstrip())
    begin += len(opening) if text.startswith(opening, begin) else 0
    end = text.find(closing, begin)
    if end < 0:
        return ReasonedAnswer("", text[begin:].strip(), ended=False, start=len(text))
    start = end + len(closing)
    return ReasonedAnswer(unframed(text[start:]), text[begin:end].strip(), start=start)


def closing_tag(prompt: str) -> str:
    """The tag that ends the reasoning in which a prompt ends; empty if it ends in none."""
    end = prompt.rstrip()
    return next((after for before, after in TAGS if end.endswith(before)), "")


def ends_reasoning(prompt: str) -> bool:
    """Whether a prompt ends with reasoning that is over, which is empty: do not think."""
    end = prompt.rstrip()
    return any(end.endswith(after) for _, after in TAGS)


def without_reasoning(text: str) -> str:
    """The text after its reasoning; unchanged if it has none or never ends it."""
    parts = split_reasoning(text)
    return parts.answer if parts.start and parts.ended else text


def unframed(text: str) -> str:
    """The text inside a frame around it, if there is one; without surrounding white space."""
    text = text.strip()
    for before, after in FRAMES:
        if text.startswith(before):
            return text[len(before) :].removesuffix(after).strip()
    return text


def _ends(text: str, opening: str, closing: str) -> bool:
    end = text.find(closing)
    return end >= 0 and opening not in text[:end]


def _split_channels(text: str) -> ReasonedAnswer:
    """What the final channel holds; the other channels are reasoning."""
    final = _FINAL.search(text)
    before = text[: final.start()] if final else text
    reasoning = " ".join(_HARMONY_TOKEN.sub(" ", before.replace("<|start|>assistant", " ")).split())
    reasoning = reasoning.removeprefix("analysis").strip()
    if final is None:
        return ReasonedAnswer("", reasoning, ended=False, start=len(text))
    answer = _HARMONY_TOKEN.split(text[final.end() :], maxsplit=1)[0]
    return ReasonedAnswer(answer.strip(), reasoning, start=final.end())
