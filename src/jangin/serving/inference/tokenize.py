"""`POST /tokenize`, `POST /detokenize`, `GET /tokenizer_info`, in the shape of vLLM's.

vLLM has them at the root of the server, where lm-eval looks for them; they are under `/v1` too.
"""

from typing import Any

from fastapi import APIRouter, Request

from jangin.core.errors import JanginError
from jangin.serving.inference.bodies import ChatMessage, Ignoring, Tool
from jangin.serving.inference.prepare import plain_message, refuse_long, text_of
from jangin.serving.inference.service import Inference, api_error
from jangin.serving.protocol.errors import ApiError, missing_parameter
from jangin.serving.security.access import CallerDep
from jangin.serving.state.server import Server, ServerDep

router = APIRouter()


class TokenizeBody(Ignoring):
    """A text, or a conversation, as tokens."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    tools: list[Tool] | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False


class DetokenizeBody(Ignoring):
    """Tokens as a text."""

    model: str | None = None
    tokens: list[int]


@router.post("/tokenize")
def tokenize(
    body: TokenizeBody, request: Request, server: ServerDep, caller: CallerDep
) -> dict[str, Any]:
    """Token ids; those of a conversation are what an answer is generated from."""
    engine, wording = _opened(server, caller, body.model or _of_path(request))
    from jangin.inference.engine.prompts import render_conversation

    try:
        length = engine.context_length
        if body.messages is not None:
            refuse_long([text_of(each) for each in body.messages], wording, length)
            messages = [plain_message(each, index) for index, each in enumerate(body.messages)]
            tools = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
            ids = render_conversation(wording.tokenizer, messages, tools)
        elif body.prompt is not None:
            refuse_long([body.prompt], wording, length, "prompt")
            ids = wording.tokenizer(body.prompt, add_special_tokens=body.add_special_tokens)[
                "input_ids"
            ]
        else:
            raise missing_parameter("prompt")
    except (JanginError, ValueError) as error:
        raise api_error(error) from error
    texts = wording.tokenizer.convert_ids_to_tokens(ids) if body.return_token_strs else None
    return {"count": len(ids), "max_model_len": length, "tokens": ids, "token_strs": texts}


@router.post("/detokenize")
def detokenize(
    body: DetokenizeBody, request: Request, server: ServerDep, caller: CallerDep
) -> dict[str, str]:
    """The text of tokens."""
    _, wording = _opened(server, caller, body.model or _of_path(request))
    size = len(wording.tokenizer)
    if not all(0 <= token < size for token in body.tokens):
        raise ApiError(
            400,
            f"Invalid 'tokens': expected token ids from 0 to {size - 1}.",
            param="tokens",
            code="invalid_value",
        )
    return {"prompt": str(wording.tokenizer.decode(body.tokens))}


@router.get("/tokenizer_info")
def tokenizer_info(
    request: Request, server: ServerDep, caller: CallerDep, model: str | None = None
) -> dict[str, Any]:
    """What clients need to know of the tokenizer, such as lm-eval."""
    engine, wording = _opened(server, caller, model or _of_path(request))
    tokenizer = wording.tokenizer
    named = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    return {
        "tokenizer_class": type(tokenizer).__name__,
        "chat_template": tokenizer.chat_template,
        "model_max_length": engine.context_length,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **named,
    }


def _of_path(request: Request) -> str | None:
    """The model in the path; see `model_path.py`."""
    name: str | None = getattr(request.state, "model", None)
    return name


def _opened(server: Server, caller: CallerDep, name: str | None) -> tuple[Any, Any]:
    """(engine, wording) of a model; without a name, of an alias, else of the newest model."""
    if name is None:
        names = [*server.settings.models, *(each.id for each in server.models.names(caller))]
        if not names:
            raise missing_parameter("model")
        name = names[0]
    model = server.models.resolve(name, caller)
    try:
        opened = server.get(Inference).open(model)
        return opened.engine, opened.engine.wording(opened.artifact)
    except (JanginError, ValueError) as error:
        raise api_error(error) from error
