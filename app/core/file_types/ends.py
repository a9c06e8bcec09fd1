"""Whether a file that arrived in pieces is whole: "cut off" is said only where its format proves it."""

from typing import Final, Protocol

from app.core.file_types.bmff import HEADER, LARGE_HEADER
from app.core.file_types.gif import GifBlocks
from app.core.file_types.jpeg import JpegSegments
from app.core.file_types.kind import HEAD_BYTES, JSON, Kind
from app.core.file_types.pictures import icon_entries
from app.core.file_types.streams import EBML

_TAIL_BYTES: Final = 64
_MARKS: Final = {
    "image/png": b"IEND\xaeB`\x82",
    "image/apng": b"IEND\xaeB`\x82",
    # The end of an archive's list of files, without which nothing in it can be found.
    "application/zip": b"PK\x05\x06",
    "model/vnd.usdz+zip": b"PK\x05\x06",
    "model/3mf": b"PK\x05\x06",
}
"""The bytes that end a format. More may follow: cameras and some programs append data."""
_BOXES: Final = frozenset(
    {
        *("video/mp4", "video/quicktime", "video/x-m4v", "video/3gpp", "video/3gpp2", "audio/mp4", "audio/3gpp"),
        *("image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence", "image/avif", "audio/3gpp2"),
    }
)
_DESCRIPTIONS: Final = frozenset({b"moov", b"meta", b"moof"})
"""Boxes without one of which nothing in the file can be found."""
_NAMES: Final = _DESCRIPTIONS | {
    *(b"ftyp", b"mdat", b"free", b"skip", b"wide", b"uuid", b"mfra", b"sidx", b"ssix", b"styp", b"pdin", b"prft"),
    *(b"emsg", b"pnot", b"udta", b"jxlc", b"jxlp"),
}
"""Boxes of the first level. A name that is none of them may be the beginning of appended bytes."""
_MATROSKA: Final = frozenset({"video/webm", "video/x-matroska"})
_SEGMENT: Final = b"\x18\x53\x80\x67"
_UNKNOWN_LENGTHS: Final = frozenset({0, 0x7FFF_FFFF, 0xFFFF_FFFF})
"""Placeholders that encoders write when they do not know the length yet."""
_FACET, _STL_HEADER = 50, 84


class _End(Protocol):
    """How one kind of format ends."""

    def feed(self, chunk: bytes) -> None: ...

    @property
    def is_complete(self) -> bool: ...


class EndDetector:
    """Detects, from the chunks of a file, whether the end that its format defines has been reached."""

    def __init__(self, kind: Kind, head: bytes) -> None:
        """See `EndDetector`.

        Args:
            kind: As described.
            head: The file's beginning, HEAD_BYTES or more unless it is shorter.
        """
        self._end = _end_of(kind, head[:HEAD_BYTES])
        self.size = 0
        """Bytes fed so far."""

    def feed(self, chunk: bytes) -> None:
        """Process the next chunk."""
        self.size += len(chunk)
        try:
            self._end.feed(chunk)
        except Exception:  # noqa: BLE001 - a mistake of ours proves nothing about the file
            self._end = _Length(0)

    @property
    def is_complete(self) -> bool:
        """Whether the whole file has been fed; True if the format does not define its end."""
        return self._end.is_complete

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Width and height of a JPEG, which may stand far behind the head; None: unknown, or another format."""
        return self._end.size if isinstance(self._end, JpegSegments) else None


def _end_of(kind: Kind, head: bytes) -> _End:
    media_type = kind.media_type
    if media_type == "image/jpeg":
        return JpegSegments()
    if media_type == "image/gif":
        return _Gif()
    if media_type in _MARKS:
        return _Mark(_MARKS[media_type])
    if media_type in _BOXES:
        return _Boxes()
    if media_type == JSON:
        return _Json()
    return _Length(_segment_end(head) if media_type in _MATROSKA else _stated_length(media_type, head))


class _Mark:
    """A format that ends with certain bytes."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._tail = b""
        self.is_complete = False

    def feed(self, chunk: bytes) -> None:
        if not self.is_complete:
            # A chunk may end within the mark.
            self.is_complete = self._mark in self._tail + chunk
            self._tail = (self._tail + chunk)[1 - len(self._mark) :]


class _Gif(GifBlocks):
    """A GIF; where a block is damaged, nothing is said about its end, unless no trailer follows at all."""

    def __init__(self) -> None:
        super().__init__()
        self._trailer = False

    def feed(self, chunk: bytes) -> None:
        super().feed(chunk)
        if self.is_damaged:
            self._trailer = self._trailer or b"\x00;" in chunk or chunk.endswith(b";")
            self.is_complete = self._trailer


class _Json:
    """A long JSON text; a short one has been read as a whole."""

    def __init__(self) -> None:
        self._size = 0
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]

    @property
    def is_complete(self) -> bool:
        last = self._tail.rstrip()
        return self._size < HEAD_BYTES or not last or last.endswith((b"}", b"]"))


class _Length:
    """A format whose beginning says how long it is."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)

    @property
    def is_complete(self) -> bool:
        return self._size >= self._length


def _stated_length(media_type: str, head: bytes) -> int:
    """The bytes that a file must have; 0: its beginning does not say so."""
    if head[:4] == b"RIFF" and media_type in {"image/webp", "audio/wav"}:
        declared = int.from_bytes(head[4:8], "little")
        return 0 if media_type == "audio/wav" and declared in _UNKNOWN_LENGTHS else declared + 8
    if media_type == "audio/x-aiff" and head[:4] == b"FORM":
        declared = int.from_bytes(head[4:8])
        return 0 if declared in _UNKNOWN_LENGTHS else declared + 8
    if media_type == "model/gltf-binary":
        return int.from_bytes(head[8:12], "little")
    if media_type == "model/stl" and head[:5] != b"solid":
        return _STL_HEADER + _FACET * int.from_bytes(head[80:84], "little")
    if media_type == "image/x-icon":
        return max((begin + length for begin, length in icon_entries(head)), default=0)
    return _bitmap_length(head) if media_type == "image/bmp" else 0


def _bitmap_length(head: bytes) -> int:
    """Of a bitmap without compression: as far as its last row."""
    begin, header = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    if header == 12:  # noqa: PLR2004 - the first OS/2 header
        width, height, depth, packed = *_numbers(head, 18, 2, 2), int.from_bytes(head[24:26], "little"), 0
    else:
        width, height, depth = *_numbers(head, 18, 2, 4), int.from_bytes(head[28:30], "little")
        packed = int.from_bytes(head[30:34], "little")
    if packed not in {0, 3, 6} or width <= 0:  # without compression, with or without masks of the colours
        return 0
    # Rows are filled up to four bytes; some writers leave that out behind the last one.
    row = (width * depth + 31) // 32 * 4
    return begin + row * (abs(height) - 1) + (width * depth + 7) // 8 if height else 0


def _numbers(head: bytes, place: int, count: int, width: int) -> list[int]:
    places = range(place, place + count * width, width)
    return [int.from_bytes(head[at : at + width], "little", signed=width > 2) for at in places]  # noqa: PLR2004 - bytes


class _Boxes:
    """ISO base media: every box ends within the file, and one that describes it is among them.

    Source: ISO/IEC 14496-12, section 4.2.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0
        self._described = False
        self._is_known = True
        """Whether the box that is being read is one of the format's own."""
        self._open_ended = False
        """Whether the last box extends to the end of the file, or what follows the boxes is none."""

    def feed(self, chunk: bytes) -> None:
        if self._open_ended:
            return
        data = self._buffer + chunk
        place = self._skip
        while place < len(data) and (step := self._read(data[place : place + LARGE_HEADER])):
            place += step
        self._skip = max(place - len(data), 0)
        self._buffer = b"" if self._open_ended else data[place:]

    def _read(self, header: bytes) -> int:
        """Read one header; returns the bytes of its box, 0: more are needed, or there is no box."""
        if len(header) < HEADER:
            return 0
        length, name = int.from_bytes(header[:4]), header[4:HEADER]
        if length == 1:
            if len(header) < LARGE_HEADER:
                return 0
            length = int.from_bytes(header[HEADER:LARGE_HEADER])
        if length < HEADER:
            # To the end of the file, or bytes that somebody has appended.
            self._open_ended = True
            return 0
        self._described = self._described or name in _DESCRIPTIONS
        self._is_known = name in _NAMES
        return length

    @property
    def is_complete(self) -> bool:
        return self._described and (self._skip == 0 or not self._is_known)


def _segment_end(head: bytes) -> int:
    """Where the segment of a Matroska file, which contains everything else, ends; 0: it is not said.

    Source: RFC 8794, section 4; RFC 9559, section 5.
    """
    place = 0
    for name in (EBML, _SEGMENT):
        if head[place : place + 4] != name:
            return 0  # an unusual element precedes it
        length, width = _vint(head[place + 4 : place + 12])
        if length is None:
            return 0
        place += 4 + width + length
    return place


def _vint(data: bytes) -> tuple[int | None, int]:
    """A length and the number of bytes that encode it; None: it was unknown when it was written."""
    width = 9 - data[0].bit_length() if data and data[0] else 0
    if not width or len(data) < width:
        return None, width
    ones = (1 << (7 * width)) - 1
    length = int.from_bytes(data[:width]) & ones
    return (None if length == ones else length), width
