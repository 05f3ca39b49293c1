"""What do the words of documents mean to people, in both languages?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Words = Mapping[str, str]

WORDS: Final[Mapping[str, Words]] = {
    "PASSED": {"ko": "통과", "en": "Passed"},
    "FAILED": {"ko": "미달", "en": "Failed"},
    "INCONCLUSIVE": {"ko": "판단 불가", "en": "Inconclusive"},
    "ERROR": {"ko": "측정 불가", "en": "Error"},
    "detection": {"ko": "탐지", "en": "Detection"},
    "operation": {"ko": "운영", "en": "Operation"},
    "compliance": {"ko": "준법", "en": "Compliance"},
    "channel_group": {"ko": "채널 그룹", "en": "Channel group"},
    "kind": {"ko": "종류", "en": "Kind"},
    "device_class": {"ko": "기기 종류", "en": "Device class"},
    "path": {"ko": "전달 경로", "en": "Path"},
    "subject": {"ko": "알림 종류", "en": "Subject of the notice"},
    "platform": {"ko": "플랫폼", "en": "Platform"},
    "cohort": {"ko": "집단 (전체, 종결 집단)", "en": "Cohort (all, closed)"},
    "closed_cohort": {"ko": "종결 집단, 플랫폼별", "en": "Closed cohort by platform"},
    "resolution": {"ko": "종결 사유", "en": "Resolution"},
    "channel": {"ko": "채널", "en": "Channel"},
    "item_kind": {"ko": "파기 대상 종류", "en": "What was purged"},
    "type": {"ko": "요청 유형", "en": "Type of request"},
    "severity": {"ko": "심각도", "en": "Severity"},
    "SCENARIO": {"ko": "시나리오 시험", "en": "Scenario tests"},
    "REGRESSION": {"ko": "회귀 시험", "en": "Regression tests"},
    "POLICY": {"ko": "정책 점검", "en": "Policy check"},
    "ROLLBACK": {"ko": "되돌리기 예행", "en": "Rollback rehearsal"},
    "ORDER_STATISTICS": {"ko": "순서통계량 (이항분포)", "en": "order statistics (binomial)"},
    "CLOPPER_PEARSON": {"ko": "클로퍼–피어슨 (정확 구간)", "en": "Clopper–Pearson (exact)"},
    "KORN_GRAUBARD": {
        "ko": "콘–그로바드 (유효 표본 크기의 정확 구간)",
        "en": "Korn–Graubard (exact at the effective sample size)",
    },
    "BROOKMEYER_CROWLEY": {"ko": "브룩마이어–크롤리 (로그–로그)", "en": "Brookmeyer–Crowley (log-log)"},
    "CENSUS": {"ko": "전수 (구간 없음)", "en": "census (no interval)"},
    "DATA": {"ko": "자료", "en": "Data"},
    "PARTNER": {"ko": "협력사·API", "en": "Partner and API"},
    "LAW": {"ko": "법·정책", "en": "Law and policy"},
    "SECURITY": {"ko": "보안", "en": "Security"},
    "HOLDS": {"ko": "정상", "en": "in order"},
    "DEGRADED": {"ko": "축소 운영", "en": "degraded"},
    "LOST": {"ko": "상실", "en": "lost"},
    "SURVIVAL": {
        "ko": "세로는 아직 끝나지 않은 비율입니다. 작은 눈금은 관찰이 먼저 끝난 것(중도절단), 띠는 95 % 구간입니다.",
        "en": "Share that has not ended yet. Small ticks: observation stopped first (censored); band: 95 %.",
    },
    "INCIDENCE": {
        "ko": "세로는 그때까지 일어난 비율입니다. 작은 눈금은 관찰이 먼저 끝난 것, 띠는 95 % 구간입니다.",
        "en": "Share to which it has happened by then. Small ticks: observation stopped first; band: 95 %.",
    },
    "ECDF": {"ko": "세로는 그 값을 넘지 않는 비율입니다.", "en": "Share of values that are not above."},
}
REASONS: Final[Mapping[str, Words]] = {
    "NO_DATA": {"ko": "기간 안에 자료가 없습니다.", "en": "There is no data in the window."},
    "SAMPLE_TOO_SMALL": {
        "ko": "표본이 필요한 크기에 미치지 못합니다. 값은 참고로만 보십시오.",
        "en": "The sample is smaller than required; take the value as a hint only.",
    },
    "THRESHOLD_NOT_MET": {"ko": "값이 기준을 벗어났습니다.", "en": "The value does not meet the threshold."},
    "NOT_MEASURABLE_YET": {
        "ko": "아직 측정할 수 없는 지표입니다. 측정하지 못한 것은 통과하지 않습니다.",
        "en": "This figure cannot be measured yet; what is not measured never passes.",
    },
    "UNUSABLE_RECORDS": {
        "ko": "쓸 수 없는 기록을 불리하게 세면 기준을 벗어납니다.",
        "en": "With the unusable records counted against it, the value does not meet the threshold.",
    },
    "LOG_RECORDS_MISSING": {
        "ko": "기간 안에 빠진 로그 기록이 있어 측정할 수 없습니다.",
        "en": "Log records of the window are missing; nothing is measured.",
    },
    "MEASUREMENT_FAILED": {"ko": "측정 중 오류가 났습니다.", "en": "Measuring failed."},
    "TEST_RUN_MISSING": {
        "ko": "이 릴리스에 필요한 시험 결과가 기록되지 않았습니다.",
        "en": "The test run that this release needs was not recorded.",
    },
    "TESTS_FAILED": {"ko": "필요한 시험이 실패했습니다.", "en": "The tests that this release needs failed."},
    "NO_TEST_RAN": {"ko": "실행된 시험이 없습니다.", "en": "No test ran."},
}


def words_of(name: str) -> Words:
    """The words of a name; the name itself where it has none."""
    return WORDS.get(name, {"ko": name, "en": name})


def reason_words(reason: str) -> Words:
    """The sentence of a reason; the reason itself where it has none."""
    return REASONS.get(reason, {"ko": reason, "en": reason})
