"""A FastAPI route that runs as lean as Starlette: for the few operations that carry the load.

Declared like any other, so OpenAPI knows all about it; its parameters are read by FastAPI's own fields. What
it leaves out: dependencies, response models at run time, forms, cookies, headers as parameters. The endpoint
takes `request` first and answers with a Response.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from app.core.errors import FleekError


class UnsupportedMediaTypeError(FleekError):
    """The body is not sent as JSON."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class HotRoute(APIRoute):
    """Binds path, query and one JSON body, and calls the endpoint."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that Starlette calls."""
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint
        paths, queries, bodies = (
            self.dependant.path_params,
            self.dependant.query_params,
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
            for field in queries:
                if field.alias in request.query_params:
                    given = request.query_params[field.alias]
                    values[field.name], wrong = field.validate(given, loc=("query", field.alias))
                    errors += wrong
                else:
                    values[field.name] = field.get_default()
            if errors:
                raise RequestValidationError(errors)
            if body is not None:
                values[body[0]] = await _read(request, body[1])
            return await endpoint(request, **values)

        return handle


async def _read(request: Request, adapter: TypeAdapter[Any]) -> Any:
    if "json" not in request.headers.get("content-type", ""):
        raise UnsupportedMediaTypeError("send the body as JSON, with the header Content-Type: application/json")
    try:
        return adapter.validate_json(await request.body())
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from None
