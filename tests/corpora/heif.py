"""Writes HEIC and AVIF files with the properties that cameras write.

Source: ISO/IEC 14496-12, section 8.11; ISO/IEC 23008-12, section 6.5.
"""

import io
import struct

from app.core.file_types.bmff import boxes


def box(name, *data):
    content = b"".join(data)
    return struct.pack(">I4s", 8 + len(content), name) + content


def full(name, *data, version=0, flags=0):
    return box(name, struct.pack(">I", version << 24 | flags), *data)


def inside(data, *path):
    """The content of a box, found by its names from the outside; after a number, so many bytes are skipped."""
    for step in path:
        if isinstance(step, int):
            data = data[step:]
        else:
            data = next(data[start:end] for name, start, end in boxes(data) if name == step)
    return data


def parts_of_avif(data):
    """Type, configuration and bytes of the picture in an AVIF."""
    config = inside(data, b"meta", 4, b"iprp", b"ipco", b"av1C")
    return b"av01", box(b"av1C", config), inside(data, b"mdat")


def hevc_picture(image):
    """The same of a picture that is encoded here; None: no encoder is installed."""
    import av  # noqa: PLC0415 - an extra
    from av.video.frame import VideoFrame  # noqa: PLC0415

    if "libx265" not in av.codecs_available:
        return None
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as output:
        stream = output.add_stream("libx265", rate=1, options={"x265-params": "log-level=none:info=0"})
        stream.width, stream.height, stream.pix_fmt = *image.size, "yuv420p"
        stream.codec_context.codec_tag = "hvc1"
        frame = VideoFrame.from_image(image)
        frame.pts = 0
        packets = [*stream.encode(frame), *stream.encode(None)]
        for packet in packets:
            packet.pts = packet.dts = 0  # the encoder does not always say so
        output.mux(packets)
    data = out.getvalue()
    described = inside(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", 8)
    config = inside(described[8 + 78 :], b"hvcC")
    return b"hvc1", box(b"hvcC", config), inside(data, b"mdat")


def heif_file(brand, picture, size, *, brands=(), turn=None, mirror=None, crop=None, fraction=None, preview=None):
    """A file with one picture.

    Args:
        brand: The major one.
        picture: Type, configuration and bytes.
        size: As coded.
        brands: The compatible ones besides.
        turn: Quarters of a turn against the clock.
        mirror: The axis.
        crop: Width and height that are left.
        fraction: Instead: a width, as numerator and denominator.
        preview: The size of another picture that comes first in the list.
    """
    kind, config, payload = picture
    over, under = fraction or ((crop or size)[0], 1)
    properties = [full(b"ispe", struct.pack(">II", *size)), config]
    if crop or fraction:
        rest = [(crop or size)[1], 1, 0, 1, 0, 1]
        properties.append(box(b"clap", struct.pack(">8I", over, under, *rest)))
    if turn is not None:
        properties.append(box(b"irot", bytes([turn])))
    if mirror is not None:
        properties.append(box(b"imir", bytes([mirror])))
    # All but the size have to be understood by readers.
    listed = [(1, [1, *(number | 0x80 for number in range(2, len(properties) + 1))])]
    if preview:
        properties.append(full(b"ispe", struct.pack(">II", *preview)))
        listed.insert(0, (2, [len(properties)]))
    entries = [full(b"infe", struct.pack(">HH4s", number, 0, kind), b"\x00", version=2) for number, _ in listed]
    associated = [struct.pack(">HB", number, len(places)) + bytes(places) for number, places in listed]

    def meta(offset):
        places = [struct.pack(">HHHII", number, 0, 1, offset, len(payload)) for number, _ in listed]
        return full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(13)),
            full(b"pitm", struct.pack(">H", 1)),
            full(b"iloc", b"\x44\x00", struct.pack(">H", len(listed)), *places),
            full(b"iinf", struct.pack(">H", len(listed)), *entries),
            box(
                b"iprp",
                box(b"ipco", *properties),
                full(b"ipma", struct.pack(">I", len(listed)), *associated),
            ),
        )

    compatible = b"".join(dict.fromkeys([b"mif1", brand, *brands]))
    begin = box(b"ftyp", brand, bytes(4), compatible)
    return begin + meta(len(begin) + len(meta(0)) + 8) + box(b"mdat", payload)
