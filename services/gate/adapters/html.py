"""How a report's document becomes one page that a person likes to read.

Self-contained: no script, no font, no picture from elsewhere. Two languages lie in the page and a pair of radio
buttons shows one of them. All geometry is computed here; the template only places it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from services.gate.domain.measures import duration_text

_TEMPLATES = Path(__file__).parents[1] / "templates"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 300, 52, 28, 18, 44
"""The big chart and its margins, in SVG user units."""
STRIP = 260
"""Width of the strip that shows one part of the sample."""
_NICE_MS = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000, 259_200_000, 604_800_000,
]  # fmt: skip


def render(document: Mapping[str, Any]) -> bytes:
    """The page, UTF-8."""
    page = template("report.html.j2").render(
        r=document,
        chart=_chart(document["distribution"]),
        strata=_strata(document),
        words=_WORDS,
        reasons=[_REASONS.get(reason, {"ko": reason, "en": reason}) for reason in document["reasons"]],
    )
    return page.encode()


@cache
def template(name: str) -> Template:
    """A template of pages; what it writes is escaped, and an unknown name is an error."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = lambda text: re.sub(r"(?<![–\]]) (?![–\[])", "\u00a0", text)
    environment.filters["moment"] = lambda text: text.replace("T", " ").replace("+00:00", " UTC")
    return environment.get_template(name)


@dataclass(frozen=True)
class Scale:
    """Places values between two ends, linearly or by their logarithm; what lies outside sticks to the end."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Position of a value, one decimal."""
        low, high, bounded = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, bounded = math.log(low), math.log(high), math.log(bounded)
        share = (bounded - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def _chart(distribution: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The empirical distribution as steps over a logarithmic axis of time."""
    if distribution is None:
        return None
    points: Sequence[tuple[float, float]] = distribution["points"]
    threshold = distribution["threshold"]
    x = _time_scale([value for value, _ in points] + ([threshold] if threshold else []))
    y = Scale(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    line = _steps(points, x, y)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "base": HEIGHT - BOTTOM,
        "line": line,
        "area": f"{line} V{y.at(0)} H{x.at(points[0][0])} Z" if points else "",
        "x_ticks": _time_ticks(x),
        "y_ticks": [{"at": y.at(share), "text": f"{share:.0%}"} for share in (0, 0.25, 0.5, 0.75, 1)],
        "p95": y.at(0.95),
        "threshold": {"at": x.at(threshold), "text": duration_text(threshold)} if threshold else None,
        "infinite": distribution["infinite"],
    }


def _steps(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    if not points:
        return ""
    path = [f"M{x.at(points[0][0])} {y.at(0)}"]
    path += [f"H{x.at(value)} V{y.at(share)}" for value, share in points]
    return " ".join([*path, f"H{x.end}"])


def _time_scale(values: Sequence[float]) -> Scale:
    low, high = max(min(values, default=1.0), 1.0), max(max(values, default=10.0), 10.0)
    return Scale(low / 1.6, high * 1.6, LEFT, WIDTH - RIGHT, logarithmic=True)


def _time_ticks(x: Scale) -> list[dict[str, Any]]:
    """Round times that lie on the axis, far enough apart to be read."""
    ticks: list[dict[str, Any]] = []
    for value in _NICE_MS:
        at = x.at(value)
        if x.low <= value <= x.high and (not ticks or at - ticks[-1]["at"] >= 58):
            ticks.append({"at": at, "text": duration_text(value).replace(".00", "")})
    return ticks


def _strata(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each dimension with a strip per part: interval, point, threshold, all on one scale."""
    dimensions: dict[str, list[Mapping[str, Any]]] = {}
    for stratum in document["strata"]:
        dimensions.setdefault(stratum["dimension"], []).append(stratum)
    return [
        {"name": _WORDS.get(name, {"ko": name, "en": name}), "rows": _rows(parts, document["threshold"])}
        for name, parts in dimensions.items()
    ]


def _rows(parts: Sequence[Mapping[str, Any]], threshold: Mapping[str, Any]) -> list[dict[str, Any]]:
    scale = _strip_scale(parts, threshold)
    return [
        {
            "name": part["name"],
            "size": part["size"],
            "value": part["value"]["text"],
            "interval": part["interval"]["text"],
            "holds": part["holds"],
            "point": _end(part["value"], scale),
            "low": _end(part["interval"]["low"], scale),
            "high": _end(part["interval"]["high"], scale),
            "threshold": scale.at(threshold["number"]),
            "width": STRIP,
        }
        for part in parts
    ]


def _strip_scale(parts: Sequence[Mapping[str, Any]], threshold: Mapping[str, Any]) -> Scale:
    ends = [part["value"] for part in parts]
    ends += [part["interval"][end] for part in parts for end in ("low", "high") if part["interval"][end]]
    numbers = [end["number"] for end in ends if end["number"] is not None] + [threshold["number"]]
    if threshold["unit"] != "ratio":
        return Scale(max(min(numbers), 1.0) / 1.5, max(numbers) * 1.5, 6, STRIP - 6, logarithmic=True)
    if threshold["direction"] == "AT_MOST":
        return Scale(0.0, min(1.0, max(numbers) * 1.15), 6, STRIP - 6)
    low = min(numbers)
    return Scale(max(0.0, low - (1 - low) * 0.15), 1.0, 6, STRIP - 6)


def _end(number: Mapping[str, Any] | None, scale: Scale) -> float | None:
    """Where a number stands; infinity stands at the right end, nothing nowhere."""
    if number is None:
        return None
    return scale.end if number["infinite"] else scale.at(number["number"])


_WORDS: Mapping[str, Mapping[str, str]] = {
    "PASSED": {"ko": "통과", "en": "Passed"},
    "FAILED": {"ko": "미달", "en": "Failed"},
    "INCONCLUSIVE": {"ko": "판단 불가", "en": "Inconclusive"},
    "ERROR": {"ko": "측정 불가", "en": "Error"},
    "channel_group": {"ko": "채널 그룹", "en": "Channel group"},
    "kind": {"ko": "종류", "en": "Kind"},
    "device_class": {"ko": "기기 종류", "en": "Device class"},
    "subject": {"ko": "알림 종류", "en": "Subject of the notice"},
    "SCENARIO": {"ko": "시나리오 시험", "en": "Scenario tests"},
    "REGRESSION": {"ko": "회귀 시험", "en": "Regression tests"},
    "POLICY": {"ko": "정책 점검", "en": "Policy check"},
    "ROLLBACK": {"ko": "되돌리기 예행", "en": "Rollback rehearsal"},
    "ORDER_STATISTICS": {"ko": "순서통계량 (이항분포)", "en": "order statistics (binomial)"},
    "CLOPPER_PEARSON": {"ko": "클로퍼–피어슨 (정확 구간)", "en": "Clopper–Pearson (exact)"},
    "BROOKMEYER_CROWLEY": {"ko": "브룩마이어–크롤리 (로그–로그)", "en": "Brookmeyer–Crowley (log-log)"},
    "CENSUS": {"ko": "전수 (구간 없음)", "en": "census (no interval)"},
    "platform": {"ko": "플랫폼", "en": "Platform"},
    "cohort": {"ko": "집단 (전체, 종결 집단)", "en": "Cohort (all, closed)"},
    "closed_cohort": {"ko": "종결 집단, 플랫폼별", "en": "Closed cohort by platform"},
    "resolution": {"ko": "종결 사유", "en": "Resolution"},
    "channel": {"ko": "채널", "en": "Channel"},
    "item_kind": {"ko": "파기 대상 종류", "en": "What was purged"},
    "type": {"ko": "요청 유형", "en": "Type of request"},
    "KORN_GRAUBARD": {
        "ko": "콘–그로바드 (유효 표본 크기의 정확 구간)",
        "en": "Korn–Graubard (exact at the effective sample size)",
    },
}
_REASONS: Mapping[str, Mapping[str, str]] = {
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
