"""Write reviews.csv: invented reviews of invented apps, with the dirt that real ones have.

    python projects/reviews/make_reviews.py

Every phrase is ours. Stars are as lopsided as in app stores, and a review may hold typing errors,
zero-width and no-break spaces, praise beside blame, or stars that contradict its words. Some short
reviews repeat, and a few texts come back with other stars.
"""

import csv
import random
from datetime import date, timedelta
from pathlib import Path

HERE = Path(__file__).parent
ROWS = 900
STARS = {5: 0.42, 4: 0.17, 3: 0.11, 2: 0.09, 1: 0.21}
ZERO_WIDTH, NO_BREAK = "\u200b", "\u00a0"

APPS = {
    "두루미통장": ("이체", "잔액 조회", "지문 로그인", "공과금 납부", "계좌 개설"),
    "골목길지도": ("길찾기", "버스 도착 알림", "즐겨찾기", "오프라인 지도", "자전거 경로"),
    "한술배달": ("주문", "결제", "쿠폰 적용", "라이더 위치 보기", "리뷰 사진 올리기"),
    "새벽노트": ("동기화", "음성 메모", "검색", "폴더 정리", "위젯"),
}

OPENINGS = {
    5: (
        "정말 만족합니다",
        "이런 앱을 기다렸어요",
        "주변에 다 추천하고 다닙니다",
        "돈 내고 써도 아깝지 않아요",
        "매일 쓰는데 최고예요",
        "깔끔하고 빠릅니다",
        "2년째 잘 쓰고 있어요",
        "별 다섯 개로 모자라요",
    ),
    4: (
        "전체적으로 좋습니다",
        "꽤 쓸 만해요",
        "거의 다 마음에 듭니다",
        "잘 쓰고 있지만 하나만 고쳐 주세요",
        "추천할 만합니다",
        "별 하나는 앞으로를 위해 뺍니다",
    ),
    3: (
        "그냥 그래요",
        "좋은 점도 있고 아쉬운 점도 있네요",
        "보통입니다",
        "나쁘진 않은데 굳이 싶어요",
        "반은 좋고 반은 별로예요",
    ),
    2: (
        "기대보다 별로예요",
        "아쉬운 게 너무 많습니다",
        "예전이 훨씬 나았어요",
        "참고 쓰고 있습니다",
        "고칠 데가 한두 군데가 아니네요",
    ),
    1: (
        "바로 지웠습니다",
        "최악이에요",
        "시간 낭비였습니다",
        "이걸 앱이라고 만들었나요",
        "업데이트하고 완전히 망가졌어요",
        "별 하나도 아까워요",
        "환불받고 싶습니다",
    ),
}
GOOD = (
    "{feature} 기능이 아주 편해요",
    "{feature} 속도가 눈에 띄게 빨라졌어요",
    "{feature} 할 때 한 번도 막힌 적이 없습니다",
    "{feature} 화면이 한눈에 들어와요",
    "부모님도 {feature} 하나는 혼자 하십니다",
    "{device}에서도 부드럽게 돌아가네요",
    "광고가 없어서 좋습니다",
    "문의했더니 {hours}시간 만에 답이 왔어요",
    "글씨 크기를 바꿀 수 있어서 눈이 편해요",
    "배터리를 거의 안 먹어요",
    "다크 모드가 예쁩니다",
    "한 달에 {times}번은 쓰는데 오류가 없었어요",
    "알림이 딱 필요한 만큼만 와요",
    "가입이 간단해서 {hours}분이면 끝나요",
)
BAD = (
    "{feature} 누르면 앱이 꺼집니다",
    "{feature} 하나 하는 데 {hours}분이나 걸려요",
    "{feature} 메뉴를 찾을 수가 없어요",
    "{feature} 중에 오류가 {times}번이나 났습니다",
    "{device}에서는 글자가 다 깨져요",
    "광고가 화면의 반을 가립니다",
    "고객센터는 {hours}일째 답이 없어요",
    "로그인이 자꾸 풀립니다",
    "업데이트할 때마다 느려지네요",
    "배터리가 순식간에 닳아요",
    "알림이 하루에 {times}개씩 옵니다",
    "쓰던 자료가 전부 날아갔어요",
    "탈퇴 버튼이 어디에도 없습니다",
    "본인 인증에서 계속 튕겨요",
)
CLOSINGS = {
    5: (
        "앞으로도 계속 쓸게요",
        "개발자님 고맙습니다",
        "강력 추천!!",
        "번창하세요 ㅎㅎ",
    ),
    4: ("다음 업데이트 기대할게요", "조금만 더 다듬어 주세요", "그래도 만족해요", "응원합니다"),
    3: ("더 지켜볼게요", "대안이 없어서 씁니다", "개선되면 별 올릴게요", "무난해요"),
    2: ("다른 앱을 알아보는 중이에요", "개선이 시급합니다", "고쳐 주세요 제발", "실망이네요"),
    1: ("절대 깔지 마세요", "다신 안 써요 ㅡㅡ", "신고하고 싶네요", "개발자는 써 보기는 했나요"),
}
# How many good and bad remarks a review has, by its stars.
REMARKS = {
    5: ((1, 0), (2, 0)),
    4: ((1, 0), (2, 1)),
    3: ((1, 1),),
    2: ((0, 1), (1, 2)),
    1: ((0, 1), (0, 2)),
}
SHORT = {
    5: ("최고예요", "좋아요", "굿굿", "완전 편해요", "짱"),
    4: ("좋아요", "괜찮아요", "쓸 만해요"),
    3: ("보통이에요", "그저 그래요", "괜찮아요"),
    2: ("별로예요", "아쉬워요"),
    1: ("별로예요", "최악", "쓰레기", "안 열려요"),
}
DEVICES = ("구형 폰", "태블릿", "접는 폰", "3년 된 폰", "작은 화면")
TYPOS = (
    ("좋아요", "조아요"),
    ("너무", "넘"),
    ("않아요", "안아요"),
    ("습니다", "슴니다"),
    ("네요", "내요"),
    ("예요", "에요"),
    ("어요", "어욤"),
    ("할 때", "할때"),
    ("한 번도", "한번도"),
    ("되", "돼"),
)


def remark(pool: tuple[str, ...], app: str, draw: random.Random) -> str:
    """One sentence about something."""
    return draw.choice(pool).format(
        feature=draw.choice(APPS[app]),
        device=draw.choice(DEVICES),
        hours=draw.randint(2, 9),
        times=draw.randint(3, 40),
    )


def compose(app: str, star: int, draw: random.Random) -> str:
    """One clean review: it may lack its opening or its closing, but says something."""
    good, bad = draw.choice(REMARKS[star])
    remarks = [remark(GOOD, app, draw) for _ in range(good)]
    remarks += [remark(BAD, app, draw) for _ in range(bad)]
    draw.shuffle(remarks)
    # Whoever gives the highest or lowest stars says so; the middle often just tells. And one
    # person's four stars are another one's five.
    says = 0.7 if star in (1, 5) else 0.5
    tone = star if draw.random() < 0.75 else min(5, max(1, star + draw.choice((-1, 1))))
    sentences = [draw.choice(OPENINGS[tone])] if draw.random() < says else []
    sentences += list(dict.fromkeys(remarks))
    if draw.random() < 0.4:
        sentences.append(draw.choice(CLOSINGS[tone]))
    return draw.choice((". ", " ", "~ ", ", ")).join(sentences) + draw.choice((".", "", "!", ""))


def soil(text: str, draw: random.Random) -> str:
    """The text as typed on a phone."""
    if draw.random() < 0.25:
        right, wrong = draw.choice(TYPOS)
        text = text.replace(right, wrong)
    if draw.random() < 0.15:
        text += draw.choice((" ㅋㅋ", " ㅠㅠ", " ^^", "..", " ㅎㅎㅎ"))
    if draw.random() < 0.08:
        text = text.replace(" ", NO_BREAK, 2)
    if draw.random() < 0.06:
        place = draw.randint(0, len(text))
        text = text[:place] + ZERO_WIDTH + text[place:]
    return text


def main() -> None:
    """Write the file."""
    draw = random.Random(7)
    stars = draw.choices(list(STARS), list(STARS.values()), k=ROWS)
    rows: list[tuple[str, str, str, str]] = []
    for star in stars:
        app = draw.choice(list(APPS))
        short = draw.random() < 0.08
        text = draw.choice(SHORT[star]) if short else soil(compose(app, star, draw), draw)
        given = star
        if draw.random() < 0.08:  # a reviewer who took one star for the best, or slipped
            given = draw.choice(list(STARS))
        day = date(2024, 1, 1) + timedelta(days=draw.randint(0, 700))
        rows.append((app, day.isoformat(), text, str(given)))
    for place in draw.sample(range(ROWS), 12):  # sent twice, with the same stars
        rows.append(rows[place])
    for place in draw.sample(range(ROWS), 6):  # the same words with other stars
        app, day, text, star = rows[place]
        rows.append((app, day, text, str(int(star) % 5 + 1)))
    for place, star in zip(draw.sample(range(ROWS), 4), ("", "0", "별점 없음", "7"), strict=True):
        app, day, text, _ = rows[place]
        rows.append((app, day, text + " (다시 씀)", star))
    draw.shuffle(rows)
    with (HERE / "reviews.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("review_id", "app", "date", "review", "star"))
        writer.writerows((f"r{number:04}", *row) for number, row in enumerate(rows, start=1))
    print(f"{len(rows)} reviews")


if __name__ == "__main__":
    main()
