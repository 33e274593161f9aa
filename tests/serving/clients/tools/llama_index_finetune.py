"""llama-index's OpenAIFinetuneEngine: it uploads the file, starts the job and uses the model."""

import os
import sys
import time

from llama_index.core.llms import ChatMessage
from llama_index.finetuning import OpenAIFinetuneEngine

folder, model = sys.argv[1:]
# Its own check of the file downloads the vocabulary of tiktoken.
engine = OpenAIFinetuneEngine(model, f"{folder}/train.jsonl", verbose=True, validate_json=False)
engine.finetune()
while (job := engine.get_current_job()).status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.5)
assert job.status == "succeeded", job.error
# Its model reads another variable than OpenAI's client.
url = os.environ["OPENAI_BASE_URL"]
tuned = engine.get_finetuned_model(temperature=0, max_tokens=16, api_base=url)
reply = tuned.chat([ChatMessage(role="user", content="배송 기간은 며칠인가요?")])
assert isinstance(reply.message.content, str), reply
print(job.fine_tuned_model)
