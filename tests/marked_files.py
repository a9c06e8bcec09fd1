"""Files of every format, in the forms that providers and tools write: made here by Pillow, PyAV and small writers."""

import io
import struct
import tempfile
import wave
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

from PIL import Image, PngImagePlugin

from app.provenance.containers.bmff import C2PA_UUID, XMP_UUID
from app.provenance.containers.ogg_checksum import checksum
from app.provenance.mark import Mark, Outcome, SourceType

HAS_AV = find_spec("av") is not None
FOREIGN = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<r:Description r:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    b' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="Another">'
    b"<dc:format>image/x</dc:format></r:Description></r:RDF></x:xmpmeta>\n" + b" " * 60 + b'\n<?xpacket end="w"?>'
)
SAYS_SO = FOREIGN.replace(
    b"<dc:format>",
    b'<e:DigitalSourceType xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    b"http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture</e:DigitalSourceType><dc:format>",
)
ELSEWHERE = FOREIGN.replace(
    b"<dc:format>",
    b'<t:provenance xmlns:t="http://purl.org/dc/terms/">https://example.com/a.c2pa</t:provenance><dc:format>',
)
MARK = Mark(SourceType.COMPOSITE, "Fleek 1.0", 'acme/"quoted" & <odd>', UUID("0190a000-0000-7000-8000-000000000001"))
MANIFEST = (
    struct.pack(">I4s", 60, b"jumb") + struct.pack(">I4s", 52, b"jumd") + b"c2pa" + bytes(13) + b"c2pa\x00" + bytes(22)
)


@dataclass(frozen=True)
class Sample:
    name: str
    expected: Outcome
    make: Callable[[], bytes]

    @property
    def data(self):
        return made(self.name)


SAMPLES: dict[str, Sample] = {}


@cache
def made(name):
    return SAMPLES[name].make()


def sample(name, expected=Outcome.MARKED):
    def register(make):
        SAMPLES[name] = Sample(name, expected, make)
        return make

    return register


def add(name, make, expected=Outcome.MARKED):
    SAMPLES[name] = Sample(name, expected, make)


def noise(mode="RGB", size=(37, 23)):
    gray = Image.effect_noise(size, 60)
    if mode == "RGBA":
        return Image.merge("RGBA", (gray, gray.rotate(180), gray, gray.transpose(Image.Transpose.FLIP_TOP_BOTTOM)))
    return gray.convert(mode)


def saved(kind, mode="RGB", frames=1, **options):
    out = io.BytesIO()
    more = {"save_all": True, "append_images": [noise(mode) for _ in range(frames - 1)]} if frames > 1 else {}
    noise(mode).save(out, kind, **more, **options)
    return out.getvalue()


def cut(data, keep):
    return data[: int(len(data) * keep)]


# PNG


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_text(packet, *, compress=False):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=compress)
    return text


def png_behind(data, chunk):
    """With a chunk behind the picture."""
    return data[:-12] + chunk + data[-12:]


def png_xmp(packet, header=b"\x00\x00\x00\x00"):
    return png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00" + header + packet)


for mode in ("RGB", "RGBA", "P", "L", "1", "I;16"):
    add(f"png {mode}", lambda mode=mode: saved("PNG", mode))
add("png animated", lambda: saved("PNG", frames=3))
add("png icc text", lambda: saved("PNG", icc_profile=bytes(5_000), pnginfo=text_of("prompt", "a cat")))
add("png trailing", lambda: saved("PNG") + b"trailing bytes" * 9)
add("png xmp", lambda: saved("PNG", pnginfo=png_text(FOREIGN)), Outcome.COMPLETED)
add("png xmp compressed", lambda: saved("PNG", pnginfo=png_text(FOREIGN, compress=True)), Outcome.COMPLETED)
add("png xmp behind", lambda: png_behind(saved("PNG"), png_xmp(FOREIGN)), Outcome.COMPLETED)
add("png says so", lambda: png_behind(saved("PNG"), png_xmp(SAYS_SO)), Outcome.ALREADY_MARKED)
add("png c2pa", lambda: saved("PNG")[:33] + png_chunk(b"caBX", MANIFEST) + saved("PNG")[33:], Outcome.HAS_C2PA)
add("png c2pa behind", lambda: png_behind(saved("PNG"), png_chunk(b"caBX", MANIFEST)), Outcome.HAS_C2PA)
add("png cut off", lambda: cut(saved("PNG"), 0.7), Outcome.NOT_SAFE)
add("png xmp broken", lambda: saved("PNG", pnginfo=png_text(FOREIGN[:200])), Outcome.NOT_SAFE)
add(
    "png xmp entity",
    lambda: saved("PNG", pnginfo=png_text(b'<!DOCTYPE x [<!ENTITY a "b">]>' + FOREIGN)),
    Outcome.NOT_SAFE,
)
add("png large", lambda: saved("PNG", "RGB") and large_png())
add("png large, says so behind", lambda: png_behind(large_png(), png_xmp(SAYS_SO)))
add("png large, cut off", lambda: cut(large_png(), 0.9))


def text_of(key, value):
    text = PngImagePlugin.PngInfo()
    text.add_text(key, value)
    return text


@cache
def large_png():
    out = io.BytesIO()
    Image.effect_noise((1300, 1100), 90).save(out, "PNG", compress_level=0)
    return out.getvalue()


# JPEG


def jpeg_segment(marker, data):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(data, *segments):
    return data[:2] + b"".join(segments) + data[2:]


JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
JPEG_EXTENDED = b"http://ns.adobe.com/xmp/extension/\x00" + b"0" * 32 + bytes(8)


def exif():
    values = Image.Exif()
    values[0x010E] = "a description"
    return values.tobytes()


for mode in ("RGB", "L", "CMYK"):
    add(f"jpeg {mode}", lambda mode=mode: saved("JPEG", mode))
add("jpeg progressive", lambda: saved("JPEG", progressive=True))
add("jpeg exif", lambda: saved("JPEG", exif=exif()))
add("jpeg long header", lambda: saved("JPEG", icc_profile=bytes(200_000), exif=exif()))
add("jpeg restarts", lambda: saved("JPEG", restart_marker_blocks=1))
add("jpeg several pictures", lambda: saved("MPO", frames=3))
add("jpeg trailing", lambda: saved("JPEG") + saved("JPEG"))
add("jpeg fill bytes", lambda: b"\xff\xd8\xff\xff\xff" + saved("JPEG")[3:])
add("jpeg xmp", lambda: saved("JPEG", xmp=FOREIGN), Outcome.COMPLETED)
add("jpeg exif xmp icc", lambda: saved("JPEG", xmp=FOREIGN, exif=exif(), icc_profile=bytes(900)), Outcome.COMPLETED)
add(
    "jpeg xmp extended",
    lambda: jpeg_with(
        saved("JPEG"), jpeg_segment(0xE1, JPEG_XMP + FOREIGN), jpeg_segment(0xE1, JPEG_EXTENDED + b"<x:" + bytes(99))
    ),
    Outcome.COMPLETED,
)
add(
    "jpeg xmp extended says so",
    lambda: jpeg_with(
        saved("JPEG"), jpeg_segment(0xE1, JPEG_XMP + FOREIGN), jpeg_segment(0xE1, JPEG_EXTENDED + SAYS_SO[150:])
    ),
    Outcome.ALREADY_MARKED,
)
add(
    "jpeg xmp full",
    lambda: jpeg_with(saved("JPEG"), jpeg_segment(0xE1, JPEG_XMP + FOREIGN.replace(b"\n ", b"\n" + b" " * 64_700))),
    Outcome.NOT_SAFE,
)
add("jpeg says so", lambda: saved("JPEG", xmp=SAYS_SO), Outcome.ALREADY_MARKED)
add(
    "jpeg c2pa",
    lambda: jpeg_with(saved("JPEG"), jpeg_segment(0xEB, b"JP\x00\x01\x00\x00\x00\x01" + MANIFEST)),
    Outcome.HAS_C2PA,
)
add("jpeg manifest elsewhere", lambda: saved("JPEG", xmp=ELSEWHERE), Outcome.HAS_C2PA)
add("jpeg cut off in its header", lambda: saved("JPEG")[:150], Outcome.NOT_SAFE)
add("jpeg cut off", lambda: cut(saved("JPEG"), 0.8))


# WebP and WAV


def riff_chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)


def riff_with(data, *chunks):
    body = data[8:] + b"".join(chunks)
    return data[:4] + struct.pack("<I", len(body)) + body


for quality, mode in (("lossy", "RGB"), ("lossless", "RGB"), ("lossy", "RGBA"), ("lossless", "RGBA")):
    add(
        f"webp {quality} {mode}", lambda quality=quality, mode=mode: saved("WEBP", mode, lossless=quality == "lossless")
    )
add("webp animated", lambda: saved("WEBP", frames=3))
add("webp exif icc", lambda: saved("WEBP", exif=exif(), icc_profile=bytes(777)))
add("webp trailing", lambda: saved("WEBP") + b"xyz")
add("webp xmp", lambda: saved("WEBP", xmp=FOREIGN), Outcome.COMPLETED)
add("webp xmp odd", lambda: saved("WEBP", xmp=FOREIGN + b" "), Outcome.COMPLETED)
add("webp animated xmp", lambda: saved("WEBP", frames=2, xmp=FOREIGN), Outcome.COMPLETED)
add("webp says so", lambda: saved("WEBP", xmp=SAYS_SO), Outcome.ALREADY_MARKED)
add("webp c2pa", lambda: riff_with(saved("WEBP"), riff_chunk(b"C2PA", MANIFEST)), Outcome.HAS_C2PA)
add("webp large, with metadata behind", lambda: large_webp(exif=exif()))
add("webp large, cut off", lambda: cut(large_webp(), 0.8))
add("webp large, extended, cut off", lambda: cut(large_webp("RGBA", exif=exif()), 0.8))
add("webp large, cut off at its end", lambda: large_webp()[:-100])
add("webp large, c2pa", lambda: riff_with(large_webp(), riff_chunk(b"C2PA", MANIFEST + bytes(2_000))), Outcome.NOT_SAFE)
add("webp cut off", lambda: cut(saved("WEBP"), 0.6), Outcome.NOT_SAFE)
add("webp extended, cut off", lambda: cut(saved("WEBP", exif=exif()), 0.6), Outcome.NOT_SAFE)


@cache
def large_webp(mode="RGB", **options):
    out = io.BytesIO()
    noise(mode, (1024, 1024)).save(out, "WEBP", quality=100, method=0, **options)
    return out.getvalue()


def sound(seconds=1, rate=4_000, width=2):
    out = io.BytesIO()
    with wave.open(out, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(width)
        output.setframerate(rate)
        output.writeframes(bytes(range(256)) * (rate * seconds * width // 256))
    return out.getvalue()


add("wav", sound)
add("wav eight bits", lambda: sound(width=1))
add("wav list", lambda: riff_with(sound(), riff_chunk(b"LIST", b"INFOISFT\x04\x00\x00\x00abc\x00")))
add("wav xmp", lambda: riff_with(sound(), riff_chunk(b"_PMX", FOREIGN + b" ")), Outcome.COMPLETED)
add("wav c2pa", lambda: riff_with(sound(), riff_chunk(b"C2PA", MANIFEST + bytes(2_000))), Outcome.HAS_C2PA)
add("wav of unknown length", lambda: sound()[:4] + b"\xff" * 4 + sound()[8:40] + b"\xff" * 4 + sound()[44:])
add("wav cut off", lambda: cut(sound(), 0.5), Outcome.NOT_SAFE)
add("wav large", lambda: sound(200))
add("wav large, cut off", lambda: cut(sound(200), 0.9))


# GIF


def gif_extension(name, data):
    return b"\x21\xff\x0b" + name + data


GIF_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"


def gif_before_end(data, extension):
    return data[:-1] + extension + data[-1:]


add("gif", lambda: saved("GIF", "P"))
add("gif 87a", lambda: saved("GIF", "P").replace(b"GIF89a", b"GIF87a"))
add("gif animated", lambda: saved("GIF", "P", frames=4, loop=0))
add("gif comment", lambda: saved("GIF", "P", comment=b"c" * 700))
add("gif trailing", lambda: saved("GIF", "P") + bytes(7))
add(
    "gif xmp",
    lambda: gif_before_end(saved("GIF", "P"), gif_extension(b"XMP DataXMP", FOREIGN + GIF_TRAILER)),
    Outcome.COMPLETED,
)
add(
    "gif c2pa",
    lambda: gif_before_end(saved("GIF", "P"), gif_extension(b"C2PA_GIF\x01\x00\x00", b"\x3c" + MANIFEST + b"\x00")),
    Outcome.HAS_C2PA,
)
add("gif cut off", lambda: cut(saved("GIF", "P"), 0.6), Outcome.NOT_SAFE)


# TIFF


def big_endian_tiff():
    width, height = 16, 8
    entries = [(256, 3, 1, width << 16), (257, 3, 1, height << 16), (258, 3, 1, 8 << 16), (259, 3, 1, 1 << 16)]
    entries += [(262, 3, 1, 1 << 16), (273, 4, 1, 8), (277, 3, 1, 1 << 16), (278, 3, 1, height << 16)]
    entries += [(279, 4, 1, width * height)]
    pixels = bytes(range(width * height))
    directory = struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHII", *entry) for entry in entries) + bytes(4)
    return b"MM\x00*" + struct.pack(">I", 8 + len(pixels)) + pixels + directory


def tiff_with_tag(tag, value):
    from PIL import TiffImagePlugin  # noqa: PLC0415

    info = TiffImagePlugin.ImageFileDirectory_v2()
    info.tagtype[tag] = 7
    info[tag] = value
    return saved("TIFF", tiffinfo=info)


def tiff_behind(data, tag):
    """With a directory of one entry at the end, as signing tools write it."""
    first = int.from_bytes(data[4:8], "little")
    follows = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    one = struct.pack("<HHHIII", 1, tag, 7, 4, 0, 0)
    return data[:follows] + struct.pack("<I", len(data)) + data[follows + 4 :] + one


add("tiff", lambda: saved("TIFF"))
add("tiff big-endian", big_endian_tiff)
add("tiff compressed", lambda: saved("TIFF", compression="tiff_lzw"))
add("tiff pages", lambda: saved("TIFF", frames=3))
add("tiff big", lambda: saved("TIFF", big_tiff=True))
add("tiff odd size", lambda: saved("TIFF") + b"x")
add("tiff xmp", lambda: tiff_with_tag(700, FOREIGN), Outcome.COMPLETED)
add("tiff c2pa", lambda: tiff_with_tag(52545, MANIFEST), Outcome.HAS_C2PA)
add("tiff c2pa behind", lambda: tiff_behind(saved("TIFF"), 52545), Outcome.HAS_C2PA)
add("tiff cut off", lambda: big_endian_tiff()[:-20], Outcome.NOT_SAFE)


# ISO base media files


def box(name, data, *, large=False):
    if large:
        return b"\x00\x00\x00\x01" + name + struct.pack(">Q", 16 + len(data)) + data
    return struct.pack(">I", 8 + len(data)) + name + data


MP4 = box(b"ftyp", b"isom\x00\x00\x00\x00isom") + box(b"moov", box(b"free", b"12345"))

add("avif", lambda: saved("AVIF"))
add("avif alpha", lambda: saved("AVIF", "RGBA"))
add("avif animated", lambda: saved("AVIF", frames=3))
add("avif exif", lambda: saved("AVIF", exif=exif()))
add("avif xmp", lambda: saved("AVIF", xmp=FOREIGN), Outcome.COMPLETED)
add("avif says so", lambda: saved("AVIF", xmp=SAYS_SO), Outcome.ALREADY_MARKED)
add("avif cut off", lambda: cut(saved("AVIF"), 0.7), Outcome.NOT_SAFE)
add("mp4 boxes", lambda: MP4 + box(b"mdat", bytes(500)))
add("mp4 large box", lambda: MP4 + box(b"mdat", bytes(500), large=True) + box(b"free", bytes(9)))
add("mp4 mfra", lambda: MP4 + box(b"mdat", bytes(99)) + box(b"mfra", box(b"mfro", bytes(4) + struct.pack(">I", 24))))
add("mp4 xmp", lambda: MP4 + box(b"mdat", bytes(99)) + box(b"uuid", XMP_UUID + FOREIGN), Outcome.COMPLETED)
add("mp4 xmp first", lambda: MP4 + box(b"uuid", XMP_UUID + FOREIGN) + box(b"mdat", bytes(99)), Outcome.NOT_SAFE)
add("mp4 says so", lambda: MP4 + box(b"uuid", XMP_UUID + SAYS_SO) + box(b"mdat", bytes(99)), Outcome.ALREADY_MARKED)
add("mp4 c2pa", lambda: MP4 + box(b"uuid", C2PA_UUID + MANIFEST) + box(b"mdat", bytes(99)), Outcome.HAS_C2PA)
add("mp4 open end", lambda: MP4 + b"\x00\x00\x00\x00mdat" + bytes(300), Outcome.NOT_SAFE)
add("mp4 cut off", lambda: cut(MP4 + box(b"mdat", bytes(500)), 0.5), Outcome.NOT_SAFE)
add("mp4 trailing", lambda: MP4 + box(b"mdat", bytes(500)) + b"\x01\x02\x03", Outcome.NOT_SAFE)
add("mp4 without description", lambda: MP4[:20] + box(b"mdat", bytes(99)), Outcome.NOT_SAFE)


# Matroska


def element(identity, data, width=1):
    return bytes.fromhex(identity) + (len(data) | 1 << (7 * width)).to_bytes(width) + data


def matroska(width=8, *, trailing=b"", size=None, data=b""):
    header = element("1a45dfa3", element("4282", b"webm"))
    cluster = element("e7", b"\x00") + element("a3", b"\x81\x00\x00\x80" + data, 4)
    index = element("114d9b74", b"") + element("ec", bytes(60))
    body = index + element("1549a966", element("2ad7b1", b"\x0f\x42\x40")) + element("1f43b675", cluster, 4)
    head = "18538067"
    if size == "unknown":
        return header + bytes.fromhex(head) + b"\xff" + body
    return header + element(head, body, width) + trailing


add("webm elements", matroska)
add("webm narrow size", lambda: matroska(1))
add("webm of unknown size", lambda: matroska(size="unknown"))
add("webm trailing", lambda: matroska(trailing=b"trailing"))
add("webm cut off", lambda: matroska()[:-3], Outcome.NOT_SAFE)
add("webm large", lambda: matroska(data=bytes(1_500_000)))
add("webm large, cut off", lambda: matroska(data=bytes(1_500_000))[:-5_000])
add("webm of unknown size, cut off", lambda: matroska(size="unknown", data=bytes(9_000))[:-100])


# MP3, FLAC, Ogg: by small writers

MPEG_FRAMES = (b"\xff\xfb\x90\x00" + bytes(413)) * 5


def id3(version=4, frames=b"", padding=0):
    size = len(frames) + padding
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, 0]) + digits + frames + bytes(padding)


def id3_frame(name, data):
    return name + struct.pack(">I", len(data)) + b"\x00\x00" + data


add("mp3 without tag", lambda: MPEG_FRAMES)
add("mp3 with tag", lambda: id3(4, id3_frame(b"TSSE", b"\x03Lavf"), 10) + MPEG_FRAMES)
add("mp3 old tag", lambda: id3(3, id3_frame(b"TSSE", b"\x00Lavf")) + MPEG_FRAMES)
add("mp3 empty tag", lambda: id3() + MPEG_FRAMES)
add("mp3 older tag", lambda: id3(2, b"TT2\x00\x00\x02\x00a") + MPEG_FRAMES, Outcome.NOT_SAFE)
add("mp3 xmp", lambda: id3(3, id3_frame(b"PRIV", b"XMP\x00" + FOREIGN)) + MPEG_FRAMES, Outcome.COMPLETED)
add(
    "mp3 c2pa",
    lambda: id3(3, id3_frame(b"GEOB", b"\x00application/x-c2pa-manifest-store\x00")) + MPEG_FRAMES,
    Outcome.HAS_C2PA,
)


def flac_block(kind, data, *, last=False):
    return bytes([kind | (0x80 if last else 0)]) + len(data).to_bytes(3) + data


def comments(*entries):
    texts = [struct.pack("<I", len(entry)) + entry for entry in entries]
    return struct.pack("<I", 4) + b"Test" + struct.pack("<I", len(entries)) + b"".join(texts)


add("flac alone", lambda: b"fLaC" + flac_block(0, bytes(34), last=True) + b"\xff\xf8frames")
add("flac padding", lambda: b"fLaC" + flac_block(0, bytes(34)) + flac_block(1, bytes(50), last=True) + b"\xff\xf8")
add(
    "flac comments",
    lambda: b"fLaC" + flac_block(0, bytes(34)) + flac_block(4, comments(b"TITLE=a"), last=True) + b"\xff\xf8",
)
add(
    "flac xmp",
    lambda: b"fLaC" + flac_block(0, bytes(34)) + flac_block(4, comments(b"XMP=" + FOREIGN), last=True) + b"\xff\xf8",
    Outcome.COMPLETED,
)


def ogg_page(packets, number, flags=0):
    table = b"".join(bytes([255] * (len(one) // 255) + [len(one) % 255]) for one in packets)
    head = b"OggS\x00" + bytes([flags]) + bytes(8) + struct.pack("<II", 77, number)
    page = head + bytes(4) + bytes([len(table)]) + table + b"".join(packets)
    return page[:22] + checksum(page) + page[26:]


def ogg(*more):
    tags = b"OpusTags" + comments(*more)
    return ogg_page([b"OpusHead" + bytes(11)], 0, 2) + ogg_page([tags], 1) + ogg_page([bytes(300)], 2, 4)


def vorbis():
    """As encoders write it: comments and code books share a page."""
    tags = b"\x03vorbis" + comments(b"TITLE=a") + b"\x01"
    pages = [ogg_page([b"\x01vorbis" + bytes(23)], 0, 2), ogg_page([tags, b"\x05vorbis" + bytes(4_000)], 1)]
    return b"".join(pages) + ogg_page([bytes(255)], 2, 4)


add("ogg pages", lambda: ogg(b"TITLE=a"))
add("ogg vorbis", vorbis)
add("ogg c2pa", lambda: ogg_page([b"\x00c2pa" + MANIFEST], 0, 2) + ogg(b"TITLE=a"), Outcome.HAS_C2PA)
add("ogg xmp", lambda: ogg(b"XMP=" + FOREIGN), Outcome.COMPLETED)
add("ogg damaged", lambda: ogg(b"TITLE=a").replace(b"TITLE=a", b"TITLE=b"), Outcome.NOT_SAFE)

# What has no place

add("text", "A cat, in words".encode, Outcome.NO_PLACE)
add("json", lambda: b'{"a": 1}', Outcome.NO_PLACE)
add("bmp", lambda: saved("BMP"), Outcome.NO_PLACE)
add("one byte", lambda: b"\x89", Outcome.NO_PLACE)
add("nothing", lambda: b"", Outcome.NO_PLACE)


# By FFmpeg


def encoded(*arguments):
    # In a folder, because FFmpeg reads what it wrote to put the head first.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made")
        encode(path, *arguments)
        return path.read_bytes()


def encode(path, kind, codec, options=None, frames=12):
    import av  # noqa: PLC0415 - an extra
    from av.audio.frame import AudioFrame  # noqa: PLC0415
    from av.video.frame import VideoFrame  # noqa: PLC0415

    with av.open(str(path), "w", format=kind, options=options or {}) as output:
        if codec in {"mpeg4", "libvpx", "ffv1"}:
            stream = output.add_stream(codec, rate=6)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.gop_size = 4
            made = [VideoFrame.from_image(noise(size=(64, 48))) for _ in range(frames)]
        else:
            stream = output.add_stream(codec, rate=48_000)
            stream.layout = "mono"
            shape = stream.codec_context.format.name if stream.codec_context.format else "fltp"
            size = stream.codec_context.frame_size or 1024
            made = [AudioFrame(format=shape, layout="mono", samples=size or 1024) for _ in range(frames)]
            for number, frame in enumerate(made):
                frame.sample_rate, frame.pts = 48_000, number * size
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
        for frame in [*made, None]:
            for packet in stream.encode(frame):
                output.mux(packet)


AV_SAMPLES = {
    "av mp4": ("mp4", "mpeg4", None),
    "av mp4 head first": ("mp4", "mpeg4", {"movflags": "faststart"}),
    "av mp4 fragments": ("mp4", "mpeg4", {"movflags": "frag_keyframe+empty_moov"}),
    "av mov": ("mov", "mpeg4", None),
    "av webm": ("webm", "libvpx", None),
    "av webm live": ("webm", "libvpx", {"live": "1"}),
    "av mkv": ("matroska", "ffv1", None),
    "av m4a": ("ipod", "aac", None),
    "av mp3": ("mp3", "libmp3lame", None),
    "av mp3 without tag": ("mp3", "libmp3lame", {"id3v2_version": "0", "write_xing": "0"}),
    "av wav": ("wav", "pcm_s16le", None),
    "av flac": ("flac", "flac", None),
    "av opus": ("ogg", "libopus", None),
}
if HAS_AV:
    for name, arguments in AV_SAMPLES.items():
        add(name, lambda arguments=arguments: encoded(*arguments))
