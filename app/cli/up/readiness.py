"""Waits until API and workers are ready, as seen by a client."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Sequence
from typing import Final

import asyncpg

from app.cli.console import quoted, say, verdict
from app.cli.errors import CommandError
from app.cli.up.processes import Child
from app.core.database.pool import UNAVAILABLE, DatabasePool

READY_SECONDS: Final = 60.0
QUIET_SECONDS: Final = 10.0
"""How often the reason for waiting is printed."""
PAUSE_SECONDS: Final = 0.05
ANSWER_SECONDS: Final = 10.0
"""Timeout for one request; the slowest check takes up to five seconds."""

_REGISTERED: Final = "SELECT count(DISTINCT name) FROM workers WHERE name = ANY($1)"


class Readiness:
    """The API's own checks, and a check that every worker is there, since a round trip reaches only one of them."""

    def __init__(self, address: tuple[str, int], dsn: str, api: Child, workers: Sequence[Child]) -> None:
        self._address = address
        self._dsn = dsn
        self._api = api
        self._workers = workers
        self._waiting_for = "nothing was checked yet"
        self.notes: list[str] = []
        """Failed checks of the API that do not prevent it from serving."""

    def wait(self) -> None:
        """Return when everything is ready.

        Raises:
            CommandError: One of the processes ended, or the timeout is reached.
        """
        deadline = time.monotonic() + READY_SECONDS
        next_notice = time.monotonic() + QUIET_SECONDS
        for check in (self._ready, self._registered, self._round_trip):
            while not check():
                self._require_alive()
                if time.monotonic() > deadline:
                    logs = quoted(self._api.log.parent)
                    raise CommandError(f"not ready after {READY_SECONDS:.0f} s: {self._waiting_for} (logs: {logs})")
                if time.monotonic() > next_notice:
                    say(f"  still waiting: {self._waiting_for}")
                    next_notice += QUIET_SECONDS
                time.sleep(PAUSE_SECONDS)

    def _require_alive(self) -> None:
        for child in (self._api, *self._workers):
            if not child.alive:
                reason = f"{child.exit_reason}): {verdict(child.output())} (log: {quoted(child.log)}"
                raise CommandError(f"{child.name} did not start ({reason})")

    def _ready(self) -> bool:
        return self._ask("/tools/ready")

    def _round_trip(self) -> bool:
        return self._ask("/tools/celery_status")

    def _registered(self) -> bool:
        """Whether every worker has registered in the database; its name there is host and process id."""
        names = [f"{socket.gethostname()}/{worker.pid}" for worker in self._workers]
        try:
            present = asyncio.run(self._count(names))
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            self._waiting_for = f"the database does not answer ({type(error).__name__})"
            return False
        self._waiting_for = f"{present} of {len(names)} workers have registered in the database"
        return present == len(names)

    async def _count(self, names: Sequence[str]) -> int:
        db = DatabasePool(self._dsn, size=1)
        try:
            row = await db.fetchrow(_REGISTERED, names)
        finally:
            await db.close()
        return 0 if row is None else row[0]

    def _ask(self, path: str) -> bool:
        """Whether it answers 200; otherwise remember what it answered."""
        connection = http.client.HTTPConnection(*self._address, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._waiting_for = f"{path} does not answer ({type(error).__name__})"
            return False
        finally:
            connection.close()
        self._waiting_for = f"{path} answers {answer.status}: {_detail(body)}"
        if answer.status != http.client.OK:
            return False
        checks = json.loads(body).get("checks", [])
        self.notes += [f"{check['name']}: {check['detail']}" for check in checks if not check["ok"]]
        return True


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, TypeError, KeyError):
        return "no problem document"
