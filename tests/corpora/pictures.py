"""Pictures of every format: by Pillow, and by small writers of bytes where it writes none."""

import io
import struct
from random import Random

from PIL import Image, features

from tests.corpora.files import HAS_AV, SKIPPED, add, add_forms
from tests.corpora.heif import heif_file, hevc_picture, parts_of_avif

SIZE = (52, 36)
TURNED = (36, 52)
ORIENTATION = 0x0112


def noise(mode="RGB", size=SIZE):
    gray = Image.frombytes("L", size, Random(1).randbytes(size[0] * size[1]))
    return gray.convert(mode)


def saved(kind, mode="RGB", size=SIZE, frames=1, **options):
    out = io.BytesIO()
    more = {"save_all": True, "append_images": [noise(mode, size) for _ in range(frames - 1)]} if frames > 1 else {}
    noise(mode, size).save(out, kind, **more, **options)
    return out.getvalue()


def turned_exif():
    values = Image.Exif()
    values[ORIENTATION] = 6
    return values


def make():
    for mode in ("RGB", "RGBA", "P", "L", "1", "I;16"):
        add(f"png: {mode}", saved("PNG", mode), "image/png", SIZE)
    add_forms("png", saved("PNG"), "image/png", SIZE)
    add("png: late data", saved("PNG", icc_profile=noise(size=(400, 400)).tobytes()), "image/png", SIZE)
    add_forms("apng", saved("PNG", frames=3), "image/apng", SIZE)
    make_jpeg()
    add_forms("gif", saved("GIF", "P"), "image/gif", SIZE)
    add("gif: 87a", saved("GIF", "P").replace(b"GIF89a", b"GIF87a"), "image/gif", SIZE)
    add_forms("gif: animated", saved("GIF", "P", frames=4, loop=0), "image/gif", SIZE)
    add("gif: zero bytes behind", saved("GIF", "P") + bytes(9), "image/gif", SIZE)
    add_forms("webp", saved("WEBP"), "image/webp", SIZE)
    add("webp: lossless", saved("WEBP", lossless=True), "image/webp", SIZE)
    add("webp: transparent", saved("WEBP", "RGBA"), "image/webp", SIZE)
    add("webp: animated", saved("WEBP", frames=3), "image/webp", SIZE)
    make_tiff()
    make_bitmaps()
    make_heif()
    add_forms("ico", saved("ICO", "RGBA", sizes=[(16, 16), (32, 32)]), "image/x-icon", (32, 22))
    add("tga", saved("TGA"), "image/x-tga", SIZE)
    add("tga: mapped", saved("TGA", "P"), "image/x-tga", SIZE)
    add("tga: compressed", saved("TGA", compression="tga_rle"), "image/x-tga", SIZE)
    add("jxl: bare", jxl(SIZE), "image/jxl", SIZE, is_read=False)
    add("jxl: small", jxl((64, 32)), "image/jxl", (64, 32), is_read=False)
    add("jxl: rotated", jxl(SIZE, orientation=6), "image/jxl", TURNED, is_read=False)
    add("jxl: container", jxl_container(jxl(SIZE)), "image/jxl", SIZE, is_read=False)
    add("psd", psd(SIZE), "image/vnd.adobe.photoshop", SIZE)
    if features.check("jpg_2000"):
        add("jp2", saved("JPEG2000"), "image/jp2", SIZE)
    else:
        SKIPPED["jp2"] = "Pillow is built without OpenJPEG"


def make_jpeg():
    late = {"icc_profile": bytes(200_000)}
    add_forms("jpeg", saved("JPEG"), "image/jpeg", SIZE)
    add("jpeg: progressive", saved("JPEG", progressive=True), "image/jpeg", SIZE)
    add("jpeg: grey", saved("JPEG", "L"), "image/jpeg", SIZE)
    add("jpeg: CMYK", saved("JPEG", "CMYK"), "image/jpeg", SIZE)
    add("jpeg: rotated", saved("JPEG", exif=turned_exif()), "image/jpeg", TURNED)
    add_forms("jpeg: late header", saved("JPEG", **late), "image/jpeg", SIZE)
    add("jpeg: late header, rotated", saved("JPEG", exif=turned_exif(), **late), "image/jpeg", TURNED)
    add("jpeg: fill bytes", b"\xff\xd8\xff\xff\xff" + saved("JPEG")[3:], "image/jpeg", SIZE)
    preview = saved("JPEG", size=(16, 16))
    described = saved("JPEG", extra=b"\xff\xe2" + struct.pack(">H", len(preview) + 2) + preview)
    add_forms("jpeg: preview inside", described, "image/jpeg", SIZE)
    add_forms("mpo", saved("MPO", frames=3), "image/jpeg", SIZE, ends=False)


def make_tiff():
    add_forms("tiff", saved("TIFF"), "image/tiff", SIZE, ends=False)
    add("tiff: big-endian", tiff_big_endian(16, 8), "image/tiff", (16, 8))
    add("tiff: rotated", saved("TIFF", tiffinfo={ORIENTATION: 6}), "image/tiff", TURNED)
    add("tiff: pages", saved("TIFF", frames=3), "image/tiff", SIZE)
    add("tiff: directory at the end", tiff_big_endian(300, 280), "image/tiff", (300, 280))
    add("bigtiff", saved("TIFF", big_tiff=True), "image/tiff", SIZE)
    add("bigtiff: directory at the end", bigtiff_at_end(300, 280), "image/tiff", (300, 280))


def make_bitmaps():
    add_forms("bmp", saved("BMP"), "image/bmp", SIZE)
    add("bmp: from above", bitmap_from_above(5, 4), "image/bmp", (5, 4))
    add_forms("bmp: OS/2", os2_bitmap(5, 4), "image/bmp", (5, 4))
    add("bmp: large OS/2", os2_bitmap(300, 280), "image/bmp", (300, 280))


def make_heif():
    if not features.check("avif"):
        SKIPPED["avif"] = "Pillow is built without libavif"
    else:
        add_forms("avif", saved("AVIF"), "image/avif", SIZE)
        add("avif: transparent", saved("AVIF", "RGBA"), "image/avif", SIZE)
        add_forms("avif: animated", saved("AVIF", frames=3), "image/avif", SIZE)
        add("avif: rotated", saved("AVIF", exif=turned_exif()), "image/avif", TURNED)
        picture = parts_of_avif(saved("AVIF"))
        add("avif: cropped", heif_file(b"avif", picture, SIZE, crop=(40, 20)), "image/avif", (40, 20))
        add("avif: generic brand", heif_file(b"mif1", picture, SIZE, brands=[b"avif"]), "image/avif", SIZE)
    picture = hevc_picture(noise()) if HAS_AV else None
    if picture is None:
        SKIPPED["heic"] = "no encoder of HEVC is installed"
        return
    add_forms("heic", heif_file(b"heic", picture, SIZE), "image/heic", SIZE)
    for quarter, size in ((0, SIZE), (1, TURNED), (2, SIZE), (3, TURNED)):
        add(f"heic: rotated by {quarter * 90}", heif_file(b"heic", picture, SIZE, turn=quarter), "image/heic", size)
    add("heic: mirrored", heif_file(b"heic", picture, SIZE, mirror=1), "image/heic", SIZE)
    cropped = heif_file(b"heic", picture, SIZE, crop=(40, 20), turn=1)
    add("heic: cropped and rotated", cropped, "image/heic", (20, 40))
    add("heic: generic brand", heif_file(b"mif1", picture, SIZE, brands=[b"heic"]), "image/heic", SIZE)
    preview = heif_file(b"heic", picture, SIZE, preview=(8, 8))
    add("heic: with a preview", preview, "image/heic", SIZE, is_read=False)
    odd = heif_file(b"heic", picture, SIZE, fraction=(81, 2))
    add("heic: cropped by a fraction", odd, "image/heic", None)


def os2_bitmap(width, height):
    rows = bytes((width * 24 + 31) // 32 * 4) * height
    header = struct.pack("<IHHHH", 12, width, height, 1, 24)
    return b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + header + rows


def bitmap_from_above(width, height):
    rows = bytes((width * 24 + 31) // 32 * 4) * height
    header = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, len(rows), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + header + rows


def tiff_big_endian(width, height):
    entries = [(256, 3, width << 16), (257, 3, height << 16), (258, 3, 8 << 16), (259, 3, 1 << 16), (262, 3, 1 << 16)]
    entries += [(273, 4, 8), (277, 3, 1 << 16), (278, 3, height << 16), (279, 4, width * height)]
    directory = struct.pack(">H", len(entries)) + b"".join(
        struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    return b"MM\x00*" + struct.pack(">I", 8 + width * height) + bytes(width * height) + directory + bytes(4)


def bigtiff_at_end(width, height):
    pixels = bytes(width * height)
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 16, 16), (277, 3, 1)]
    entries += [(278, 4, height), (279, 16, len(pixels))]
    directory = struct.pack("<Q", len(entries)) + b"".join(
        struct.pack("<HHQQ", tag, kind, 1, value) for tag, kind, value in entries
    )
    return b"II+\x00\x08\x00\x00\x00" + struct.pack("<Q", 16 + len(pixels)) + pixels + directory + bytes(8)


def psd(size):
    width, height = size
    header = b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, height, width, 8, 3)
    return header + bytes(4) * 3 + b"\x00\x00" + bytes(width * height * 3)


class Bits:
    """Bits from the lowest of each byte."""

    def __init__(self):
        self.value = self.count = 0

    def put(self, value, count):
        self.value |= value << self.count
        self.count += count

    def long(self, value):
        self.put(0, 2)
        self.put(value - 1, 9)


def jxl(size, orientation=1):
    """A code stream as far as its orientation, and nothing that can be decoded."""
    width, height = size
    bits = Bits()
    small = not (width % 8 or height % 8) and max(size) <= 256
    bits.put(small, 1)
    if small:
        bits.put(height // 8 - 1, 5)
        bits.put(7 if width == 2 * height else 0, 3)
        if width != 2 * height:
            bits.put(width // 8 - 1, 5)
    else:
        bits.long(height)
        bits.put(0, 3)
        bits.long(width)
    bits.put(orientation == 1, 1)
    if orientation != 1:
        bits.put(1, 1)
        bits.put(orientation - 1, 3)
    return b"\xff\x0a" + bits.value.to_bytes(40, "little")


def jxl_container(stream):
    kind = struct.pack(">I4s", 20, b"ftyp") + b"jxl \x00\x00\x00\x00jxl "
    signature = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
    return signature + kind + struct.pack(">I4s", 8 + len(stream), b"jxlc") + stream
