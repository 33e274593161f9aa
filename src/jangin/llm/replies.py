"""Replies of a teacher: parsed, validated, refusals and truncated JSON recognised."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from jangin.core.digest import canonical_json
from jangin.core.errors import ChatError, MissingReplyError, StageError, counted
from jangin.core.ledger import KeptReply
from jangin.core.model_protocols import ChatModel, ChatReply, ChatRequest
from jangin.core.prompts import Prompt
from jangin.core.reasons import Reason
from jangin.core.records import Message, Record
from jangin.core.stage import Calls, StageContext
from jangin.llm.ask import ask_all, budget_of, learned_of
from jangin.llm.budget import Budget
from jangin.llm.recorded import recorded_of
from jangin.llm.token_estimates import estimate_prompt
from jangin.text.normalize import collapse_spaces
from jangin.text.reasoning import without_reasoning

# Detect refusals: by the finish reason, else by the first words.


LONGEST = 600
"""A refusal is short; a long text that begins with an apology may be an answer."""

PHRASES = re.compile(
    r"""^\W*(?:
      (?:i['’]?m|i\ am)\ (?:very\ |so\ |really\ )?(?:sorry|unable\ to|not\ able\ to|afraid)\b
    | sorry,?\ (?:but\ )?i\b
    | (?:unfortunately,?\ )?i\ (?:can['’]?t|cannot|can\ not|won['’]?t|will\ not|must\ decline)\b
    | as\ an\ ai\b
    | (?:죄송|미안)(?:하지만|합니다만|스럽지만|합니다|해요)
    | 유감스럽(?:게도|지만)
    | (?:저는\ )?(?:ai|인공지능)\ ?(?:언어\ ?)?(?:모델|어시스턴트)?
      (?:로서|이기\ 때문에|이므로|이라서)
    | (?:해당|그|이)?\ ?(?:요청|질문)(?:에는?|은|을)?
      \ (?:응답|답변|도움|처리)\S*\ .{0,12}(?:없|어렵|거부)
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def refusal_reason(reply: ChatReply) -> Reason:
    """Why a reply counts as a refusal; empty if it does not.

    Only for replies that could not be parsed: a proper answer may quote such words.
    """
    text = collapse_spaces(reply.content)
    if reply.finish_reason == "content_filter":
        return _quoting("filtered", text)
    if reply.finish_reason == "refusal" or (len(text) <= LONGEST and PHRASES.match(text)):
        return _quoting("refused", text)
    return Reason()


def _quoting(key: str, text: str) -> Reason:
    return Reason(f"{key}_saying", text=text[:120]) if text else Reason(key)


# Distinguish truncated JSON from malformed JSON.


CLOSERS = {"{": "}", "[": "]"}
BEFORE_TEXT = "{[,:"
AFTER_TEXT = ",:}]"


def is_truncated(text: str) -> bool:
    """True if the JSON in a text that does not parse has a beginning and no end.

    Fences, surrounding words, trailing commas and single quotes do not matter. Where a string has
    unescaped quotes its end is unknown: such a text counts as complete if it ends with a bracket
    and its brackets are balanced.
    """
    is_open, has_unescaped_quotes = _scan(text)
    if not (is_open and has_unescaped_quotes):
        return is_open
    end = text.rstrip().removesuffix("```").rstrip()
    balanced = all(text.count(opener) == text.count(closer) for opener, closer in CLOSERS.items())
    return not (balanced and end.endswith(tuple(CLOSERS.values())))


def _scan(text: str) -> tuple[bool, bool]:
    """Whether a string or a bracket is open at the end, and whether quotes in it are unescaped.

    In valid JSON a separator or a closing bracket follows every string, so a quote that anything
    else follows belongs to the string.
    """
    expected: list[str] = []
    quote = before = ""
    escaped = has_unescaped_quotes = False
    for index, sign in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            if sign == "\\":
                escaped = True
            elif sign == quote and _may_end_string(text, index):
                quote = ""
            elif sign == quote == '"':
                quote = ""
                has_unescaped_quotes = True
        elif expected and (sign == '"' or (sign == "'" and before in BEFORE_TEXT)):
            quote = sign
        elif sign in CLOSERS:
            expected.append(CLOSERS[sign])
        elif expected and sign == expected[-1]:
            expected.pop()
        if not sign.isspace():
            before = sign
    return bool(expected or quote), has_unescaped_quotes


def _may_end_string(text: str, index: int) -> bool:
    """True if the text after the quote at `index` may follow a string."""
    rest = text[index + 1 : index + 50].lstrip()
    return not rest or rest[0] in AFTER_TEXT


# Structured outputs: parse, validate, and ask for one repair.


S = TypeVar("S", bound=BaseModel)
LONGEST_QUOTE = 160
"""Characters of a reply that an error message quotes."""
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")

FailureKind = Literal["unanswered", "malformed", "refused", "language", "empty", "rejected"]


class Failed(Record):
    """An unusable reply and the reason; it is stored, counted and shown."""

    subject: str
    """Id of the chunk or example that the request was about."""
    request: str
    reason: Reason
    reply: str
    kind: FailureKind = "malformed"
    """`rejected`: a rule dropped it, and asking again would not help; the rest are failures."""
    rule: str = ""
    """Name of the rule that rejected it."""


@dataclass(frozen=True, slots=True)
class Parsed(Generic[S]):
    """A reply that fits its schema, and its origin."""

    value: S
    request: str
    """Digest of the request."""
    made_by: dict[str, Any]
    """Fields of an `Example`: teacher, request, template, temperature, sample."""


@dataclass(frozen=True, slots=True)
class StructuredRequest:
    """A request for a structured reply, its subject and its prompt."""

    subject: str
    request: ChatRequest
    prompt: Prompt

    @property
    def made_by(self) -> dict[str, Any]:
        """Fields of an `Example` that record its origin."""
        return {
            "teacher": self.request.model,
            "request": self.request.digest,
            "template": self.prompt.label,
            "temperature": self.request.temperature,
            "sample": self.request.sample,
        }


@dataclass(frozen=True, slots=True)
class ReplyError:
    """Why a reply is unusable although it may fit its schema."""

    kind: FailureKind
    reason: Reason


NO_REASON = Reason()
NO_ITEM = Reason("no_item")
"""Reason of a reply without an item. The teacher is asked once whether that is so."""


def _no_problem(_question: StructuredRequest, _value: Any) -> ReplyError | None:
    return None


@lru_cache(maxsize=128)
def schema_text(reply_type: type[BaseModel]) -> str:
    """JSON Schema of a reply as canonical JSON, as it enters request digests."""
    return canonical_json(reply_type.model_json_schema())


def parse_reply(text: str, reply_type: type[S]) -> S | Reason:
    """The reply as a value, or the parse error.

    Reasoning before it is taken off; code fences and small errors are repaired.
    """
    import json_repair

    if not text.lstrip().startswith("{"):
        text = without_reasoning(text)
    if not text.strip():
        return Reason("reply_empty")
    try:
        data = json.loads(text)
    except ValueError:
        if is_truncated(text):
            return Reason("reply_breaks_off")
        data = json_repair.loads(text)
    if not isinstance(data, dict):
        return Reason("reply_no_object")
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Reason("half_character")
    try:
        return reply_type.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "reply"
        return Reason.said(f"{where}: {first['msg']}")


def ask_structured(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage that has a teacher
    chat: ChatModel,
    questions: Sequence[StructuredRequest],
    reply_type: type[S],
    concurrency: int,
    label: str,
    check: Callable[[StructuredRequest, S], ReplyError | None] = _no_problem,
) -> tuple[dict[str, Parsed[S]], list[Failed]]:
    """Ask all questions; returns ({subject: answer}, failures in the order of `questions`).

    Subjects must be unique. A malformed reply, or one that `check` objects to, is sent back once
    with the reason. A request without a reply is a failure like any other.

    Raises:
        StageError: No request got a reply, or a recorded reply is missing.

    """
    asking = _Asking(context, chat, reply_type, concurrency, check)
    malformed = asking.ask(questions, label)
    if malformed:
        asking.ask(malformed, f"{label}: unusable replies, once more")
    _forget(context, questions, malformed, asking.failures)
    asking.tally.note(context.summary, len(questions))
    asking.tally.check(len(questions))
    order = {question.subject: index for index, question in enumerate(questions)}
    failures = sorted(asking.failures.values(), key=lambda failed: order[failed.subject])
    return asking.answers, failures


def _read(
    question: StructuredRequest,
    reply: ChatReply,
    reply_type: type[S],
    check: Callable[[StructuredRequest, S], ReplyError | None],
) -> S | ReplyError:
    """The value of a reply, or the error that makes it unusable."""
    if reply.finish_reason == "length":
        return ReplyError("malformed", Reason("cut_off"))
    filtered = reply.finish_reason in ("refusal", "content_filter")
    value = refusal_reason(reply) if filtered else parse_reply(reply.content, reply_type)
    if isinstance(value, Reason):
        refused = refusal_reason(reply)
        return ReplyError("refused", refused) if refused else ReplyError("malformed", value)
    return check(question, value) or value


@dataclass(slots=True)
class _Tally:
    """Number of replies, and of those that could not be parsed."""

    replies: int = 0
    unread: int = 0
    unanswered: list[ChatError] = field(default_factory=list)

    def check(self, requests: int) -> None:
        """Raise `StageError` if no request got a reply, or a recorded reply is missing."""
        missing = [error for error in self.unanswered if isinstance(error, MissingReplyError)]
        if not missing and (self.replies or not self.unanswered):
            return
        first = (missing or self.unanswered)[0]
        stop = StageError(
            f"{len(self.unanswered)} of {counted(requests, 'request')} got no reply; the other "
            f"replies are kept. The first: {first}"
        )
        stop.exit_code = first.exit_code
        raise stop from first

    def note(self, summary: dict[str, Any], requests: int) -> None:
        """Add the counts to `summary`, which earlier calls of the same stage have filled."""
        summary["asked"] = summary.get("asked", 0) + requests
        summary["replies"] = summary.get("replies", 0) + self.replies
        summary["malformed_replies"] = summary.get("malformed_replies", 0) + self.unread
        if summary["replies"]:
            share = 1 - summary["malformed_replies"] / summary["replies"]
            summary["parse_rate"] = round(share, 4)


@dataclass(slots=True)
class _Asking(Generic[S]):
    """Answers and failures of the questions asked so far."""

    context: StageContext  # type: ignore[type-arg]  # serves every stage that has a teacher
    chat: ChatModel
    reply_type: type[S]
    concurrency: int
    check: Callable[[StructuredRequest, S], ReplyError | None]
    answers: dict[str, Parsed[S]] = field(default_factory=dict)
    failures: dict[str, Failed] = field(default_factory=dict)
    kept: list[KeptReply] = field(default_factory=list)
    tally: _Tally = field(default_factory=_Tally)

    def ask(self, questions: Sequence[StructuredRequest], title: str) -> list[StructuredRequest]:
        """Ask once; returns the repair requests for unusable replies."""
        again: list[StructuredRequest] = []
        progress = self.context.services.progress
        bar = progress.start(title, len(questions))

        unanswered = 0

        def take(index: int, reply: ChatReply | ChatError) -> None:
            nonlocal unanswered
            if isinstance(reply, ChatError):
                unanswered += 1
                progress.advance(bar, 0, f"{unanswered:,} without a reply")
            else:
                progress.advance(bar)
            self._take(questions[index], reply, again)

        try:
            requests = [question.request for question in questions]
            ask_all(self.chat, requests, self.concurrency, take, progress.message)
        finally:
            progress.stop(bar)
            self.context.services.ledger.keep_replies(self.kept, self.chat.source)
            self.kept.clear()
        return again

    def _take(
        self,
        question: StructuredRequest,
        reply: ChatReply | ChatError,
        again: list[StructuredRequest],
    ) -> None:
        if isinstance(reply, ChatError):
            self.tally.unanswered.append(reply)
            problem = ReplyError("unanswered", Reason.said(str(reply)))
            self.failures[question.subject] = _failed(question, problem, "")
            self.kept.append(_kept(question, "", problem.reason))
            return
        value = _read(question, reply, self.reply_type, self.check)
        self.tally.replies += 1
        if isinstance(value, ReplyError) and value.kind == "empty":
            self._take_empty(question, reply, value, again)
            return
        if isinstance(value, ReplyError):
            self.tally.unread += value.kind == "malformed"
            self.failures[question.subject] = _failed(question, value, reply.content)
            self.kept.append(_kept(question, reply.content, value.reason))
            if value.kind != "refused" and reply.content.strip():
                again.append(_repair(self.context, question, reply.content, value))
            return
        self.kept.append(_kept(question, reply.content))
        self.failures.pop(question.subject, None)
        made_by = question.made_by
        self.answers[question.subject] = Parsed(value, question.request.digest, made_by)

    def _take_empty(
        self,
        question: StructuredRequest,
        reply: ChatReply,
        problem: ReplyError,
        again: list[StructuredRequest],
    ) -> None:
        """A reply without an item is an answer, but the model is asked once whether it is sure."""
        self.failures.pop(question.subject, None)
        self.kept.append(_kept(question, reply.content, problem.reason))
        value = parse_reply(reply.content, self.reply_type)
        assert isinstance(value, self.reply_type)  # noqa: S101  `check` has seen it
        digest = question.request.digest
        self.answers[question.subject] = Parsed(value, digest, question.made_by)
        if any(message.role == "assistant" for message in question.request.messages):
            return
        second = _repair(self.context, question, reply.content, problem)
        recorded = recorded_of(self.chat)
        # Replies recorded before the second question was known have none to it.
        if recorded is None or recorded.has_reply(second.request):
            again.append(second)


def _forget(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage that has a teacher
    questions: Sequence[StructuredRequest],
    repairs: Sequence[StructuredRequest],
    failures: dict[str, Failed],
) -> None:
    """Drop unusable replies from the ledger, so that a later run asks again."""
    for question in (*questions, *repairs):
        if question.subject in failures:
            context.services.ledger.drop_reply(question.request.digest)


def make_request(
    subject: str,
    prompt: Prompt,
    reply_type: type[BaseModel],
    request_fields: dict[str, object],
    values: dict[str, object],
) -> StructuredRequest:
    """A request for a reply of `reply_type`; `request_fields` hold model and parameters."""
    messages = prompt.messages(**values)
    request = ChatRequest.model_validate(
        {**request_fields, "messages": messages, "json_schema": schema_text(reply_type)}
    )
    return StructuredRequest(subject, request, prompt)


def calls_of(chat: ChatModel, request: ChatRequest) -> Calls:
    """One request with its tokens and cost at most."""
    budget = budget_of(chat) or Budget("")
    prompt_tokens = estimate_prompt(
        request.messages, request.json_schema, budget.tokens_per_character, len(request.images)
    )
    learned = learned_of(chat)
    reply_tokens = request.max_tokens + (learned.thinking_tokens if learned is not None else 0)
    usd = budget.usd(prompt_tokens, reply_tokens)
    return Calls(1, prompt_tokens, reply_tokens, usd, budget.price is None)


def count_unpaid(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage that has a teacher
    chat: ChatModel,
    questions: Sequence[StructuredRequest],
) -> int:
    """Number of questions without a reply in the ledger.

    Adds their tokens and cost to `context.calls`, for the plan, and those that recorded replies
    do not cover.
    """
    ledger, recorded = context.services.ledger, recorded_of(chat)
    calls, unrecorded, unlike = Calls(), list[str](), list[str]()
    for question in questions:
        request = question.request
        if ledger.reply(request.digest, chat.source) is not None:
            continue
        calls.add(calls_of(chat, request))
        if recorded is not None and not recorded.has_reply(request):
            unrecorded.append(question.subject)
            if not recorded.has_kind(request):
                unlike.append(question.subject)
    calls.unrecorded, calls.unlike = tuple(unrecorded), tuple(unlike)
    context.calls.add(calls)
    return calls.count


def general(reason: Reason) -> str:
    """A reason without its figures and quotations, in which equal reasons differ."""
    return reason.general if reason.key else _VARYING.sub("…", reason)


def _failed(question: StructuredRequest, problem: ReplyError, reply: str) -> Failed:
    return Failed(
        subject=question.subject,
        request=question.request.digest,
        reason=problem.reason,
        reply=reply[:2000],
        kind=problem.kind,
    )


def _kept(question: StructuredRequest, reply: str, problem: Reason = NO_REASON) -> KeptReply:
    request = question.request
    prompt = "\n\n".join(f"{m.role}:\n{m.content}" for m in request.messages)
    return KeptReply(request.digest, question.subject, request.model, prompt, reply, problem.stored)


def note_rejected(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage that has a teacher
    failures: Sequence[Failed],
) -> None:
    """Write why items of replies were rejected beside those replies."""
    rejected = [(each.request, each.reason.stored) for each in failures if each.kind == "rejected"]
    context.services.ledger.add_problems(rejected)


def commonest_reason(failures: Sequence[Failed]) -> str:
    """The part of an error message that says why no reply was usable; empty without failures."""
    counts = Counter((failure.kind, general(failure.reason)) for failure in failures)
    if not counts:
        return ""
    (kind, reason), count = counts.most_common(1)[0]
    first = next(f for f in failures if (f.kind, general(f.reason)) == (kind, reason))
    reply = collapse_spaces(first.reply)
    quoted = reply[:LONGEST_QUOTE] + "…" * (len(reply) > LONGEST_QUOTE)
    # The reason of a refusal quotes it.
    said = f" The reply was {quoted!r}." if quoted and kind != "refused" else ""
    return (
        f"The commonest reason ({count:,} of {len(failures):,}): {first.reason.rstrip('.')}.{said}"
    )


def _repair(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage that has a teacher
    question: StructuredRequest,
    reply: str,
    problem: ReplyError,
) -> StructuredRequest:
    prompts, language = context.services.prompts, question.prompt.language
    if problem.kind == "empty":
        ask = prompts.find("nothing", language).messages()[-1]
    else:
        ask = prompts.find("repair", language).messages(problem=problem.reason)[-1]
    messages = (*question.request.messages, Message(role="assistant", content=reply), ask)
    request = question.request.model_copy(update={"messages": messages})
    return StructuredRequest(question.subject, request, question.prompt)
