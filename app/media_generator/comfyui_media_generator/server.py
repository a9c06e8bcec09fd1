"""Calls to a ComfyUI server, and what its answers mean. Only `queue_prompt` starts work."""

import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from app.core.http_client.protocol import Answer, Http, OutgoingError, Request
from app.media_generator.adapter_kit.file_places import data_chunks, find_places, is_data_uri, is_same_origin
from app.media_generator.adapter_kit.http import REFUSALS, download, from_answer, from_outgoing, is_success
from app.media_generator.adapter_kit.lenient_json import entries, error_text, members, parse, read, read_value
from app.media_generator.errors import BusyError, NotReachedError, UnauthorizedError, UnreadableAnswerError
from app.media_generator.model_card import Json

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Largest answer: the history repeats the whole workflow."""
RECENT_JOBS: Final = 64
"""Entries of the history that are searched for a job of an old server, which chooses its own ids."""
ATTEMPT: Final = "fleek_attempt"
"""Key of the attempt's id in a job's `extra_data`, which queue and history repeat."""


class _File(msgspec.Struct, frozen=True):
    """A file on the server."""

    filename: str
    subfolder: str = ""
    type: str = "output"


_FILE_PATH: Final = re.compile(r"(?:[^\s/\\:][^/\\\x00:]*/)*[^\s/\\][^/\\\x00]*\.[A-Za-z0-9]{2,5}")
"""What a file is called, with its folder, where a node names nothing else."""
_UNSAVED: Final = frozenset({"temp", "input"})
"""Types of files that are previews, or were there before."""
_ATTEMPT_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TEXTS: Final = frozenset({"text", "string", "strings", "prompt", "caption"})
"""Outputs that are shown, not saved."""


class _Queued(msgspec.Struct):
    prompt_id: str = ""


class _Stored(msgspec.Struct):
    name: str
    subfolder: str = ""


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A job's position in the queue."""

    external_id: str
    ahead: int | None
    """Number of jobs ahead of it; None: it is running."""


class Server:
    """One ComfyUI server."""

    def __init__(self, name: str, http: Http, base_url: str, token: str | None, timeout: float) -> None:
        self._name = name
        self._http = http
        self._base = base_url
        self.url = f"{base_url}/"
        self._timeout = timeout
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def queue_prompt(self, nodes: Mapping[str, Json], attempt_id: str) -> str:
        """Queue a workflow; return the job's id, which is the attempt's except on old servers.

        Raises:
            ProviderError: It is refused, or the outcome is unknown.
        """
        body = {"prompt": nodes, "prompt_id": attempt_id, "extra_data": {ATTEMPT: attempt_id}}
        answer = await self._send("POST", "/prompt", msgspec.json.encode(body), spending=True)
        if not is_success(answer.status):
            message = _refusal_text(answer.body)
            # A workflow is checked before it is queued: post_prompt in server.py of ComfyUI.
            raise from_answer(self._name, answer.status, answer.headers, message, spending=True, unspent=REFUSALS)
        prompt_id = read(answer.body, _Queued, of=self._name).prompt_id
        if not prompt_id:
            raise UnreadableAnswerError(f"{self._name} accepted the workflow, but does not say under which id")
        return prompt_id

    async def history(self, external_id: str) -> dict[str, Any] | None:
        """The history entry of a finished job; None: it is not finished, or unknown."""
        found = await self._get(f"/history/{quote(external_id, safe='')}")
        if found and external_id not in found:
            raise NotReachedError(f"{self._name} answered about another job")
        if found and not members(found[external_id]):
            raise UnreadableAnswerError(f"{self._name} has finished the job, but does not say what became of it")
        return found.get(external_id)

    async def recent_history(self) -> dict[str, Any]:
        """The most recently finished jobs, by id."""
        return await self._get(f"/history?max_items={RECENT_JOBS}")

    async def queue_entry(self, job_id: str, *, by_attempt: bool = False) -> QueueEntry | None:
        """The queue entry of a job, by its id or the attempt's; None: it is neither waiting nor running.

        Args:
            job_id: The job's, or the attempt's.
            by_attempt: It is the attempt's, so that every entry has to tell whose it is.

        Raises:
            UnreadableAnswerError: An entry cannot be read, so that it may be the job.
        """
        queue = await self._get("/queue")
        running, pending = queue.get("queue_running"), queue.get("queue_pending")
        if not isinstance(running, list) or not isinstance(pending, list):
            raise UnreadableAnswerError(f"{self._name} did not answer with its queue")
        running, pending = entries(running), entries(pending)
        for item in running:
            if job_id in _ids(item):
                return QueueEntry(str(item[1]), None)
        # The server keeps a heap, so the list is unordered.
        for place, item in enumerate(sorted(pending, key=_number)):
            if job_id in _ids(item):
                return QueueEntry(str(item[1]), place + len(running))
        if not all(map(tells_attempt if by_attempt else _ids, (*running, *pending))):
            raise UnreadableAnswerError(f"{self._name} has a job in its queue that cannot be read")
        return None

    async def dequeue(self, external_id: str) -> None:
        """Remove a job from the queue if it is still waiting."""
        await self._post("/queue", {"delete": [external_id]})

    async def interrupt(self, external_id: str) -> None:
        """Stop a job if it is running; old servers stop whichever job is running."""
        await self._post("/interrupt", {"prompt_id": external_id})

    async def upload(self, name: str, media_type: str, content: bytes) -> str:
        """Upload an image as an input file; return the name by which nodes refer to it."""
        fields = {"type": "input", "subfolder": "fleek", "overwrite": "true"}
        boundary, body = _form(fields, name, media_type, content)
        kind = f"multipart/form-data; boundary={boundary}"
        answer = await self._send("POST", "/upload/image", body, content_type=kind)
        self._check(answer)
        stored = read(answer.body, _Stored, of=self._name)
        return "/".join(part for part in (stored.subfolder, stored.name) if part)

    def view(self, location: str) -> AsyncIterator[bytes]:
        """The bytes of an output."""
        if is_data_uri(location):
            return data_chunks(location)
        if "://" not in location:
            return download(self._http, self._request("GET", f"/view?{location}"), provider=self._name)
        ours = is_same_origin(location, self._base)
        request = Request(method="GET", url=location, headers=self._headers if ours else {}, guarded=not ours)
        return download(self._http, request, provider=self._name)

    async def _get(self, path: str) -> dict[str, Any]:
        return self._read(await self._send("GET", path))

    async def _post(self, path: str, body: Json) -> None:
        self._check(await self._send("POST", path, msgspec.json.encode(body)))

    def _read(self, answer: Answer) -> dict[str, Any]:
        self._check(answer)
        value = parse(answer.body, of=self._name)
        if not isinstance(value, dict):
            raise UnreadableAnswerError(f"{self._name} answered with something that is no object")
        return members(value)

    def _check(self, answer: Answer) -> None:
        """Raise the error of a call that costs nothing: it says nothing about the job and may be repeated."""
        if is_success(answer.status):
            return
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
        request = self._request(method, path, body, content_type=content_type)
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
    ) -> Request:
        # Never on a kept connection: that a job is in no list cannot be told from the list of another call.
        return Request(
            method=method,
            url=self._base + path,
            headers={**self._headers, **({"Content-Type": content_type} if body is not None else {})},
            body=body,
            timeout=self._timeout,
            most_bytes=MAX_ANSWER_BYTES,
            guarded=False,  # the operator configured the address
        )


def output_files(entry: Mapping[str, Any], nodes: Sequence[str], base: str, *, saved_only: bool = False) -> list[str]:
    """Queries for `/view` of the files that a job saved, of any kind: `images`, `gifs`, `audio`, ...

    Some nodes give an address, or the file as a data URI, instead of a name.

    Args:
        entry: Of the history.
        nodes: Nodes whose files count; empty: all.
        base: The server's URL.
        saved_only: Without previews, which count only where no file is saved.
    """
    found = [
        file
        for node, kinds in members(entry.get("outputs")).items()
        if not nodes or node in nodes
        for kind, listed in members(kinds).items()
        if kind not in _TEXTS
        for file in _files(listed, base)
    ]
    saved = [file for file in found if isinstance(file, str) or file.type not in _UNSAVED]
    chosen = saved if saved_only else saved or found
    return [
        file if isinstance(file, str) else urlencode(msgspec.structs.asdict(file), quote_via=quote) for file in chosen
    ]


def belongs_to(entry: Any, attempt_id: str) -> bool:
    """Whether a history entry belongs to our attempt."""
    return attempt_id in _ids(members(entry).get("prompt"))


def tells_attempt(item: Any) -> bool:
    """Whether a job says whose it is: another attempt's, or nobody's who names one."""
    match item:
        case [_, str(), _, {"fleek_attempt": attempt_id}, *_]:  # as ATTEMPT
            return isinstance(attempt_id, str) and bool(_ATTEMPT_ID.fullmatch(attempt_id))
        case [_, str(), _, dict(), *_]:
            return True
        case _:
            return False


def failure_message(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Kind and details of the message that ended a failed job; None: it succeeded."""
    status = members(entry.get("status"))
    if status.get("status_str") != "error":
        return None
    for message in reversed(entries(status.get("messages"))):
        match message:
            case ["execution_error" | "execution_interrupted" as kind, *details]:
                return kind, members(details[0]) if details else {}
            case _:
                continue
    return "execution_error", {}


def _files(listed: Any, base: str) -> list[_File | str]:
    """The files in a node's output, which may hold other things too, such as text."""
    if isinstance(listed, list):
        return [file for one in entries(listed) for file in _files(one, base)]
    if isinstance(listed, str) and _FILE_PATH.fullmatch(listed):
        subfolder, _, name = listed.rpartition("/")
        return [_File(name, subfolder)]
    fields = members(listed)
    given = fields.get("filename")
    if isinstance(given, str) and given:
        file = read_value(fields, _File)
        return [msgspec.structs.replace(file, type=file.type.strip().lower())]
    nested = [file for one in fields.values() if isinstance(one, dict | list) for file in _files(one, base)]
    return nested + [place for place in find_places(listed, base) if place not in nested]


def _number(item: Any) -> float:
    """The place of a job in the queue."""
    match item:
        case [int() | float() as number, *_]:
            return number
        case _:
            return 0


def _ids(item: Any) -> tuple[str, ...]:
    """A job's id and our attempt's: an item is number, id, nodes, extra data, ..."""
    match item:
        case [_, job_id, _, {"fleek_attempt": attempt_id}, *_]:  # as ATTEMPT
            return (str(job_id), str(attempt_id))
        case [_, job_id, *_]:
            return (str(job_id),)
        case _:
            return ()


def _refusal_text(body: bytes) -> str:
    """The message of a refusal: the overall error, and the errors of each node."""
    try:
        refusal = members(parse(body))
    except UnreadableAnswerError:
        return body[:500].decode(errors="replace")
    parts = [_message(refusal.get("error"))]
    for node, found in members(refusal.get("node_errors")).items():
        faults = "; ".join(map(_message, entries(members(found).get("errors"))))
        parts.append(f"node {node} ({members(found).get('class_type', '?')}): {faults}")
    return " | ".join(filter(None, parts)) or body[:500].decode(errors="replace")


def _message(error: Any) -> str:
    fields = members(error)
    parts = [error_text(fields.get(key)) for key in ("message", "details")] if fields else [error_text(error)]
    return ": ".join(filter(None, parts))


def _form(fields: Mapping[str, str], name: str, media_type: str, content: bytes) -> tuple[str, bytes]:
    """A form with one file, as in RFC 7578; the names are ours and need no escaping."""
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
