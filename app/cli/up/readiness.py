"""Waits until all that was started does its work, as somebody who uses it would see it."""

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
"""How often it is said what we wait for."""
PAUSE_SECONDS: Final = 0.05
ANSWER_SECONDS: Final = 10.0
"""How long one answer may take; the slowest check allows itself five."""

_REGISTERED: Final = "SELECT count(DISTINCT name) FROM workers WHERE name = ANY($1)"


class Health:
    """The API's own checks, and one of the workers, which its round trip reaches only one of."""

    def __init__(self, address: tuple[str, int], dsn: str, api: Child, workers: Sequence[Child]) -> None:
        self._address = address
        self._dsn = dsn
        self._api = api
        self._workers = workers
        self._complaint = "nothing was asked yet"
        self.findings: list[str] = []
        """What the API's checks found wrong that does not keep it from serving."""

    def wait(self) -> None:
        """Return when all is well.

        Raises:
            CommandError: One of the processes ended, or it takes too long.
        """
        deadline = time.monotonic() + READY_SECONDS
        impatient = time.monotonic() + QUIET_SECONDS
        for check in (self._ready, self._registered, self._round_trip):
            while not check():
                self._expect_life()
                if time.monotonic() > deadline:
                    logs = quoted(self._api.log.parent)
                    raise CommandError(f"not ready after {READY_SECONDS:.0f} s: {self._complaint} (logs: {logs})")
                if time.monotonic() > impatient:
                    say(f"  still waiting: {self._complaint}")
                    impatient += QUIET_SECONDS
                time.sleep(PAUSE_SECONDS)

    def _expect_life(self) -> None:
        for child in (self._api, *self._workers):
            if not child.alive:
                raise CommandError(
                    f"{child.name} did not start ({child.fate}): {verdict(child.output())} (log: {quoted(child.log)})"
                )

    def _ready(self) -> bool:
        return self._ask("/tools/ready")

    def _round_trip(self) -> bool:
        return self._ask("/tools/celery_status")

    def _registered(self) -> bool:
        """Whether each worker has written its row; its name there is host and process."""
        names = [f"{socket.gethostname()}/{worker.pid}" for worker in self._workers]
        try:
            present = asyncio.run(self._count(names))
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            self._complaint = f"the database does not answer ({type(error).__name__})"
            return False
        self._complaint = f"{present} of {len(names)} workers have reported to the database"
        return present == len(names)

    async def _count(self, names: Sequence[str]) -> int:
        db = DatabasePool(self._dsn, size=1)
        try:
            row = await db.fetchrow(_REGISTERED, names)
        finally:
            await db.close()
        return 0 if row is None else row[0]

    def _ask(self, path: str) -> bool:
        """Whether it answers 200; otherwise the complaint says what it answered."""
        connection = http.client.HTTPConnection(*self._address, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._complaint = f"{path} does not answer ({type(error).__name__})"
            return False
        finally:
            connection.close()
        self._complaint = f"{path} answers {answer.status}: {_detail(body)}"
        if answer.status != http.client.OK:
            return False
        checks = json.loads(body).get("checks", [])
        self.findings += [f"{check['name']}: {check['detail']}" for check in checks if not check["ok"]]
        return True


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, TypeError, KeyError):
        return "no problem document"
