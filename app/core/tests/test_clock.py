"""The time of day is the database's where this machine's is off, and nobody reads another clock."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from app.core import clock
from tests.support import ROOT

READS_A_CLOCK = re.compile(r"datetime\.(now|utcnow|today)\(|date\.today\(|time\.time(_ns)?\(")
EXCEPT = ("app/core/clock.py", "app/core/ids.py", "app/cli/", "app/media_generator/contract/")
"""Ids only have to be unique and about in order; the others run beside a person or a test."""


@pytest.fixture(autouse=True)
def _compared_with_nothing(monkeypatch):
    monkeypatch.setattr(clock._State, "ahead", 0.0)
    monkeypatch.setattr(clock._State, "epoch", None)


def difference_from(moment):
    return abs((clock.now() - moment).total_seconds())


@pytest.mark.parametrize("off", [-86_400.0, -400.0, -3.0, 3.0, 400.0, 86_400.0])
def test_a_clock_that_is_off_is_replaced_by_the_databases(monkeypatch, off):
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + off)

    found = clock.compare(datetime.fromtimestamp(right(), UTC), took=0.0)

    assert abs(found - off) < 0.5
    assert abs(clock.ahead() - off) < 0.5
    assert difference_from(datetime.fromtimestamp(right(), UTC)) < 0.5
    # Corrected between two comparisons, as NTP does.
    monkeypatch.setattr(time, "time", right)
    assert difference_from(datetime.fromtimestamp(right(), UTC)) < 0.5
    clock.compare(datetime.fromtimestamp(right(), UTC), took=0.0)
    assert clock.ahead() == 0


def test_a_small_difference_and_a_slow_answer_change_nothing():
    moment = datetime.now(UTC)

    clock.compare(moment + timedelta(seconds=1), took=0.0)
    assert difference_from(moment) < 0.5
    clock.compare(moment + timedelta(seconds=100), took=30.0)
    assert difference_from(moment) < 0.5
    assert clock.ahead() == 0


def test_nobody_reads_the_time_of_day_from_anywhere_else():
    modules = [path for path in (ROOT / "app").rglob("*.py") if "tests" not in path.parts]
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in modules
        if not str(path.relative_to(ROOT)).startswith(EXCEPT)
        for line in path.read_text().splitlines()
        if READS_A_CLOCK.search(line)
    ]

    assert not found, "clock.now() and clock.timestamp() agree with the other processes"
