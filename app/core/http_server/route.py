"""What every operation keeps, whoever parses its request: FastAPI's own route or `HotRoute`.

- A parameter of the query that the operation does not know is refused, and so is one that is given twice where one is
  meant: to ignore it would be to answer another question.
- HEAD reads nothing of a body that would be streamed.
- A read whose database connection turns out to have ended is done once more, on a new connection: it changes nothing.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias, get_args, get_origin

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.core.database.pool import CONNECTION_LOST

Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]

READS: Final = frozenset({"GET", "HEAD"})
HEAD_ONLY: Final = "fleek.head_only"
"""In the scope of a HEAD that is answered as GET."""
LONGEST_NAME: Final = 64
"""Characters of an unknown name that are compared and repeated: it may be as long as the request."""


class Route(APIRoute):
    """A route of an operation that knows its parameters."""

    takes_any_query: ClassVar[bool] = False
    """Whether unknown parameters are ignored."""

    def get_route_handler(self) -> Handler:
        """The handler that Starlette calls."""
        return self.guarded(super().get_route_handler())

    def guarded(self, handle: Handler) -> Handler:
        """The same with what every operation keeps."""
        known = None if self.takes_any_query else self.parameters

        async def handle_guarded(request: Request) -> Response:
            if known is not None and request.scope["query_string"]:
                _check(request, known)
            try:
                response = await handle(request)
            except CONNECTION_LOST:
                if request.method not in READS:
                    raise
                response = await handle(request)
            if request.method == "HEAD" or HEAD_ONLY in request.scope:
                await _leave_out_body(response)
            return response

        return handle_guarded

    @property
    def parameters(self) -> Mapping[str, bool]:
        """The names of the query's parameters; whether they may be given several times."""
        found = dict[str, bool]()
        for field in self.dependant.query_params:
            annotation: Any = field.field_info.annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                found |= {
                    given.alias or name: is_list(given.annotation) for name, given in annotation.model_fields.items()
                }
            else:
                found[field.alias] = is_list(annotation)
        return MappingProxyType(found)


class TolerantRoute(Route):
    """For operations that others call with parameters of their own: load balancers, scrapers, pages."""

    takes_any_query = True


async def _leave_out_body(response: Response) -> None:
    """Close what would be streamed, without reading it; what is there already costs nothing."""
    if isinstance(response, StreamingResponse):
        unread: Any = response.body_iterator
        response.body_iterator = _nothing()
        if hasattr(unread, "aclose"):
            await unread.aclose()


async def _nothing() -> AsyncGenerator[bytes]:
    return
    yield


def is_list(annotation: Any) -> bool:
    """Whether it is a list, or a list or None."""
    return list in {get_origin(annotation), *map(get_origin, get_args(annotation))}


def _check(request: Request, known: Mapping[str, bool]) -> None:
    """Refuse the query's unknown and repeated parameters.

    Raises:
        RequestValidationError: With one entry for each.
    """
    given = Counter(name for name, _ in request.query_params.multi_items())
    wrong = [_unknown(name, request.query_params[name], known) for name in given if name not in known]
    wrong += [
        {"type": "repeated", "loc": ("query", name), "msg": "is given several times; give it once", "input": None}
        for name, times in given.items()
        if times > 1 and not known.get(name, True)
    ]
    if wrong:
        raise RequestValidationError(wrong)


def _unknown(name: str, value: str, known: Collection[str]) -> dict[str, Any]:
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
    words = unknown_name("parameter", name, known)
    if not known:
        words += "; this operation takes none"
    return {"type": "unknown_parameter", "loc": ("query", shown), "msg": words, "fields": list(known), "input": value}


def unknown_name(what: str, name: str, known: Collection[str], otherwise: str = "") -> str:
    """Says that there is no such field or parameter, and which may be meant; else `otherwise`, a hint."""
    # A name may be as long as the body, and comparing all of it would take seconds.
    near = get_close_matches(name[:LONGEST_NAME], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else otherwise
    return f"there is no such {what}; {hint}" if hint else f"there is no such {what}"


SEVERAL: Final = "In any case; several separated by commas, or repeated."
"""The end of the description of a filter that takes several values."""


def several(values: Iterable[str]) -> BeforeValidator:
    """Reads a filter that takes several of these values: repeated, or separated by commas, in any case."""
    known = {value.casefold(): value for value in values}

    def read(given: str | Sequence[str]) -> list[str]:
        texts = [given] if isinstance(given, str) else given
        parts = [part.strip() for text in texts for part in text.split(",")]
        for part in parts:
            if part.casefold() not in known:
                near = get_close_matches(part[:LONGEST_NAME].casefold(), known, n=1)
                hint = f"; did you mean {known[near[0]]}?" if near else ""
                raise PydanticCustomError(
                    "unknown_value",
                    "must be one of {expected}, or several of them, separated by commas{hint}",
                    {"expected": ", ".join(known.values()), "hint": hint},
                )
        return list(dict.fromkeys(known[part.casefold()] for part in parts))

    return BeforeValidator(read)
