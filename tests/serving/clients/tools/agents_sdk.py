"""The Agents SDK with its defaults: /v1/responses, tools, streams, stored turns; instructor's mode.

The model is a starter of twenty rows: what it says is noise, the forms of its answers are not.
"""

import asyncio
import sys
import time
from pathlib import Path

import instructor
from agents import Agent, ModelSettings, Runner, function_tool, set_tracing_disabled
from openai import OpenAI
from pydantic import BaseModel

folder, name = Path(sys.argv[1]), sys.argv[2]
set_tracing_disabled(True)
client = OpenAI()
file = client.files.create(file=folder / "train.jsonl", purpose="fine-tune")
job = client.fine_tuning.jobs.create(
    model=name, training_file=file.id, hyperparameters={"n_epochs": 20}
)
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.5)
    job = client.fine_tuning.jobs.retrieve(job.id)
assert job.status == "succeeded", job.error
calls = []


@function_tool
def is_open(monday: bool) -> str:
    """Whether the office is open."""
    calls.append(monday)
    return "yes"


agent = Agent(
    name="office",
    model=job.fine_tuned_model,
    tools=[is_open],
    tool_use_behavior="stop_on_first_tool",  # a starter's own words may never end
    model_settings=ModelSettings(tool_choice="required", parallel_tool_calls=False, temperature=0),
    reset_tool_choice=False,
)
first = Runner.run_sync(agent, "Open?")
assert first.final_output == "yes", first
again = Runner.run_sync(agent, "And now?", previous_response_id=first.last_response_id)
assert len(calls) == 2, again
asked = {"role": "user", "content": "And now?"}
Runner.run_sync(agent, [*first.to_input_list(), asked])  # with the call and its output
assert len(calls) == 3, calls


async def streamed():
    result = Runner.run_streamed(agent, "Open?")
    events = [event async for event in result.stream_events()]
    return {event.data.type for event in events if event.type == "raw_response_event"}


assert "response.function_call_arguments.done" in asyncio.run(streamed())
client.responses.delete(first.last_response_id)


class Verdict(BaseModel):
    open: bool


patched = instructor.from_openai(client, mode=instructor.Mode.RESPONSES_TOOLS)
verdict = patched.create(
    model=job.fine_tuned_model,
    response_model=Verdict,
    messages=[{"role": "user", "content": "Open?"}],
)
assert isinstance(verdict.open, bool)
