"""Files of boxes: MP4, QuickTime, 3GP, M4A, HEIF, AVIF and JPEG XL, told apart by brands and tracks.

Source: ISO/IEC 14496-12, sections 4.2 and 4.3; QuickTime File Format, "Atoms"; ISO/IEC 23008-12, annex B.
"""

from collections.abc import Iterator
from typing import Final

from app.core.file_types.kind import Kind

HEADER: Final = 8
"""Bytes of a box header: length and name."""
LARGE_HEADER: Final = 16

_M4A: Final = Kind("audio/mp4", "m4a")
_MP4: Final = Kind("video/mp4", "mp4")
_MOV: Final = Kind("video/quicktime", "mov")
_AVIF: Final = Kind("image/avif", "avif")
_HEIC: Final = Kind("image/heic", "heic")
_HEICS: Final = Kind("image/heic-sequence", "heics")
_BRANDS: Final = {
    b"avif": _AVIF,
    b"avis": _AVIF,
    **dict.fromkeys([b"heic", b"heix", b"heim", b"heis"], _HEIC),
    **dict.fromkeys([b"hevc", b"hevx", b"hevm", b"hevs"], _HEICS),
    b"jxl ": Kind("image/jxl", "jxl"),
    b"crx ": Kind("image/x-canon-cr3", "cr3"),
    b"jp2 ": Kind("image/jp2", "jp2"),
    b"jpx ": Kind("image/jpx", "jpx"),
    b"mjp2": Kind("video/mj2", "mj2"),
    **dict.fromkeys([b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "], _M4A),
    **dict.fromkeys([b"M4V ", b"M4VH", b"M4VP"], Kind("video/x-m4v", "m4v")),
    b"qt  ": _MOV,
}
_GENERIC_HEIF: Final = {b"mif1": Kind("image/heif", "heif"), b"msf1": Kind("image/heif-sequence", "heifs")}
"""Brands of the container alone: which pictures are in it stands among the compatible brands."""
_SOUND_ONLY: Final = {
    "video/mp4": _M4A,
    "video/3gpp": Kind("audio/3gpp", "3gp"),
    "video/3gpp2": Kind("audio/3gpp2", "3g2"),
}
_FIRST_ATOMS: Final = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
"""What a QuickTime file from before the brands begins with."""
_TOP: Final = _FIRST_ATOMS | {b"uuid", b"moof", b"meta", b"sidx", b"mfra", b"PICT", b"udta", b"junk"}
_JP2: Final = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_JXL: Final = b"\x00\x00\x00\x0cJXL \r\n\x87\n"


def boxes(data: bytes, place: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Name, and beginning and end of the content, of each box; the last one may end behind the data."""
    stop = len(data) if end is None else min(end, len(data))
    while place + HEADER <= stop:
        length, name, content = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8], place + HEADER
        if length == 1:
            content = place + LARGE_HEADER
            length = int.from_bytes(data[place + HEADER : content])
        if length == 0:
            yield name, content, (len(data) if end is None else end)
            return
        if place + length < content:
            return
        yield name, content, place + length
        place += length


def recognise(head: bytes) -> Kind | None:
    """The type of a file of boxes; None: it is none."""
    if head.startswith(_JXL):
        return _BRANDS[b"jxl "]
    if head.startswith(_JP2):
        brand = head[20:24] if head[16:20] == b"ftyp" else b"jp2 "
        return _BRANDS[brand if brand in {b"jpx ", b"mjp2"} else b"jp2 "]
    name = head[4:8]
    if name == b"ftyp":
        return _by_brand(head)
    if name in {b"styp", b"moof", b"sidx"} and _leads_on(head):
        return Kind("video/iso.segment", "m4s")
    return _MOV if name in _FIRST_ATOMS and _leads_on(head) else None


def _by_brand(head: bytes) -> Kind | None:
    length = int.from_bytes(head[:4])
    if length < LARGE_HEADER or length % 4 or length > len(head):
        # A header alone, or a damaged one: the brand still says it, if it is a known one.
        return _BRANDS.get(head[8:12])
    major = head[8:12]
    compatible = [head[place : place + 4] for place in range(16, length, 4)]
    if major in _BRANDS:
        return _BRANDS[major]
    if major in _GENERIC_HEIF:
        known = (_BRANDS[brand] for brand in compatible if brand in _BRANDS)
        return next((kind for kind in known if kind.media_type.startswith("image/")), _GENERIC_HEIF[major])
    kind = _MP4
    if major[:3] in {b"3gp", b"3ge", b"3gg", b"3gs", b"3gr", b"3gt", b"3gh"}:
        kind = Kind("video/3gpp", "3gp")
    elif major[:3] == b"3g2":
        kind = Kind("video/3gpp2", "3g2")
    elif pictures := [_BRANDS[brand] for brand in compatible if _BRANDS.get(brand) in {_AVIF, _HEIC, _HEICS}]:
        return pictures[0]
    handlers = _handlers(head)
    sound = b"soun" in handlers and b"vide" not in handlers if handlers is not None else b"M4A " in compatible
    return _SOUND_ONLY[kind.media_type] if sound else kind


def _handlers(head: bytes) -> set[bytes] | None:
    """The handlers of all tracks; None: the list of tracks is not wholly in the head."""
    for name, start, end in boxes(head):
        if name == b"moov":
            return _handlers_in(head, start, end) if end <= len(head) else None
    return None


def _handlers_in(head: bytes, start: int, end: int) -> set[bytes]:
    found = set[bytes]()
    for track, track_start, track_end in boxes(head, start, end):
        if track != b"trak":
            continue
        for media, media_start, media_end in boxes(head, track_start, track_end):
            if media == b"mdia":
                described = boxes(head, media_start, media_end)
                found |= {head[at + 8 : at + 12] for name, at, _ in described if name == b"hdlr"}
    return found


def _leads_on(head: bytes) -> bool:
    """Whether a box that is none of a known brand is followed by another one, as far as the head shows."""
    length = int.from_bytes(head[:4])
    if length == 1:
        length = int.from_bytes(head[HEADER:LARGE_HEADER])
    if head[4:8] == b"moov":
        return head[12:16] in {b"mvhd", b"cmov", b"rmra", b"trak", b"udta"}
    if length == 0:
        return head[4:8] == b"mdat"
    if length < HEADER:
        return False
    return length >= len(head) or head[length + 4 : length + 8] in _TOP | {b"styp"}
