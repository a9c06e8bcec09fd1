"""Alert rules, dashboard and runbook name what exists, and explain what they name."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from app.core.telemetry.metrics import METRICS
from app.tools.families import LEASES_EXPIRED, SWEEP_FOUND
from app.tools.metrics import GAUGES
from tests.system_servers import find

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
RUNBOOK = ROOT / "docs" / "how-to" / "operate.md"
METRIC = re.compile(r"\bfleek_\w+")
OF_PROMQL = {
    *("sum", "max", "count", "by", "rate", "increase", "histogram_quantile", "topk", "vector", "absent", "offset"),
    *("and", "or", "unless", "up", "job", "le"),
}
DURATION = re.compile(r"\d+[smhd]")

spec = importlib.util.spec_from_file_location("dashboard", ROOT / "scripts" / "docs" / "dashboard.py")
drawn = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drawn)


def known_names():
    counters = {LEASES_EXPIRED[0], SWEEP_FOUND[0], *(metric.name for metric in METRICS if not metric.bounds)}
    histograms = {metric.name for metric in METRICS if metric.bounds}
    return {
        *(gauge.name for gauge in GAUGES),
        *(f"{name}_total" for name in counters),
        *(f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")),
    }


LABELS = {"what", *(label for known in (*GAUGES, *METRICS) for label in known.labels)}


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    return [panel for panel in json.loads(drawn.TARGET.read_text())["panels"] if panel["type"] != "row"]


def queries():
    yield from ((rule["alert"], rule["expr"]) for rule in rules())
    yield from ((panel["title"], target["expr"]) for panel in panels() for target in panel["targets"])


def test_the_dashboard_is_what_the_script_writes():
    assert drawn.TARGET.read_text() == drawn.dashboard(), "run: uv run python scripts/docs/dashboard.py"


def test_panels_do_not_overlap():
    taken = set()
    for panel in json.loads(drawn.TARGET.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= drawn.COLUMNS
        taken |= cells


@pytest.mark.parametrize(("name", "query"), list(queries()))
def test_a_query_names_what_exists(name, query):
    words = re.sub(r'"[^"]*"|\[[^\]]*\]|\b\d+[smhd]\b', " ", query)
    unknown = set(re.findall(r"\b[a-z_]\w*", words)) - known_names() - LABELS - OF_PROMQL

    assert METRIC.findall(query) or "up{" in query
    assert not unknown
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)


def test_the_dashboard_shows_every_metric():
    shown = {
        re.sub(r"_(bucket|count|sum|total)$", "", name) for _, query in queries() for name in METRIC.findall(query)
    }

    assert {metric.name for metric in METRICS} | {gauge.name for gauge in GAUGES} <= shown


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_is_whole(rule):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    assert rule["annotations"]["summary"].endswith(".")
    assert "for" not in rule or DURATION.fullmatch(rule["for"])


def test_the_runbook_has_a_section_for_each_alert_in_their_order():
    sections = re.findall(r"^## (Fleek\w+)$", RUNBOOK.read_text(), re.MULTILINE)

    assert sections == [rule["alert"] for rule in rules()]
    for section in re.split(r"^## Fleek", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]:
        for part in ("**Means.**", "**Users notice.**", "**Look", "**"):
            assert part in section, section.splitlines()[0]


async def test_the_runbooks_statements_run(db):
    statements = re.findall(r"`(SELECT [^`]+)`", RUNBOOK.read_text())

    assert len(statements) >= 8
    for statement in statements:
        await db.fetch(statement)


def test_the_runbook_names_log_events_that_are_logged():
    code = "".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    named = (
        "runner_started database_unavailable request_failed worker_declared_dead job_broken job_unreadable copy_delayed"
    )

    for event in named.split():
        assert f"`{event}`" in RUNBOOK.read_text()
        assert f'"{event}"' in code


def test_each_alert_is_fired_by_the_rules_own_tests():
    tests = yaml.safe_load((RULES.parent / "alerts_test.yml").read_text())["tests"]
    samples = [sample for test in tests for look in test.get("promql_expr_test", []) for sample in look["exp_samples"]]

    assert {f'{{alertname="{rule["alert"]}"}}' for rule in rules()} == {sample["labels"] for sample in samples}


@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")], ids=" ".join
)
def test_promtool_finds_nothing(arguments):
    run = subprocess.run(
        [find("promtool", "prometheus"), *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stdout + run.stderr
