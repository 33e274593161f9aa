"""A tuned model that is loaded once and answers many conversations, piece by piece."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.core.errors import DataError, TooLongError
from jangin.core.records import Example, Message
from jangin.documents.passages import PassageHit, PassagePrompt, Passages
from jangin.inference.ask import (
    NO_TEMPLATE,
    NOT_TAUGHT,
    AskReply,
    Neighbour,
    PromptTemplate,
    TaughtQuestions,
    shared_system_message,
)
from jangin.inference.taught_form import History, LeftOut, TaughtForm, what_is_sent
from jangin.text.normalize import nfc
from jangin.text.reasoning import FRAMES, TAGS

if TYPE_CHECKING:
    from jangin.inference.generate import StreamedToken
    from jangin.inference.reasoning import AnswerReader

_INCOMPLETE = "\ufffd"
"""Decoded in place of an incomplete character."""
_OPENINGS = tuple(opening for opening, _ in (*TAGS, *FRAMES))


@dataclass(slots=True)
class Dialogue:
    """A tuned model and its base, prompted in the format of training.

    Weights are loaded when they are first needed, and kept.
    """

    base_folder: Path
    """Artifact of the base model."""
    model_folder: Path
    """Artifact of the tuned model."""
    taught: tuple[Example, ...] = ()
    """Its training examples, among which sources are looked for."""
    pattern: str = ""
    """Prompt template of the training questions; empty for questions as they are."""
    withheld: tuple[Example, ...] = ()
    """Examples that are kept back for the test, of questions that training does not show."""
    passages: Passages | None = None
    """What is searched for a question; a model that was trained with passages gets them."""
    _tokenizers: dict[Path, Any] = field(default_factory=dict, repr=False)
    _questions: TaughtQuestions | None = field(default=None, repr=False)
    _form: TaughtForm | None = field(default=None, repr=False)
    _models: dict[Path, Any] = field(default_factory=dict, repr=False)

    @property
    def template(self) -> PromptTemplate:
        """The template that questions are inserted into; not used if it has several columns."""
        return PromptTemplate.read(self.pattern) or NO_TEMPLATE

    @property
    def sent_unchanged(self) -> bool:
        """Whether a template has several columns, so that questions are sent as they are."""
        return bool(self.pattern) and PromptTemplate.read(self.pattern) is None

    @property
    def form(self) -> TaughtForm:
        """Which conversations the tuned model was taught."""
        if self._form is None:
            self._form = TaughtForm.of(example.prompt for example in self.taught)
        return self._form

    @property
    def passage_prompt(self) -> PassagePrompt | None:
        """How the model was trained to read passages; None for one that was trained without."""
        return PassagePrompt.read(self.model_folder)

    def search(self, question: str) -> list[PassageHit]:
        """The passages that a question is answered from, or that are shown beside the answer.

        Best first; empty without an index.
        """
        if self.passages is None or not question.strip():
            return []
        reads, text = self.passage_prompt, nfc(question.strip())
        if reads is not None:
            text = self.template.fill(text)  # as in `prompt`, for the passages that are read
        (hits,) = self.passages.search([text], reads.count if reads else 1)
        return hits

    def left_out(self, messages: Sequence[Message], history: History = "auto") -> LeftOut:
        """What of a conversation the tuned model does not get."""
        return self.form.left_out(messages, history)

    def prompt(self, messages: Sequence[Message], history: History = "auto") -> tuple[Message, ...]:
        """The conversation as training showed it: its system message, questions in the template.

        Raises: DataError: the last message is no question.
        """
        if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
            raise DataError("the question is empty. Write a question for the model.")
        messages = what_is_sent(messages, self.left_out(messages, history))
        template = self.template
        system = () if messages[0].role == "system" else shared_system_message(self.taught)
        turns = [
            Message(role="user", content=template.fill(nfc(turn.content.strip())))
            if turn.role == "user"
            else turn
            for turn in messages
        ]
        return (*system, *turns)

    def stream(
        self,
        messages: Sequence[Message],
        max_new_tokens: int = 256,
        *,
        base: bool = False,
        history: History = "auto",
    ) -> Iterator[str]:
        """Pieces of the greedy answer as they become certain, without reasoning.

        The answer ends at the model's context length at the latest. `base` asks the base model,
        which gets all turns. Closing the iterator stops the generation.

        Raises:
            DataError: there is no question.
            TooLongError: the conversation leaves no room for an answer.

        """
        from jangin.inference.continuous_batching import GenerationRequest
        from jangin.inference.generate import stream
        from jangin.inference.reasoning import AnswerReader
        from jangin.models.shape import read_context_length
        from jangin.models.tokens.chat_template import render_prompts

        tokenizer = self._tokenizer(self.base_folder if base else self.model_folder)
        prompt = self.prompt(messages, "all" if base else history)
        reads = None if base else self.passage_prompt
        if reads is not None and self.passages is not None:
            prompt, _ = reads.with_passages(self.passages, prompt)
        (ids,) = render_prompts(tokenizer, [prompt])
        room = read_context_length(self.base_folder) - len(ids)
        if room <= 0:
            what, remedy = (
                ("conversation", "Shorten the question, or start a new conversation.")
                if sum(message.role == "user" for message in prompt) > 1
                else ("question", "Shorten the question.")
            )
            raise TooLongError(
                f"the {what} has {len(ids):,} tokens, and with the answer it can have "
                f"{room + len(ids):,}, the context length of the base model. {remedy}"
            )
        request = GenerationRequest(ids, min(max_new_tokens, room))
        with self._model(base=base) as model:
            tokens = stream(model, tokenizer, [request], batch_size=1)
            yield from visible_text(tokens, ids, AnswerReader(tokenizer))

    def answer(
        self,
        messages: Sequence[Message],
        max_new_tokens: int = 256,
        *,
        base: bool = False,
        history: History = "auto",
    ) -> str:
        """The whole answer; raises like `stream`."""
        return "".join(self.stream(messages, max_new_tokens, base=base, history=history))

    def reply(self, question: str, answer: str) -> AskReply:
        """The answer with what was taught for the question."""
        if not any(bool(example.page or example.evidence) for example in self.taught):
            return AskReply(answer, NOT_TAUGHT, sourced=False)
        asked_for = nfc(question.strip())
        trace = self._known_questions().trace(asked_for, answer)
        if trace.status != "taught" and self.withheld:
            kept = TaughtQuestions(self.withheld, self.template).trace(asked_for, answer)
            if kept.similarity > trace.similarity:
                trace = replace(kept, status="withheld")
        return AskReply(answer, trace, sourced=True)

    def neighbour(self, question: str, answer: str) -> Neighbour | None:
        """For a question that was not taught: the example that its answer is probably from.

        Else the one whose question is most alike; None where no question shares a word.
        """
        return self._known_questions().neighbour(nfc(question.strip()), answer)

    def _known_questions(self) -> TaughtQuestions:
        if self._questions is None:
            self._questions = TaughtQuestions(self.taught, self.template)
        return self._questions

    def _tokenizer(self, folder: Path) -> Any:
        from jangin.models.loading import load_tokenizer

        if folder not in self._tokenizers:
            self._tokenizers[folder] = load_tokenizer(folder)
        return self._tokenizers[folder]

    @contextmanager
    def _model(self, *, base: bool) -> Iterator[Any]:
        """The tuned model, or the base: its adapter turned off, or weights of its own."""
        from jangin.models.loading import (
            has_adapter,
            load_model,
            load_trained,
            use_native_precision,
        )

        adapted = has_adapter(self.model_folder)
        folder = self.base_folder if base and not adapted else self.model_folder
        if folder not in self._models:
            loaded = (
                load_model(folder)
                if folder == self.base_folder
                else load_trained(folder, self.base_folder, as_trained=True)
            )
            self._models[folder] = use_native_precision(loaded)
        model = self._models[folder]
        if not (base and adapted):
            yield model
            return
        model.base_model.disable_adapter_layers()
        try:
            yield model
        finally:
            model.base_model.enable_adapter_layers()


def visible_text(
    tokens: "Iterator[StreamedToken]", prompt_ids: Sequence[int], reader: "AnswerReader"
) -> Iterator[str]:
    """Pieces of one streamed answer after its reasoning; together they are the answer's text."""
    ids: list[int] = []
    text = shown = ""
    for token in tokens:
        ids.append(token.token_id)
        text += token.text
        if token.generation is not None:
            whole = token.generation.text
        elif any(tag != (start := text.strip()) and tag.startswith(start) for tag in _OPENINGS):
            continue  # it may become the tag that begins reasoning
        else:
            whole = reader.read(prompt_ids, ids, text).text
        if whole.startswith(shown) and whole != shown and not whole.endswith(_INCOMPLETE):
            yield whole[len(shown) :]
            shown = whole
