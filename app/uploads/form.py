"""A form with one file, parsed as a stream: nothing of it is kept in memory or on disk.

The parser is that of the package `multipart`, which is fed chunk by chunk. Starlette's own reads the whole form before
it returns a byte of it, and spools files to disk.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Final

from multipart import (  # pyright: ignore[reportMissingTypeStubs] - it has none
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,  # pyright: ignore[reportUnknownVariableType] - untyped
)

from app.core.errors import brief
from app.core.http_server.hot_route import UnsupportedMediaTypeError
from app.uploads.errors import InvalidFormError

FIELD: Final = "file"
MAX_OVERHEAD_BYTES: Final = 64 * 1024
"""What a form may have in addition to its file."""
_MAX_BOUNDARY: Final = 70  # RFC 2046, section 5.1.1


class FileForm:
    """One form; call `begin`, then `chunks`."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        """See `FileForm`.

        Args:
            content_type: The header of the request.
            body: The chunks of the request's body.

        Raises:
            UnsupportedMediaTypeError: It is not a form that can hold a file.
            InvalidFormError: The header names no boundary.
        """
        kind: str
        options: dict[str, str]
        kind, options = parse_options_header(content_type)
        if kind != "multipart/form-data":
            raise UnsupportedMediaTypeError(f"send a form with the file in its field {FIELD!r}, as curl -F does")
        boundary = options.get("boundary", "")
        if not (0 < len(boundary) <= _MAX_BOUNDARY and boundary.isascii() and boundary.isprintable()):
            raise InvalidFormError("the header Content-Type names no boundary, or none that is allowed")
        self._parser = PushMultipartParser(boundary, max_segment_count=2)  # the second is refused by its name
        self._events = self._read(body)

    async def begin(self) -> str:
        """The file's name as the client gives it; may be empty.

        Raises:
            InvalidFormError: The form does not start with a file.
        """
        async for event in self._events:
            if isinstance(event, MultipartSegment):
                if event.name != FIELD:
                    raise _one_too_many(event.name)
                if event.filename is None:
                    raise InvalidFormError(
                        f"the form's field {FIELD!r} must hold a file with a name, as curl -F sends it"
                    )
                return str(event.filename)
        raise InvalidFormError("the form is empty, or its boundary is not the one that the header names")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The file's bytes, up to the end of the form.

        Raises:
            InvalidFormError: There is another field, or the form is truncated.
        """
        async for event in self._events:
            if isinstance(event, MultipartSegment):
                raise _one_too_many(event.name)
            if event is not None:
                yield bytes(event)

    async def _read(self, body: AsyncIterator[bytes]) -> AsyncIterator[MultipartSegment | bytes | bytearray | None]:
        async for chunk in body:
            for event in self._parsed(chunk):
                yield event
        for event in self._parsed(b""):
            yield event

    def _parsed(self, chunk: bytes) -> Iterator[MultipartSegment | bytes | bytearray | None]:
        try:
            yield from self._parser.parse(chunk)
        except MultipartError as error:
            raise InvalidFormError(
                f"the form cannot be read: {error}; it must hold one file and end with its boundary"
            ) from None


def _one_too_many(name: str | None) -> InvalidFormError:
    """The error for a field beside the file, or a second file; `name` is None where it has none."""
    if name == FIELD:
        words = f"holds a second {FIELD!r}: send one file with each request"
        message = "is given several times; give it once"
    else:
        words = f"has a field {brief(name)!r} that is not known: its only field is {FIELD!r}, with the file"
        message = "there is no such field"
    wrong = {"field": brief(name or ""), "message": message, "given": None, "allowed": [FIELD]}
    return InvalidFormError(f"the form {words}", errors=[wrong])
