"""Counts of tokens, at least and in replies, and texts of single tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jangin.models.tokens.token_bytes import token_bytes
from jangin.serving.protocol.errors import ApiError

if TYPE_CHECKING:
    from jangin.inference.engine.engine import Wording
    from jangin.inference.engine.requests import EngineAnswer


def refuse_long(
    texts: Sequence[str], wording: "Wording", context: int, param: str = "messages"
) -> None:
    """Refuse texts that cannot fit before they are tokenised; raises `ApiError`.

    Each has at least a token, and as many as its bytes are times the longest token.
    """
    least = max(len(texts), sum(len(text.encode()) for text in texts) // wording.longest_token)
    if least > context:
        raise ApiError(
            400,
            f"This model's maximum context length is {context} tokens. However, your {param} have "
            f"at least {least} tokens. Please reduce their length.",
            param=param,
            code="context_length_exceeded",
        )


def usage_of(answers: Sequence["EngineAnswer"], prompts: int) -> dict[str, Any]:
    """The object `usage` of a reply; the choices of one prompt count it once.

    `prompts`: how many there were; the answers to each follow each other.
    """
    each = len(answers) // prompts
    prompt = sum(answer.prompt_tokens for answer in answers[:: max(each, 1)])
    completion = sum(answer.completion_tokens for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": sum(answer.generation.reasoning_tokens for answer in answers),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def token_text(tokenizer: Any, token: int) -> str:
    """One token as text; a part of a character is the replacement character."""
    return str(tokenizer.decode([token], skip_special_tokens=False))


def plain_token(tokenizer: Any, token: int) -> str:
    r"""One token in `/completions`: text, or `bytes:\xec\x95` for a part of a character."""
    text = token_text(tokenizer, token)
    if "\ufffd" not in text:
        return text
    written = "".join(f"\\x{byte:02x}" for byte in token_bytes(tokenizer, token))
    return f"bytes:{written}"
