"""A provider that speaks as Replicate does: the product's own adapter buys there.

It knows no id of ours: a lost answer is searched for in a list with times, pages and other people's entries, whose
clock may be off.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from app.webhooks.signing import headers
from tests.crash.simulator import odd, wire
from tests.crash.simulator.books import CANCELED, DONE, FAILED, RUNNING, Purchase
from tests.crash.simulator.service import Service, origin_of
from tests.crash.troubles import OTHERS_SHARE
from tests.providers.replicate_gateway import SECRET, TOKEN

PAGE: Final = 15
STATUS: Final = {RUNNING: "processing", DONE: "succeeded", FAILED: "failed", CANCELED: "canceled"}


class Replicate(Service):
    """Its API."""

    provider = "replicate"
    tells_webhooks = True

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/models/{owner}/{name}/predictions", self.create),
            web.get("/v1/predictions", self.list_predictions),
            web.get("/v1/predictions/{id}", self.get),
            web.post("/v1/predictions/{id}/cancel", self.cancel),
            web.get("/v1/webhooks/default/secret", self.secret),
            web.get("/files/{id}/0.png", self.file),
        ]

    async def create(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        model = f"{request.match_info['owner']}/{request.match_info['name']}"
        given = {**body["input"], "model": model}
        self._let_others_buy(given)
        return await self.taken(request, given, body.get("webhook", ""))

    def _let_others_buy(self, given: dict[str, Any]) -> None:
        """Now and then others buy at the same time: with our very input on the web site, with their own by the API."""
        if not self.draw.among(("others_entries",), OTHERS_SHARE):
            return
        source = self.draw.choice(["web", "api"])
        theirs = given if source == "web" else {**given, "prompt": f"others' {len(self.books.purchases)}"}
        fate = self.draw.fate()
        self.books.buy(self.provider, attempt_id=None, media=theirs["prompt"], fate=fate, given=theirs, source=source)

    async def get(self, request: web.Request) -> web.StreamResponse:
        bought = self.purchase(request)
        if bought is None:
            return wire.refused(404, "Not found")
        return self.answered(request, self.told(bought, origin_of(request)), bought=bought)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        bought = self.purchase(request)
        if bought is None:
            return wire.refused(404, "Not found")
        if bought.state == RUNNING:
            bought.canceled = True
        return self.answered(request, self.told(bought, origin_of(request)), bought=bought)

    async def list_predictions(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        after, before = (_at(query.get(name)) for name in ("created_after", "created_before"))
        newest = sorted(self.books.of(self.provider), key=lambda one: one.bought_at, reverse=True)
        within = [
            one
            for one in newest
            if (after is None or after <= self._created(one)) and (before is None or self._created(one) < before)
        ]
        if "cursor" in query:
            # By what was last seen: the list grows at its beginning meanwhile.
            within = [one for one in within if one.id < query["cursor"]]
        page, origin, more = within[:PAGE], origin_of(request), None
        if len(within) > PAGE:
            more = f"{origin}/v1/predictions?{urlencode({**query, 'cursor': page[-1].id})}"
        results = [self.told(one, origin) for one in page]
        return self.answered(request, {"previous": None, "next": more, "results": results})

    async def secret(self, _request: web.Request) -> web.Response:
        return web.json_response({"key": SECRET})

    async def file(self, request: web.Request) -> web.StreamResponse:
        bought = self.purchase(request)
        if bought is None or bought.state != DONE:
            return wire.refused(404, "no such output")
        return await wire.deliver(request, bought)

    def told(self, bought: Purchase, origin: str) -> dict[str, Any]:
        """A prediction."""
        base, state = f"{origin}/v1/predictions/{bought.id}", bought.state
        return {
            "id": bought.id,
            "model": bought.given["model"],
            "version": "hidden",
            "input": {name: value for name, value in bought.given.items() if name != "model"},
            "output": _outputs(bought, origin) if state == DONE else None,
            "logs": "",
            "error": "it failed, as drawn" if state == FAILED else None,
            "status": STATUS[state],
            "created_at": self._at(bought.bought_at),
            "completed_at": None if state == RUNNING else self._at(bought.bought_at + bought.fate.delay),
            "data_removed": False,
            **({"webhook": bought.callback_url} if bought.callback_url and bought.fate.tells_webhook else {}),
            "source": bought.source,
            "metrics": {"predict_time": 1.25} if state == DONE else {},
            "urls": {"get": base, "cancel": f"{base}/cancel"},
        }

    def called_back(self, bought: Purchase, origin: str) -> tuple[bytes, Mapping[str, str]]:
        """See the base class."""
        body = self.written(self.told(bought, origin), bought)
        return body, headers([SECRET], f"msg_{bought.id}", int(self.now()), body)

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Keys are asked for, and the time is the provider's own."""
        if not request.path.startswith("/v1/"):
            return await handler(request)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return wire.refused(401, "You did not pass a valid authentication token")
        response = await handler(request)
        now = datetime.fromtimestamp(self.now(), UTC)
        response.headers["Date"] = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return response

    def _created(self, bought: Purchase) -> datetime:
        return datetime.fromtimestamp(bought.bought_at + self.books.clock_offset, UTC)

    def _at(self, seconds: float) -> str:
        """A time as its API writes it, by its own clock."""
        return datetime.fromtimestamp(seconds + self.books.clock_offset, UTC).isoformat().replace("+00:00", "Z")


def _outputs(bought: Purchase, origin: str) -> Any:
    plain, nth = f"{origin}/files/{bought.id}/0.png", bought.fate.odd_urls
    # Replicate's API names files by absolute addresses; what models return them in differs.
    return odd.outputs([plain], nth) if nth else [plain]


def _at(given: str | None) -> datetime | None:
    return None if given is None else datetime.fromisoformat(given)
