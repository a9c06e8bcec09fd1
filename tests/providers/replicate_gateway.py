"""Replicate's API around any predictor: ids, statuses, lists, files, signed callbacks, and failures on demand.

Replicate's own clients must accept it unchanged (test_replicate.py); `predictions` records every prediction.
"""

import asyncio
import base64
import contextlib
import io
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from PIL import Image

from app.webhooks.signing import headers

TOKEN = "r8_test"
SECRET = "whsec_" + base64.b64encode(b"the gateway's own key").decode()
HUGE = 64 * 1024 * 1024
REFUSALS = {
    "busy": (429, "Request was throttled. Your rate limit for creating predictions resets in ~7s."),
    "input_refused": (422, "- input.width: Must be greater than or equal to 16"),
    "unauthorized": (401, "You did not pass a valid authentication token"),
    "no_credit": (402, "You have insufficient credit to run this model."),
    "model_gone": (404, "The requested resource could not be found."),
}
Predictor = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Maps an input to `status`, `output`, `error`, `logs`, `metrics`, as a Cog server answers."""


def picture(width: int = 64) -> bytes:
    file = io.BytesIO()
    Image.effect_mandelbrot((width, width), (-2, -1.5, 1, 1.5), 60).save(file, "PNG")
    return file.getvalue()


async def paint(given: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(given.get("delay", 0))
    return {"status": "succeeded", "output": ["file"] * given.get("num_outputs", 1), "metrics": {"predict_time": 1.25}}


def cog(address: str) -> Predictor:
    """The predictor of a Cog server."""

    async def predict(given: dict[str, Any]) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{address}/predictions", json={"input": given}) as answer,
        ):
            return await answer.json()

    return predict


class Gateway:
    """An async context manager; `trouble` is a value of `fleek.testing.Trouble`, or empty."""

    def __init__(self, predictor: Predictor = paint) -> None:
        self.predictor = predictor
        self.trouble = ""
        self.calls_back = True
        self.repeats = False
        """Whether it repeats callbacks until there is an answer."""
        self.callback_statuses: dict[str, list[int]] = {}
        """By prediction: the statuses that answered its callbacks; 0: the connection broke."""
        self.output: Any = None
        """Output of every prediction, if not its predictor's."""
        self.predictions: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.queries: list[tuple[str, str, dict[str, str]]] = []
        self.polls = 0
        self.url = ""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._hooks: dict[str, str] = {}
        self._keys: dict[str, bytes] = {}
        self._port = 0

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._record], client_max_size=10**8)
        add = app.router.add_route
        add("POST", "/v1/models/{owner}/{name}/predictions", self.create)
        add("GET", "/v1/models/{owner}/{name}", self.model)
        add("POST", "/v1/predictions", self.create)
        add("GET", "/v1/predictions", self.list_predictions)
        add("GET", "/v1/predictions/{id}", self.get)
        add("POST", "/v1/predictions/{id}/cancel", self.cancel)
        add("GET", "/v1/webhooks/default/secret", self.secret)
        add("POST", "/v1/files", self.upload)
        add("GET", "/files/{id}/{index}.png", self.file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.client = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.client.close()
        await self._runner.cleanup()

    async def settled(self) -> None:
        """Wait until nothing is running, callbacks included."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        names = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.path, names))
        self.queries.append((request.method, request.path, dict(request.query)))
        if request.path.startswith("/v1/") and request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _refuse(401, "You did not pass a valid authentication token")
        return await handler(request)

    async def create(self, request: web.Request) -> web.StreamResponse:
        if self.trouble in REFUSALS:
            return _refuse(*REFUSALS[self.trouble])
        body = await request.json()
        owner, name = request.match_info.get("owner"), request.match_info.get("name")
        number = f"{len(self.predictions):026d}"
        base = f"{self.url}/v1/predictions/{number}"
        self.predictions[number] = {
            "id": number,
            "model": f"{owner}/{name}" if owner else "a/versioned-model",
            "version": body.get("version", "hidden"),
            "input": body["input"],
            "output": None,
            "logs": "",
            "error": None,
            "status": "starting",
            "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "started_at": None,
            "completed_at": None,
            "data_removed": False,
            "source": "api",
            "metrics": {},
            "urls": {"get": base, "cancel": f"{base}/cancel"},
        }
        self._hooks[number] = body.get("webhook", "")
        self._tasks[number] = asyncio.create_task(self._run(number))
        if self.trouble == "accepted_then_500":
            return _refuse(500, "Internal server error")
        if self.trouble == "accepted_then_silence":
            await asyncio.sleep(3600)
        if self.trouble == "accepted_then_dropped":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(self.predictions[number], status=201)

    async def _run(self, number: str) -> None:
        prediction = self.predictions[number]
        prediction["status"] = "processing"
        if self.trouble == "failed_later":
            found: dict[str, Any] = {"status": "failed", "error": "CUDA out of memory (simulated)"}
        else:
            found = await self.predictor(prediction["input"])
        found["output"] = self.output or self._located(number, found.get("output"))
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        prediction |= {**found, "id": number, "completed_at": now}
        if self._hooks[number] and self.calls_back:
            while await self.call_back(number) == 0 and self.repeats:  # noqa: ASYNC110 - the API is restarted by another process
                await asyncio.sleep(0.1)

    def _located(self, number: str, output: Any) -> Any:
        """URLs of the predictor's files, as Replicate returns them."""
        if not isinstance(output, list):
            return output
        for index, one in enumerate(output):
            encoded = one.partition("base64,")[2]
            self._keys[f"{number}/{index}"] = base64.b64decode(encoded) if encoded else picture()
        return [f"{self.url}/files/{number}/{index}.png" for index in range(len(output))]

    async def call_back(self, number: str, secret: str = SECRET, *, age: float = 0, url: str = "") -> int:
        """Send the callback of a prediction; return the status of the answer."""
        body = json.dumps(self.predictions[number]).encode()
        signed = headers([secret], f"msg_{number}", int(time.time() - age), body)
        status = 0
        with contextlib.suppress(aiohttp.ClientError):
            target = url or self._hooks[number]
            async with self.client.post(target, data=body, headers=signed) as answer:
                status = answer.status
        self.callback_statuses.setdefault(number, []).append(status)
        return status

    async def get(self, request: web.Request) -> web.Response:
        self.polls += 1
        found = self.predictions.get(request.match_info["id"])
        return _refuse(404, "Not found") if found is None else web.json_response(found)

    async def list_predictions(self, request: web.Request) -> web.Response:
        query = {
            "created_after": "2000-01-01T00:00Z",
            "created_before": "3000-01-01T00:00Z",
            "cursor": "0",
            **request.query,
        }
        within = [one for one in self.predictions.values() if _is_within(one["created_at"], query)]
        newest = sorted(within, key=lambda one: one["id"], reverse=True)
        start = int(query["cursor"])
        more = urlencode({**request.query, "cursor": start + 2})
        following = f"{self.url}/v1/predictions?{more}" if start + 2 < len(newest) else None
        # Two per page, so that clients need several pages.
        return web.json_response({"previous": None, "next": following, "results": newest[start : start + 2]})

    async def cancel(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        prediction = self.predictions[number]
        if prediction["status"] in {"starting", "processing"}:
            self._tasks[number].cancel()
            prediction["status"] = "canceled"
        return web.json_response(prediction)

    async def model(self, request: web.Request) -> web.Response:
        owner, name = request.match_info["owner"], request.match_info["name"]
        if self.trouble == "model_gone":
            return _refuse(404, "Not found")
        version = {"id": "5" * 64, "created_at": "2026-01-01T00:00:00Z", "cog_version": "0.23.1"}
        version["openapi_schema"] = DOCUMENT
        found = {"url": "", "owner": owner, "name": name, "description": "As of today.", "latest_version": version}
        return web.json_response({**found, "visibility": "public", "run_count": 1})

    async def secret(self, _request: web.Request) -> web.Response:
        return web.json_response({"key": SECRET})

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["content"]
        assert isinstance(file, web.FileField)
        name = f"uploads/{len(self._keys)}"
        self._keys[name] = file.file.read()
        urls = {"get": f"{self.url}/{name}/{file.filename}"}
        return web.json_response({"id": name, "content_type": file.content_type, "urls": urls}, status=201)

    def uploaded(self) -> list[bytes]:
        return [content for name, content in self._keys.items() if name.startswith("uploads/")]

    async def file(self, request: web.Request) -> web.StreamResponse:
        if self.trouble == "output_gone":
            return web.Response(status=404)
        content = self._keys[f"{request.match_info['id']}/{request.match_info['index']}"]
        response = web.StreamResponse()
        response.content_length = HUGE if self.trouble == "output_huge" else len(content)
        await response.prepare(request)
        if self.trouble == "output_cut":
            await response.write(content[: len(content) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(content)
        left = response.content_length - len(content)
        while left > 0:
            await response.write(bytes(min(left, 65536)))
            left -= 65536
        return response


def _is_within(created: str, query: dict[str, str]) -> bool:
    after, at, before = map(datetime.fromisoformat, (query["created_after"], created, query["created_before"]))
    return after <= at < before


def _refuse(status: int, detail: str) -> web.Response:
    return web.json_response({"title": "Refused", "detail": detail, "status": status}, status=status)


DOCUMENT = {
    "openapi": "3.0.2",
    "components": {
        "schemas": {
            "Input": {
                "type": "object",
                "title": "Input",
                "required": ["prompt", "image"],
                "properties": {
                    "prompt": {"type": "string", "title": "Prompt", "x-order": 0},
                    "seed": {"type": "integer", "title": "Seed", "x-order": 3, "nullable": True},
                    "image": {"type": "string", "format": "uri", "title": "Image", "x-order": 1},
                    "scheduler": {
                        "allOf": [{"$ref": "#/components/schemas/scheduler"}],
                        "default": "K_EULER",
                        "description": "scheduler",
                        "x-order": 2,
                    },
                    "width": {"type": "integer", "minimum": 16, "maximum": 2048, "default": 64, "x-order": 4},
                },
            },
            "scheduler": {"enum": ["DDIM", "K_EULER"], "type": "string", "title": "scheduler"},
        }
    },
}
