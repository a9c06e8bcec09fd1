"""`fleek listen`: events of an API as they come, and passed on to a receiver under development.

It needs the API's address alone: no database, no settings.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import aiohttp
import msgspec

from app.cli.console import complain
from app.cli.errors import CommandError
from app.cli.listen.format import PROGRESS, Progress, Told, json_line, progress_line, state_line
from app.cli.listen.forward import Forwarded, Forwarder
from app.cli.listen.sse_client import EventSource, ServerSentEvent
from app.core.http_client.client import HttpClient

_told: Final = msgspec.json.Decoder(Told).decode
_progress: Final = msgspec.json.Decoder(Progress).decode


@dataclass(frozen=True, slots=True)
class Listening:
    """What is asked for."""

    api: str
    """Its address, without a slash at the end."""
    query: Mapping[str, str]
    """What the API filters by."""
    names: frozenset[str]
    """Names of events that are shown and passed on."""
    as_json: bool
    forward_to: str | None
    secret: str
    """Signs what is passed on."""


class OutputClosedError(Exception):
    """Nobody reads our output any more, as in `fleek listen | head`."""


def run(listening: Listening) -> int:
    """Listen until it is interrupted; the exit status."""
    listener = Listener(listening)
    try:
        asyncio.run(_until_stopped(listener))
    except CommandError as error:
        complain(str(error))
        return 1
    except OutputClosedError:
        return 0
    complain(f"stopped; {listener.summary}")
    return 0


async def _until_stopped(listener: "Listener") -> None:
    """Ends with the first Ctrl-C or SIGTERM; more of them change nothing."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    work, stopped = asyncio.create_task(listener.listen()), asyncio.create_task(stop.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if work.done():
        return work.result()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return None


class Listener:
    """Reads the stream; one event is passed on and shown before the next one is looked at, so they stay in order."""

    def __init__(self, listening: Listening) -> None:
        self._asked = listening
        self._shown = 0
        self._refused = 0

    @property
    def summary(self) -> str:
        """What has come of it so far."""
        events = f"{self._shown} {'event' if self._shown == 1 else 'events'}"
        if self._asked.forward_to is None:
            return events
        return f"{events}, {self._refused} of them not taken by the receiver"

    async def listen(self) -> None:
        """Go on until it is cancelled.

        Raises:
            CommandError: The API refuses, or it is none.
            OutputClosedError: Nobody reads what is shown.
        """
        connector = aiohttp.TCPConnector(force_close=True)
        async with contextlib.AsyncExitStack() as stack, aiohttp.ClientSession(connector=connector) as session:
            http = HttpClient(allow_private_addresses=True)
            stack.push_async_callback(http.close)
            to, secret = self._asked.forward_to, self._asked.secret
            forwarder = None if to is None else Forwarder(http, to, secret)
            source = EventSource(session, f"{self._asked.api}/media/events", self._asked.query, complain)
            async with contextlib.aclosing(source.events()) as events:
                async for event in events:
                    if event.name in self._asked.names:
                        await self._take(event, forwarder)

    async def _take(self, event: ServerSentEvent, forwarder: Forwarder | None) -> None:
        try:
            if event.name == PROGRESS:
                line = progress_line(_progress(event.data), datetime.now(UTC))
                return self._show(event, line, None)
            told = _told(event.data)
            media_id = str(told.data["id"])
        except (msgspec.MsgspecError, KeyError) as error:
            raise CommandError(f"the API tells of {event.name} in a way that is not known here: {error}") from error
        forwarded = None
        if forwarder is not None:
            try:
                forwarded = await forwarder.send(media_id, told.sequence, event.data.encode())
            except asyncio.CancelledError:
                complain(f"{told.type} of {media_id}: stopped before the receiver answered")
                raise
            self._refused += forwarded.error is not None
        self._shown += 1
        return self._show(event, state_line(told, forwarded), forwarded)

    def _show(self, event: ServerSentEvent, line: str, forwarded: Forwarded | None) -> None:
        try:
            print(json_line(event, forwarded) if self._asked.as_json else line, flush=True)
        except BrokenPipeError as error:
            # Python flushes once more at its end.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
            raise OutputClosedError from error
