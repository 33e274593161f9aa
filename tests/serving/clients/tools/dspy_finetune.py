"""dspy's BootstrapFinetune: it writes the training file, starts the job and uses the model."""

import os
import sys

import dspy

os.environ["DSPY_CACHEDIR"] = sys.argv[1]
model = sys.argv[2]
lm = dspy.LM(
    f"openai/{model}",
    max_tokens=32,
    temperature=0.0,
    cache=False,
    num_retries=0,
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key=os.environ["OPENAI_API_KEY"],
)
dspy.settings.experimental = True
dspy.configure(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False))
words = ["하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉", "열", "열하나", "열둘"]
examples = [
    dspy.Example(question=f"{word} 다음은?", answer=after).with_inputs("question")
    for word, after in zip(words, words[1:] + words[:1], strict=True)
]


class Answer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.predict(question=question)


student, teacher = Answer(), Answer()
student.set_lm(lm)
# The teacher knows the answers, so that the examples are right.
teacher.set_lm(dspy.utils.DummyLM({e.question: {"answer": e.answer} for e in examples}))
optimizer = dspy.BootstrapFinetune(num_threads=1, train_kwargs={})
tuned = optimizer.compile(student, trainset=examples, teacher=teacher)
name = tuned.predictors()[0].lm.model
assert "ft:" in name, name
reply = tuned.predictors()[0].lm(messages=[{"role": "user", "content": examples[0].question}])
assert isinstance(reply, list), reply
print(name)
