"""`fleek listen`: shows the events of an API, and forwards them to a receiver under development.

Needs only the URL of the API: no database, no settings.
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
from app.cli.listen.format import PROGRESS, Progress, StateChange, json_line, progress_line, state_line
from app.cli.listen.forward import Forwarded, Forwarder
from app.cli.listen.sse_client import EventSource, ServerSentEvent
from app.core.http_client.client import HttpClient

_decode_state_change: Final = msgspec.json.Decoder(StateChange).decode
_decode_progress: Final = msgspec.json.Decoder(Progress).decode


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The options of one run."""

    api: str
    """Its URL, without a trailing slash."""
    query: Mapping[str, str]
    """Filters that the API applies."""
    names: frozenset[str]
    """Events that are shown and forwarded."""
    as_json: bool
    forward_to: str | None
    secret: str
    """Signs forwarded events."""


class OutputClosedError(Exception):
    """The reader of our output is gone, as in `fleek listen | head`."""


def run(options: ListenOptions) -> int:
    """Listen until it is interrupted; the exit status."""
    listener = Listener(options)
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
    """Ends with the first Ctrl-C or SIGTERM; further signals are ignored."""
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
    """Reads the stream; each event is forwarded and shown before the next one is read, which keeps their order."""

    def __init__(self, options: ListenOptions) -> None:
        self._options = options
        self._shown = 0
        self._failures = 0

    @property
    def summary(self) -> str:
        """Counts so far."""
        events = f"{self._shown} {'event' if self._shown == 1 else 'events'}"
        if self._options.forward_to is None:
            return events
        return f"{events}, {self._failures} of them not accepted by the receiver"

    async def listen(self) -> None:
        """Listen until cancelled.

        Raises:
            CommandError: The API refuses the request, or the URL is not that of an API.
            OutputClosedError: The reader of our output is gone.
        """
        connector = aiohttp.TCPConnector(force_close=True)
        async with contextlib.AsyncExitStack() as stack, aiohttp.ClientSession(connector=connector) as session:
            http = HttpClient(allow_private_addresses=True)
            stack.push_async_callback(http.close)
            to, secret = self._options.forward_to, self._options.secret
            forwarder = None if to is None else Forwarder(http, to, secret)
            source = EventSource(session, f"{self._options.api}/media/events", self._options.query, complain)
            async with contextlib.aclosing(source.events()) as events:
                async for event in events:
                    if event.name in self._options.names:
                        await self._handle(event, forwarder)

    async def _handle(self, event: ServerSentEvent, forwarder: Forwarder | None) -> None:
        try:
            if event.name == PROGRESS:
                line = progress_line(_decode_progress(event.data), datetime.now(UTC))
                return self._show(event, line, None)
            change = _decode_state_change(event.data)
            media_id = str(change.data["id"])
        except (msgspec.MsgspecError, KeyError) as error:
            raise CommandError(f"the API sent an event {event.name} of unknown form: {error}") from error
        forwarded = None
        if forwarder is not None:
            try:
                forwarded = await forwarder.send(media_id, change.sequence, event.data.encode())
            except asyncio.CancelledError:
                complain(f"{change.type} of {media_id}: stopped before the receiver answered")
                raise
            self._failures += forwarded.error is not None
        self._shown += 1
        return self._show(event, state_line(change, forwarded), forwarded)

    def _show(self, event: ServerSentEvent, line: str, forwarded: Forwarded | None) -> None:
        try:
            print(json_line(event, forwarded) if self._options.as_json else line, flush=True)
        except BrokenPipeError as error:
            # Python flushes once more at exit.
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, sys.stdout.fileno())
            os.close(devnull)
            raise OutputClosedError from error
