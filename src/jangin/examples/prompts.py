"""Every prompt that a teacher gets, as data: one named template per language, with its digest."""

from dataclasses import dataclass
from string import Template

from jangin.core.digest import short_digest
from jangin.core.types import Message


@dataclass(frozen=True, slots=True)
class Prompt:
    """A system and a user template; `$name` marks what is filled in."""

    name: str
    language: str
    system: str
    user: str

    @property
    def digest(self) -> str:
        """Identity of the wording."""
        return short_digest([self.system, self.user])

    def messages(self, **values: object) -> tuple[Message, ...]:
        """The filled-in conversation; raises KeyError when a value is missing."""
        return (
            Message(role="system", content=Template(self.system).substitute(values)),
            Message(role="user", content=Template(self.user).substitute(values)),
        )


PROMPTS = (
    Prompt(
        name="synthesize",
        language="ko",
        system=(
            "당신은 문서를 읽고 시험 문항을 만드는 출제자입니다. 주어진 본문만으로 답할 수 있는 "
            "질문과 답을 만드세요.\n"
            "- 질문은 본문을 보지 않은 사람도 이해할 수 있어야 합니다. "
            "'위 조항', '이 본문' 같은 말은 쓰지 마세요.\n"
            "- 답은 짧고 정확해야 하며 본문에 없는 내용을 더하지 마세요.\n"
            "- evidence에는 답의 근거가 되는 본문 구절을 그대로 옮기세요.\n"
            "- JSON으로만 답하세요: "
            '{"pairs": [{"question": "...", "answer": "...", "evidence": "..."}]}'
        ),
        user=(
            "문서: $source\n항목: $section\n\n본문:\n$text\n\n"
            "질문과 답을 최대 $count개 만드세요. 본문에 물을 내용이 없으면 빈 목록을 주세요."
        ),
    ),
    Prompt(
        name="synthesize",
        language="en",
        system=(
            "You read documents and set exam questions. Write questions that the passage alone "
            "answers.\n"
            "- A reader who has not seen the passage must understand the question: never say "
            "'the text above' or 'this section'.\n"
            "- Answers are short and exact, and add nothing that the passage does not say.\n"
            "- evidence copies the words of the passage that support the answer.\n"
            "- Reply with JSON only: "
            '{"pairs": [{"question": "...", "answer": "...", "evidence": "..."}]}'
        ),
        user=(
            "Document: $source\nSection: $section\n\nPassage:\n$text\n\n"
            "Write at most $count questions with answers. Give an empty list if there is nothing "
            "to ask."
        ),
    ),
    Prompt(
        name="paraphrase",
        language="ko",
        system=(
            "당신은 같은 질문을 사람마다 다르게 묻는 방식을 잘 아는 상담원입니다. 주어진 질문과 "
            "뜻이 똑같은 다른 표현을 만드세요.\n"
            "- 뜻이 넓어지거나 좁아지면 안 됩니다. "
            "다른 질문과 헷갈리지 않게 핵심 낱말은 남기세요.\n"
            "- 어순, 말투, 낱말을 서로 다르게 하세요.\n"
            '- JSON으로만 답하세요: {"paraphrases": ["...", "..."]}'
        ),
        user="질문: $question\n답: $answer\n\n서로 다른 표현을 $count개 만드세요.",
    ),
    Prompt(
        name="paraphrase",
        language="en",
        system=(
            "You answer a help line and know how differently people ask the same thing. Write "
            "other wordings of the question that mean exactly the same.\n"
            "- Never wider, never narrower; keep the words that tell it from other questions.\n"
            "- Vary word order, tone and vocabulary.\n"
            '- Reply with JSON only: {"paraphrases": ["...", "..."]}'
        ),
        user="Question: $question\nAnswer: $answer\n\nWrite $count different wordings.",
    ),
    Prompt(
        name="repair",
        language="ko",
        system="$system",
        user="앞의 답은 쓸 수 없습니다: $problem\n설명 없이 고친 JSON만 다시 답하세요.",
    ),
    Prompt(
        name="repair",
        language="en",
        system="$system",
        user="That reply cannot be used: $problem\nReply again with the corrected JSON only.",
    ),
)


def find_prompt(name: str, language: str) -> Prompt:
    """The template of this name in this language, in English where there is none."""
    named = {prompt.language: prompt for prompt in PROMPTS if prompt.name == name}
    return named.get(language, named["en"])
