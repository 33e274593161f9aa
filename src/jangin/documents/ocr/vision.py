"""A vision model transcribes the pages that OCR is not sure of.

Its transcript is taken only if it holds most of what OCR was sure of: a model that looks away from
the page writes fluent text that is not there.
"""

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jangin.core.errors import ChatError
from jangin.core.model_protocols import ChatModel, ChatReply, ChatRequest
from jangin.core.stage import Calls
from jangin.documents.ocr.reader import PageImage
from jangin.documents.ocr.reading import OcrReading
from jangin.llm.ask import ask_all, budget_of
from jangin.llm.budget import Budget
from jangin.llm.token_estimates import estimate_prompt

if TYPE_CHECKING:
    from jangin.core.prompts import Prompts
    from jangin.documents.ocr.preparation import Grey

HELD = 0.7
"""Share of OCR's sure letters, in runs of four, that a transcript must hold."""
GRAM = 4
PROMPT = "transcribe"


@dataclass(frozen=True, slots=True)
class Transcriber:
    """A vision model, and how it is asked."""

    chat: ChatModel
    prompts: "Prompts"
    max_tokens: int
    concurrency: int
    notify: Callable[[str], None]

    def improve(
        self,
        name: str,
        pages: Sequence[PageImage],
        readings: Sequence[OcrReading],
        numbers: Sequence[int],
    ) -> list[OcrReading]:
        """The readings; those with doubtful lines as the model has transcribed them.

        `numbers` are those of the pages, for messages.

        A page whose transcript fails, or disagrees with OCR, keeps its reading, with a message that
        begins with `name`. Raises: RefusedError, BudgetError, ChatError: as `ask_all`.
        """
        improved = list(readings)
        doubtful = [index for index, reading in enumerate(readings) if reading.doubtful]
        if not doubtful:
            return improved
        requests = [self._request(pages[index], readings[index]) for index in doubtful]

        def take(order: int, reply: ChatReply | ChatError) -> None:
            index = doubtful[order]
            problem = _problem(reply, readings[index])
            if problem:
                self.notify(f"{name}, page {numbers[index]}: {problem}, so the OCR reading stays")
            elif isinstance(reply, ChatReply):
                improved[index] = replace(
                    readings[index],
                    text=reply.content.strip(),
                    doubtful=(),
                    complete="",
                    read_by=self.chat.model,
                )

        ask_all(self.chat, requests, self.concurrency, take, self.notify)
        return improved

    def _request(self, page: PageImage, reading: OcrReading) -> ChatRequest:
        hangul = sum("가" <= character <= "힣" for character in reading.sure)
        prompt = self.prompts.find(PROMPT, "ko" if 3 * hangul > len(reading.sure) else "en")
        return ChatRequest(
            model=self.chat.model,
            messages=prompt.messages(),
            max_tokens=self.max_tokens,
            images=(data_url(page.render()),),
        )


def bound(chat: ChatModel, prompts: "Prompts", max_tokens: int, pages: int) -> Calls:
    """What it would cost at most if every page were in doubt."""
    budget = budget_of(chat) or Budget("")
    longest = max(
        estimate_prompt(prompt.messages(), "", budget.tokens_per_character, images=1)
        for prompt in prompts.languages(PROMPT).values()
    )
    return Calls(
        pages,
        pages * longest,
        pages * max_tokens,
        pages * budget.usd(longest, max_tokens),
        pages if budget.price is None else 0,
    )


def data_url(page_HW: "Grey") -> str:
    """The page as a PNG in a `data:` URL."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(page_HW).save(out, "PNG", optimize=False)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _problem(reply: ChatReply | ChatError, reading: OcrReading) -> str:
    """Why a reply is not used; empty if it is."""
    if isinstance(reply, ChatError):
        return f"no transcript ({reply})"
    if reply.finish_reason not in ("stop", ""):
        return f"the transcript ended with {reply.finish_reason}"
    share = held_share(reply.content, reading.sure)
    return "" if share >= HELD else f"its transcript holds {share:.0%} of what OCR is sure of"


def held_share(text: str, sure: str) -> float:
    """Share of the four-letter runs of `sure` that `text` holds; 1 if there are none.

    A line break in `sure` marks omitted words.
    """
    known = _grams(text)
    expected = set().union(*(_grams(part) for part in sure.split("\n")))
    return len(expected & known) / len(expected) if expected else 1.0


def _grams(text: str) -> set[str]:
    letters = "".join(re.findall(r"[^\W_]", text))
    return {letters[index : index + GRAM] for index in range(len(letters) - GRAM + 1)}
