"""The long run: `uv run python -m tests.crash --jobs 1000 --kills 1000 [--seed N] [--workers 4] [--report FILE]`.

Real engines, simulated providers, the API and a fleet of workers. Jobs come in while workers are killed as fast as
fresh ones become ready, and now and then the API, the broker (it comes back empty), PostgreSQL and S3. Then healthy
workers finish, and everything is audited; see `violations.py` for what the words of the table mean, and `troubles.py`
for what providers and machines do meanwhile: `--only` and `--without` choose among that, `--mutation` puts a fault
back into the product (`mutations.py`).

The exit status is 0 only if the promise was kept for every job, and providers, database and bucket agree.
"""

# ruff: noqa: T201 - what it found is what it prints

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from app.core.database.migrations import ROOT
from app.embedded.engines import Engines
from tests.crash.audit import NOT_FINAL, Verdict, story
from tests.crash.campaign import Campaign, Plan
from tests.crash.fleet import Fleet
from tests.crash.mutations import MUTATIONS
from tests.crash.troubles import ALL, BEYOND, SUBMITS, chosen

STORIES = 5
"""Culprits whose whole history is printed."""


def main() -> int:
    given = _arguments()
    # So that everything is ended on the way out, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    folder = Path(tempfile.mkdtemp(prefix="fleek-crash-"))
    try:
        with Engines(folder / "engines") as engines:
            return asyncio.run(_run(given, engines, folder))
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    finally:
        if given.keep:
            print(f"logs and data are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    names = (*ALL, *BEYOND)
    parser.add_argument("--jobs", type=int, default=1000, help="media to ask for")
    parser.add_argument("--kills", type=int, default=1000, help="workers to kill")
    parser.add_argument("--workers", type=int, default=4, help="workers at a time")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000), help="of every choice")
    parser.add_argument("--only", action="append", default=[], choices=names, help="a trouble; all others are left out")
    parser.add_argument("--without", action="append", default=[], choices=names, help="a trouble that is left out")
    parser.add_argument("--often", action="append", default=[], choices=SUBMITS, help="a treatment that is frequent")
    parser.add_argument("--mutation", choices=MUTATIONS, help="a fault that is put back into the product")
    parser.add_argument("--report", type=Path, help="where everything that was found is written, as JSON")
    parser.add_argument("--keep", action="store_true", help="leave logs and data behind")
    return parser.parse_args()


def _plan(given: argparse.Namespace) -> Plan:
    troubles = chosen(given.only, given.without)
    how = {"troubles": troubles, "often": frozenset(given.often)}
    return Plan(jobs=given.jobs, deaths=given.kills, workers=given.workers, seed=given.seed, **how)


async def _run(given: argparse.Namespace, engines: Engines, folder: Path) -> int:
    plan = _plan(given)
    environment = {**engines.environment(), "BUCKET_NAME": "fleek-crash", **plan.environment}
    if given.mutation is not None:
        environment["CRASH_MUTATION"] = given.mutation
    _prepare(environment)
    if given.mutation is not None:
        await _take_out(environment["DATABASE_URL"], MUTATIONS[given.mutation].sql)
    print(f"seed {plan.seed}: {plan.jobs} jobs, {plan.deaths} kills, {plan.workers} workers at a time", flush=True)
    async with Fleet(environment, folder, simulator=plan.simulator) as fleet:
        campaign = Campaign(fleet, plan, engines)
        telling = asyncio.create_task(_tell(campaign))
        await campaign.run()
        ended = time.monotonic()
        verdict = await campaign.finish(workers=plan.workers)
        telling.cancel()
        books = await fleet.books()
        _print_table(campaign, verdict, books, ended)
        if given.report is not None:
            await asyncio.to_thread(_write_report, given.report, campaign, verdict, books)
        await _print_stories(fleet, verdict)
        return 0 if verdict.holds and not campaign.oddities else 1


def _prepare(environment: dict[str, str]) -> None:
    """Migrate the database and make the bucket, as `fleek up` does."""
    for module in (("alembic", "upgrade", "head"), ("app.cli.prepare.bucket",)):
        subprocess.run(
            [sys.executable, "-m", *module], cwd=ROOT, env={"PATH": os.environ["PATH"], **environment}, check=True
        )


async def _take_out(dsn: str, statements: Sequence[str]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


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


def _print_table(campaign: Campaign, verdict: Verdict, books: dict[str, Any], ended: float) -> None:
    now = time.monotonic()
    took = [one.total_seconds() for one in verdict.recoveries]
    rows: dict[str, object] = {
        "accepted": verdict.accepted,
        "final": sum(verdict.ends.values()) - verdict.counts["stuck"],
        **{f"  {end}": count for end, count in sorted(verdict.ends.items())},
        "bought": verdict.bought,
        **{f"  {mode}": count for mode, count in sorted(verdict.by_mode.items())},
        "troubles drawn by providers": sum(books["troubles"].values()),
        **{f"  {name}": count for name, count in sorted(books["troubles"].items())},
        "their clock is ahead by": f"{books['clock_offset']:.1f} s",
        "unknown, as nobody can say": sum(verdict.unknown.values()),
        **{f"  {why}": count for why, count in sorted(verdict.unknown.items())},
        **verdict.counts,
        "oddities of the harness": len(campaign.oddities),
        "media that a worker died with": len(took),
        "  recovery, median": f"{took[len(took) // 2]:.1f} s" if took else "-",
        "  recovery, slowest": f"{took[-1]:.1f} s ({verdict.slowest})" if took else "-",
        "killed": sum(campaign.kills.values()),
        **{f"  {kind}": count for kind, count in sorted(campaign.kills.items())},
        "stopped in time, when told to": campaign.stopped,
        "duration": f"{now - campaign.begun:.0f} s, of which {now - ended:.0f} s to finish",
    }
    for name, value in rows.items():
        print(f"{name:<60}{value}")
    for oddity in campaign.oddities[:STORIES]:
        print(oddity)


def _write_report(path: Path, campaign: Campaign, verdict: Verdict, books: dict[str, Any]) -> None:
    plan = campaign.plan
    report = {
        "plan": {"jobs": plan.jobs, "kills": plan.deaths, "workers": plan.workers, "seed": plan.seed},
        "troubles": sorted(plan.troubles),
        "killed": campaign.kills,
        "oddities": campaign.oddities,
        **verdict.as_json(),
        "books": books,
    }
    path.write_text(json.dumps(report, indent=1))


async def _print_stories(fleet: Fleet, verdict: Verdict) -> None:
    """Tell all about the first culprits, or about the media that took longest."""
    for culprit in verdict.culprits:
        print(culprit)
    named = dict.fromkeys(one.media or one.prompt for one in verdict.violations)
    for name in list(named)[:STORIES] or filter(None, [verdict.slowest]):
        print(await story(fleet, name))


if __name__ == "__main__":
    sys.exit(main())
