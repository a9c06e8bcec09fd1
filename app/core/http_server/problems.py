"""Every error response is a problem document (RFC 9457) with a stable `code` and no internal details."""

import errno
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.database.pool import UNAVAILABLE
from app.core.errors import (
    MOST_FAULTS,
    DatabaseFullError,
    DatabaseUnavailableError,
    DiskFullError,
    ExhaustedError,
    FleekError,
    OutOfMemoryError,
    TooManyOpenFilesError,
    UnavailableError,
    brief,
)
from app.core.redaction import redacted

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_IN_OUR_WORDS: Final = {"missing": "is required", "extra_forbidden": "there is no such field"}
"""Replaces Pydantic's messages that do not help a caller."""
CODES: Final = {
    400: ("bad_request", "Bad request"),
    401: ("unauthorized", "Unauthorized"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
    406: ("not_acceptable", "Not acceptable"),
    413: ("content_too_large", "Content too large"),
    415: ("unsupported_media_type", "Unsupported media type"),
    422: ("invalid_input", "Invalid input"),
}


_EXHAUSTED: Final[Mapping[int, tuple[type[ExhaustedError], str]]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), (DiskFullError, "the server's disk is full")),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), (TooManyOpenFilesError, "the server has too many files open")),
    errno.ENOMEM: (OutOfMemoryError, "the server has no memory for this request"),
}
"""By the number of the system's error."""
RETRY_SECONDS: Final = "2"


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(examples=["input.width"])
    message: str = Field(examples=["16 is less than the minimum of 64"])
    given: Any = Field(default=None, examples=[16])
    allowed: Any = Field(default=None, examples=[{"type": "integer", "minimum": 64, "maximum": 2048}])


class Problem(BaseModel):
    """An error response."""

    type: str = Field(description="Names the kind of problem.", examples=["urn:fleek:problem:invalid_input"])
    title: str = Field(description="The kind of problem in words.", examples=["Invalid input"])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(description="What happened this time, and what to change.")
    code: str = Field(description="The stable name that programs act on.", examples=["invalid_input"])
    errors: list[FieldProblem] | None = Field(default=None, description="One entry for each wrong field.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The entries of `responses=` for the error responses of an endpoint."""
    return {
        status: {
            "description": CODES.get(status, ("", _TITLES.get(status, "Error")))[1],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


_TITLES: Final = {
    403: "Sent by a page of another site",
    408: "Request too slow",
    409: "Conflict",
    421: "Not the name of this API",
    429: "Too many requests",
    500: "Internal error",
    503: "Temporarily unavailable",
}
ANY_REQUEST: Final = (400, 421)
"""How any request may be refused before its operation sees it: `request_guard.py`."""
ANY_CHANGE: Final = (403,)
"""Likewise, any request that changes something."""
_READS: Final = frozenset({"get", "head"})


class DocumentedApp(FastAPI):
    """An application whose OpenAPI document contains the schema `Problem`, and what no operation needs to declare."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()
        for operations in document["paths"].values():
            for method, operation in operations.items():
                slow = (408,) if "requestBody" in operation else ()
                refusals = (*ANY_REQUEST, *(() if method in _READS else ANY_CHANGE), *slow)
                for status, described in problems(*refusals).items():
                    operation["responses"].setdefault(str(status), described)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        found = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(found.pop("$defs", {}))
        schemas["Problem"] = found
        return document


def add_problem_answers(app: FastAPI) -> None:
    """Make the application return every error as a problem document."""
    app.add_exception_handler(FleekError, _fleek_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    for error in (*UNAVAILABLE, MemoryError):
        app.add_exception_handler(error, _unavailable)
    app.add_exception_handler(Exception, _internal_error)


async def explain(request: Request, error: Exception) -> Response | None:
    """The problem document for an error; None: it is a bug in Fleek."""
    if isinstance(error, FleekError):
        return await _fleek_error(request, error)
    if isinstance(error, RequestValidationError):
        return await _validation_error(request, error)
    if isinstance(error, (*UNAVAILABLE, MemoryError)):
        return await _unavailable(request, error)
    return None


def document(status: int, code: str, title: str, detail: str) -> dict[str, Any]:
    """The members that every problem document has."""
    return {
        "type": f"urn:fleek:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }


def answer(status: int, code: str, title: str, detail: str, members: Mapping[str, Any]) -> Response:
    """A problem document as a response."""
    body = msgspec.json.encode(redacted({**document(status, code, title, detail), **members}), enc_hook=str)
    return Response(body, status_code=status, media_type=MEDIA_TYPE)


async def _fleek_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FleekError)  # noqa: S101 - registered for it
    errors = {"errors": list(error.errors)} if error.errors else {}
    response = answer(error.status, error.code, error.title, error.detail, {**errors, **error.members})
    response.headers.update(error.headers)
    return response


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    errors = [_field_problem(fault) for fault in islice(error.errors(), MOST_FAULTS)]
    detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in errors)
    return answer(422, *CODES[422], detail, {"errors": errors})


def _field_problem(fault: Mapping[str, Any]) -> dict[str, Any]:
    place = [str(part) for part in fault["loc"]]
    return {
        "field": ".".join(place[1:] or place),
        "message": _IN_OUR_WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, "),
        # For a missing field or invalid JSON, Pydantic repeats everything around it.
        "given": None if fault["type"] in {"missing", "json_invalid"} else brief(fault.get("input")),
        "allowed": fault.get("fields")
        or {name: value for name, value in fault.get("ctx", {}).items() if name != "error"}
        or None,
    }


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    code, title = CODES.get(error.status_code, ("http_error", "Error"))
    detail = str(error.detail)
    if error.status_code == 404:  # noqa: PLR2004 - the router's own
        detail = f"there is nothing at {request.url.path}; /docs lists every path"
    elif error.status_code == 405:  # noqa: PLR2004 - the router's own
        detail = f"{request.method} is not possible at {request.url.path}"
    response = answer(error.status_code, code, title, detail, {})
    response.headers.update(error.headers or {})
    if "allow" in response.headers:
        response.headers["allow"] = _allowed(request)
    return response


def _allowed(request: Request) -> str:
    """The methods of all routes with this path; the router names only those of the first."""
    app: FastAPI = request.app
    path: str = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    methods = {
        method
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if route.path_regex.match(path)
    }
    # Whatever can be read can be described: `hot_route.py`.
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


async def _unavailable(request: Request, error: Exception) -> Response:
    kind, why = _lacking(error)
    log.error(kind.code, error=repr(error))
    return await _fleek_error(request, kind(f"{why}; try again soon", headers={"Retry-After": RETRY_SECONDS}))


def _lacking(error: Exception) -> tuple[type[UnavailableError], str]:
    """What there is not enough of; as a rule, it is the database that does not answer."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else error.errno if isinstance(error, OSError) else None
    if isinstance(error, asyncpg.DiskFullError):
        return DatabaseFullError, "the database cannot write, because its disk is full"
    if number is not None and number in _EXHAUSTED:
        return _EXHAUSTED[number]
    return DatabaseUnavailableError, "the database does not answer"


async def _internal_error(_request: Request, error: Exception) -> Response:
    log.error("request_failed", exc_info=error)
    detail = "something went wrong on our side; it has been logged"
    response = answer(500, "internal_error", "Internal error", detail, {})
    # Sent by Starlette's outermost layer, beyond the one that adds it to every other response.
    response.headers["x-content-type-options"] = "nosniff"
    return response
