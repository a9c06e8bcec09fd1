"""A FastAPI route that is as lean as Starlette's, for the few operations that carry the load.

Declared like any other, so OpenAPI describes it; its parameters are parsed by FastAPI's own fields. Not supported:
dependencies, response models at run time, forms, cookies, headers as parameters. The endpoint takes `request` first
and returns a Response.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeAlias

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import MOST_FAULTS, FleekError
from app.core.http_server.route import HEAD_ONLY, Handler, Route, is_list, unknown_name

Explain: TypeAlias = Callable[[Request, Exception], Awaitable[Response | None]]

MAX_BODY_BYTES: Final = 1024 * 1024
_IS_JSON: Final = re.compile(r"application/(?:[\w.-]+\+)?json")


class UnsupportedMediaTypeError(FleekError):
    """The body is not sent as JSON."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class ContentTooLargeError(FleekError):
    """The body is larger than any request may be."""

    status = 413
    code = "content_too_large"
    title = "Content too large"


class HotRoute(Route):
    """Binds path, query and one JSON body, and calls the endpoint."""

    def get_route_handler(self) -> Handler:
        """The handler that Starlette calls."""
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint
        paths, queries, bodies = (
            self.dependant.path_params,
            [(field, is_list(field.field_info.annotation)) for field in self.dependant.query_params],
            self.dependant.body_params,
        )
        if self.dependant.dependencies or len(bodies) > 1:
            raise TypeError(f"{self.path}: a hot route takes no dependencies and one body")
        annotation: Any = bodies[0].field_info.annotation if bodies else None
        body = (bodies[0].name, TypeAdapter[Any](annotation)) if bodies else None

        async def handle(request: Request) -> Response:
            values: dict[str, Any] = {}
            errors: list[Any] = []
            for field in paths:
                values[field.name], wrong = field.validate(request.path_params[field.alias], loc=("path", field.alias))
                errors += wrong
            for field, takes_several in queries:
                if field.alias in request.query_params:
                    all_given = request.query_params.getlist(field.alias)
                    given = all_given if takes_several and len(all_given) > 1 else all_given[-1]
                    values[field.name], wrong = field.validate(given, loc=("query", field.alias))
                    errors += wrong
                else:
                    values[field.name] = field.get_default()
            if errors:
                raise RequestValidationError(errors)
            if body is not None:
                values[body[0]] = await _read(request, body[1], annotation)
            return await endpoint(request, **values)

        return self.guarded(handle)


class TolerantHotRoute(HotRoute):
    """For operations that others call with parameters of their own, such as callbacks."""

    takes_any_query = True


async def _read(request: Request, adapter: TypeAdapter[Any], annotation: Any) -> Any:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # Strictly: types that a browser sends cross-origin without a preflight, such as text/plain, must not pass.
    if not _IS_JSON.fullmatch(media_type):
        raise UnsupportedMediaTypeError("send the body as JSON, with the header Content-Type: application/json")
    try:
        return adapter.validate_json(await read_body(request, MAX_BODY_BYTES))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        raise RequestValidationError([_fault_of_body(fault, annotation) for fault in faults[:MOST_FAULTS]]) from None


def _fault_of_body(fault: Mapping[str, Any], annotation: Any) -> dict[str, Any]:
    """As FastAPI reports it; for an unknown field also the known ones, and what may be meant."""
    entry = {**fault, "loc": ("body", *fault["loc"])}
    fields: Mapping[str, Any] = getattr(annotation, "model_fields", {})
    if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1 and fields:
        words = unknown_name("field", str(fault["loc"][0]), fields, getattr(annotation, "UNKNOWN_FIELD_HINT", ""))
        entry |= {"type": "unknown_field", "msg": words, "fields": list(fields)}
    return entry


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        ContentTooLargeError: It has more than `most` bytes.
    """
    return b"".join([chunk async for chunk in limited(request.stream(), most)])


async def limited(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The same chunks, up to `most` bytes in all.

    Raises:
        ContentTooLargeError: There are more.
    """
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise ContentTooLargeError(f"the body is larger than {most} bytes")
        yield chunk


_Served: TypeAlias = tuple[HotRoute, re.Pattern[str], Handler]


class HotPaths:
    """Serves the hot routes before FastAPI's own machinery, which costs more than their work.

    Every other request is passed on to the application, HEAD as GET.
    """

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute], explain: Explain) -> None:
        """Serve the hot ones among `routes`.

        Args:
            app: The application behind this middleware.
            routes: In the order in which they are matched.
            explain: Makes the response to an error of the caller; None: it is a bug.
        """
        self._app = app
        self._explain = explain
        self._routes = dict[str, list[_Served]]()
        for route in routes:
            if isinstance(route, HotRoute):
                served = route, route.path_regex, route.get_route_handler()
                for method in route.methods or ():
                    self._routes.setdefault(method, []).append(served)
        # HEAD is handled as GET where it has no operation of its own; the server leaves out the body.
        self._routes["HEAD"] = self._routes.get("HEAD", []) + self._routes.get("GET", [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            path: str = scope["path"].removeprefix(scope.get("root_path", ""))
            for route, pattern, handler in self._routes.get(scope["method"], ()):
                if match := pattern.match(path):
                    convertors = route.param_convertors
                    scope["route"] = route
                    scope["path_params"] = {
                        name: convertors[name].convert(value) for name, value in match.groupdict().items()
                    }
                    await self._answer(handler, Request(scope, receive), send)
                    return
            if scope["method"] == "HEAD":
                await self._as_get(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _as_get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer HEAD as GET: FastAPI's own routes would not."""
        asked = {**scope, "method": "GET", HEAD_ONLY: True}
        try:
            await self._app(asked, receive, send)
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]

    async def _answer(self, handler: Handler, request: Request, send: Send) -> None:
        try:
            response = await handler(request)
        except ClientDisconnect:
            return  # there is no client to respond to
        except Exception as error:
            explained = await self._explain(request, error)
            if explained is None:
                raise
            response = explained
        await response(request.scope, request.receive, send)
