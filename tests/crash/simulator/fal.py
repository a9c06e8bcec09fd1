"""A provider that speaks as fal's queue does: the product's own adapter buys there.

It can be asked for nothing but an id of its own: whoever lost that learns it from a callback, or never.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from nacl.encoding import URLSafeBase64Encoder
from nacl.signing import SigningKey

from tests.crash.simulator import odd, wire
from tests.crash.simulator.books import CANCELED, DONE, FAILED, RUNNING, Purchase
from tests.crash.simulator.service import Service, origin_of

KEY: Final = SigningKey(hashlib.sha256(b"the simulator's own").digest())
STATUS: Final = {RUNNING: "IN_PROGRESS", DONE: "COMPLETED", FAILED: "COMPLETED", CANCELED: "CANCELED"}


class Fal(Service):
    """Its queue."""

    provider = "fal"

    def routes(self) -> list[web.RouteDef]:
        base = "/queue/{owner}/{app}/requests/{id}"
        return [
            web.get("/queue/keys", self.keys),
            web.get(f"{base}/status", self.status),
            web.get(base, self.result),
            web.put(f"{base}/cancel", self.cancel),
            web.post("/queue/{model:.+}", self.submit),
            web.get("/queue-files/{id}.png", self.file),
        ]

    async def submit(self, request: web.Request) -> web.StreamResponse:
        return await self.taken(request, await request.json(), request.query.get("fal_webhook", ""))

    async def status(self, request: web.Request) -> web.StreamResponse:
        bought = self.purchase(request)
        if bought is None:
            return wire.refused(404, "Not found")
        running = bought.state == RUNNING
        return self.answered(
            request,
            self.told(bought, origin_of(request)),
            bought=bought,
            status=202 if running else 200,
            headers=_about(bought),
        )

    async def result(self, request: web.Request) -> web.StreamResponse:
        bought = self.purchase(request)
        if bought is None or bought.state in {RUNNING, CANCELED}:
            return wire.refused(404, "Not found")
        if bought.state == FAILED:
            return self.answered(request, {"detail": "it failed, as drawn"}, status=422, headers=_about(bought))
        return self.answered(request, _payload(bought, origin_of(request)), bought=bought, headers=_about(bought))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        bought = self.purchase(request)
        if bought is None:
            return wire.refused(404, "Not found")
        if bought.state != RUNNING:
            return self.answered(request, {"status": "ALREADY_COMPLETED"}, status=400, headers=_about(bought))
        bought.canceled = bought.stoppable
        return self.answered(request, {"status": "CANCELLATION_REQUESTED"}, status=202, headers=_about(bought))

    async def keys(self, _request: web.Request) -> web.Response:
        public = KEY.verify_key.encode(URLSafeBase64Encoder).decode().rstrip("=")
        return web.json_response({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": public}]})

    async def file(self, request: web.Request) -> web.StreamResponse:
        bought = self.purchase(request)
        if bought is None or bought.state != DONE:
            return wire.refused(404, "no such output")
        return await wire.deliver(request, bought)

    def told(self, bought: Purchase, origin: str) -> dict[str, Any]:
        """The status of a request."""
        return {"request_id": bought.id, "status": STATUS[bought.state]}

    def called_back(self, bought: Purchase, origin: str) -> tuple[bytes, Mapping[str, str]]:
        """See the base class."""
        done = bought.state == DONE
        found = {"payload": _payload(bought, origin)} if done else {"error": "it failed, as drawn"}
        body = self.written({"request_id": bought.id, "status": "OK" if done else "ERROR", **found}, bought)
        timestamp = str(int(self.now()))
        message = "\n".join((bought.id, "a user", timestamp, hashlib.sha256(body).hexdigest())).encode()
        return body, {
            "x-fal-webhook-request-id": bought.id,
            "x-fal-webhook-user-id": "a user",
            "x-fal-webhook-timestamp": timestamp,
            "x-fal-webhook-signature": KEY.sign(message).signature.hex(),
        }


def _about(bought: Purchase) -> dict[str, str]:
    return {"x-fal-request-id": bought.id}


def _payload(bought: Purchase, origin: str) -> dict[str, Any]:
    plain, nth = f"{origin}/queue-files/{bought.id}.png", bought.fate.odd_urls
    return {"images": [{"url": odd.url(plain, nth) if nth else plain, "content_type": "image/png"}]}
