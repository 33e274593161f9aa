"""The forms in which people and models put a short answer, in Korean and English.

Lead-ins, courtesies and words that add nothing to an answer; `content_match` takes them off. The
lists are closed: any other word counts as content.
"""

import re
import unicodedata

LEAD_INS = tuple(
    re.compile(pattern)
    for pattern in (
        # Korean
        r"[^.\n,!?]{1,60}?(?:에 따르면|에 의하면|에 근거하면|에 따라|[을를] 보면)[,\s]+",
        r"(?:\S+ )?(?:규정|규칙|문서|자료|매뉴얼|설명서|계약|약관|정책|지침|기준)상"
        r"(?:으로)?는?[,\s]+",
        r"(?:정답|답|답변|대답|결론|결과)(?:은|는)?\s*[:,]?\s+(?=\S)",
        r"(?:정답|답|답변|대답|결론|결과)\s*:\s*",
        r"(?:결론적으로|요약하면|요컨대|즉|간단히 말하면|한마디로)(?: 말하면)?[,\s]+",
        r"(?:문의|질문|요청)하신\s[^.\n,]{1,30}?(?:답변|답|내용)(?:은|는)[,\s]+",
        r"(?:네|예|물론입니다|안녕하세요|안녕하십니까)[,.!]+\s*",
        # English
        r"(?:according to|based on|per|as per|in accordance with|under)\s[^,.\n]{1,80}?,\s*",
        r"as (?:stated|specified|described|mentioned|defined|given|noted)\s[^,\n]{1,80}?,\s*",
        r"(?:so |thus |therefore,? )?the (?:correct |short |final |right )?answer"
        r"(?: to (?:your|the|this) question)?\s*(?:is|would be|:)\s*:?\s*",
        r"(?:a|answer|reply|response)\s*:\s*",
        r"(?:sure|certainly|of course|yes|okay|ok|hello|hi|great question)[,.!:]+\s*",
        r"in (?:short|summary|brief|conclusion|other words)[,:]\s*",
        r"the (?:\w+ )?(?:handbook|manual|document|policy|text|rules?|guide|contract|passage)"
        r" (?:says?|states?|specif(?:y|ies)|mentions?|gives?|requires?)(?: that)?[,\s]+",
    )
)
"""Beginnings of an answer, in lower case; removed one after another, as often as they occur."""
OUTDATED = re.compile("이전|과거|예전|작년|지난|다른|former|previous|old|last year|another|other")
"""In a lead-in: it speaks of something else."""
COURTESIES = re.compile(
    r"(?:감사합니다|고맙습니다|도움이 되(?:셨|었|시)[^.\n]*|도움이 되[^.\n]{0,6}바랍니다"
    r"|(?:i )?hope (?:this|that) helps?|thank(?:s| you)|let me know [^.\n]*)[.!\s]*$"
)
"""Ends of an answer."""

FUNCTION_WORDS = frozenset(
    [
        *["a", "an", "the", "it", "is", "are", "be", "been", "being", "its", "it's", "that's"],
        *["that", "this", "these", "those", "there", "there's", "they", "he", "she", "you", "we"],
        *["i", "one", "your", "our", "their", "his", "her", "my", "them", "itself", "of", "for"],
        *["in", "on", "at", "to", "by", "as", "would", "will", "shall", "should", "must", "need"],
        *["needs", "has", "have", "which", "who", "get", "gets", "'s", "named", "called", "name"],
        *["lasts", "last", "takes", "costs", "equals", "amounts", "stands", "set", "fixed"],
        *["specified", "stated", "defined", "given", "described", "listed", "located", "known"],
        *[
            "handbook",
            "manual",
            "document",
            "policy",
            "rule",
            "rules",
            "user",
            "entitled",
            "receive",
        ],
        *["person", "date", "place", "location", "amount", "value", "number"],
        *["이", "그", "바로", "총", "해당", "이것", "그것", "동안", "간", "씨", "님", "정도의"],
        *["정해져", "정하여져", "규정되어", "명시되어", "기재되어", "적혀", "나와", "설정되어"],
        *["규정에", "규칙에", "문서에", "자료에", "매뉴얼에", "설명서에", "라고", "이라고", "경우"],
        *["것이다", "것으로", "이다", "하다", "되다", "있다", "드리다", "주어지다", "부여되다"],
        *["규정되다", "명시되다", "기재되다", "설정되다", "정해지다", "소요되다", "걸리다"],
        *["해당하다", "해당되다", "의미하다", "뜻하다", "말하다", "받다", "이라", "값", "이름"],
        *["사람", "날", "날짜", "시기", "곳", "장소", "금액", "것"],
    ]
)
"""Words that add nothing, as `plain` spells them. Past tense, `can`, `may` and every word that
limits or denies are not among them."""
CONNECTORS = frozenset(("and", "및", "그리고", "&", "또", "또한"))
"""Words between the items of a list."""
ALTERNATIVES = frozenset(
    [
        "or",
        "either",
        "but",
        "또는",
        "혹은",
        "이나",
        "나",
        "하지만",
        "그러나",
        "단",
        "다만",
        "아니면",
    ]
)
"""Words that give a second answer or take back the first."""
NEGATIONS = re.compile(
    "^(?:안|못)$|않|없|못하|못한|아니|아닌|아닙|불가|금지|제외|마십"
    r"|^(?:not|no|never|none|neither|nor|without|cannot|except|hardly)$|n't$|n’t$"
)
YES = frozenset(
    ("예", "네", "맞다", "그렇다", "가능하다", "가능", "yes", "yeah", "correct", "true")
)
NO = frozenset(
    [
        "아니요",
        "아니오",
        "아뇨",
        "아니다",
        "불가능하다",
        "불가능",
        "불가",
        "불가하다",
        "no",
        "false",
    ]
)

PARTICLES = re.compile(
    "(?:에서는|에서|에게는|에게|에는|께서는|께서|께|한테|으로서|으로써|으로는|으로|로서|로써|로는|로"
    "|은|는|이|가|을|를|의|에)$"
)
"""Particles that leave an answer what it is; 도, 만, 까지, 부터, 마다, 보다, 과 and 나 do not."""
SUFFIXES = re.compile(
    "(?:간|동안|씨|님)?(?:이라고|라고|이라|라|이다|다|인|이란|임|하다|되다|에게|에서|께|으로|로|은|는|이|가"
    "|을|를|의|에|에는|에게는)?"
)
"""What may be written together with the end of an answer."""
SAME_WORD = {"안에": "이내", "내에": "이내", "이내에": "이내", "내": "이내", "이내로": "이내"}

_SYLLABLES = (
    "습니까",
    "습니다",
    "는가요",
    "은가요",
    "나요",
    "는다",
    "지요",
    "네요",
    "어요",
    "아요",
    "죠",
)
_AFTER_FINAL = {"\u11b8": ("니다", "니까"), "\u11ab": ("다", "가요", "가"), "\u11af": ("까요",)}
"""Endings that begin with a final consonant of the stem's last syllable, a conjoining jamo."""
_ENDINGS = re.compile(
    unicodedata.normalize(
        "NFD",
        "|".join(
            [*_SYLLABLES, *(j + rest for j, many in _AFTER_FINAL.items() for rest in many)],
        ),
    ).join(("(?:", ")$"))
)
_CONTRACTED = {
    "하다": re.compile("(?:해요|합니다|한다|하여요)$"),
    "되다": re.compile("(?:돼요|되어요|됩니다|된다)$"),
    "이다": re.compile("(?:이에요|예요|이예요|여요)$"),
}


def plain(word: str) -> str:
    """A word with its predicate ending in plain style: 됩니다, 되나요 and 된다 are 되다.

    Other words are returned unchanged.
    """
    if len(word) < 2 or not "가" <= word[-1] <= "힣":
        return word
    for verb, pattern in _CONTRACTED.items():
        if pattern.search(word):
            return pattern.sub(verb, word)
    jamo = unicodedata.normalize("NFD", word)
    stem = _ENDINGS.sub("", jamo)
    return word if stem == jamo or not stem else unicodedata.normalize("NFC", stem) + "다"
