"""Detect refusals: by the finish reason, else by the first words."""

import re

from jangin.core.model_protocols import ChatReply
from jangin.core.reasons import Reason
from jangin.text.normalize import collapse_spaces

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
