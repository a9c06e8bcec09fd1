"""What the simulated services of others have in common: troubled answers, and signed callbacks."""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final

import aiohttp
from aiohttp import web

from tests.crash.simulator import wire
from tests.crash.simulator.books import Books, Purchase, attempt_in
from tests.crash.simulator.odd import ANSWERS as ANSWERS_WRITTEN
from tests.crash.simulator.own import answer, not_accepted
from tests.crash.troubles import ANSWER_SHARE, ANSWERS

LATE_SECONDS: Final = 6.0
"""After the end, for a callback that is late."""
CALL_SECONDS: Final = 5.0
NEIGHBOURS: Final = 12
"""Addresses given last, one of which gets what belongs to another."""


class Service:
    """One of them; what becomes of a create is drawn, as its input is that of a real model.

    For which attempt a create was, its callback address says, which nobody but the audit reads here.
    """

    provider: str
    tells_webhooks = False
    """Whether what it says of a purchase may hold the callback address that it came with."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.draw = books.draw
        self._addresses: list[str] = []
        """Every callback address that was ever given, also by creates that were refused."""
        self._tasks = set[asyncio.Task[None]]()
        self._nth = itertools.count()

    def told(self, bought: Purchase, origin: str) -> dict[str, Any]:
        """What a create answers."""
        raise NotImplementedError

    def called_back(self, bought: Purchase, origin: str) -> tuple[bytes, Mapping[str, str]]:
        """The body of its callback, and the headers that sign it."""
        raise NotImplementedError

    def now(self) -> float:
        """Seconds since the epoch, by this service's clock."""
        return time.time() + self.books.clock_offset

    async def taken(self, request: web.Request, given: dict[str, Any], callback_url: str) -> web.StreamResponse:
        """The answer to a create, which may be taken or not."""
        self.books.calls[f"{self.provider} create"] += 1
        if callback_url:
            self._addresses.append(callback_url)
        fate = self.draw.fate()
        response = not_accepted(request, fate.mode)
        if response is not None:
            return response
        if fate.mode == "slow":
            await asyncio.sleep(fate.accept_after)
        bought = self.books.buy(
            self.provider,
            attempt_id=attempt_in(callback_url),
            media=given.get("prompt", ""),
            fate=fate,
            given=given,
            callback_url=callback_url,
        )
        self._spawn(self._call_back(bought, origin_of(request)))
        body = self.written(self.told(bought, origin_of(request)), bought)
        return await answer(request, fate.mode, body, nth=next(self._nth))

    def answered(
        self,
        request: web.Request,
        found: dict[str, Any],
        *,
        bought: Purchase | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> web.Response:
        """An answer that costs nothing, with its trouble; `bought`: what it is about."""
        self.books.calls[f"{self.provider} {request.method}"] += 1
        trouble = self.draw.among(ANSWERS, ANSWER_SHARE)
        if trouble == "answers_503":
            return wire.refused(503, "nobody is here")
        if trouble == "answers_garbage":
            return wire.garbage(next(self._nth))
        body = self.written(found, bought)
        response = web.Response(body=body, status=status, content_type="application/json", headers=headers)
        if trouble == "answers_twice":
            wire.say_again(request, response, after=self.draw.uniform(0.005, 0.5))
        return response

    @staticmethod
    def written(found: dict[str, Any], bought: Purchase | None) -> bytes:
        """An answer as its purchase's fate writes it."""
        body = wire.as_json(found)
        odd = -1 if bought is None else bought.fate.odd
        return body if odd < 0 else ANSWERS_WRITTEN[odd % len(ANSWERS_WRITTEN)](body)

    def purchase(self, request: web.Request) -> Purchase | None:
        """The one that a request is about."""
        bought = self.books.purchases.get(request.match_info["id"])
        return bought if bought is not None and bought.provider == self.provider else None

    async def _call_back(self, bought: Purchase, origin: str) -> None:
        fate = bought.fate
        if not bought.callback_url or fate.callback == "callback_lost":
            return
        await asyncio.sleep(fate.delay + 0.01 + (LATE_SECONDS if fate.callback == "callback_late" else 0))
        others = [one for one in self._addresses[-NEIGHBOURS:] if one != bought.callback_url]
        if fate.callback in {"callback_replayed", "callback_crossed"} and others:
            url = self.draw.choice(others)
            says_for_which = self.tells_webhooks and fate.tells_webhook
            with_secret = fate.callback == "callback_crossed" or (says_for_which and self.draw.choice([True, False]))
            await self._call(url if with_secret else without_secret(url), bought, origin)
        for _ in range(2 if fate.callback == "callback_twice" else 1):
            status = await self._call(bought.callback_url, bought, origin)
            bought.told.append(status)
            if bought.told_at is None and 200 <= status < 300:
                bought.told_at = time.time()

    async def _call(self, url: str, bought: Purchase, origin: str) -> int:
        body, headers = self.called_back(bought, origin)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_SECONDS)) as client,
                client.post(url, data=body, headers=headers) as got,
            ):
                return got.status
        return 0

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def without_secret(url: str) -> str:
    """A callback address as somebody would guess it who has seen only ids."""
    return re.sub(r"(/media/callbacks/[^/]+/[0-9a-f-]{36})/[^?]+", r"\1", url)


def origin_of(request: web.Request) -> str:
    return f"http://{request.host}"
