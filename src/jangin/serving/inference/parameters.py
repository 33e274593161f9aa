"""Parameters of OpenAI's API that this server lacks: refused, or named in a header of the reply."""

import re
from collections.abc import Mapping

from jangin.serving.inference.bodies import AnswerBody
from jangin.serving.protocol.errors import ApiError

REFUSED: Mapping[str, str] = {
    "audio": "Answers are texts.",
    "background": "A file of requests is answered in the background at /v1/batches.",
    "conversation": "Send 'previous_response_id', or the whole conversation as 'input'.",
    "modalities": "Answers are texts: leave it out, or send ['text'].",
    "moderation": "This server judges no texts.",
    "prompt": "No prompts are stored here; send 'instructions' and 'input'.",
    "web_search_options": "This server searches nothing; put what was found into a message.",
}
"""{parameter without which the answer would be another one: what to do instead}."""
WITHOUT_EFFECT = frozenset(
    {
        *("user", "safety_identifier", "service_tier", "metadata", "prediction"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    }
)
"""Parameters that concern cost, speed or accounts, never the answer."""
HEADER = "x-jangin-ignored"
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_MOST_NAMES = 20


def refuse_unsupported(body: AnswerBody) -> None:
    """Raises `ApiError` 400 for a parameter that this server cannot do and must not leave out."""
    for name, advice in REFUSED.items():
        given = (body.model_extra or {}).get(name)
        if given and not (name == "modalities" and given == ["text"]):
            raise ApiError(
                400,
                f"This server does not support the parameter '{name}'. {advice}",
                param=name,
                code="unsupported_parameter",
            )


def ignored_header(body: AnswerBody) -> dict[str, str]:
    """The header of the reply with the names of parameters that changed nothing; often empty."""
    names = [
        name
        for name, value in (body.model_extra or {}).items()
        if value not in (None, False, [], {}) and name not in WITHOUT_EFFECT | {*REFUSED}
    ]
    shown = [name for name in names if _NAME.fullmatch(name)][:_MOST_NAMES]
    return {HEADER: ", ".join(shown)} if shown else {}
