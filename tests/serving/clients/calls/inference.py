"""Models, chat, completions and responses."""

import asyncio
import json

import openai
import rows
from calls import QUESTION, client, raises
from checks import CHAT_MODEL, check, state


@check
def models_list_retrieve_and_delete():
    ids = [model.id for model in client.models.list()]
    assert state.model in ids, ids
    assert CHAT_MODEL in ids, ids
    model = client.models.retrieve(state.model)
    assert (model.id, model.object) == (state.model, "model"), model
    assert isinstance(model.created, int), model
    raises(404, lambda: client.models.retrieve("ft:none"), code="model_not_found")
    raises(404, lambda: client.models.retrieve("org/none"), code="model_not_found")


@check
def chat_of_the_tuned_model():
    reply = client.chat.completions.create(
        model=state.model, messages=QUESTION, max_tokens=7, seed=42, temperature=0
    )
    assert reply.id.startswith("chatcmpl-"), reply
    assert (reply.object, reply.model) == ("chat.completion", state.model), reply
    assert reply.choices[0].message.role == "assistant", reply
    assert reply.choices[0].message.refusal is None, reply
    assert reply.choices[0].finish_reason in ("stop", "length"), reply
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    assert 0 < usage.completion_tokens <= 7, usage
    again = client.chat.completions.create(
        model=state.model, messages=QUESTION, max_tokens=7, seed=42, temperature=0
    )
    assert again.choices[0].message.content == reply.choices[0].message.content
    state.answer = reply.choices[0].message.content


@check
def chat_streams_the_same_text():
    stream = client.chat.completions.create(
        model=state.model,
        messages=QUESTION,
        max_tokens=7,
        seed=42,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == state.answer, (text, state.answer)
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    assert chunks[-1].usage.completion_tokens <= 7, chunks[-1]
    assert {c.object for c in chunks} == {"chat.completion.chunk"}


@check
def chat_several_choices_logprobs_and_stop():
    reply = client.chat.completions.create(
        model=state.model,
        messages=QUESTION,
        max_completion_tokens=5,
        n=3,
        temperature=1,
        logprobs=True,
        top_logprobs=4,
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2], reply
    tokens = reply.choices[0].logprobs.content
    assert all(token.logprob <= 0 for token in tokens), tokens
    assert all(len(token.top_logprobs) == 4 for token in tokens), tokens
    first = tokens[0].top_logprobs
    assert [t.logprob for t in first] == sorted((t.logprob for t in first), reverse=True)
    if state.answer:
        stopped = client.chat.completions.create(
            model=state.model,
            messages=QUESTION,
            max_tokens=7,
            temperature=0,
            stop=[state.answer[0]],
        )
        assert stopped.choices[0].message.content == "", stopped
        assert stopped.choices[0].finish_reason == "stop", stopped


@check
def chat_follows_a_json_schema():
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["서울", "부산"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    reply = client.chat.completions.create(
        model=state.model,
        messages=QUESTION,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "city", "strict": True, "schema": schema},
        },
    )
    assert json.loads(reply.choices[0].message.content)["city"] in ("서울", "부산"), reply


@check
def chat_ignores_harmless_parameters_and_refuses_wrong_ones():
    create = client.chat.completions.create
    reply = create(
        model=state.model,
        messages=[{"role": "developer", "content": "짧게"}, *QUESTION],
        max_tokens=2,
        user="me",
        store=False,
        metadata={"a": "b"},
        service_tier="auto",
        frequency_penalty=0.5,
        presence_penalty=0.5,
        logit_bias={"5": -100},
        extra_body={"top_k": 5},
    )
    assert reply.choices
    parts = [{"role": "user", "content": [{"type": "text", "text": "안녕"}]}]
    assert create(model=state.model, messages=parts, max_tokens=2).choices
    raises(404, lambda: create(model="nope", messages=QUESTION), code="model_not_found")
    raises(400, lambda: create(model=state.model, messages=[]))
    raises(400, lambda: create(model=state.model, messages=QUESTION, temperature=3))
    raises(400, lambda: create(model=state.model, messages=QUESTION, top_logprobs=3))
    raises(400, lambda: create(model=state.model, messages=[{"role": "x", "content": "a"}]))
    raises(
        400,
        lambda: create(
            model=state.model, messages=[{"role": "user", "content": "긴 글 " * 60_000}]
        ),
        code="context_length_exceeded",
        param="messages",
    )


@check
def chat_asynchronously():
    async def ask():
        async with openai.AsyncOpenAI() as own:
            calls = (
                own.chat.completions.create(model=state.model, messages=QUESTION, max_tokens=4)
                for _ in range(8)
            )
            return await asyncio.gather(*calls)

    assert len(asyncio.run(ask())) == 8


@check
def completions_with_echo_and_logprobs():
    text = rows.FACTS[0][0]
    reply = client.completions.create(
        model=state.model, prompt=text, max_tokens=0, echo=True, logprobs=2
    )
    choice = reply.choices[0]
    assert choice.text == text, choice
    assert "".join(choice.logprobs.tokens) == text, choice.logprobs
    assert choice.logprobs.token_logprobs[0] is None, choice.logprobs
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    assert choice.logprobs.text_offset[0] == 0, choice.logprobs
    assert len(choice.logprobs.top_logprobs[1]) >= 2, choice.logprobs
    both = client.completions.create(
        model=state.model, prompt=[text, "둘"], max_tokens=2, temperature=0
    )
    assert [each.index for each in both.choices] == [0, 1], both
    tokens = client.completions.create(model=state.model, prompt=[5, 6, 7], max_tokens=2)
    assert tokens.usage.prompt_tokens == 3, tokens
    stream = client.completions.create(
        model=state.model, prompt=text, max_tokens=4, temperature=0, stream=True
    )
    parts = [chunk.choices[0].text for chunk in stream]
    whole = client.completions.create(model=state.model, prompt=text, max_tokens=4, temperature=0)
    assert "".join(parts) == whole.choices[0].text
    raises(400, lambda: client.completions.create(model=state.model, prompt="a", suffix="b"))


@check
def responses_minimal():
    reply = client.responses.create(
        model=state.model, input="안녕하세요", instructions="짧게", max_output_tokens=16
    )
    assert reply.id.startswith("resp_"), reply
    assert reply.status in ("completed", "incomplete"), reply
    assert isinstance(reply.output_text, str)
    assert reply.usage.output_tokens <= 16, reply.usage
    with client.responses.stream(
        model=state.model, input=[{"role": "user", "content": "안녕"}], max_output_tokens=16
    ) as stream:
        kinds = [event.type for event in stream]
    assert kinds[0] == "response.created", kinds
    assert kinds[-1] in ("response.completed", "response.incomplete"), kinds
    raises(
        400,
        lambda: client.responses.create(
            model=state.model, input="a", previous_response_id="resp_1"
        ),
    )


@check
def chat_with_a_name_that_is_only_trained_says_what_to_do():
    """The names of this server train starters, which have no answers before a job has ended."""
    raises(
        400,
        lambda: client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION, max_tokens=2),
        message="fine-tuning job",
    )


@check
def embeddings_need_an_encoder_and_moderations_do_not_exist():
    try:
        reply = client.embeddings.create(model="text-embedding-3-small", input=["가", "나"])
        assert len(reply.data) == 2
    except openai.APIStatusError as error:
        assert error.status_code in (400, 404), error
        assert error.body["message"], error
    raises(404, lambda: client.moderations.create(input="a"))
