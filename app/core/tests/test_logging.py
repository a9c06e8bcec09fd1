"""What never appears in the log, and that logging never stops the work."""

import json
import os
import subprocess
import sys
import time

import pytest

from app.core.telemetry import log_stream
from tests.support import ROOT

SECRET = "r8_Zq4Xw9LmT7vB2nK5pR8sD1fG6hJ3k"
SET_UP = f"""
import asyncio, logging, structlog
from app.core.redaction import learn
from app.core.telemetry.logging import Sinks, set_up_logging
learn(["{SECRET}"])
SECRET = "{SECRET}"
set_up_logging(level="INFO")
log = structlog.get_logger("x")
"""
NOISE = """
class Odd:
    def __repr__(self):
        raise RuntimeError("no words")

async def main():
    deep = []
    deep.append(deep)
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("caught", value=Odd(), number=2**100, nested={("a", 1): Odd()}, deep=deep, half="\\ud800")
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(lambda task: log.error("in_callback", value=Odd()))
    await task
    await asyncio.sleep(0)
    logging.getLogger("y").error("%d", "not a number")
    logging.getLogger("y").error("text", exc_info=RuntimeError("z"))

def broken(event):
    raise RuntimeError("broken sink")

Sinks.errors = Sinks.media_events = broken
log.error("to_sinks", media_id="m")
asyncio.run(main())
print("done", flush=True)
"""


def run(program, **options):
    command = [sys.executable, "-c", SET_UP + program]
    return subprocess.run(command, cwd=ROOT, text=True, check=True, stdout=subprocess.PIPE, timeout=60, **options)


def test_secrets_are_never_logged():
    done = run(
        """
log.info("called", api_token="abc", authorization="Bearer abc", url="u")
log.info("answered", text=f"bad key {SECRET[4:20]}", nested={"deep": [SECRET]})
logging.getLogger("uvicorn.error").error("said %s", SECRET)
try:
    raise ValueError(f"Authorization: Bearer {SECRET}")
except ValueError:
    log.exception("failed")
    logging.getLogger("z").exception("failed")
""",
        stderr=subprocess.PIPE,
    )

    line, *_ = (json.loads(one) for one in done.stderr.splitlines())
    assert (line["api_token"], line["authorization"], line["url"]) == ("***", "***", "u")
    assert len(done.stderr.splitlines()) == 5
    assert not any(SECRET[at : at + 8] in done.stderr for at in range(len(SECRET) - 8))


def test_whatever_is_logged_every_event_has_its_line():
    done = run(NOISE, stderr=subprocess.PIPE)

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"to_sinks", "caught", "in_callback", "text"} <= {line["event"] for line in lines}
    assert done.stdout == "done\n"


@pytest.mark.parametrize("kind", ["closed", "full", "gone"])
def test_logging_never_raises_where_nothing_can_be_written(kind):
    reading, writing = os.pipe()
    os.close(reading)
    target = {"closed": writing, "full": os.open("/dev/full", os.O_WRONLY), "gone": writing}
    before = "import os; os.close(2)\n" if kind == "gone" else ""
    try:
        done = run(before + NOISE, stderr=target[kind])
    finally:
        os.close(writing)
        os.close(target["full"])

    assert done.stdout == "done\n"


def test_a_reader_that_stops_reading_holds_nothing_up():
    reading, writing = os.pipe()
    started = time.monotonic()
    try:
        done = run(
            """
import time
from app.core.telemetry.metrics import LOG_LINES_LOST
started = time.monotonic()
for number in range(2000):
    log.info("event", text="x" * 200)
print(time.monotonic() - started, LOG_LINES_LOST.take()["[\\"fleek_log_lines_lost\\",\\"\\"]"], flush=True)
""",
            stderr=writing,
        )
    finally:
        os.close(reading)
        os.close(writing)

    seconds, lost = map(float, done.stdout.split())
    assert seconds < log_stream.LONGEST_WAIT + log_stream.REST_SECONDS
    assert lost > 1000
    assert time.monotonic() - started < 60
