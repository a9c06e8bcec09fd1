"""Webhooks end to end: a worker in this process that also delivers, and the API calls to register and look back."""

import asyncio
from contextlib import asynccontextmanager

from app.core.http_client.client import HttpClient
from app.runtime import open_runtime
from app.worker import build_deliverer, build_runner, change_publisher


@asynccontextmanager
async def delivering_worker(settings, bell=None):
    """A runner and a deliverer, woken by the bell; yields the deliverer."""
    outgoing = HttpClient(allow_private_addresses=settings.allow_private_addresses)
    async with open_runtime(settings, outgoing=outgoing) as runtime:
        runner, deliverer = build_runner(runtime), build_deliverer(runtime, outgoing)
        runtime.db.on_change = change_publisher(runtime, deliverer)
        if bell is not None:
            bell.runner, bell.deliverer = runner, deliverer
        await deliverer.start()
        await runner.start()
        try:
            yield deliverer
        finally:
            await asyncio.gather(runner.stop(), deliverer.stop())


async def register(client, url, **more):
    """A webhook with its secret."""
    answer = await client.api.post("/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def deliveries_of(client, webhook, **wanted):
    """Deliveries in the order of their events; `wanted` are parameters of the list."""
    params = {"limit": 100, **wanted}
    page = (await client.api.get(f"/webhooks/{webhook['id']}/deliveries", params=params)).json()
    return sorted(page["items"], key=lambda item: item["sequence"])
