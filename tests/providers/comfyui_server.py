"""A simulator of ComfyUI's HTTP interface: queue, history, files, and faults on demand. It paints nothing."""

import asyncio
import uuid
from collections import defaultdict
from typing import Any, Self

from aiohttp import web

from app.media_generator.dummy_media_generator.png import png_of_about

KNOWN = {"CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "LoadImage", "SaveImage"}
KNOWN |= {"VAEDecode", "PreviewImage"}
MOST_STEPS = 50


class ComfyUIServer:
    """A job moves on by one place each time somebody looks, unless it is `held`."""

    def __init__(self) -> None:
        self.paused = False
        self.old = False
        """Whether it chooses ids of its own, as servers before 2025 do."""
        self.outcome = "success"
        self.faults: dict[str, list[str]] = defaultdict(list)
        """By path, faults of the next requests: `drop`, `accept and drop`, `accept and hang`, `accept and 500`, 503."""
        self.pending: list[list[Any]] = []
        self.running: list[list[Any]] = []
        self.history: dict[str, dict[str, Any]] = {}
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.taken: list[dict[str, Any]] = []
        self.authorizations: set[str | None] = set()
        self.url = ""
        self._number = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=100 * 1024 * 1024, middlewares=[self._troubled])
        app.add_routes(
            [
                web.post("/prompt", self._prompt),
                web.get("/queue", self._queue),
                web.post("/queue", self._take_out),
                web.post("/interrupt", self._interrupt),
                web.get("/history", self._recent),
                web.get("/history/{name}", self._history),
                web.get("/view", self._view),
                web.post("/upload/image", self._upload),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._runner.cleanup()

    def forget(self) -> None:
        """Simulate a restart."""
        self.pending, self.running, self.history = [], [], {}

    @web.middleware
    async def _troubled(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.authorizations.add(request.headers.get("Authorization"))
        planned = self.faults["/" + request.path.split("/")[1]]
        fault = planned.pop(0) if planned else ""
        if fault.isdecimal():
            return web.Response(status=int(fault), headers={"Retry-After": "7"} if fault == "429" else {})
        answer = await handler(request) if fault != "drop" else None
        if fault.endswith("drop"):
            request.transport.abort()
        if fault == "accept and hang":
            await asyncio.sleep(3600)
        if fault == "accept and 500":
            return web.Response(status=500, text="Internal Server Error")
        return answer or web.Response()

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "prompt" not in body:
            return web.json_response(
                {"error": _error("no_prompt", "No prompt provided"), "node_errors": {}}, status=400
            )
        wrong = _faults_of(body["prompt"])
        if wrong is not None:
            return web.json_response(wrong, status=400)
        name = str(uuid.uuid4()) if self.old else str(body.get("prompt_id", uuid.uuid4()))
        self._number += 1
        self.taken.append(body["prompt"])
        self.pending.append([self._number, name, body["prompt"], body.get("extra_data", {}), ["9"]])
        return web.json_response({"prompt_id": name, "number": self._number, "node_errors": {}})

    async def _queue(self, request: web.Request) -> web.Response:
        # A heap: the order after the first item is arbitrary.
        return web.json_response({"queue_running": self.running, "queue_pending": self.pending[::-1]})

    async def _take_out(self, request: web.Request) -> web.Response:
        names = (await request.json()).get("delete", [])
        self.pending = [item for item in self.pending if item[1] not in names]
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        prompt_id = (await request.json()).get("prompt_id")
        for item in [item for item in self.running if item[1] == prompt_id or self.old]:
            self.running.remove(item)
            details = {"prompt_id": item[1], "node_id": "3", "node_type": "KSampler", "executed": ["4"]}
            self._end(item, {}, "error", ["execution_interrupted", details])
        return web.Response()

    async def _recent(self, request: web.Request) -> web.Response:
        most = int(request.query.get("max_items", "10000"))
        return web.json_response(dict(list(self.history.items())[-most:]))

    async def _history(self, request: web.Request) -> web.Response:
        if not self.paused:
            self.advance()
        name = request.match_info["name"]
        return web.json_response({name: self.history[name]} if name in self.history else {})

    async def _view(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        file = self.files.get((query.get("type", "output"), query.get("subfolder", ""), query["filename"]))
        if file is None:
            return web.Response(status=404)
        answer = web.StreamResponse(headers={"Content-Length": str(len(file))})
        await answer.prepare(request)
        if self.outcome == "truncated":
            await answer.write(file[: len(file) // 2])
            request.transport.abort()
            return answer
        await answer.write(file)
        return answer

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        image: Any = form["image"]
        subfolder = str(form.get("subfolder", ""))
        self.files[str(form["type"]), subfolder, image.filename] = image.file.read()
        return web.json_response({"name": image.filename, "subfolder": subfolder, "type": str(form["type"])})

    def advance(self) -> None:
        """Finish the running job, and start the next one."""
        for item in self.running:
            self._finish(item)
        self.running = self.pending[:1]
        self.pending = self.pending[1:]

    def _finish(self, item: list[Any]) -> None:
        if self.outcome == "error":
            details = {
                "prompt_id": item[1],
                "node_id": "3",
                "node_type": "KSampler",
                "executed": ["4"],
                "exception_message": "CUDA out of memory\n",
                "exception_type": "torch.OutOfMemoryError",
                "traceback": ["  File secret.py"],
                "current_inputs": {},
                "current_outputs": ["4"],
            }
            return self._end(item, {}, "error", ["execution_error", details])
        names = [f"fleek_{item[0]:05}_{number}_.png" for number in range(item[2]["5"]["inputs"]["batch_size"])]
        for name in names:
            self.files["output", "today & now", name] = png_of_about(20_000)
        images = [{"filename": name, "subfolder": "today & now", "type": "output"} for name in names]
        preview = {"filename": "ComfyUI_temp_1.png", "subfolder": "", "type": "temp"}
        outputs = {
            "8": {"images": [preview]},
            "9": {"images": images},
            "10": {"text": ["a caption"], "animated": [True]},
        }
        details = {"prompt_id": item[1], "timestamp": 1}
        return self._end(item, {} if self.outcome == "nothing" else outputs, "success", ["execution_success", details])

    def _end(self, item: list[Any], outputs: dict[str, Any], how: str, message: list[Any]) -> None:
        messages = [["execution_start", {"prompt_id": item[1], "timestamp": 0}], message]
        status = {"status_str": how, "completed": how == "success", "messages": messages}
        self.history[item[1]] = {"prompt": item, "outputs": outputs, "status": status, "meta": {}}


def _error(kind: str, message: str, details: str = "") -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": {}}


def _faults_of(nodes: dict[str, Any]) -> dict[str, Any] | None:
    for name, node in nodes.items():
        if node["class_type"] not in KNOWN:
            missing = _error("missing_node_type", f"Node '{node['class_type']}' not found.", f"Node ID '#{name}'")
            return {"error": missing, "node_errors": {}}
    found = {
        name: {
            "errors": [_error("value_bigger_than_max", f"Value bigger than max of {MOST_STEPS}", "steps")],
            "dependent_outputs": ["9"],
            "class_type": "KSampler",
        }
        for name, node in nodes.items()
        if node["inputs"].get("steps", 0) > MOST_STEPS
    }
    wrong = _error("prompt_outputs_failed_validation", "Prompt outputs failed validation")
    return {"error": wrong, "node_errors": found} if found else None
