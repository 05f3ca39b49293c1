"""What does crawled text look like? Posts of about a kilobyte in the mix that the scan's speed is stated for.

    2 % hold personal data, 29 % hold something that looks like it, 69 % hold neither; dense posts hold little else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.data import scoring, tuning
from tests.data.korean_posts import PLAIN, filled
from tests.data.values import MAKERS

POST_BYTES = 1_000
WITH_DATA, LOOKALIKE, CLEAN = 0.02, 0.29, 0.69
MIX = {"personal data": WITH_DATA, "looks like it": LOOKALIKE, "clean": CLEAN}

_SENTENCES = (
    "오늘 점심은 회사 앞 국밥집에서 먹었는데 생각보다 괜찮았어요.",
    "주말에 비가 온다고 해서 캠핑은 다음 달로 미뤘습니다 ㅠㅠ",
    "이 영화 진짜 재밌게 봤는데 결말이 조금 아쉽네요...",
    "강아지가 요즘 밥을 잘 안 먹어서 병원에 다녀왔어요",
    "ㅋㅋㅋㅋㅋ 아 진짜 웃겨서 눈물 났다",
    "다들 건강 조심하시고 따뜻한 하루 보내세요 :)",
    "2023년에 나온 모델이라 그런지 배터리가 하루를 못 버팁니다.",
    "배송은 이틀 걸렸고 포장도 꼼꼼하게 되어 있었어요. 재구매 의사 있습니다!",
    "어제 경기 보셨나요? 후반 89분에 동점골이라니 소름 돋았음",
    "가격이 15,000원이면 살 만하다고 봐요",
    "혹시 이 노래 제목 아시는 분 계신가요?",
    "저는 10년째 쓰고 있는데 고장 한 번 없었습니다.",
    "출근길에 지하철이 20분이나 멈춰서 지각했네요",
    "댓글로 의견 남겨주시면 다음 글에 반영하겠습니다 🙏",
    "“그냥 그렇다”는 말이 제일 어려운 것 같아요",
    "한 줄 요약: 살까 말까 할 때는 사지 말자",
    "아이가 어린이집에 적응을 못 해서 걱정이 많아요.",
    "The new update broke dark mode again, anyone else seeing this?",
    "I have been using it for about 3 weeks and honestly it is fine.",
    "면접 후기 남깁니다. 분위기는 좋았고 질문은 평범했어요",
    "요리 초보도 따라 할 수 있게 사진이랑 같이 올려볼게요",
    "제주도 3박 4일 코스 추천 부탁드려요~ 부모님 모시고 갑니다",
    "이거 사고 나서 삶의 질이 올라갔어요 강추합니다 👍👍",
    "아니 근데 왜 아무도 이 얘기를 안 하는 거죠?",
    "시험이 2주 남았는데 아직 책을 한 번도 안 폈습니다",
    "집에서 커피 내려 마시는 게 취미가 됐어요",
    "운동을 시작한 지 한 달, 몸무게가 2kg 빠졌습니다.",
    "창문을 열어 두었더니 고양이가 들어왔다",
    "배우들 연기는 좋은데 대본이 너무 뻔해서 중간에 졸았음",
    "질문 하나만 드릴게요. 초보가 쓰기에 어떤 게 나을까요?",
    "버스가 안 와서 40분을 걸었더니 발이 너무 아프다",
    "오랜만에 친구를 만나서 새벽 2시까지 수다 떨었네요",
    "노트북 팬 소음 때문에 서비스센터에 맡겼습니다",
    "이번 시즌은 1화부터 몰입감이 대단하네요",
    "모두 수고하셨습니다! 내일 다시 이어서 하겠습니다.",
    "사실 기대를 안 했는데 의외로 맛있어서 놀랐다",
    "글이 길어졌네요… 읽어주셔서 감사합니다",
    "저녁 메뉴 추천해 주세요 - 매운 거 빼고요",
    "이 동네는 조용하고 공원이 가까워서 살기 좋아요",
    "환율이 또 올라서 여행 계획을 다시 짜야 할 듯",
)


def _post(rng: random.Random, inserts: Sequence[str]) -> str:
    """Sentences up to a kilobyte, with the inserts somewhere among them."""
    left = POST_BYTES - sum(len(text.encode()) + 1 for text in inserts)
    sentences: list[str] = []
    while left > 0:
        sentences.append(rng.choice(_SENTENCES))
        left -= len(sentences[-1].encode()) + 1
    for text in inserts:
        sentences.insert(rng.randrange(len(sentences) + 1), text)
    return rng.choice(("\n", " ")).join(sentences)


def _with_data(rng: random.Random) -> str:
    return filled(rng.choice(scoring.PLAIN + tuning.PLAIN), MAKERS, rng, PLAIN).text


def _lookalike(rng: random.Random) -> str:
    return rng.choice(scoring.NEGATIVES + tuning.NEGATIVES)(rng)


_INSERTS: dict[str, Callable[[random.Random], list[str]]] = {
    "personal data": lambda rng: [_with_data(rng)],
    "looks like it": lambda rng: [_lookalike(rng)],
    "clean": lambda _rng: [],
    "dense": lambda rng: [_with_data(rng) for _ in range(16)],
}


def posts(sort: str, count: int, seed: int = 1) -> list[str]:
    """So many posts of one sort: `personal data`, `looks like it`, `clean` or `dense`."""
    rng = random.Random(f"{sort} {seed}")
    return [_post(rng, _INSERTS[sort](rng)) for _ in range(count)]


def crawl_mix(count: int, seed: int = 1) -> list[str]:
    """So many posts in the mix of a crawl, shuffled."""
    mixed = [text for sort, share in MIX.items() for text in posts(sort, round(count * share), seed)]
    random.Random(seed).shuffle(mixed)
    return mixed
