"""The forms in which people and models put a short answer, in Korean and English.

Lead-ins, courtesies, refusals, hedges, denials, and words that add nothing to an answer. The lists
are closed: any other word counts as content.
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


REFUSALS = re.compile(
    r"(?:문서|자료|본문|지문|규정|문맥|내용|정보|위|제시된 글|제공된 글|주어진 글)[^.\n]{0,40}?"
    r"(?:찾을 수(?:가)? 없|나와\s?있지 않|적혀\s?있지 않|(?:포함|명시|언급|기재|제시|제공"
    r"|규정|기술|서술)(?:되어|돼|하고)?\s?(?:있지|되지"
    r"|하지)\s?(?:는\s)?않"
    r"|(?:언급|내용|정보|설명|답|규정|기준|언급된 바|근거|자료)(?:이|가|은|는|도)?\s?(?:없|부족))"
    r"|(?:문서|자료|본문|지문|규정|문맥)(?:에|에는|에서|에서는)\s?(?:없|찾을 수)"
    r"|(?:알|확인할|답할|답변할|답변드릴|말씀드릴|판단할|알려\s?드릴)\s?수(?:가|는)?\s?(?:없"
    r"|가 없)|모르겠|모릅니다|(?<![가-힣])모른다"
    r"|정보가 (?:부족|없)|(?:명시|언급|규정)되(?:어 있)?지 않|관련(?:된)? (?:내용"
    r"|정보)[^.\n]{0,12}없"
    r"|\b(?:i|we) (?:do not|don't|cannot|can't|could not|couldn't) (?:know|find|answer|tell|say"
    r"|determine|see|provide)\b"
    r"|\b(?:is|are|was)(?: not|n't) (?:\w+ )?(?:mentioned|specified|stated|provided|given|found"
    r"|included|"
    r"described|indicated|available in|clear from|known|covered|addressed)\b"
    r"|\b(?:does|do|did)(?: not|n't) (?:\w+ )?(?:mention|specify|say|state|provide|contain"
    r"|include|give|indicate|describe|address|answer)\b"
    r"|\bno (?:\w+ )?(?:information|mention|answer|data|details?)\b|\bcannot be (?:determined"
    r"|found|answered)\b|\bunable to\b"
    r"|\bnot enough (?:information|context)\b|\bnot sure\b|\bunknown\b"
)
"""The answer says that it does not know, or that the text does not say."""
HEDGES = re.compile(
    r"(?:아마|어쩌면|혹시|추측|추정|짐작|확실(?:하지|치|하진)\s?(?:는\s)?않|분명(?:하지|치) "
    r"않|정확하지 않|불확실|잘 모르)"
    r"|(?:인|는|은|을|ㄹ|한|된|할|될|일|던) (?:것|거|듯) ?(?:같|보|싶|으로 보|으로 추|으로 예"
    r"|으로 생|으로 판)|듯(?:합|하|해|싶|싶습)"
    r"|것 같|(?<!똑)(?<![과와] )(?:같아요|같습니다)"
    r"|일 수도|할 수도 있|을 수도 있|ㄹ 수도|될 수도|(?:라고|으로) (?:생각|기억|알고|추정"
    r"|예상|짐작)|(?:일|할|될|을) 것입니다만|예상됩니다|아닐까"
    r"|지도 모"
    r"|\b(?:maybe|perhaps|possibly|probably|presumably|supposedly|apparently|likely|might|could "
    r"be|may be about|seems?|seem to|appears? to"
    r"|i (?:think|believe|guess|assume|suppose)|as far as i know|if i remember|not (?:entirely "
    r")?(?:sure|certain)|i'm not|unclear|uncertain)\b"
)
"""The answer does not commit itself."""
DENIALS = re.compile(
    r"(?P<hanging>지\s?(?:는|도|를)?\s?(?:않|못|말|마[세십시]))|(?P<can>수(?:가|는|도)?\s?없)"
    r"|(?P<none>(?<![가-힣])없(?:[가-힣]*)|없(?:습|다|이|는|으|음|어))"
    r"|(?P<is>아니(?!요|오)|아닙|아닌|아녜)|(?P<word>불가|금지|금하|금합|제외|면제|안 "
    r"(?=[되돼됩된될])|안[되돼됩된될]"
    r"|못\s?(?=[하합한할받쓰])|(?<![가-힣])(?:안|못) )"
    r"|(?P<english>\b(?:not|no|never|none|nobody|nothing|neither|nor|cannot|can't"
    r"|rejected|refused|forbidden|prohibited|banned|excluded|except|excluding|hardly)\b|n't\b)"
)
"""A denial, with what it hangs on before it (`hanging`, `can`, `is`) or after it."""
CONDITIONS = re.compile(
    r"보다(?=\s[^.]{0,8}(?:많|적|크|작|높|낮|길|짧|이르|늦|위|아래))|(?<![가-힣])(?:단지"
    r"|오직)|예외|(?<![가-힣하지이])(?<=[가-힣]{2})(?:에서|에게|으로"
    r"|로)?만(?=[ ,.]|$)|에 한(?:해|하|함"
    r"|정)|에만|경우만|경우에만"
    r"|\b(?:only|without|unless|except|solely|exclusively|provided that|as long as|but not)\b"
)
"""What restricts a statement."""
_FORM_ENGLISH = """
able about above accept accepted accepting accepts according add added additional adds afternoon
afterwards all allow allowed allows already also always am amount amounts and another answer
answered answers any anybody anyone appear appears applicable applied applies apply approval
approve approved approves approximately around arrive arrived arrives as ask asked asks
available back because become becomes been begin begins below between both bring brought but
called can cap capped carried carry case cases certain charge charged charges close closed
closes collect collected come comes compulsory concerning contact contacts correct cost costing
costs could currently customer customers date day days did different directly do does doing done
down dr duration during each early eg either eligible else employee employees end ends enter
entered enters entitled equal equals etc even evening evenings every everybody everyone exactly
extra fee fees finally find first following from further generally get give gives go goes got
grant granted grants hand handed handle handled handles happen happens having having's held here
him hold holds hour hours how however ie if immediately individual individuals inform informed
instead into item items just keep keeps kept kind last lasts leave leaves left length let lets
level limit limited limits long madam made make makes mandatory max maximum may me mean means
member members mentioned might min minimum minute minutes month months more morning mr mrs ms
must must've name named namely necessary need needed neither no normally not notified notify
number numbers obligatory obliged off offer offered offers once only onto open opened opens
optional or order other otherwise out over own paid particular passage pay pays people per
period permissible permission permit permits permitted person persons please possible precisely
present presented price priced provide provided provides purchase question rate receive received
receives refers regarding replies reply report reported reports require required requires
responsible return returned returns right roughly same say says see send sent set sets shall
should show shows simply since sir so somebody someone specifically staff start starts stated
states stay stays still storage store stored stores submit submitted such sum take taken takes
tell text than then therefore thing things through throughout thus till time times together told
too total true type typically under unless until up upon us use used user users uses using
usually valid value very via want wants was way week weeks weigh weighing weighs weight weights
well were what when where whether while who whom whose why will wish with within would year
years yes
"""
_FORM_KOREAN = """
가 가격 가능 가운데 가장 가져가 가져오 가지 각 각각 간 감면 감사합니다 값 같 개 걸리 것 결제 경
경우 계산 고객 관련 관하여 관한 규정 규칙 그 그는 그때 그날 그래서 그러나 그러므로 그리고 금액 금지
기간 기관 기재 기준 기한 길 까지 꼭 끝 나 나머지 나오 나와 날 날짜 납부 낮 내 내용 넘 네 년 높
누구 늘 님 다 다르 다시 다음 단 닫 달 담당 담당자 답 답변 당 당사 대상 대상자 대하여 대한 대해
도 동 동안 되 두 뒤 드리 드립니다 들 등 따라 따라서 따르 때 때문 또 또는 또한 뜻 마감 마련
마찬가지 마치 만 만약 만일 만큼 많 말 맞 매 매년 매우 매월 매일 매주 먼저 며칠 명 명시 몇 모두
못 무엇 문 문서 문의 물론 미리 및 바로 밖 반드시 반환 받 발생 방문 방법 방식 번 보 보관 보존
본인 부과 부분 부여 부터 분 불가 비용 비율 사람 사용 사용자 사이 사항 산정 상한 서로 서류 선생님
설정 수 수량 수행 쉬 시 승인 시각 시간 시작 시점 시한 식 신고 신청 실시 실행 쓰 씨 아니 아니요 아래
안 안내 않 알 앞 아니라 액수 약 어느 어디 어떤 어떻게 언제 얼마 없 여러분 역시 연간 연락 열 열리 예
예정 오 완료 외 요구 요금 요청 우리 운영 원
원칙 원칙적 월 월간 위 위하 위해 유지 유효 의무 의미 의하 의해
이 이는 이때 이후 이루어지 이뤄지 이번 이상의 이용 이용자 이율 인원 인정 일 일자 일정 있 자료 작 저
저희 적 적용 전 전체 절차 접수 정도 정보 정산 정원 정하 정해 제공 제시 제출 제한 조건 종료 좋 주
주간 준비 줄 중 즉 즉시 지급 지나 지난 지원 지참 직원 직접 진행 질문 짧 차원 참고 참석 참여
책임자 처리 청구 총 총원 총합 최단 최대 최소 최장 최종 추가 추가되 측 크 통하 통해 필수 필요
필요하 하 하루 하지만 하한 한 한도 한번 할인 함께 항목 해 해당 허가 허용 혜택 확인 환산 회 회사
회원 횟수 후
"""
_GRAMMAR_ENGLISH = """
a about above across after afterwards again against ago ahead all along alongside already also
although altogether always am amid among an and another any anybody anyone anything anywhere apart
are aren't around as aside at away back be because been before beforehand behind being below
beneath beside besides best better between beyond both but by can can't cannot could couldn't
despite did didn't do does doesn't doing don't done down due during each earlier earliest either
else elsewhere enough even ever every everybody everyone everything everywhere except few fewer for
from further generally given had hadn't has hasn't have haven't having he hence her here hers
herself him himself his how however i if in including inside instead into is isn't it it's its
itself just later latest least less like likewise long longer many may me meanwhile might mine more
moreover most much must mustn't my myself namely near nearly neither never nevertheless no nobody
none nonetheless nor normally not nothing now of off often on once one ones only onto or other
others otherwise ought our ours ourselves out outside over overall own per plus quite rather
regarding regardless same several shall shan't she should shouldn't simply since so some somebody
someone something sometimes somewhere soon sooner still such than that the their theirs them
themselves then there thereafter therefore these they this those though through throughout thus
till to together too toward towards under unless unlike until up upon us usually versus very via
was wasn't we well were weren't what whatever when whenever where whereas wherever whether which
whichever while who whoever whole whom whose why will with within without won't would wouldn't yet
you your yours yourself yourselves
"""
GRAMMAR_WORDS = frozenset(_GRAMMAR_ENGLISH.split())
"""English words of the closed classes: articles, pronouns, prepositions, conjunctions, auxiliaries
and adverbs of time and degree. What they limit, deny or join is looked at on its own."""
FORM_WORDS = FUNCTION_WORDS | frozenset(f"{_FORM_ENGLISH} {_FORM_KOREAN}".split())
"""Words that any answer to any question may have without a further claim: grammar, what rules and
their readers do, what amounts are called."""
_CLAIMS = """
accepted additional approval approve approved bring charge charged compulsory contact cover
covered discount extra include included inform mandatory notify obligatory optional permission
report responsible submit customer customers employee employees staff member members
감면 결제 납부 따로 무관 반환 방문 별도 부과 승인 신고 연락 의무 정산
제시 제출 제한 지참 참여 책임 청구 추가 포함 필수 할인 허가
회사 고객 직원 본인 회원 기관 사용자 이용자 담당자 책임자
"""
CLAIM_WORDS = frozenset(_CLAIMS.split())
"""Form beside a fact; on their own they say something that needs support."""
SAME_MEANING = tuple(
    frozenset(words.split())
    for words in (
        "next following",
        "weekdays weekday 평일 주중",
        "weekends weekend 주말",
        "사전 미리 사전에",
        "먼저 우선 우선적",
        "휴대 반입 소지 지참",
        "혼자 단독 홀로",
        "포함 들어 포함되 포함하",
        "별도 따로 별도로",
        "include includes included including contain contains part",
        "cover covers covered covering",
        "id identification",
        "heavy heavier heavies weigh weighs weight",
        "store stored kept keep retained retain saved",
        "flight plane departure",
        "할인 깎",
        "무료 무상 공짜 free 무료로 무상으로",
        "전액 전부 모두 전체 full whole entire entirely all everything",
        "휴관 휴무 쉬 닫",
        "phone telephone 전화 유선",
        "email e-mail mail 이메일 메일 전자우편",
        "지하철 전철 subway metro",
        "휴대전화 휴대폰 핸드폰 스마트폰",
        "자동차 자가용 승용차 차량 차",
        "의사 의료진",
        "반납 돌려주",
        "부담 부담하 내 지불 납부 pay pays paid cover covers bear bears",
        "수령 수령일 받",
        "추가 추가되 더 더하 가산 가산되",
        "노인 어르신 고령자",
        "빌리 빌려 빌릴 빌린 대출 대여",
        "환불 환급 돌려",
        "인터넷 온라인 웹사이트 홈페이지 online website web internet",
        "하루 일일 1일",
        "buy purchase bought purchased",
        "refund refunded reimbursed reimbursement repaid",
        "staff employees employee personnel workers",
        "automobile car vehicle",
        "forbidden prohibited banned",
        "holiday holidays vacation",
        "form application",
        "borrow loan lend borrowed lent",
        "child children kid kids",
        "colour color colours colors coloured colored",
        "centre center",
    )
)
"""Words that rules interchange."""
