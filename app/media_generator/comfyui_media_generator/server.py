"""The calls that ComfyUI's server takes, and what its answers mean. Only `queue_prompt` makes it work."""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlencode

import msgspec

from app.core.http_client.protocol import Answer, Http, OutgoingError, Request
from app.media_generator.adapter_kit.http import download, from_answer, from_outgoing
from app.media_generator.adapter_kit.lenient_json import UNREADABLE
from app.media_generator.errors import AnswerLostError, BusyError, NotReachedError, UnauthorizedError
from app.media_generator.model_card import Json

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Of an answer: a history repeats the whole workflow."""
RECENT_JOBS: Final = 64
"""Entries of the history that are looked through for a job of a server that gives names of its own."""
ATTEMPT: Final = "fleek_attempt"
"""Under which our name travels in a job's `extra_data`, which queue and history repeat."""


class _File(msgspec.Struct, frozen=True):
    """A file of the server."""

    filename: str
    subfolder: str = ""
    type: str = "output"


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """Where a job stands in the queue."""

    external_id: str
    ahead: int | None
    """Jobs that come before it; None: it is running."""


class Server:
    """One ComfyUI."""

    def __init__(self, name: str, http: Http, base_url: str, token: str | None, timeout: float) -> None:
        self._name = name
        self._http = http
        self._base = base_url
        self._timeout = timeout
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def queue_prompt(self, nodes: Mapping[str, Json], attempt_id: str) -> str:
        """Have a workflow run; the job's name, which is ours except on old servers.

        Raises:
            ProviderError: It is refused, or nobody knows.
        """
        body = {"prompt": nodes, "prompt_id": attempt_id, "extra_data": {ATTEMPT: attempt_id}}
        answer = await self._send("POST", "/prompt", msgspec.json.encode(body), spending=True)
        if answer.status != HTTPStatus.OK:
            said = _refusal_text(answer.body)
            raise from_answer(self._name, answer.status, answer.headers, said, spending=True)
        try:
            return str(msgspec.json.decode(answer.body)["prompt_id"])
        except (*UNREADABLE, KeyError, TypeError) as error:
            raise AnswerLostError(f"{self._name} took the workflow, and its answer cannot be read") from error

    async def history(self, external_id: str) -> dict[str, Any] | None:
        """What became of a job; None: it is not over, or not known."""
        found = await self._get(f"/history/{quote(external_id, safe='')}")
        return found.get(external_id)

    async def recent_history(self) -> dict[str, Any]:
        """The last jobs that are over, by name."""
        return await self._get(f"/history?max_items={RECENT_JOBS}")

    async def queue_entry(self, wanted: str) -> QueueEntry | None:
        """Where a job stands, by its name or by ours; None: it does not wait and is not running."""
        queue = await self._get("/queue")
        for item in queue["queue_running"]:
            if wanted in _names(item):
                return QueueEntry(str(item[1]), None)
        running = len(queue["queue_running"])
        # The server keeps a heap, so the list is not in order.
        for place, item in enumerate(sorted(queue["queue_pending"], key=lambda item: item[0])):
            if wanted in _names(item):
                return QueueEntry(str(item[1]), place + running)
        return None

    async def dequeue(self, external_id: str) -> None:
        """Take a job out of the queue if it still waits there."""
        await self._post("/queue", {"delete": [external_id]})

    async def interrupt(self, external_id: str) -> None:
        """Stop a job if it is running; old servers stop whatever is running."""
        await self._post("/interrupt", {"prompt_id": external_id})

    async def upload(self, name: str, media_type: str, content: bytes) -> str:
        """Put a picture among the server's inputs; what a node names it by."""
        fields = {"type": "input", "subfolder": "fleek", "overwrite": "true"}
        boundary, body = _form(fields, name, media_type, content)
        kind = f"multipart/form-data; boundary={boundary}"
        answer = await self._send("POST", "/upload/image", body, content_type=kind)
        said = self._read(answer)
        return "/".join(part for part in (said.get("subfolder"), said["name"]) if part)

    def view(self, location: str) -> AsyncIterator[bytes]:
        """The bytes of an output."""
        request = self._request("GET", f"/view?{location}")
        return download(self._http, request, provider=self._name)

    async def _get(self, path: str) -> dict[str, Any]:
        return self._read(await self._send("GET", path))

    async def _post(self, path: str, body: Json) -> None:
        answer = await self._send("POST", path, msgspec.json.encode(body))
        if answer.status != HTTPStatus.OK:
            self._raise_refusal(answer)

    def _read(self, answer: Answer) -> dict[str, Any]:
        if answer.status != HTTPStatus.OK:
            self._raise_refusal(answer)
        try:
            return msgspec.json.decode(answer.body, type=dict[str, Any])
        except UNREADABLE as error:
            raise NotReachedError(f"{self._name}: its answer cannot be read") from error

    def _raise_refusal(self, answer: Answer) -> NoReturn:
        """Whatever else a call that costs nothing is answered, it says nothing of the job and may be made again."""
        error = from_answer(self._name, answer.status, answer.headers, "", spending=False)
        if isinstance(error, NotReachedError | BusyError | UnauthorizedError):
            raise error
        raise NotReachedError(error.message)

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        spending: bool = False,
    ) -> Answer:
        request = self._request(method, path, body, content_type=content_type, keep_alive=not spending)
        try:
            return await self._http.send(request)
        except OutgoingError as error:
            raise from_outgoing(self._name, error, spending=spending) from error

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        keep_alive: bool = True,
    ) -> Request:
        return Request(
            method=method,
            url=self._base + path,
            headers={**self._headers, **({"Content-Type": content_type} if body is not None else {})},
            body=body,
            timeout=self._timeout,
            most_bytes=MAX_ANSWER_BYTES,
            keep_alive=keep_alive,
            guarded=False,  # the operator has set the address
        )


def output_files(entry: Mapping[str, Any], nodes: Sequence[str]) -> list[str]:
    """Where the files are viewed that a job has saved, of whatever kind: `images`, `gifs`, `audio`, ...

    Args:
        entry: Of the history.
        nodes: Whose files count; none named: those of all.
    """
    found = [
        file
        for node, kinds in entry.get("outputs", {}).items()
        if not nodes or node in nodes
        for listed in kinds.values()
        for file in _files(listed)
    ]
    # Previews count only where nothing is saved.
    chosen = [file for file in found if file.type == "output"] or found
    return [urlencode(msgspec.structs.asdict(file), quote_via=quote) for file in chosen]


def belongs_to(entry: Mapping[str, Any], attempt_id: str) -> bool:
    """Whether an entry of the history is of our attempt."""
    return attempt_id in _names(entry.get("prompt", []))


def failure_message(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The message that ended a job badly: its kind and what it says; None: it went well."""
    status: Mapping[str, Any] = entry.get("status") or {}
    if status.get("status_str") != "error":
        return None
    for kind, said in reversed(status.get("messages", [])):
        if kind in {"execution_error", "execution_interrupted"}:
            return kind, said
    return "execution_error", {}


def _files(listed: Any) -> list[_File]:
    """The files that a node tells of; it may tell of other things too, such as a text."""
    try:
        return msgspec.convert(listed, list[_File])
    except msgspec.ValidationError:
        return []


def _names(item: Any) -> tuple[str, ...]:
    """A job's name and the one that we gave it: an item is number, name, nodes, extra data, ..."""
    match item:
        case [_, name, _, {"fleek_attempt": ours}, *_]:  # as ATTEMPT
            return (str(name), str(ours))
        case [_, name, *_]:
            return (str(name),)
        case _:
            return ()


def _refusal_text(body: bytes) -> str:
    """The words of a refusal: what is wrong as a whole, and with which nodes."""
    try:
        said: Any = msgspec.json.decode(body)
        parts = [_words(said["error"])]
        for node, found in dict(said.get("node_errors") or {}).items():
            faults = "; ".join(_words(fault) for fault in found["errors"])
            parts.append(f"node {node} ({found.get('class_type', '?')}): {faults}")
    except (*UNREADABLE, KeyError, TypeError, ValueError, AttributeError):
        return body[:500].decode(errors="replace")
    return " | ".join(parts)


def _words(error: Any) -> str:
    if isinstance(error, str):
        return error
    return ": ".join(str(error[key]) for key in ("message", "details") if error.get(key))


def _form(fields: Mapping[str, str], name: str, media_type: str, content: bytes) -> tuple[str, bytes]:
    """A form with one file, as RFC 7578 writes it; names are ours and need no escapes."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    )
    return boundary, b"".join([*parts, head.encode(), content, f"\r\n--{boundary}--\r\n".encode()])
