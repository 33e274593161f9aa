"""Measures in a text: amounts with units, limits and what they are counted by.

`1년에 8회까지` is 8 times, at most, a year; `up to eight times per year` is the same.
90 minutes and `1시간 30분` are one measure, `14:00`, `오후 2시` and `2 p.m.` another.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from jangin.text.numbers import korean_amount

_LIST_SIGNS = re.compile("[\u2460-\u24ff\u2776-\u2793]")
_MARKDOWN = re.compile(r"[*`\"“”‘’«»「」『』《》〈〉_#|]|(?<![a-z])'|'(?![a-z])")

_D = Decimal
_UNITS: dict[str, tuple[str, Decimal]] = {
    word: (unit, _D(factor))
    for unit, factor, words in (
        ("minute", "0.0166666666666667", "초 seconds second secs sec"),
        ("minute", "1", "분 minutes minute mins min"),
        ("minute", "60", "시간 hours hour hrs hr"),
        ("day", "1", "일 days day"),
        ("day", "7", "주일 주간 주 weeks week"),
        ("month", "1", "개월 달 months month"),
        ("month", "12", "년 해 years year yrs yr"),
        ("workday", "1", "영업일 근무일 업무일 평일 workdays workday"),
        ("workday", "1", "working_days working_day business_days business_day"),
        ("night", "1", "박 nights night"),
        ("term", "1", "학기 semesters semester terms term"),
        ("times", "1", "회 번 차례 times time visits visit"),
        ("percent", "10", "할"),
        ("percent", "1", "% 퍼센트 프로 percent per_cent"),
        ("point", "1", "%p 퍼센트포인트 %포인트 percentage_points percentage_point"),
        ("won", "1", "원 won krw ₩"),
        ("dollar", "1", "달러 불 dollars dollar usd us$ $"),
        ("dollar", "0.01", "센트 cents cent ct ¢"),
        ("euro", "1", "유로 euros euro eur €"),
        ("yen", "1", "엔 yen jpy ¥"),
        ("pound", "1", "파운드 pounds pound gbp £"),
        ("yuan", "1", "위안 yuan cny rmb"),
        ("metre", "0.001", "밀리미터 mm"),
        ("metre", "0.01", "센티미터 센티 cm"),
        ("metre", "1", "미터 metres metre meters meter m"),
        ("metre", "1000", "킬로미터 kilometres kilometre kilometers kilometer km"),
        ("mile", "1", "마일 miles mile"),
        ("inch", "1", "인치 inches inch"),
        ("foot", "1", "피트 feet foot ft"),
        ("area", "1", "제곱미터 m2 sqm square_metres square_meters"),
        ("area", "3.305785", "평"),
        ("gram", "0.001", "밀리그램 mg milligrams milligram"),
        ("gram", "1", "그램 grams gram g"),
        ("gram", "1000", "킬로그램 kg kilograms kilogram kilos kilo"),
        ("gram", "1000000", "톤 tonnes tonne tons ton"),
        ("litre", "0.001", "밀리리터 ml millilitres milliliters cc"),
        ("litre", "1", "리터 litres litre liters liter l ℓ"),
        ("byte", "0.000001", "바이트 bytes byte"),
        ("byte", "0.001", "킬로바이트 kb"),
        ("byte", "1", "메가바이트 메가 mb megabytes megabyte"),
        ("byte", "1000", "기가바이트 기가 gb gigabytes gigabyte"),
        ("byte", "1000000", "테라바이트 테라 tb terabytes terabyte"),
        ("celsius", "1", "°c ℃ degrees_celsius celsius"),
        ("fahrenheit", "1", "°f ℉ degrees_fahrenheit fahrenheit"),
        ("degree", "1", "도 ° degrees degree"),
        ("volt", "1", "볼트 v volts volt"),
        ("watt", "1", "와트 w watts watt"),
        ("watt", "1000", "킬로와트 kw kilowatts kilowatt"),
        ("person", "1", "명 인 사람 people persons person"),
        ("age", "1", "세 살 years_old years_of_age"),
        ("point_score", "1", "점 points point"),
        ("page", "1", "쪽 페이지 pages page"),
        ("floor", "1", "층 floors floor"),
        ("double", "1", "배"),
    )
    for word in words.split()
    for word in [word.replace("_", " ")]
}
_CURRENCIES = frozenset(("won", "krw", "usd", "eur", "euro", "euros", "gbp", "jpy"))
_UNIT = re.compile(
    r"(?P<space>[ -]?)(?P<unit>"
    + "|".join(
        re.escape(word)
        + (
            (r"(?![a-z0-9²³])" if word in _CURRENCIES else r"(?![a-z0-9²³/])")
            if word[-1].isascii() and word[-1].isalpha()
            else ""
        )
        for word in sorted(_UNITS, key=len, reverse=True)
    )
    + ")"
)
_SINGLE = frozenset(["m", "g", "l", "v", "w", "h"])
"""Letters that are a unit only where nothing but a space stands before them and no word after."""
_DIMENSION = {"minute": "time", "day": "time", "month": "time", "workday": "time"}
_COUNTER_WORDS = (
    "석 자리 좌석 개 권 장 점 대 부 매 병 벌 건 곳 가지 편 채 종 박스 상자 통 팩 세트 잔"
)
_COUNTERS = frozenset(_COUNTER_WORDS.split())
_COUNT = "count"

_NATIVE = {
    "한": 1, "하나": 1, "두": 2, "둘": 2, "세": 3, "셋": 3, "네": 4, "넷": 4, "다섯": 5, "여섯": 6,
    "일곱": 7, "여덟": 8, "아홉": 9, "열": 10, "열한": 11, "열두": 12, "스무": 20, "스물": 20,
    "서른": 30, "석": 3, "넉": 4,
}  # fmt: skip
_NATIVE |= {
    tens + ones: value + _NATIVE[ones]
    for tens, value in (("열", 10), ("스물", 20), ("서른", 30), ("마흔", 40), ("쉰", 50))
    for ones in (
        "한",
        "하나",
        "두",
        "둘",
        "세",
        "셋",
        "네",
        "넷",
        "다섯",
        "여섯",
        "일곱",
        "여덟",
        "아홉",
    )
}
_NATIVE |= {"열아홉": 19, "마흔": 40, "쉰": 50, "예순": 60, "일흔": 70, "여든": 80, "아흔": 90}
_NATIVE_NUMBER = re.compile(
    r"(?<![가-힣])(?P<word>둘|셋|넷|(?:열|스물|서른|마흔|쉰|예순|일흔)?(?:다섯|여섯|일곱|여덟|아홉)|(?:열|스물|서른|마흔|쉰)(?:하나|둘|셋|넷)|스물|서른|마흔|쉰|예순)(?=\s?(?:이상|이하|까지|미만|씩|입니다|이다|이에요)"
    r"|(?:이|을|은|이나)?(?![가-힣]))"
)
"""A number that counts what stands before it: 자녀가 셋."""
_NATIVE_COUNT = re.compile(
    rf"(?<![가-힣])(?P<word>{'|'.join(sorted(_NATIVE, key=len, reverse=True))})\s?"
    r"(?=(?:번(?!째)|차례|영업일|근무일|달|시간|사람|명|살|가지|개|곳|장|권|해|학기|주일|배|점|대|병|잔"
    r"|박스|상자|편|건|군데"
    r"|단계|페이지|쪽|층|차례|자리|석|부|자(?=[ 이까는를]|$)|그루|송이|켤레|벌"
    r"|매|알|정|포|캡슐|방울|봉지|팀|학급|과목|마리|쌍|그릇|인분|자녀|아이|가구|세대|칸|줄)(?![가-힣]*[0-9])|시(?![가-힣]))"
)
_SPAN_WORDS = {
    "하루": (1, "day"), "이틀": (2, "day"), "사흘": (3, "day"), "나흘": (4, "day"),
    "닷새": (5, "day"), "엿새": (6, "day"), "이레": (7, "day"), "여드레": (8, "day"),
    "아흐레": (9, "day"), "열흘": (10, "day"), "보름": (15, "day"), "일주일": (7, "day"),
    "이주일": (14, "day"), "반년": (6, "month"), "한해": (12, "month"), "일년": (12, "month"),
    "반시간": (30, "minute"), "절반": (50, "percent"), "half an hour": (30, "minute"),
    "half a year": (6, "month"), "three quarters of an hour": (45, "minute"),
    "a quarter of an hour": (15, "minute"), "quarter of an hour": (15, "minute"),
    "an hour and a half": (90, "minute"), "one and a half hours": (90, "minute"),
    "a year and a half": (18, "month"), "one and a half years": (18, "month"),
    "a week and a half": (10, "day"), "half a day": (720, "minute"),
    "a fortnight": (14, "day"), "fortnight": (14, "day"),
    "같은 날": (0, "shift"), "같은날": (0, "shift"),
    "전날": (-1, "shift"), "당일": (0, "shift"), "익일": (1, "shift"), "다음 날": (1, "shift"),
    "다음날": (1, "shift"), "이튿날": (1, "shift"), "the same day": (0, "shift"),
    "the day before": (-1, "shift"), "the next day": (1, "shift"),
    "the following day": (1, "shift"),
    "전액": (100, "percent"),
    "once": (1, "times"), "twice": (2, "times"), "thrice": (3, "times"),
}  # fmt: skip
_SPAN_WORD = re.compile(
    "|".join(
        (
            rf"(?<!at )\b{word}\b(?! every)"
            if word.isascii()
            else rf"(?<![가-힣0-9]){word}(?![가-힣]*음)"
        )
        for word in sorted(_SPAN_WORDS, key=len, reverse=True)
    )
    + r"|\bhalf\b(?! an? )(?! of the (?:day|year))"
    r"|^an? (?:hour|day|week|month|year)\b"
    r"|(?<=\bfor )an? (?:hour|day|week|month|year)\b|(?<=\b(?:in|is) )an? (?:hour|week|month"
    r"|year)\b"
    r"|(?<=\bwithin )an? (?:hour|day|week|month|year)\b"
    r"|(?<=\b(?:than|once) )an? (?:hour|day|week|month|year)\b|\ban? (?:hour|day|week|month"
    r"|year)(?= (?:before|after|in advance|later|earlier|prior)\b)"
)
_SINO_UNITS = "원|명|일|개월|년|회|퍼센트|프로|분|시간|킬로미터|세|점|달러|주"
_SINO = re.compile(
    rf"(?<![가-힣\d])(?P<digits>[일이삼사오육칠팔구십백천만억]{{2,}}|[십백천만억])\s?(?=(?:{_SINO_UNITS}))"
    rf"|(?<![가-힣\d])(?P<one>[일이삼사오육칠팔구])\s(?=(?:{_SINO_UNITS})(?![가-힣]))"
)
_DIGIT_OF = dict(zip("일이삼사오육칠팔구", range(1, 10), strict=True))
_SMALL = {"십": 10, "백": 100, "천": 1000}
_BIG = {"만": 10**4, "억": 10**8}

_ONES_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen
"""
_ONES = _ONES_WORDS.split()
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ENGLISH = {word: value for value, word in enumerate(_ONES)}
_ENGLISH |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_ENGLISH_WORD = re.compile(
    rf"\b(?P<tens>{'|'.join(_TENS)})(?:[- ](?P<ones>{'|'.join(_ONES[1:10])}))?\b"
    rf"|\b(?P<word>{'|'.join(_ONES)})\b(?!\s+of\s+(?:the|these|those|them|us|you)\b)"
    r"|\b(?P<hundred>a|one|two|three|four|five|six|seven|eight|nine) hundred\b"
)
_ORDINALS = {
    word: value
    for value, words in enumerate(
        (
            "first 첫째 첫",
            "second 둘째",
            "third 셋째 세째",
            "fourth 넷째 네째",
            "fifth 다섯째",
            "sixth 여섯째",
            "seventh 일곱째",
            "eighth 여덟째",
            "ninth 아홉째",
            "tenth 열째",
        ),
        start=1,
    )
    for word in words.split()
}
_ORDINAL = re.compile(
    r"(?<![가-힣a-z])(?P<native>첫|두|세|네|다섯)\s?번째"
    r"|(?<![가-힣])(?P<korean>(?:첫|둘|셋|넷|세|네)째|다섯째|여섯째|첫(?=\s?(?:주|달|날|해|번)))"
    rf"|\b(?P<english>{'|'.join(w for w in _ORDINALS if w.isascii())})\b(?!\s*,)"
    r"|(?<![\d.,])(?P<digits>\d{1,3})\s?(?:st|nd|rd|th|번째)(?![a-z])"
    r"|(?P<last>(?<![가-힣])마지막(?=\s?(?:주|날|달|[월화수목금토일]요일))"
    r"|\blast (?=week|day|working|business|month|monday|tuesday|wednesday|thursday|friday"
    r"|saturday|sunday))"
)
_MONTHS = "january february march april may june july august september october november december"
_MONTH_OF = {name: month for month, name in enumerate(_MONTHS.split(), start=1)}
_MONTH_OF |= {name[:3]: month for name, month in _MONTH_OF.items()} | {"sept": 9}
_MONTH_NAME = "|".join(sorted(_MONTH_OF, key=len, reverse=True))
_DATE_EN = re.compile(
    rf"\b(?:(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? )?(?P<month>{_MONTH_NAME})\b\.?"
    r"(?:\s(?:the )?(?P<d2>\d{1,2})(?:st|nd|rd|th)?(?![\d:]|\s?(?:a\.?m|p\.?m)))?"
    r"(?:,?\s(?P<year>(?:19|20)\d\d))?(?![\w])"
)
_DATE_KO = re.compile(
    r"(?:(?P<year>(?:19|20)\d\d)년\s?)?(?P<month>(?<!\d)(?:1[0-2]|[1-9]))월(?!급)"
    r"(?:\s?(?P<day>\d{1,2})일)?"
)
_DATE_ISO = re.compile(
    r"(?<!\d)(?P<year>\d{4})[-/.]\s?(?P<month>\d{1,2})[-/.]\s?(?P<day>\d{1,2})\.?(?!\d)"
)
_YEAR = re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)(?:년(?!간|\s?(?:이상|이하|동안))|학년도)")
_WEEKDAYS = {"월": 1, "화": 2, "수": 3, "목": 4, "금": 5, "토": 6, "일": 7}
_WEEKDAYS_EN = {
    name: day
    for day, name in enumerate(
        ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], start=1
    )
}
_WEEKDAY = re.compile(
    rf"(?P<korean>[월화수목금토일])요일|\b(?P<english>{'|'.join(_WEEKDAYS_EN)})s?\b"
    r"|\b(?P<short>mon|tue|wed|thu|fri|sat|sun)(?:s|rs?)?\b(?=\.?(?:,| and | to | ?[-/+&]| \d|$))"
)
_CLOCK = re.compile(
    r"(?P<half>(?:오전|오후|저녁|밤|아침|새벽|낮|정오)\s?)?(?<![\d:.])(?P<hour>\d{1,2})"
    r"(?::(?P<m1>\d{2})(?!\d)(?:\s?(?P<am1>[ap])\.?m\.?(?![a-z]))?"
    r"|시(?!간|작|행|험|설|스|도|외|내|급)(?:\s?(?P<m2>\d{1,2})분|\s?(?P<m30>반))?"
    r"|\s(?P<day>in the (?:morning|afternoon|evening)|at night)\b"
    r"|\s?(?P<am2>[ap])\.?m\.?(?![a-z])|\s?o'clock(?:\s?(?P<am3>[ap])\.?m\.?(?![a-z]))?)"
)
_CLOCK_WORD = re.compile(
    r"(?P<noon>\bnoon\b|정오)|(?P<midnight>\bmidnight\b|자정)"
    rf"|\b(?P<part>half|quarter) (?P<side>past|to) (?P<hour>{'|'.join(_ONES[1:13])}|\d{{1,2}})\b"
    r"(?: (?P<half>in the (?:morning|afternoon|evening)|[ap]\.?m\b))?"
)
_AMOUNT = re.compile(
    r"(?P<sign>(?<![\w\d)])[-−]\s?|\bminus\s|마이너스\s?|영하\s?)?"
    r"(?P<money>us\$|[₩$€£¥]|\b(?:usd|krw|eur|gbp|jpy)\b)?\s?"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)"
)
_SCALE = re.compile(r"\s?(?P<scale>thousand|million|billion|hundred)\b")
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_MONEY_SCALE = re.compile(r"(?P<scale>[kmb])(?![a-z0-9])")
_MONEY_SCALES = {"k": 10**3, "m": 10**6, "b": 10**9}
_FRACTION = re.compile(
    r"(?<![\d./])(?P<top>\d{1,2})\s?/\s?(?P<bottom>\d{1,2})(?![\d/])"
    r"|(?P<kbottom>\d{1,2}|[이삼사오])\s?분의\s?(?P<ktop>\d{1,2}|[일이삼사])"
    r"|\b(?P<etop>an?|one|two|three|four)[ -](?P<ebottom>third|quarter|fifth|sixth|eighth"
    r"|tenth)s?(?=\s(?:of(?! an? )|off)\b|\s?[.,;)]|\s?$)"
)
_CODE = re.compile(
    r"(?<![\w.])(?!(?:usd|krw|eur|gbp|jpy|us\$)\d)[a-z]+(?:[-_./]?[a-z0-9]+)*(?<=[a-z0-9])"
)
_PHONE = re.compile(
    r"(?<![\d-])\d{2,4}-\d{3,4}(?:-\d{4})?(?![\d-])(?!\s?(?:원|명|개|달러|won|people))"
)
_LITERAL = re.compile(r"[a-z]+(?:/[a-z]+)?(?![a-z0-9])")
_LITERAL_SPACED = re.compile(
    r"\s(?:[a-zµ]{1,3}/[a-z]{1,4}|rpm|bar|psi|kpa|mpa|hz|khz|mhz|ghz|db|kwh|mah|ma)(?![a-z0-9])"
)
_LITERAL_KO = re.compile(
    r"(?!(?:이상|이하|이내|미만|초과|까지|부터|에서|에게|보다|으로|만|도|은|는|이|가|을|를|의"
    r"|에|와|과|로|다|입니다|정도|가량|쯤|씩|당|간|전|후"
    r"|뒤|내|안|나|이나|이고|이며)(?![가-힣])|입니|이다|이며|이고|이지|이에|예요|이었|이라|까지|부터|이상|이하"
    r"|이내|미만|초과|에서)[가-힣]{1,2}?(?=(?:이상|이하"
    r"|이내|미만|초과|까지|부터|에서|에게|보다|으로|마다|만|도|은|는|이|가|을|를|의|에|와|과"
    r"|로|씩|당|간|째|이다|입니다|이에요|예요|이며"
    r"|이고)?(?![가-힣])|(?:까지|부터|이상|이하|이내|미만|초과|입니다))"
)


@dataclass(frozen=True, slots=True)
class Measure:
    """A number in a text with what it counts and how it is limited."""

    value: Decimal
    """In the base of its unit: minutes, days, months, metres, ..."""
    unit: str
    """Base unit, `month#` and the like for dates, `count`, a unit as written, or empty."""
    text: str
    start: int
    end: int
    bounds: frozenset[str] = frozenset()
    """Of `max`, `min`, `over`, `under`, `before`, `after`, `from`, `until`, `about`, `every`."""
    per: frozenset[str] = frozenset()
    """What it is counted by: `year`, `person`, ..."""
    loose: bool = False
    """True for a time of day without a half of the day."""
    number: Decimal | None = None
    """The value as written, whatever the base of the unit."""
    low: int = -1
    high: int = -1
    """Where the words that limit it begin and end."""

    def agrees(self, other: "Measure") -> bool:
        """True if both are the same amount of the same thing, whatever their limits."""
        if self.unit == other.unit == "clock" and (self.loose or other.loose):
            return self.value % 720 == other.value % 720
        if self.unit != other.unit and {self.unit, other.unit} == {"day", "minute"}:
            minutes = [m.value * (1440 if m.unit == "day" else 1) for m in (self, other)]
            return minutes[0] == minutes[1]
        if {self.unit, other.unit} == {"day", "shift"}:
            day, shift = (self, other) if self.unit == "day" else (other, self)
            return shift.value == day.value * (-1 if "before" in day.bounds else 1)
        if self.unit != other.unit:
            if {self.unit, other.unit} == {"dollar", "euro"}:
                # Whose cents they are stands elsewhere: 19 cents and €0.19.
                return self.value == other.value and self.in_cents is not other.in_cents
            return self.written == other.written and self.same_kind(other)
        return abs(self.value - other.value) < _D("0.001") and self.same_kind(other)

    @property
    def written(self) -> Decimal:
        """The number as the text has it."""
        return self.value if self.number is None else self.number

    @property
    def in_cents(self) -> bool:
        """True for an amount in cents, of whatever currency."""
        return re.search(r"cents?$|센트$|ct$", self.text) is not None

    def same_kind(self, other: "Measure") -> bool:
        """True if their units may be the same; one may be left out."""
        units = {self.unit, other.unit}
        if len(units) == 1:
            return True
        if "" in units:
            return not units & {"clock", "weekday#", "month#", "percent", "code", "shift"}
        return any(units <= alike for alike in _ALIKE)

    def rivals(self, other: "Measure") -> bool:
        """True if one may be given in place of the other: a number without unit counts things."""
        if "" in {self.unit, other.unit}:
            return {self.unit, other.unit} <= _COUNTING
        return self.same_kind(other)


_ALIKE = (
    frozenset(("degree", "celsius")),
    frozenset(("degree", "fahrenheit")),
    frozenset(("day", "mday")),
    frozenset(("ordinal", "mday")),
    frozenset(("count", "point_score")),
    frozenset(("person", "count")),
    frozenset(("age", "month")),
)


_COUNTING = frozenset(("", "count", "person", "times", "page", "floor", "point_score", "age"))


def folded(text: str) -> str:
    """NFKC, lower case, markdown and quotes as spaces, signs unified; for positions of measures."""
    text = unicodedata.normalize("NFKC", _LIST_SIGNS.sub(" ", text)).lower()
    text = _MARKDOWN.sub(" ", text.translate(_SIGNS))
    text = _KWH.sub("kwh", text)
    text = _DAYS_OF_WEEK.sub(_each_day, text)
    text = _NATIVE_HOUR.sub(lambda m: f"{_NATIVE[m['hour'] or m['hour2']]}시", text)
    text = _HOUR_WORD.sub(lambda m: f"{_ENGLISH[m['hour']]} {'a' if m['half'] else 'p'}m", text)
    text = re.sub(r"(?<=\d)\s?x(?![a-z0-9])", " times", text)
    text = re.sub(r"(?<![\d.])(\d{1,2})\.(\d{1,2})\.(?!\d)", _day_month, text)
    text = _TWICE_A_YEAR.sub("twice a year", text)
    text = _WORKDAY.sub(r"\1영업일", text)
    return _TITLE.sub(r"\1", _HALF_OF_DAY.sub(r" \1m", text))


_DAYS_OF_WEEK = re.compile(
    r"(?<![가-힣])(?P<days>(?:[월화수목금토일](?:요일)?\s?[·,/~-]\s?)+[월화수목금토일])(?:요일)?(?=[\s.,)(]|에|은|이|마다|만|까지|부터|$)"
)
_HOUR_WORD = re.compile(
    r"(?:(?<=at )|(?<=by )|(?<=than )|(?<=from )|(?<=until ))(?P<hour>one|two|three|four|five"
    r"|six|seven|eight|nine|ten|eleven|twelve)"
    r"(?: o'clock)? in the "
    r"(?:(?P<half>morning)|(?:afternoon|evening))"
)
_NATIVE_HOUR = re.compile(
    r"(?<![가-힣])(?P<hour>한|두|세|네|다섯|여섯|일곱|여덟|아홉|열한|열두|열)\s?시(?![가-힣])|(?<![가-힣])(?P<hour2>한|두|세|네|다섯|여섯|일곱|여덟|아홉|열한|열두|열)\s?시(?=정각|입니|에|까지|부터|이[고며전후]|로|예요)"
)
"""Three o'clock; `세 시간` are three hours."""


def _each_day(match: re.Match[str]) -> str:
    return re.sub(r"([월화수목금토일])(?:요일)?(?=\s?[·,/~-]|$)", r"\1요일", match["days"])


def _day_month(match: re.Match[str]) -> str:
    """15.05. is the 15th of May; 2.13. is no date."""
    day, month = int(match[1]), int(match[2])
    return f"{day} {_MONTHS.split()[month - 1]} " if 0 < month < 13 and 0 < day < 32 else match[0]


_KWH = re.compile(r"\bkilowatt[- ]hours?\b|킬로와트시")
_TWICE_A_YEAR = re.compile(r"\b(?:semi|bi)-?annual(?:ly)?\b")
_HALF_OF_DAY = re.compile(r"(?<=\d)\s?([ap])\.\s?m\.?(?![a-z])")
_WORKDAY = re.compile(
    r"(?:영업일|근무일|업무일)(?:을|으로)?\s?(?:기준\s?)?(?:으로|로)?\s?(\d+)\s?(?:일|영업일)"
)
_TITLE = re.compile(r"\b(dr|mr|mrs|ms|prof|approx|vs)\.")
"""Points that end no sentence."""


_SIGNS = str.maketrans(
    {"∼": "~", "〜": "~", "～": "~", "–": "-", "—": "-", "−": "-", "’": "'", "℃": "°c"}
)


def read_measures(text: str) -> tuple[list[Measure], frozenset[str], list[tuple[int, int]]]:
    """(all measures of a text that `folded` has prepared, what it counts by, and where it says so).

    Measures are in order.
    """
    matches = sorted(_bare(text), key=lambda m: m.start)
    matches = _ranges(text, _composed(text, matches))
    return _rated(text, [_bounded(text, m, matches) for m in matches])


def _bare(text: str) -> list[Measure]:
    """Measures without limits: dates first, then times of day, ordinals, amounts, number words."""
    rest = text
    for match in _CODE.finditer(rest):
        if any(c.isdigit() for c in match[0]) and not re.fullmatch(r"[ap]\.?m\.?", match[0]):
            rest = _masked(rest, match)
    matches: list[Measure] = []
    for pattern, read in _READERS:
        for match in pattern.finditer(rest):
            parts = list(read(match))
            if parts:
                matches += parts
                rest = _masked(rest, match)
    position = 0
    while (amount := _AMOUNT.search(rest, position)) is not None:
        measure = _amount(rest, amount)
        matches.append(measure)
        position = max(measure.end, amount.end())
    for pattern in (_NATIVE_COUNT, _NATIVE_NUMBER, _SINO, _ENGLISH_WORD):
        for match in pattern.finditer(rest):
            if not any(m.start <= match.start() < m.end for m in matches):
                matches.append(_with_unit(rest, _word_value(match), match.start(), match.end()))
    return matches


def _masked(text: str, match: re.Match[str]) -> str:
    return text[: match.start()] + "\0" * len(match[0]) + text[match.end() :]


def _phone(match: re.Match[str]) -> Iterator[Measure]:
    digits = re.sub(r"\D", "", match[0])
    yield Measure(_D(digits), "code", match[0], match.start(), match.end())


def _span_word(match: re.Match[str]) -> Iterator[Measure]:
    value, unit = _SPAN_WORDS.get(match[0], (50, "percent"))
    if (period := re.fullmatch("an? (.+)", match[0])) is not None and match[0] not in _SPAN_WORDS:
        unit, factor = _UNITS[period[1]]
        yield Measure(factor, unit, match[0], match.start(), match.end(), number=_D(1))
        return
    yield Measure(_D(value), unit, match[0], match.start(), match.end())


def _date(match: re.Match[str]) -> Iterator[Measure]:
    parts = match.groupdict()
    year, month = parts.get("year"), parts.get("month")
    day = parts.get("day") or parts.get("d1") or parts.get("d2")
    if month in ("may", "mar", "sec") and not day and not year:
        return
    position = (match[0], match.start(), match.end())
    if year:
        yield Measure(_D(year), "year#", *position)
    if month:
        number = int(month) if month.isdigit() else _MONTH_OF[month]
        if number <= 12:
            yield Measure(_D(number), "month#", *position)
    if day:
        yield Measure(_D(day), "mday", *position)


def _weekday(match: re.Match[str]) -> Iterator[Measure]:
    names = {name[:3]: day for name, day in _WEEKDAYS_EN.items()}
    name = match["english"] or match["short"] or ""
    day = _WEEKDAYS[match["korean"]] if match["korean"] else names[name[:3]]
    yield Measure(_D(day), "weekday#", match[0], match.start(), match.end())


def _clock(match: re.Match[str]) -> Iterator[Measure]:
    hour, minute = int(match["hour"]), int(match["m1"] or match["m2"] or 0)
    minute = 30 if match["m30"] else minute
    if hour > 24 or minute > 59:
        return
    hour %= 24
    half = (match["half"] or "").strip()
    letter = match["am1"] or match["am2"] or match["am3"] or ""
    if match["day"]:
        letter = "a" if "morning" in match["day"] else "p"
    if (
        not half
        and not letter
        and match["m1"] is None
        and "시" not in match[0]
        and "o'" not in match[0]
    ):
        return
    late = half in ("오후", "저녁", "밤", "낮") or letter == "p"
    early = half in ("오전", "아침", "새벽") or letter == "a"
    if late and hour < 12 and not (half == "밤" and hour < 5):
        hour += 12
    if hour == 12 and (early or half == "밤"):
        hour = 0
    loose = not late and not early and hour <= 12 and not match[0].lstrip().startswith("0")
    yield Measure(
        _D(hour * 60 + minute), "clock", match[0].strip(), match.start(), match.end(), loose=loose
    )


def _noon(match: re.Match[str]) -> Iterator[Measure]:
    minutes, loose = 720 if match["noon"] else 0, False
    if match["part"]:
        hour = match["hour"]
        minutes = 60 * (int(hour) if hour.isdigit() else _ENGLISH[hour])
        minutes += (30 if match["part"] == "half" else 15) * (1 if match["side"] == "past" else -1)
        half = match["half"] or ""
        minutes += 720 if re.search("after|even|p", half) and minutes < 720 else 0
        loose = not half
    yield Measure(_D(minutes), "clock", match[0], match.start(), match.end(), loose=loose)


def _fraction(match: re.Match[str]) -> Iterator[Measure]:
    words = {"일": 1, "이": 2, "삼": 3, "사": 4, "오": 5, "a": 1, "an": 1, "quarter": 4}
    words |= _ENGLISH | {word: value for word, value in _ORDINALS.items() if value > 2}
    top = match["top"] or match["ktop"] or match["etop"]
    bottom = match["bottom"] or match["kbottom"] or match["ebottom"]
    upper, lower = _D(words.get(top, top)), _D(words.get(bottom, bottom))
    if lower and upper < lower:
        yield Measure(100 * upper / lower, "percent", match[0], match.start(), match.end())


def _ordinal(match: re.Match[str]) -> Iterator[Measure]:
    if match["last"]:
        value = -1
    elif match["digits"]:
        value = int(match["digits"])
    elif match["native"]:
        value = {"첫": 1}.get(match["native"]) or _NATIVE[match["native"]]
    else:
        value = _ORDINALS[match["korean"] or match["english"]]
    yield Measure(_D(value), "ordinal", match[0], match.start(), match.end())


_READERS = (
    (_PHONE, _phone),
    (_DATE_ISO, _date),
    (_DATE_KO, _date),
    (_DATE_EN, _date),
    (_YEAR, _date),
    (_FRACTION, _fraction),
    (_ORDINAL, _ordinal),
    (_WEEKDAY, _weekday),
    (_CLOCK, _clock),
    (_CLOCK_WORD, _noon),
    (_SPAN_WORD, _span_word),
)


def _amount(text: str, match: re.Match[str]) -> Measure:
    """Number, scale and unit."""
    value, end = _D(match["digits"].replace(",", "")), match.end()
    money = (match["money"] or "").strip()
    if (korean := korean_amount(text, value, end)) is not None:
        value, end = korean
    elif (scale := _SCALE.match(text, end)) is not None:
        value, end = value * _SCALES[scale["scale"]], scale.end()
    elif money and (letter := _MONEY_SCALE.match(text, end)) is not None:
        value, end = value * _MONEY_SCALES[letter["scale"]], letter.end()
    sign = match["sign"]
    if sign and not re.search(r"[\d월년%원시]\s?$", text[: match.start()]):
        value = -value
    if money:
        unit, factor = _UNITS[money]
        following = _UNIT.match(text, end)
        if following is not None and _UNITS[following["unit"]][0] == unit:
            end = following.end()
        written = text[match.start() : end].strip()
        return Measure(value * factor, unit, written, match.start(), end, number=value)
    start = match.start("sign") if value < 0 else match.start("digits")
    return _with_unit(text, value, start, end)


_AND_A_HALF = re.compile(r" and a half(?= )")
_HALF_AFTER = re.compile(r"\s?반(?![가-힣])")


def _with_unit(text: str, value: Decimal, start: int, end: int) -> Measure:
    """The measure whose number ends at `end`, with the unit that follows."""
    if (half := _AND_A_HALF.match(text, end)) is not None:
        value, end = value + _D("0.5"), half.end()
    match = _UNIT.match(text, end)
    if match is not None:
        word = match["unit"]
        following = text[match.end() : match.end() + 1]
        odd = word in _SINGLE and match["space"] and re.match(r"[\w']", following or " ")
        hangul = (
            word in ("해", "인", "주", "불", "도", "살", "세", "초")
            and match["space"]
            and re.match("[가-힣]", following)
        )
        if not odd and not hangul and not (word == "도" and match["space"]):
            unit, factor = _UNITS[word]
            last = match.end()
            if unit in ("minute", "month") and (half := _HALF_AFTER.match(text, last)) is not None:
                value, last = value + _D("0.5"), half.end()
            written = text[start:last].strip()
            return Measure(value * factor, unit, written, start, last, number=value)
    for pattern in (_LITERAL, _LITERAL_SPACED, _LITERAL_KO):
        literal = pattern.match(text, end)
        if literal is not None:
            word = literal[0].strip()
            unit = _COUNT if word in _COUNTERS else word
            return Measure(value, unit, text[start : literal.end()].strip(), start, literal.end())
    spaced = _LITERAL_KO.match(text, end + 1) if text[end : end + 1] == " " else None
    if spaced is not None and spaced[0] in _COUNTERS:
        return Measure(value, _COUNT, text[start : spaced.end()].strip(), start, spaced.end())
    return Measure(value, "", text[start:end].strip(), start, end, number=value)


def _word_value(match: re.Match[str]) -> Decimal:
    groups = match.groupdict()
    if groups.get("tens"):
        return _D(_ENGLISH[groups["tens"]] + _ENGLISH.get(groups["ones"] or "", 0))
    if groups.get("hundred"):
        return _D(100 * _ENGLISH.get(groups["hundred"], 1))
    word = groups.get("word") or groups.get("digits") or groups.get("one") or ""
    if word in _ENGLISH:
        return _D(_ENGLISH[word])
    if word in _NATIVE:
        return _D(_NATIVE[word])
    total, section, digit = 0, 0, 0
    for letter in word:
        if letter in _DIGIT_OF:
            digit = _DIGIT_OF[letter]
        elif letter in _SMALL:
            section, digit = section + (digit or 1) * _SMALL[letter], 0
        else:
            total, section, digit = total + (section + digit or 1) * _BIG[letter], 0, 0
    return _D(total + section + digit)


_TIME_UNITS = re.compile(
    r"시간|분(?![가-힣])|며칠|개월|달|주일|주(?=[ 간에])|년|일(?=[ 간까이])"
    r"|\b(?:minute|hour|day|week|month|year)s?\b"
)


def time_units(text: str) -> frozenset[str]:
    """The units of time that a text names, in one spelling for each."""
    same = {
        "며칠": "day",
        "일": "day",
        "주일": "week",
        "주": "week",
        "개월": "month",
        "달": "month",
    }
    same |= {"년": "year", "시간": "hour", "분": "minute"}
    words = (m[0].removesuffix("s") for m in _TIME_UNITS.finditer(text))
    return frozenset(same.get(word, word) for word in words)


_BIGGER = {"month": 12, "day": 7, "minute": 60}


def _composed(text: str, matches: Sequence[Measure]) -> list[Measure]:
    """`1시간 30분`, `1 year and 6 months` and `$3 and 50 cents` as one measure each."""
    composed: list[Measure] = []
    for each in matches:
        measure = each
        if measure.unit == "clock" and _is_overnight(text, composed, measure):
            # 22시부터 다음 날 7시까지: a span of hours that ends on the next day anyway.
            measure = replace(each, start=composed.pop().start)
        last = composed[-1] if composed else None
        if (
            last is not None
            and last.unit == measure.unit
            and measure.unit in ("month", "minute", "gram", "metre", "dollar", "litre")
            and last.value > measure.value
            and re.fullmatch(r"\s?(?:and\s)?", text[last.end : measure.start])
            and _written_unit(last) != _written_unit(measure)
        ):
            composed[-1] = replace(
                last,
                value=last.value + measure.value,
                text=text[last.start : measure.end],
                end=measure.end,
            )
        else:
            composed.append(measure)
    return composed


def _is_overnight(text: str, before: Sequence[Measure], measure: Measure) -> bool:
    """True if `the next day` stands between the two times of a span."""
    if [m.unit for m in before[-2:]] != ["clock", "shift"] or before[-1].value != 1:
        return False
    between = text[before[-2].end : before[-1].start]
    return _BETWEEN.fullmatch(between) is not None and measure.start - before[-1].end <= 2


def _written_unit(measure: Measure) -> str:
    return re.sub(r"[\d.,\s-]|^한(?=.)", "", measure.text)


_BETWEEN = re.compile(
    r"\s?(?:-|~|to|until|till|through|and|에서|부터|내지)\s?(?:최대|약|매월|오전|오후|the\s)?\s?"
)


def without(text: str, measures: Sequence[Measure]) -> str:
    """The text with spaces for measures and the words that limit them."""
    for measure in measures:
        low, high = min(measure.low, measure.start), max(measure.high, measure.end)
        text = text[:low] + " " * (high - low) + text[high:]
    return text


def _ranges(text: str, matches: Sequence[Measure]) -> list[Measure]:
    """The ends of a range get `from` and `until`; the first takes the unit of the second."""
    ranged = list(matches)
    for index in range(len(ranged) - 1):
        first, second = ranged[index : index + 2]
        between = text[first.end : second.start]
        match = _BETWEEN.fullmatch(between)
        if match is None or first.start == second.start:
            continue
        word = between.strip()
        if word.startswith("and") and not re.search(r"between\s+(?:the\s)?$", text[: first.start]):
            continue
        if first.unit and second.unit and not first.same_kind(second):
            continue
        if word == "to" and re.search(r"\b(?:up|due|prior|next)\s*$", text[: first.end]):
            continue
        if not first.unit and second.unit == "clock" and first.value <= 24:
            minutes = first.value * 60
            late = second.value >= 720 and minutes + 720 < second.value
            first = replace(first, unit="clock", value=minutes + 720 * late, loose=not late)
        elif not first.unit and second.unit:
            factor = second.value / second.number if second.number else _D(1)
            first = replace(first, unit=second.unit, value=first.value * factor)
        ranged[index] = replace(first, bounds=first.bounds | {"from"})
        ranged[index + 1] = replace(second, bounds=second.bounds | {"until"})
    return ranged


_AFTER_KO = (
    ("max", r"(?:을|를|이|가)?\s?(?:초과|넘)[가-힣]*\s?(?:수\s?)?(?:없|않|못|안)"),
    ("over", r"(?:을|를|이|가)?\s?(?:초과|넘(?:는|은|게|으면|어|을|긴|기))"),
    (
        "under",
        r"(?:이|에)?\s?(?:미만|못\s?미치|안\s?되|채\s?안)|보다\s?(?:적|작|낮|짧|덜|빠|이른|앞)",
    ),
    ("over", r"보다\s?(?:많|크|높|길|더|오래|늦)"),
    (
        "max",
        r"\s?(?:이내|이하|한도|[으]?로\s?제한"
        r"|(?:안|내)(?=에|으로|로|의|$|[ .,)](?!\s?[가-힣]*(?:하|되|쓰|면))))",
    ),
    ("min", r"\s?이상"),
    ("about", r"\s?(?:정도|가량|쯤|내외|안팎|남짓)"),
    ("before", r"\s?(?:이전|전(?=까지|에|$|[ .,)~-]|부터|이|으로))"),
    ("after", r"(?:이|가)?\s?(?:지나|지난|경과)|\s?(?:이후|후|뒤)"),
    ("until", r"(?:까지)"),
    ("from", r"(?:부터|에서부터)"),
    ("every", r"\s?마다"),
    ("", r"\s?(?:동안|간|로|에|의|만|씩|은|는|을|를|째|\(|\))"),
)
_AFTER_EN = (
    ("min", r"\s?\(?(?:or|and) (?:more|over|above|older|longer|higher|up|upwards)\b|\s?(?:at least"
        r"|minimum|min\b)|\+"),
    ("max", r"\s?\(?(?:or|and) (?:less|fewer|under|below|younger|shorter)\b|\s?(?:at most|maximum"
        r"|max\b|at the latest)"),
    ("min", r"\s?at the earliest\b"),
    ("before", r"\s?(?:before|prior|in advance|beforehand|ahead|earlier|early)\b"),
    ("after", r"\s?(?:after|later|afterwards|since|following(?! (?:day|week|month|year)))\b"),
    ("about", r"\s?(?:or so|approximately)\b"),
)  # fmt: skip
_BEFORE = (
    ("after", r"식후\s?"),
    ("before", r"식전\s?"),
    ("max", r"(?:최대(?![가-힣]*(?:중량|출력|용량|속도|높이))|최고|많아야|최장|상한|한도)"
        r"(?:\s?(?:는|은|가|로))?\s?[^\d,.]{0,5}"),
    ("min", r"(?:최소|적어도|최저|최단|하한|못해도)(?:\s?(?:는|은|로))?\s?[^\d,.]{0,5}"),
    ("about", r"(?<![가-힣])(?:약|대략|대강|거의)\s?"),
    ("max", r"(?:no|not) (?:more|longer|later|greater|higher|older) than\s(?:\w+\s)?"),
    ("max", r"(?:not|never|cannot|may not|must not) exceed(?:s|ing)?\s"),
    ("min", r"(?:no|not) (?:less|fewer|shorter|earlier|younger) than\s(?:\w+\s)?"),
    ("max", r"(?:up to|at most|max(?:imum)?\.?(?: of| is)?|within|limit(?:ed)?(?: is| of| to)?"
        r"|inside|cap(?:ped)?(?: at| of)?)\s(?:the first\s|the next\s"
        r"|a (?:total|distance|maximum|limit|weight|height|length|value) of\s|an?\s)?"),
    ("min", r"(?:at least|min(?:imum)?\.?(?: of| is)?)\s"),
    ("over", r"(?:more than|over|above|exceed(?:s|ing)?|longer than|greater than|older than|higher "
        r"than|later than|>)\s?(?:[a-z]+\s)?"),
    ("under", r"(?:under|less than|below|fewer than|shorter than|lower than|younger than"
        r"|<)\s?(?:the "
        r"age of\s)?(?:[a-z]+\s)?"),
    ("until", r"(?:until|till|through|by|to|-|~)\s?(?:the\s)?(?:end of\s)?"),
    ("from", r"(?:from|since|starting|beginning|between|as of)\s(?:on\s)?(?:the\s)?(?:age of\s)?"),
    ("after", r"(?<!look )(?<!looking )(?<!looks )after\s(?:the\s)?"),
    ("before", r"(?:before|ahead of)\s(?:the\s)?(?:end of\s)?"),
    ("about", r"(?:about|around|approximately|roughly|nearly|almost|circa|some|ca\.)\s(?:a\s)?"),
    ("every", r"(?:every|each)\s"),
)  # fmt: skip
_AFTER = [(kind, re.compile(pattern)) for kind, pattern in (*_AFTER_KO, *_AFTER_EN)]
_BEFORE_AT = [(kind, re.compile(f"(?<![a-z])(?:{pattern})$")) for kind, pattern in _BEFORE]


_FORBIDDEN = re.compile(
    r"(?:\s\w+){0,3}?\s(?:(?:is|are) (?:not|never)|isn't|aren't"
    r"|(?:is|are) (?:forbidden|prohibited|banned))\b"
)
"""Anything over four knots is not allowed: at most four."""


def _bounded(text: str, measure: Measure, matches: Sequence[Measure]) -> Measure:
    """The measure with the limits that stand directly before or after it."""
    kinds: set[str] = set()
    position = measure.end
    for _ in range(4):
        for kind, pattern in _AFTER:
            match = pattern.match(text, position)
            if match is not None and match.end() > position:
                if kind:
                    kinds.add(kind)
                position = match.end()
                break
        else:
            break
    window_start = max((m.end for m in matches if m.end <= measure.start), default=0)
    before = text[max(window_start, measure.start - 40) : measure.start]
    high, length = position, len(before)
    for _ in range(2):
        for kind, pattern in _BEFORE_AT:
            match = pattern.search(before)
            if match is not None:
                if not (kind == "until" and match[0].strip() in ("to", "-", "~")):
                    kinds.add(kind)
                before = before[: match.start()]
                break
        else:
            break
    if (
        measure.unit in ("day", "minute", "month", "workday")
        and "after" in kinds
        and "max" in kinds
    ):
        kinds.discard("after")
    if "over" in kinds and _FORBIDDEN.match(text, measure.end):
        kinds = kinds - {"over"} | {"max"}
    if "before" in kinds and "max" in kinds and re.search("later than|늦어도", text[:high]):
        # No later than 14 days before the day is at least 14 days before it.
        kinds = kinds - {"max"} | {"min"}
    low = measure.start - (length - len(before))
    return replace(measure, bounds=measure.bounds | kinds, low=low, high=high)


_PERIODS = {
    word: name
    for name, words in (
        ("year", "년 해 연 year annum"),
        ("month", "월 달 month"),
        ("week", "주 주일 week 일주일"),
        ("day", "일 날 day 하루"),
        ("term", "학기 term semester"),
        ("quarter", "분기 quarter"),
        ("hour", "시간 hour"),
        ("person", "인 사람 명 person head employee 1인 capita"),
        ("times", "회 번 차례 time visit use"),
        ("night", "박 night"),
        ("끼", "끼"),
        ("minute", "minute 분"),
        ("km", "km 킬로미터 kilometre kilometer"),
        ("건", "건"),
    )
    for word in words.split()
}
PERIODS = frozenset(_PERIODS.values())
"""What is counted by, but for nouns as in `per book`."""


def is_named(name: str, text: str) -> bool:
    """True if a text has a word for what is counted by: `km` in `킬로미터에 215원`."""
    return name in text or any(
        period == name and len(word) > 1 and word in text for word, period in _PERIODS.items()
    )


_RATE_WORDS = re.compile(
    r"(?<![가-힣])매\s?(?P<every>년|해|월|달|주|일|회|학기|분기)(?![가-힣]*출)"
    r"|(?<![가-힣])(?P<madada>(?<!\d)(?:해|달|주|날))마다"
    r"|(?<![가-힣\d])(?P<yearly>연|월|주|일)\s?(?:간\s)?(?=\s?(?:최대\s?|총\s?|약\s?)?(?:\d"
    r"|(?:한|두|세|네|다섯)\s?(?:번|차례|회|시간|명|개|권|장|건)))"
    r"|(?<![가-힣])(?P<span>연간|월간)(?![가-힣])"
    r"|(?<![가-힣])(?P<noun>[가-힣]{1,6}?)당(?=\s?(?:최대\s?|약\s?|연\s?|월\s?)?(?:\d"
    r"|[한두세네]\s?(?:번|명|권|개"
    r"|장)))"
    r"|\b(?P<adverb>daily|weekly|monthly|yearly|annually|annual|hourly|nightly|quarterly)\b"
    r"|\b(?:per|(?:for )?(?:each|every)(?=\s(?:year|month|week|day|night|hour|person|semester"
    r"|term|quarter|visit|employee)\b))\s(?P<per>[a-z]+)(?:\s(?:and|or)\s(?P<per2>day"
    r"|week|month|year|night|hour|person))?"
    r"|(?<=[\d%a-z)원회])\s?/\s?(?P<slash>년|월|주|일|시간|인|명|박|회|year|month|week|day"
    r"|hour|night"
    r"|person|yr|mo|hr)\b"
)
_A_PERIOD = re.compile(
    r"\s(?:(?!within|in|for|after|before|of|once|than|over|under|to"
    r"|at)[a-z]+\s){0,2}?an?\s(?P<unit>year|month|week|day|hour|night|minute|term|semester"
    r"|quarter|person|time|kilometre|kilometer|km)\b"
)
_ADVERBS = {
    "daily": "day", "weekly": "week", "monthly": "month", "yearly": "year", "annually": "year",
    "annual": "year", "hourly": "hour", "nightly": "night", "quarterly": "quarter",
    "yr": "year", "mo": "month", "hr": "hour", "연간": "year", "월간": "month",
}  # fmt: skip
_NOT_RATE_SYLLABLES = "식담수정해강배성저합부할타온적전명포황감지사본"
_NOT_RATE = frozenset(_NOT_RATE_SYLLABLES)
_CANONICAL = {("day", _D(1)): "day", ("day", _D(7)): "week", ("month", _D(1)): "month",
              ("month", _D(12)): "year", ("minute", _D(60)): "hour", ("minute", _D(1)): "minute",
              ("person", _D(1)): "person", ("night", _D(1)): "night", ("term", _D(1)): "term",
              ("times", _D(1)): "times", ("metre", _D(1000)): "km"}  # fmt: skip


def _rate_spans(text: str) -> list[tuple[int, int, str]]:
    spans = []
    for match in _RATE_WORDS.finditer(text):
        groups = match.groupdict()
        word = next(value for name, value in groups.items() if value and name != "per2")
        if groups["noun"] and (
            groups["noun"] in _NOT_RATE or groups["noun"].endswith(("식", "담"))
        ):
            continue
        if groups["per"] in _ENGLISH or groups["per"] in _ORDINALS:
            continue
        if groups["per"] in ("cent", "other", "of", "one", "the", "time") and match[0].startswith(
            ("each", "per c")
        ):
            continue
        for name in filter(None, (word, groups["per2"])):
            key = _ADVERBS.get(name) or _PERIODS.get(name) or _PERIODS.get(name.removesuffix("s"))
            spans.append((match.start(), match.end(), key or name.removesuffix("s")))
    return spans


_ASKED = re.compile("몇|얼마|며칠")
_CLAUSE_END = re.compile(
    r"[.!?;\n](?!\d)|,(?!\d)|(?<=[가-힣])(?:며|고|지만|으나|는데|은데),?\s|\b(?:but|and|while"
    r"|whereas)\s"
)


def rate_of(measure: Measure) -> str:
    """What one of this measure is called where others are counted by it: `hour` for 1 hour."""
    return _CANONICAL.get((measure.unit, measure.value), "")


_NO_RATE = frozenset(("", "clock", "shift", "ordinal", "month#", "weekday#", "mday", "code"))
_DIRECTIONS = frozenset(("max", "min", "before", "after", "over", "under"))
_RATE_PARTICLE = re.compile(r"(?:에(?!서|게)|당|마다)")
_BEFORE_NEXT = re.compile(r"\s?(?:에|당|마다|간|씩)?(?:는|은|도)?\s")
_EACH = re.compile(r"\b(?:per|every|each)\s*$")


def _rate_name(text: str, matches: Sequence[Measure], index: int) -> str:
    """What others are counted by, for `1년에` of `1년에 8회`; empty for any other measure."""
    measure = matches[index]
    if measure.text == "once":
        return ""
    name = _CANONICAL.get((measure.unit, measure.value), "")
    if not name and measure.value == 1 and measure.unit not in _NO_RATE:
        name = measure.unit if measure.unit != _COUNT else _written_unit(measure)
    if not name and measure.unit not in _NO_RATE and text.startswith("당", measure.end):
        return f"{measure.written.normalize():f} {measure.unit}"
    if not name or measure.bounds & _DIRECTIONS:
        return ""
    following = matches[index + 1] if index + 1 < len(matches) else None
    marked = _RATE_PARTICLE.match(text, measure.end) is not None
    question_follows = marked and _ASKED.search(text, measure.end) is not None
    near = following is not None and following.start - measure.end <= (20 if marked else 3)
    different = following is None or following.unit not in (measure.unit, "ordinal")
    counts = marked or ((near or question_follows) and different and not measure.bounds - {"every"})
    if counts and _BEFORE_NEXT.match(text[measure.end : measure.end + 5] + " "):
        return name
    if _EACH.search(text[: measure.start]) and measure.unit != "times" and name != "day":
        return name
    return ""


def _rated(
    text: str, matches: Sequence[Measure]
) -> tuple[list[Measure], frozenset[str], list[tuple[int, int]]]:
    """Measures of 1 that others are counted by become their rates."""
    spans = _rate_spans(text)
    rest: list[Measure] = []
    for index, measure in enumerate(matches):
        if name := _rate_name(text, matches, index):
            spans.append((measure.start, measure.end, name))
        else:
            rest.append(measure)
    ends = [0, *(m.end() for m in _CLAUSE_END.finditer(text)), len(text) + 1]
    rated = list(rest)
    for start, end, name in spans:
        low = max(limit for limit in ends if limit <= start)
        high = min((limit for limit in ends if limit > start), default=len(text))
        inside = [i for i, m in enumerate(rated) if low <= m.start < high]
        later = [i for i in inside if rated[i].start >= end]
        earlier = [i for i in inside if rated[i].end <= start]
        backwards = text[start] == "/" or re.match(
            "(?:per|for|each|every|[a-z]+ly)\\b", text[start:]
        )
        chosen = earlier[-1:] or later[:1] if backwards else later[:1] or earlier[-1:]
        for index in chosen:
            rated[index] = replace(rated[index], per=rated[index].per | {name})
    for index, measure in enumerate(rated):
        if (a := _A_PERIOD.match(text, measure.end)) is not None:
            name = _PERIODS[a["unit"]]
            rated[index] = replace(measure, per=measure.per | {name})
            spans.append((a.start("unit"), a.end(), name))
    names = {name for _, _, name in spans} | {name for m in rated for name in m.per}
    return rated, frozenset(names), [(start, end) for start, end, _ in spans]
