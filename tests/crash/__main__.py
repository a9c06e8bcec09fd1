"""The long run: `uv run python -m tests.crash --jobs 1000 --kills 1000 [--seed N] [--workers 4]`.

Real engines, a provider simulator, the API and a fleet of workers. Jobs come in while workers are killed as fast as
fresh ones become ready, and now and then the API, the broker (it comes back empty), PostgreSQL and S3. Then healthy
workers finish, and everything is audited; see `audit.py` for what the words of the table mean.

The exit status is 0 only if nothing was lost, stuck or bought twice, and provider, database and bucket agree.
"""

# ruff: noqa: T201 - what it found is what it prints

import argparse
import asyncio
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from app.core.database.migrations import ROOT
from app.embedded.engines import Engines
from tests.crash.audit import NOT_FINAL, Verdict, story
from tests.crash.campaign import Campaign, Plan
from tests.crash.fleet import Fleet

SECONDS_PER_DEATH = 3.0
"""A campaign that needs more is cut short."""
LEAST_SECONDS = 300.0
FINISH_SECONDS = 300.0
STORIES = 5
"""Culprits whose whole history is printed."""


def main() -> int:
    plan, keep = _arguments()
    # So that everything is ended on the way out, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    folder = Path(tempfile.mkdtemp(prefix="fleek-crash-"))
    try:
        with Engines(folder / "engines") as engines:
            return asyncio.run(_run(plan, engines, folder))
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    finally:
        if keep:
            print(f"logs and data are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _arguments() -> tuple[Plan, bool]:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="media to ask for")
    parser.add_argument("--kills", type=int, default=1000, help="workers to kill")
    parser.add_argument("--workers", type=int, default=4, help="workers at a time")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000), help="of every choice")
    parser.add_argument("--keep", action="store_true", help="leave logs and data behind")
    given = parser.parse_args()
    return Plan(jobs=given.jobs, deaths=given.kills, workers=given.workers, seed=given.seed), given.keep


async def _run(plan: Plan, engines: Engines, folder: Path) -> int:
    environment = {**engines.environment(), "BUCKET_NAME": "fleek-crash"}
    _prepare(environment)
    print(f"seed {plan.seed}: {plan.jobs} jobs, {plan.deaths} kills, {plan.workers} workers at a time", flush=True)
    async with Fleet(environment, folder) as fleet:
        campaign = Campaign(fleet, plan, engines)
        telling = asyncio.create_task(_tell(campaign))
        complete = True
        try:
            async with asyncio.timeout(max(LEAST_SECONDS, plan.deaths * SECONDS_PER_DEATH)):
                await campaign.run()
        except TimeoutError:
            complete = False
            print("cut short: it takes too long")
        ended = time.monotonic()
        verdict = await campaign.finish(workers=plan.workers, seconds=FINISH_SECONDS)
        telling.cancel()
        _print_table(campaign, verdict, ended)
        await _print_stories(fleet, verdict)
        return 0 if verdict.holds and complete and not campaign.oddities else 1


def _prepare(environment: dict[str, str]) -> None:
    """Migrate the database and make the bucket, as `fleek up` does."""
    for module in (("alembic", "upgrade", "head"), ("app.cli.prepare.bucket",)):
        subprocess.run(
            [sys.executable, "-m", *module], cwd=ROOT, env={"PATH": os.environ["PATH"], **environment}, check=True
        )


async def _tell(campaign: Campaign) -> None:
    """Say every ten seconds how far it is."""
    while True:
        await asyncio.sleep(10)
        try:
            left = str(len(await campaign.fleet.fetch(NOT_FINAL)))
        except Exception as error:  # noqa: BLE001 - it may be away just now, in any way
            left = f"not known ({type(error).__name__})"
        print(
            f"{time.monotonic() - campaign.begun:5.0f} s: {campaign.deaths} workers killed, "
            f"{len(campaign.accepted)} jobs accepted, not final: {left}",
            flush=True,
        )


def _print_table(campaign: Campaign, verdict: Verdict, ended: float) -> None:
    now = time.monotonic()
    took = [one.total_seconds() for one in verdict.recoveries]
    rows: dict[str, object] = {
        "accepted": verdict.accepted,
        "final": sum(verdict.ends.values()) - len(verdict.stuck),
        **{f"  {end}": count for end, count in sorted(verdict.ends.items())},
        "bought": verdict.bought,
        "lost": len(verdict.lost),
        "stuck": len(verdict.stuck),
        "bought twice": len(verdict.bought_twice),
        "other faults": len(verdict.faults) + len(campaign.oddities),
        "media that a worker died with": len(took),
        "  recovery, median": f"{took[len(took) // 2]:.1f} s" if took else "-",
        "  recovery, slowest": f"{took[-1]:.1f} s ({verdict.slowest})" if took else "-",
        "killed": sum(campaign.kills.values()),
        **{f"  {kind}": count for kind, count in sorted(campaign.kills.items())},
        "stopped in time, when told to": campaign.stopped,
        "duration": f"{now - campaign.begun:.0f} s, of which {now - ended:.0f} s to finish",
    }
    for name, value in rows.items():
        print(f"{name:<40}{value}")
    for oddity in campaign.oddities[:STORIES]:
        print(oddity)


async def _print_stories(fleet: Fleet, verdict: Verdict) -> None:
    """Tell all about the first culprits, or about the media that took longest."""
    for culprit in verdict.culprits:
        print(culprit)
    named = dict.fromkeys(re.split(r"[: ]+", culprit.partition(": ")[2])[0] for culprit in verdict.culprits)
    for name in list(named)[:STORIES] or filter(None, [verdict.slowest]):
        print(await story(fleet, name))


if __name__ == "__main__":
    sys.exit(main())
