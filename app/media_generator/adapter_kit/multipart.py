"""Builds multipart/form-data bodies with files."""

from collections.abc import Mapping, Sequence

from app.core.ids import new_id
from app.media_generator.media_generator_model import InputFile


async def one_file(field: str, file: InputFile) -> tuple[bytes, str]:
    """A form with one file: body and Content-Type. The file is held in memory while it is sent."""
    content = b"".join([chunk async for chunk in file.chunks()])
    return form({}, [(field, file.name, file.media_type, content)])


def form(fields: Mapping[str, str], files: Sequence[tuple[str, str, str, bytes]]) -> tuple[bytes, str]:
    """A form: body and Content-Type.

    Args:
        fields: Text fields by name.
        files: Field, name, media type and content of each.
    """
    boundary = f"fleek-{new_id().hex}"
    parts = [_part(boundary, name, "", value.encode()) for name, value in fields.items()]
    for field, name, media_type, content in files:
        clean = name.translate({ord('"'): "_", ord("\\"): "_", ord("\r"): "_", ord("\n"): "_"})
        parts.append(_part(boundary, field, f'; filename="{clean}"\r\nContent-Type: {media_type}', content))
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def _part(boundary: str, field: str, more: str, content: bytes) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"
