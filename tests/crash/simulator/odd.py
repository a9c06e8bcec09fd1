"""Answers and files as the world writes them: odd, and yet what was bought. Nothing of it may be lost."""

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from app.media_generator.dummy_media_generator.png import png_of_about

END_OF_PNG: Final = 12
"""Bytes of the chunk that ends a PNG."""


def _with_members(members: str) -> Callable[[bytes], bytes]:
    return lambda body: body.rstrip()[:-1] + f", {members}}}".encode()


ANSWERS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: b" \r\n\t" + body + b"\n\x00",
    _with_members('"score": NaN, "most": Infinity, "least": -Infinity'),
    _with_members('"seed": 123456789012345678901234567890, "huge": 1e999'),
    _with_members('"note": "half a pair \\ud83d and \\u0000 a null"'),
    lambda body: body.rstrip()[:-1] + b', "author": "Ren\xe9"}',
    _with_members('"deep": ' + "[" * 3_000 + "]" * 3_000),
    _with_members('"' + "long" * 5_000 + '": "' + "x" * 200_000 + '"'),
    lambda body: body[:1] + b'"logs": 7, "metrics": "none", "error": [], ' + body[1:],
    lambda body: json.dumps(json.loads(body)).encode("utf-16"),
)
"""What an object in JSON may be written as; what it says stays the same, where it says anything that matters."""


def url(address: str, nth: int) -> str:
    """An address that leads to the same place, given that relative ones are meant relative to where they were read."""
    path = "/" + address.split("/", 3)[3]
    return (address, path, address.replace("http:", "", 1), f"{address}?name=a b&of=ü")[nth % 4]


def outputs(urls: list[str], nth: int) -> Any:
    """A list of files, in one of the forms that models return."""
    return (urls, [None, *urls, ""], urls[0], {"image": urls[0], "mask": None}, [{"url": urls[0], "size": None}])[
        nth % 5
    ]


def _png(name: bytes, size: int) -> bytes:
    plain = png_of_about(size)
    text = b"tEXt" + b"purchase\x00" + name
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return plain[:-END_OF_PNG] + chunk + plain[-END_OF_PNG:]


def _late_jpeg(name: bytes, size: int) -> bytes:
    """One pixel; its frame header comes after more than 64 KiB of segments."""
    filler = b"".join(b"\xff\xe2\xff\xf0" + bytes(0xFFF0 - 2) for _ in range(2))
    comment = b"\xff\xfe" + struct.pack(">H", len(name) + 2) + name
    return b"\xff\xd8" + filler + comment + _GREY_JPEG[2:] + b"\x00" * (size % 7)


_GREY_JPEG: Final = bytes.fromhex(
    "ffd8ffdb004300" + "01" * 64 + "ffc0000b080001000101011100"
    "ffc40014000100000000000000000000000000000000ff"
    "c40014100100000000000000000000000000000000ffda0008010100003f0000ffd9"
)

FILES: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {
    "": _png,
    "file_cut": lambda name, size: _png(name, size)[:-20],
    "file_unknown": lambda name, size: b"\x93\x94\x95" + name + bytes(range(256)) * (size // 256),
    "file_pdf": lambda name, size: b"%PDF-1.7\n%" + name + b"\n" + b"0" * size + b"\n%%EOF\n",
    "file_svg": lambda name, _: b"<svg xmlns='http://www.w3.org/2000/svg'><!-- " + name + b" --></svg>",
    "file_trailing": lambda name, size: _png(b"one of many", size) + b"written by a phone: " + name,
    "file_late_header": _late_jpeg,
}
"""What a result may be, by the trouble that it makes; each has its purchase's name in it."""
