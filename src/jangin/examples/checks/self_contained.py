"""Questions that point at a text which the reader does not have: "위 조항", "the passage above"."""

import re

from jangin.text.korean import NOUN_PARTICLES

_END = rf"{NOUN_PARTICLES}(?![가-힣])"
_ONE_SYLLABLE = "조|항|호|절|장|표|글"
_LONGER = (
    "조항|조문|규정|규칙|약관|본문|문서|문단|문장|단락|내용|항목|그림|도표|자료|텍스트|예시|예문|보기|"
    "사례|설명|대목|구절|발췌문|기사|페이지"
)
_KOREAN = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![가-힣])(?:위|앞|본|이|해당|아래|다음|상기|이번|주어진|제시된)의?\s+(?:{_ONE_SYLLABLE}){_END}",
        rf"(?<![가-힣])(?:위|앞|본|해당|아래|다음|상기|주어진|제시된)의?\s*(?:{_LONGER}){_END}",
        rf"(?<![가-힣])이\s+(?:{_LONGER}){_END}",
        rf"(?<![가-힣])(?:본문|발췌문|전항|전조|전호){_END}",
        # A 지문 is a fingerprint, too.
        r"(?<![가-힣])지문(?:에서는|에서|에|상)(?![가-힣])",
        r"(?<![가-힣])(?:위|앞|아래)(?:에서|에)?\s*(?:말한|언급된|언급한|설명된|설명한|제시된|나온|적힌|기술된|열거된)",
        r"(?<![가-힣])다음\s+중(?![가-힣])",
        r"(?:첫|두|세|네|다섯)\s*번째\s+(?:조항|항|호|문장|문단|단락)(?:에|은|의|이|을)",
        r"(?<![가-힣])(?:표|그림|글|문서)에\s*(?:따르면|의하면|나온|제시된|언급된)",
    )
)
_NOUNS = (
    "texts?|passages?|paragraphs?|sections?|documents?|articles?|excerpts?|tables?|figures?|charts?|"
    "clauses?|chapters?|pages?|contexts?|snippets?|sentences?|lists?|extracts?|materials?|contents?"
)
_TOLD = "(?:mentioned|described|listed|shown|stated|discussed|quoted|given)"
_ENGLISH = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bth(?:is|ese) (?:{_NOUNS})\b",
        rf"\bthe (?:above|below|following|preceding|previous|given|provided|aforementioned)"
        rf"(?: \w+)? ?(?:{_NOUNS})?\b",
        rf"\bthe (?:\w+ )?(?:{_NOUNS}) (?:above|below|provided|given)\b",
        r"\bthe (?:passage|excerpt|text|snippet)s?\b",
        rf"\b(?:according to|based on|as (?:per|stated in)|in light of) the (?:{_NOUNS}|author)\b"
        r"(?! (?:of|for|on|about)\b)",
        rf"\b{_TOLD} (?:above|below|here)\b",
        rf"\b{_TOLD} in the (?:{_NOUNS})\b(?! (?:of|for|on|about)\b)",
        r"\b(?:which|what|one) of the following\b",
        r"\b(?:see|as) (?:above|below)\b",
    )
)


def pointer(question: str) -> str:
    """The words that point at a text beside the question; empty where there are none."""
    for pattern in (*_KOREAN, *_ENGLISH):
        match = pattern.search(question)
        if match:
            return match[0].strip()
    return ""
