"""Reading event streams: a client of server-sent events."""

import asyncio
import contextlib

import msgspec

FINAL_EVENTS = ("completed", "failed", "canceled")


class EventReader:
    """The events of one stream as (name, data), read as the standard says."""

    def __init__(self, lines):
        self._lines = lines
        self.last_id = ""
        self.events = []

    async def __aiter__(self):
        name, data = "", []
        async for line in self._lines:
            if not line:
                if data:
                    event = (name, msgspec.json.decode("\n".join(data)))
                    self.events.append(event)
                    yield event
                name, data = "", []
            elif not line.startswith(":"):
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "id":
                    self.last_id = value


@contextlib.asynccontextmanager
async def open_stream(api, path, last_id=None):
    """A reader of the stream at `path`, after the event `last_id` if given."""
    headers = {"last-event-id": last_id} if last_id else {}
    async with api.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield EventReader(response.aiter_lines())


async def state_names(reader, *, until=FINAL_EVENTS):
    """The names of its events, without progress and log lines, up to the first one in `until`."""
    names = []
    async with asyncio.timeout(30):
        async for name, _ in reader:
            if name not in {"progress", "log"}:
                names.append(name)
            if name in until:
                break
    return names
