"""Which question does each panel of each dashboard answer?

Grafana's JSON is made from this (`make dashboards`): a panel is its question, its queries and their unit. Every metric
is one of the table in the code (tests/unit/observe). Prometheus and the trace store are chosen by variables, so the
same files serve everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

Json = dict[str, object]
METRICS = {"type": "prometheus", "uid": "${metrics}"}
TRACES = {"type": "tempo", "uid": "${traces}"}
SERVICES = ("detector", "case", "removal", "notify", "gate")
WIDTH, HEIGHT = 8, 8


@dataclass(frozen=True)
class Query:
    """PromQL and how a line is called."""

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One question."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    limit: float | None = None
    """Drawn as a line: from here on it is bad."""
    width: int = WIDTH
    traceql: str = ""
    """Of a table of traces, instead of queries."""


@dataclass(frozen=True)
class Dashboard:
    """Panels with a heading each."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    case_variable: bool = False

    def panels(self) -> Iterator[Panel]:
        """All of them."""
        for _, panels in self.rows:
            yield from panels


def p95(metric: str, by: str = "", where: str = "", share: float = 0.95) -> str:
    """The quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{where}[$__rate_interval])))"


def per_second(metric: str, by: str = "", where: str = "") -> str:
    """The rate of a counter."""
    return f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))"


def lag(where: str = "") -> str:
    """Events that a service has not dealt with yet, by publisher: what it published less what was dealt with."""
    head = 'label_replace(max by (service, partition) (jikimi_outbox_position), "publisher", "$1", "service", "(.+)")'
    return (
        "sum by (service, publisher) (clamp_min("
        f"max by (publisher, partition) ({head}) - on (publisher, partition) group_right () "
        f"max by (service, publisher, partition) (jikimi_consumer_position{where}), 0))"
    )


CASE_LATENCY = Panel(
    "Does a sure find become a case within five minutes?",
    (Query(p95("jikimi_case_latency_seconds", "kind"), "P95 {{kind}}", exemplars=True),),
    "s",
    limit=300,
)
BURN = Panel(
    "Which service level is being used up, and how fast (1 = just allowed)?",
    (
        Query("jikimi:case_latency_bad:ratio_rate1h / 0.05", "case latency"),
        Query("jikimi:ack_bad:ratio_rate1h / 0.005", "acknowledgement"),
        Query("jikimi:removal_bad:ratio_rate6h / 0.25", "removal"),
        Query("jikimi:rights_bad:ratio_rate1d / 0.05", "rights"),
    ),
    limit=1,
)
SLOW_HOPS = Panel(
    "Where do events wait longest on their way?",
    # Records gather on purpose, and nobody waits for them.
    (
        Query(
            p95("jikimi_event_delay_seconds", "service, event", '{event!="recorded"}'),
            "{{service}} ← {{event}}",
            exemplars=True,
        ),
    ),
    "s",
    width=16,
)

OVERVIEW = Dashboard(
    "jikimi-overview",
    "Jikimi: by the way of the data",
    (
        (
            "Is it well?",
            (
                replace(CASE_LATENCY, width=8),
                BURN,
                Panel("Is everything up?", (Query("min by (service) (up)", "{{service}}"),), kind="stat"),
            ),
        ),
        (
            "In: signals and uploads",
            (
                Panel(
                    "How many signals come, and what becomes of them at the door?",
                    (Query(per_second("jikimi_signals_total", "outcome"), "{{outcome}}"),),
                    "ops",
                ),
                Panel(
                    "How long has the oldest signal waited for a decision?",
                    (Query("max by (lane) (jikimi_spool_oldest_seconds)", "{{lane}}"),),
                    "s",
                    limit=120,
                ),
                Panel(
                    "How many signals are decided, by band?",
                    (Query(per_second("jikimi_decisions_total", "band"), "{{band}}"),),
                    "ops",
                ),
            ),
        ),
        (
            "Between: events",
            (
                SLOW_HOPS,
                Panel(
                    "Which service is behind which publisher?",
                    (Query(lag(), "{{service}} ← {{publisher}}"),),
                ),
                Panel(
                    "How long has the oldest unpublished event waited?",
                    (Query("max by (service) (jikimi_outbox_oldest_seconds)", "{{service}}"),),
                    "s",
                    limit=60,
                ),
                Panel(
                    "What was put aside?",
                    (Query("max by (service, state) (jikimi_dead_letters)", "{{service}} {{state}}"),),
                    limit=1,
                ),
                Panel(
                    "Which due work is late?",
                    (Query("max by (service, kind) (jikimi_due_oldest_seconds) > 0", "{{service}} {{kind}}"),),
                    "s",
                    limit=300,
                ),
            ),
        ),
        (
            "Out: people and platforms",
            (
                Panel(
                    "How many notices are handed over, acknowledged, given up?",
                    (Query(per_second("jikimi_notices_total", "outcome"), "{{outcome}}"),),
                    "ops",
                ),
                Panel(
                    "What waits for people?",
                    (Query("max by (state) (jikimi_review_items)", "review items {{state}}"),),
                ),
                Panel(
                    "Where do removal requests stand?",
                    (Query("max by (state) (jikimi_removal_requests)", "{{state}}"),),
                ),
            ),
        ),
    ),
)

GATES = Dashboard(
    "jikimi-gates",
    "Jikimi: what the gates measure, now",
    (
        (
            "Operation",
            (
                CASE_LATENCY,
                Panel(
                    "Which share of sure finds is a case within five minutes (95 % wanted)?",
                    (Query("1 - jikimi:case_latency_bad:ratio_rate1d", "one day"),),
                    "percentunit",
                    limit=0.95,
                ),
                Panel(
                    "Which share of notices is acknowledged (99.5 % wanted)?",
                    (Query("1 - jikimi:ack_bad:ratio_rate1d", "one day"),),
                    "percentunit",
                    limit=0.995,
                ),
                Panel(
                    "Which share of received requests ends with the content gone (75 % wanted)?",
                    (Query("1 - jikimi:removal_bad:ratio_rate3d", "three days"),),
                    "percentunit",
                    limit=0.75,
                ),
                Panel(
                    "How long do removals take, the middle one (72 hours wanted)?",
                    (Query(p95("jikimi_removal_seconds", "platform", share=0.5), "{{platform}}"),),
                    "s",
                    limit=259_200,
                ),
                Panel(
                    "How current is the gallery of each replica (5 seconds wanted)?",
                    (Query("max by (instance) (jikimi_gallery_age_seconds)", "{{instance}}"),),
                    "s",
                    limit=5,
                ),
            ),
        ),
        (
            "Law",
            (
                Panel(
                    "Which requests of subscribers are open, due soon, overdue?",
                    (Query("max by (kind, state) (jikimi_rights_requests)", "{{kind}} {{state}}"),),
                ),
                Panel(
                    "Which share of their requests was answered in time (95 % wanted)?",
                    (Query("1 - jikimi:rights_bad:ratio_rate3d", "three days"),),
                    "percentunit",
                    limit=0.95,
                ),
                Panel(
                    "How long do answers take?",
                    (Query(p95("jikimi_rights_seconds", "kind"), "P95 {{kind}}"),),
                    "s",
                ),
            ),
        ),
        (
            "Use of the allowed",
            (BURN,),
        ),
    ),
)

REMOVAL = Dashboard(
    "jikimi-removal",
    "Jikimi: removal",
    (
        (
            "Requests",
            (
                Panel(
                    "Where do requests stand?", (Query("max by (state) (jikimi_removal_requests)", "{{state}}"),)
                ),
                Panel(
                    "How do they move on?",
                    (Query(per_second("jikimi_removal_moves_total", "state"), "{{state}}"),),
                    "ops",
                ),
                Panel(
                    "Which requests may or may not have been sent, so that a person must decide?",
                    (Query('max(jikimi_removal_requests{state="UNCERTAIN"})', "uncertain"),),
                    kind="stat",
                    limit=1,
                ),
            ),
        ),
        (
            "Platforms",
            (
                Panel(
                    "Which platforms are silent for more than three days?",
                    (Query("max by (platform) (jikimi_removal_silent)", "{{platform}}"),),
                    limit=1,
                ),
                Panel(
                    "Which platforms reject?",
                    (
                        Query(
                            'sum by (platform) (increase(jikimi_removal_moves_total{state="REJECTED"}[1d]))',
                            "{{platform}}",
                        ),
                    ),
                ),
                Panel(
                    "How do received requests end, by platform?",
                    (
                        Query(
                            "sum by (platform, outcome) (increase(jikimi_removal_ended_total[1d]))",
                            "{{platform}} {{outcome}}",
                        ),
                    ),
                ),
                Panel(
                    "How long does each platform take, the middle request?",
                    (Query(p95("jikimi_removal_seconds", "platform", share=0.5), "{{platform}}"),),
                    "s",
                    limit=259_200,
                    width=16,
                ),
            ),
        ),
        (
            "Work",
            (
                Panel(
                    "How long do filing, looking and supplementing take?",
                    (Query(p95("jikimi_due_seconds", "kind", '{service="removal"}'), "P95 {{kind}}", exemplars=True),),
                    "s",
                ),
                Panel(
                    "What of it fails, and why?",
                    (
                        Query(
                            per_second("jikimi_due_failed_total", "kind, reason", '{service="removal"}'),
                            "{{kind}} {{reason}}",
                        ),
                    ),
                    "ops",
                ),
                Panel(
                    "What of it is late?",
                    (Query('max by (kind) (jikimi_due_oldest_seconds{service="removal"})', "{{kind}}"),),
                    "s",
                ),
            ),
        ),
    ),
)

TRACING = Dashboard(
    "jikimi-tracing",
    "Jikimi: why was it slow? From a figure to a trace",
    (
        (
            "1. Which hop? Every dot is a trace: click it",
            (CASE_LATENCY, SLOW_HOPS),
        ),
        (
            "2. Was it waiting or working?",
            (
                Panel(
                    "How long do signals wait until somebody looks at them?",
                    (Query(p95("jikimi_spool_wait_seconds", "lane"), "P95 {{lane}}", exemplars=True),),
                    "s",
                ),
                Panel(
                    "How long does an event wait until the broker has it?",
                    (Query(p95("jikimi_publish_delay_seconds", "service"), "P95 {{service}}"),),
                    "s",
                ),
                Panel(
                    "Which stage of the work takes the time?",
                    (Query(p95("jikimi_stage_seconds", "service, stage"), "{{service}} {{stage}}", exemplars=True),),
                    "s",
                ),
                Panel(
                    "Which calls are slow?",
                    (
                        Query(
                            f"topk(10, {p95('jikimi_rpc_server_seconds', 'service, method')})",
                            "{{service}} {{method}}",
                            exemplars=True,
                        ),
                    ),
                    "s",
                    width=16,
                ),
                Panel(
                    "Does due work begin late?",
                    (Query(p95("jikimi_due_late_seconds", "service, kind"), "{{service}} {{kind}}"),),
                    "s",
                ),
            ),
        ),
        (
            "3. The traces",
            (
                Panel(
                    "Which traces are about this case?",
                    (),
                    kind="table",
                    width=12,
                    traceql='{ span.case_id = "$case" }',
                ),
                Panel(
                    "Which hops took more than five seconds lately?",
                    (),
                    kind="table",
                    width=12,
                    traceql='{ resource.service.namespace = "misuse" && duration > 5s }',
                ),
            ),
        ),
    ),
    case_variable=True,
)


def of_service(service: str) -> Dashboard:
    """Rate, errors and duration of a service's calls; use, saturation and errors of its process."""
    own = f'{{service="{service}"}}'
    bad = f'{{service="{service}", code=~"INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|UNKNOWN"}}'
    rows = (
        (
            "Calls",
            (
                Panel(
                    "How many calls come?",
                    (Query(per_second("jikimi_rpc_server_seconds_count", "method", own), "{{method}}"),),
                    "ops",
                ),
                Panel(
                    "Which calls fail, by no fault of the caller?",
                    (Query(per_second("jikimi_rpc_server_seconds_count", "method, code", bad), "{{method}} {{code}}"),),
                    "ops",
                ),
                Panel(
                    "How long do they take?",
                    (Query(p95("jikimi_rpc_server_seconds", "method", own), "P95 {{method}}", exemplars=True),),
                    "s",
                ),
            ),
        ),
        (
            "Events and due work",
            (
                Panel(
                    "How long are events under way to it?",
                    (
                        Query(
                            p95("jikimi_event_delay_seconds", "publisher, event", own),
                            "{{publisher}} {{event}}",
                            exemplars=True,
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "How many events does it apply, how many does it reject?",
                    (
                        Query(per_second("jikimi_events_applied_total", "publisher", own), "{{publisher}}"),
                        Query(per_second("jikimi_events_rejected_total", "publisher", own), "{{publisher}} rejected"),
                    ),
                    "ops",
                ),
                Panel("How far behind is it?", (Query(lag(own), "{{publisher}}"),)),
                Panel(
                    "How much due work waits although its time has come?",
                    (Query(f"max by (kind) (jikimi_due_overdue{own})", "{{kind}}"),),
                ),
                Panel(
                    "Which due work fails?",
                    (Query(per_second("jikimi_due_failed_total", "kind, reason", own), "{{kind}} {{reason}}"),),
                    "ops",
                ),
                Panel(
                    "What waits in its outbox?",
                    (Query(f"max by (service) (jikimi_outbox_events{own})", "events"),),
                ),
            ),
        ),
        *OWN_ROWS.get(service, ()),
        (
            "Process",
            (
                Panel(
                    "How busy is the processor, by replica?",
                    (Query(f"rate(process_cpu_seconds_total{own}[$__rate_interval])", "{{instance}}"),),
                    "percentunit",
                ),
                Panel(
                    "How much memory does it hold?",
                    (Query(f"process_resident_memory_bytes{own}", "{{instance}}"),),
                    "bytes",
                ),
                Panel(
                    "How late does the event loop come to its work?",
                    (Query(p95("jikimi_loop_lag_seconds", "instance", own, 0.99), "P99 {{instance}}"),),
                    "s",
                    limit=1,
                ),
                Panel(
                    "How many database connections are in use?",
                    (Query(f"jikimi_pool_connections{own}", "{{instance}} {{state}}"),),
                ),
                Panel(
                    "How many files are open, of how many?",
                    (Query(f"process_open_fds{own} / process_max_fds{own}", "{{instance}}"),),
                    "percentunit",
                ),
                Panel(
                    "When did it start?",
                    (Query(f"time() - process_start_time_seconds{own}", "{{instance}}"),),
                    "s",
                ),
            ),
        ),
    )
    return Dashboard(f"jikimi-{service}", f"Jikimi: {service}", rows)


_ROW = tuple[str, tuple[Panel, ...]]
OWN_ROWS: dict[str, tuple[_ROW, ...]] = {
    "detector": (
        (
            "Signals and the gallery",
            (
                Panel(
                    "How many signals wait, how many are kept aside?",
                    (Query("max by (lane) (jikimi_spool_signals)", "{{lane}}"),),
                ),
                Panel(
                    "Which stage of the work takes the time?",
                    (Query(p95("jikimi_stage_seconds", "stage", '{service="detector"}'), "P95 {{stage}}"),),
                    "s",
                ),
                Panel("How full is the spool?", (Query("max(jikimi_spool_bytes)", "bytes"),), "bytes"),
                Panel(
                    "How far is each replica behind the newest gallery?",
                    (Query("jikimi_gallery_head_version - jikimi_gallery_version", "{{instance}}"),),
                ),
                Panel("How many templates are matched?", (Query("jikimi_gallery_templates", "{{instance}}"),)),
                Panel(
                    "How does the embedding server answer?",
                    (Query(per_second("jikimi_embedder_requests_total", "model, outcome"), "{{model}} {{outcome}}"),),
                    "ops",
                ),
            ),
        ),
    ),
    "case": (
        (
            "Cases and people",
            (
                CASE_LATENCY,
                Panel(
                    "Which cases are longer in a state than the rules allow?",
                    (Query("max by (priority) (jikimi_cases_overdue)", "{{priority}}"),),
                ),
                Panel(
                    "What waits for reviewers?", (Query("max by (state) (jikimi_review_items)", "{{state}}"),)
                ),
            ),
        ),
    ),
    "notify": (
        (
            "Notices",
            (
                Panel("What is under way?", (Query("max by (state) (jikimi_notices_open)", "{{state}}"),)),
                Panel(
                    "How long is the oldest under way?",
                    (Query("max by (state) (jikimi_notices_oldest_seconds)", "{{state}}"),),
                    "s",
                ),
                Panel(
                    "How long until a notice is acknowledged?",
                    (Query(p95("jikimi_notice_ack_seconds"), "P95"),),
                    "s",
                ),
            ),
        ),
    ),
}


def all_dashboards() -> list[Dashboard]:
    """Every dashboard."""
    return [OVERVIEW, *(of_service(service) for service in SERVICES), GATES, REMOVAL, TRACING]


# --- Grafana's JSON ---


def to_json(dashboard: Dashboard) -> Json:
    """As Grafana reads it (schema 39)."""
    panels: list[Json] = []
    y = 0
    for heading, row in dashboard.rows:
        panels.append(
            {
                "type": "row",
                "title": heading,
                "collapsed": False,
                "panels": [],
                "id": len(panels) + 1,
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            }
        )
        x, y = 0, y + 1
        for panel in row:
            if x + panel.width > 24:
                x, y = 0, y + HEIGHT
            panels.append(_panel(panel, len(panels) + 1, x, y))
            x += panel.width
        y += HEIGHT
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["jikimi"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "links": [
            {"type": "dashboards", "tags": ["jikimi"], "asDropdown": True, "title": "Jikimi", "keepTime": True}
        ],
        "templating": {"list": _variables(dashboard)},
        "panels": panels,
    }


def _variables(dashboard: Dashboard) -> list[Json]:
    variables: list[Json] = [
        {"name": "metrics", "label": "Metrics", "type": "datasource", "query": "prometheus"},
        {"name": "traces", "label": "Traces", "type": "datasource", "query": "tempo"},
    ]
    if dashboard.case_variable:
        variables.append({"name": "case", "label": "Case", "type": "textbox", "query": ""})
    return variables


def _panel(panel: Panel, number: int, x: int, y: int) -> Json:
    shown: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
        "datasource": TRACES if panel.traceql else METRICS,
        "targets": _targets(panel),
    }
    if not panel.traceql:
        shown["fieldConfig"] = {"defaults": _defaults(panel), "overrides": []}
        shown["options"] = {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}}
    if panel.kind == "stat":
        shown["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    return shown


def _defaults(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "min": 0, "custom": {"showPoints": "never", "spanNulls": True}}
    if panel.limit is not None:
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [{"color": "green", "value": None}, {"color": "red", "value": panel.limit}],
        }
        defaults["custom"] = {"showPoints": "never", "spanNulls": True, "thresholdsStyle": {"mode": "line"}}
    return defaults


def _targets(panel: Panel) -> Sequence[Json]:
    if panel.traceql:
        asked = {"queryType": "traceql", "query": panel.traceql, "filters": [], "limit": 20}
        return [{"refId": "A", **asked, "datasource": TRACES}]
    return [
        {
            "refId": chr(ord("A") + number),
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "exemplar": query.exemplars,
            "datasource": METRICS,
        }
        for number, query in enumerate(panel.queries)
    ]
