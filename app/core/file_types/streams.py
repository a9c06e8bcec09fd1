"""Video and sound in containers that libraries do not know, or do not look into.

Source: RFC 8794 (EBML); RFC 3533 (Ogg); Advanced Systems Format, section 10; ISO/IEC 13818-1 (MPEG streams);
ISO/IEC 11172-3, section 2.4.1.3 (MPEG audio), with its extension to 2.5; ISO/IEC 14496-3, annex 1.A (ADTS); ID3v2.4,
section 3.1; RIFF and AIFF-C by their chunks.
"""

from collections.abc import Callable, Iterator
from typing import Final

from app.core.file_types.kind import Kind

EBML: Final = b"\x1a\x45\xdf\xa3"
_DOCTYPE: Final = b"\x42\x82"
_MP3: Final = Kind("audio/mpeg", "mp3")
_AAC: Final = Kind("audio/aac", "aac")
_WAV: Final = Kind("audio/wav", "wav")
_SIGNATURES: Final = {
    b"fLaC": Kind("audio/flac", "flac"),
    b"#!AMR-WB\n": Kind("audio/amr-wb", "awb"),
    b"#!AMR\n": Kind("audio/amr", "amr"),
    b"MThd\x00\x00\x00\x06": Kind("audio/midi", "mid"),
    b"FLV\x01": Kind("video/x-flv", "flv"),
    b"caff\x00\x01": Kind("audio/x-caf", "caf"),
    b"\x00\x00\x01\xba": Kind("video/mpeg", "mpg"),
    b"\x00\x00\x01\xb3": Kind("video/mpeg", "mpg"),
}
_RIFFS: Final = {b"WAVE": _WAV, b"AVI ": Kind("video/x-msvideo", "avi"), b"RMID": Kind("audio/midi", "rmi")}
_ASF: Final = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
_ASF_VIDEO: Final = b"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b"
_ASF_AUDIO: Final = b"\x40\x9e\x69\xf8\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b"
_OGG_VIDEO: Final = (b"\x80theora", b"BBCD\x00", b"\x01video\x00", b"OVP80", b"\x80daala")
_TS_PACKETS: Final = ((0, 188), (4, 192))
"""Where the first packet of a transport stream begins, and the distance to the next."""
_TS_SYNC: Final = 0x47
_BITRATES: Final = {
    # By version and layer, in kbit/s.
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""By the bits of the version: 1, 2 and 2.5."""
_FrameBytes = Callable[[bytes], int | None]
_ID3: Final = b"ID3"
_ID3_HEADER: Final = 10


def recognise(head: bytes) -> Kind | None:
    """The type of a video or sound; None: it is none of these."""
    kind = next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)
    return kind or _in_container(head) or _frames(head)


def _in_container(head: bytes) -> Kind | None:
    if head[:4] in {b"RIFF", b"RF64", b"BW64"} and head[8:12] in _RIFFS:
        return _RIFFS[head[8:12]]
    if head.startswith(b"FORM") and head[8:12] in {b"AIFF", b"AIFC"}:
        return Kind("audio/x-aiff", "aiff" if head[8:12] == b"AIFF" else "aifc")
    if head.startswith(EBML):
        return _matroska(head)
    if head.startswith(b"OggS\x00"):
        return _ogg(head)
    return _asf(head) if head.startswith(_ASF) else None


def _frames(head: bytes) -> Kind | None:
    """Formats that are nothing but frames, with or without tags before them."""
    if head.startswith(_ID3) and len(head) >= _ID3_HEADER and head[3] < 5 and max(head[6:_ID3_HEADER]) < 0x80:  # noqa: PLR2004 - version and size
        return _behind_tags(head)
    if any(_is_transport(head, *packets) for packets in _TS_PACKETS):
        return Kind("video/mp2t", "ts")
    if _repeats(head, 0, _adts_bytes):
        return _AAC
    return _MP3 if _repeats(head, 0, _mpeg_bytes) else None


def _matroska(head: bytes) -> Kind | None:
    place = head.find(_DOCTYPE, 4, 200)
    length = head[place + 2] & 0x7F if place > 0 and place + 2 < len(head) else 0
    doctype = head[place + 3 : place + 3 + length].rstrip(b"\x00 ")
    if doctype == b"webm":
        return Kind("video/webm", "webm")
    return Kind("video/x-matroska", "mkv") if doctype == b"matroska" else None


def _ogg(head: bytes) -> Kind:
    """By the first packets of all its streams, which come before everything else."""
    place = 0
    while head[place : place + 4] == b"OggS" and place + 27 < len(head) and head[place + 5] & 2:
        table = head[place + 27 : place + 27 + head[place + 26]]
        start = place + 27 + len(table)
        if head.startswith(_OGG_VIDEO, start):
            return Kind("video/ogg", "ogv")
        place = start + sum(table)
    return Kind("audio/ogg", "ogg")


def _asf(head: bytes) -> Kind:
    if _ASF_VIDEO in head:
        return Kind("video/x-ms-wmv", "wmv")
    return Kind("audio/x-ms-wma", "wma") if _ASF_AUDIO in head else Kind("video/x-ms-asf", "asf")


def _is_transport(head: bytes, start: int, step: int) -> bool:
    syncs = head[start::step]
    return len(syncs) > 2 and set(syncs[:8]) == {_TS_SYNC}  # noqa: PLR2004 - one may be by chance


def _behind_tags(head: bytes) -> Kind:
    place = 0
    while head.startswith(_ID3, place) and place + _ID3_HEADER <= len(head):
        sizes = head[place + 6 : place + _ID3_HEADER]
        length = sum((size & 0x7F) << shift for size, shift in zip(sizes, (21, 14, 7, 0), strict=True))
        place += _ID3_HEADER + length + (_ID3_HEADER if head[place + 5] & 0x10 else 0)
    while place < len(head) and head[place] == 0:
        place += 1  # padding that the tag does not count
    if head.startswith(b"fLaC", place):
        return _SIGNATURES[b"fLaC"]
    if head.startswith(b"FORM", place) or head.startswith((b"RIFF", b"OggS"), place):
        return recognise(head[place:]) or _MP3
    # A cover may be longer than the head: the tag belongs to MP3 then, as it does nearly always.
    return _AAC if _repeats(head, place, _adts_bytes) else _MP3


def _repeats(head: bytes, place: int, frame_bytes: _FrameBytes) -> bool:
    """Whether frames follow one another, as far as the head shows."""
    seen = 0
    for length in _lengths(head, place, frame_bytes):
        if length is None:
            return False
        seen += 1
        place += length
        if seen == 4:  # noqa: PLR2004 - it is no chance
            return True
    # Few frames: the last one ends where the file does, or behind the head.
    return seen > 1 or (seen == 1 and place == len(head))


def _lengths(head: bytes, place: int, frame_bytes: _FrameBytes) -> Iterator[int | None]:
    while place + 7 <= len(head):
        length = frame_bytes(head[place : place + 7])
        # Tags and padding may stand behind the last frame.
        if length is None and place and head[place : place + 3] in {b"TAG", b"APE", b"\x00\x00\x00", b"ID3", b"LYR"}:
            return
        yield length
        place += length or 1


def _mpeg_bytes(header: bytes) -> int | None:
    """The length of an MPEG audio frame; None: it is none."""
    if header[0] != 0xFF or header[1] & 0xE0 != 0xE0:  # noqa: PLR2004 - the sync word
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version not in _RATES or layer > 3 or not 0 < bitrate < 15 or rate > 2:  # noqa: PLR2004 - reserved values
        return None
    first = version == 3  # noqa: PLR2004 - as the bits say it
    bits = _BITRATES[1 if first else 2, layer][bitrate - 1] * 1000
    if layer == 1:
        return (12 * bits // _RATES[version][rate] + padding) * 4
    return (144 if first or layer == 2 else 72) * bits // _RATES[version][rate] + padding  # noqa: PLR2004 - Layer II


def _adts_bytes(header: bytes) -> int | None:
    """The length of an AAC frame in ADTS; None: it is none."""
    if header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:  # noqa: PLR2004 - sync word, rates
        return None
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length >= 7 else None  # noqa: PLR2004 - the header
