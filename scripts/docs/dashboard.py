"""Writes deploy/grafana/fleek.json, the dashboard, from the panels below: `python scripts/docs/dashboard.py`.

Each number is counted once, however many APIs are scraped: hence `max by (...)` inside each sum.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
TARGET: Final = ROOT / "deploy" / "grafana" / "fleek.json"
COLUMNS: Final = 24
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph, or one big number."""

    title: str
    description: str
    queries: Sequence[tuple[str, str]]
    """PromQL, and the legend."""
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    bad_from: float | None = None
    """A big number is red from here on; below 0: red at 0."""


def _rate(metric: str, labels: str, chosen: str = "") -> str:
    return f"max by ({labels}) (rate({metric}{chosen}[$__rate_interval]))"


def _quantile(quantile: float, histogram: tuple[str, str], by: str, chosen: str = "") -> str:
    """Of a metric with all its labels, in groups of `by`."""
    metric, labels = histogram
    inner = _rate(f"{metric}_bucket", f"le, {labels}", chosen)
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, sum by ({groups}) ({inner}))"


HTTP: Final = ("fleek_http_request_duration_seconds", "method, route, status, wait")
CALLS: Final = ("fleek_provider_call_duration_seconds", "provider, operation, outcome")
STORE: Final = ("fleek_store_call_duration_seconds", "operation, outcome")
MEDIA: Final = ("fleek_media_duration_seconds", "provider, model")
RECEIVERS: Final = ("fleek_webhook_attempt_duration_seconds", "outcome")
LAG: Final = ("fleek_event_loop_lag_seconds", "process")
POOL: Final = ("fleek_database_pool_use_ratio", "process")
TRIES: Final = ("fleek_attempts_total", "provider, outcome, code")
AT_ONCE: Final = '{wait="no"}'
FAILING: Final = '{outcome=~"FAILED|UNKNOWN"}'


def _counted(histogram: tuple[str, str]) -> str:
    metric, labels = histogram
    return _rate(f"{metric}_count", labels)


def _number(title: str, description: str, query: str, *, unit: str = "short", bad_from: float | None = None) -> Panel:
    return Panel(title, description, [(query, "")], unit, "stat", 3, bad_from)


def _latency(quantile: float) -> tuple[str, str]:
    return _quantile(quantile, HTTP, "", AT_ONCE), f"p{quantile * 100:g}"


NOW: Final = [
    _number("Database", "1: it responds.", "max(fleek_database_up)", bad_from=-1),
    _number("Workers", "Workers that are reporting.", "max(fleek_workers)", bad_from=-1),
    _number("Waiting", "Jobs in the queue.", "sum(max by (model) (fleek_queue_depth)) or vector(0)"),
    _number("Oldest", "Wait of the oldest due job.", "max(fleek_queue_oldest_seconds) or vector(0)", unit="s",
            bad_from=300),
    _number("Running", "Jobs held by workers.", "sum(max by (model) (fleek_running)) or vector(0)"),
    _number("Unknown", "Attempts that may have been charged, and wait for a decision.", "max(fleek_attempts_unknown)",
            bad_from=1),
    _number("Providers unavailable", "Nothing is submitted to them; an operator's pause does not count.",
            'count(max by (provider) (fleek_provider_unavailable{code!="paused"})) or vector(0)', bad_from=1),
    _number("Cost, 24 h", "As reported by providers for the last day.",
            "sum(max by (provider, model) (increase(fleek_cost_dollars_total[24h]))) or vector(0)", unit="currencyUSD"),
]  # fmt: skip
JOBS: Final = [
    Panel("Queue", "Waiting jobs, by model.", [("max by (model) (fleek_queue_depth)", "{{model}}")]),
    Panel("Oldest due job", "How long it has waited, by model.",
          [("max by (model) (fleek_queue_oldest_seconds)", "{{model}}")], "s"),
    Panel("In flight", "Jobs held by workers, by model.", [("max by (model) (fleek_running)", "{{model}}")]),
    Panel("Attempts", "Finished attempts, by outcome.",
          [(f"sum by (outcome, code) ({_rate(*TRIES)})", "{{outcome}} {{code}}")], "ops"),
    Panel("From request to result", "Completed media items, by model.",
          [(_quantile(q, MEDIA, "model"), f"p{q * 100:g} {{{{model}}}}") for q in (0.5, 0.95)],
          "s"),
    Panel("Cost per hour", "As reported by providers, by model.",
          [(f"sum by (model) ({_rate('fleek_cost_dollars_total', 'provider, model')}) * 3600", "{{model}}")],
          "currencyUSD"),
]  # fmt: skip
API: Final = [
    Panel("Requests", "By class of the response status.",
          [(f"sum by (status) ({_counted(HTTP)})", "{{status}}")], "reqps"),
    Panel("Response time", "Without waiting requests.", [_latency(0.5), _latency(0.95), _latency(0.99)], "s"),
    Panel("Slowest routes", "p95 by route, without waiting requests.",
          [(f"topk(8, {_quantile(0.95, HTTP, 'method, route', AT_ONCE)})", "{{method}} {{route}}")], "s"),
]  # fmt: skip
PROVIDERS: Final = [
    Panel("Provider calls", "By outcome.",
          [(f"sum by (provider, outcome) ({_counted(CALLS)})", "{{provider}} {{outcome}}")],
          "ops"),
    Panel("Provider call duration", "p95 by provider and operation.",
          [(_quantile(0.95, CALLS, "provider, operation"), "{{provider}} {{operation}}")], "s"),
    Panel("Failing attempts", "Share of attempts that fail, by provider.",
          [(f"sum by (provider) ({_rate(*TRIES, FAILING)}) / sum by (provider) ({_rate(*TRIES)})", "{{provider}}")],
          "percentunit"),
    Panel("Unavailable and paused", "Providers and models to which nothing is submitted, and why.",
          [("max by (provider, code) (fleek_provider_unavailable)", "{{provider}} {{code}}"),
           ("max by (model, code) (fleek_model_paused)", "{{model}} {{code}}")]),
    Panel("Store", "p95 of call duration, by operation.",
          [(_quantile(0.95, STORE, "operation"), "{{operation}}")], "s"),
    Panel("Bytes stored", "By provider.",
          [(f"sum by (provider) ({_rate('fleek_stored_bytes_total', 'provider')})", "{{provider}}")], "Bps"),
]  # fmt: skip
TROUBLE: Final = [
    Panel("Repaired", "What sweeps found and repaired, in five minutes.",
          [("max by (what) (increase(fleek_sweep_found_total[5m]))", "{{what}}"),
           ("max(increase(fleek_leases_expired_total[5m]))", "leases_expired")]),
    Panel("Held and followed up", "Purchases whose media item is final.",
          [("max(fleek_attempts_unknown)", "unknown"), ("max(fleek_attempts_late)", "late")]),
    Panel("Lost signals", "Wake-ups, change notifications and log events, in five minutes: no job depends on them.",
          [("max(increase(fleek_broker_publish_failures_total[5m]))", "wake-up signals"),
           ("max(increase(fleek_change_publish_failures_total[5m]))", "change notifications"),
           ("max(increase(fleek_change_channel_down_seconds_total[5m]))", "seconds without change notifications"),
           ("max(increase(fleek_log_events_dropped_total[5m]))", "log events")]),
    Panel("Event loops", "p99 of lag, by process.",
          [(_quantile(0.99, LAG, "process"), "{{process}}")], "s"),
    Panel("Database connections", "p95 of the share in use, by process.",
          [(_quantile(0.95, POOL, "process"), "{{process}}")], "percentunit"),
    Panel("Waits for a connection", "Statements that found none free.",
          [(_rate("fleek_database_pool_waits_total", "process"), "{{process}}")], "ops"),
]  # fmt: skip
WEBHOOKS: Final = [
    Panel("Pending deliveries", "By the status of their endpoint.",
          [("max by (endpoint) (fleek_webhook_deliveries_pending)", "{{endpoint}}")]),
    Panel("Oldest due delivery", "How long it has been due without being sent.",
          [("max(fleek_webhook_oldest_due_seconds)", "oldest")], "s"),
    Panel("Endpoints", "By status.", [("max by (status) (fleek_webhook_endpoints)", "{{status}}")]),
    Panel("Requests to receivers", "By outcome.",
          [(f"sum by (outcome) ({_counted(RECEIVERS)})", "{{outcome}}")], "reqps"),
    Panel("Receiver response time", "p95.", [(_quantile(0.95, RECEIVERS, ""), "p95")], "s"),
]  # fmt: skip
ROWS: Final = (
    ("Now", NOW),
    ("Jobs", JOBS),
    ("API", API),
    ("Providers and store", PROVIDERS),
    ("Problems", TROUBLE),
    ("Webhooks", WEBHOOKS),
)


def _thresholds(bad_from: float | None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if bad_from is not None:
        below = bad_from < 0
        steps = [{"color": "red" if below else "green", "value": None}]
        steps.append({"color": "green" if below else "red", "value": 1 if below else bad_from})
    return {"mode": "absolute", "steps": steps}


def _panel(number: int, panel: Panel, place: tuple[int, int]) -> dict[str, Any]:
    field: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel.bad_from)}
    options: dict[str, Any]
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "area"}
    else:
        field["custom"] = {"drawStyle": "line", "fillOpacity": 10, "lineWidth": 1, "showPoints": "never"}
        field["min"] = 0
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": place[0], "y": place[1], "w": panel.width, "h": 4 if panel.kind == "stat" else 8},
        "fieldConfig": {"defaults": field, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for title, panels in ROWS:
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}}  # fmt: skip
        number, top, left = number + 1, top + 1, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                left, top = 0, top + 8
            yield _panel(number, panel, (left, top))
            number, left = number + 1, left + panel.width
        top += 4 if panels[-1].kind == "stat" else 8


def dashboard() -> str:
    """The file's text."""
    chosen = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}
    document = {
        "uid": "fleek",
        "title": "Fleek",
        "description": "Jobs, API, providers, and everything that can go wrong. docs/how-to/operate.md explains it.",
        "tags": ["fleek"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [chosen]},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }
    return json.dumps(document, indent=2) + "\n"


def main() -> int:
    """Write it."""
    TARGET.write_text(dashboard())
    print(TARGET.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
