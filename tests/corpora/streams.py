"""Video and sound of every format: by FFmpeg's encoders, and by small writers of bytes where there is none."""

import struct
import tempfile
from fractions import Fraction
from pathlib import Path

from tests.corpora.files import SKIPPED, add, add_forms
from tests.corpora.pictures import noise

SIZE = (64, 48)
RATE = 5
FRAMES = 10
SECONDS = 2.0
VIDEOS = [
    # name, FFmpeg's format, codec, options, media type, whether the format proves where it ends
    ("mp4", "mp4", "mpeg4", {}, "video/mp4", True),
    ("mp4: head first", "mp4", "mpeg4", {"movflags": "faststart"}, "video/mp4", True),
    ("mp4: fragments", "mp4", "mpeg4", {"movflags": "frag_keyframe+empty_moov"}, "video/mp4", True),
    ("m4v", "mp4", "mpeg4", {"brand": "M4V "}, "video/x-m4v", True),
    ("mov", "mov", "mpeg4", {}, "video/quicktime", True),
    ("3gp", "3gp", "mpeg4", {}, "video/3gpp", True),
    ("webm", "webm", "libvpx", {}, "video/webm", True),
    ("mkv", "matroska", "mpeg4", {}, "video/x-matroska", True),
    ("avi", "avi", "mpeg4", {}, "video/x-msvideo", False),
    ("flv", "flv", "flv", {}, "video/x-flv", False),
    ("wmv", "asf", "wmv2", {}, "video/x-ms-wmv", False),
    ("mpeg program stream", "mpeg", "mpeg1video", {}, "video/mpeg", False),
    ("mpeg transport stream", "mpegts", "mpeg2video", {}, "video/mp2t", False),
]
SOUNDS = [
    # name, FFmpeg's format, codec, options, samples a second, media type, whether the format proves where it ends
    ("mp3", "mp3", "libmp3lame", {}, 44_100, "audio/mpeg", False),
    ("mp3: without tags", "mp3", "libmp3lame", {"id3v2_version": "0", "write_xing": "0"}, 44_100, "audio/mpeg", False),
    ("mp3: MPEG-2", "mp3", "libmp3lame", {"id3v2_version": "0"}, 22_050, "audio/mpeg", False),
    ("mp3: MPEG-2.5", "mp3", "libmp3lame", {"id3v2_version": "0", "write_xing": "0"}, 8_000, "audio/mpeg", False),
    ("mp2", "mp2", "mp2", {}, 44_100, "audio/mpeg", False),
    ("aac", "adts", "aac", {}, 44_100, "audio/aac", False),
    ("flac", "flac", "flac", {}, 44_100, "audio/flac", False),
    ("wav", "wav", "pcm_s16le", {}, 8_000, "audio/wav", True),
    ("wav: RF64", "wav", "pcm_s16le", {"rf64": "always"}, 8_000, "audio/wav", False),
    ("aiff", "aiff", "pcm_s16be", {}, 8_000, "audio/x-aiff", True),
    ("aiff-c", "aiff", "pcm_s16le", {}, 8_000, "audio/x-aiff", True),
    ("m4a", "ipod", "aac", {}, 44_100, "audio/mp4", True),
    ("m4a: brand of a video", "mp4", "aac", {"movflags": "faststart"}, 44_100, "audio/mp4", True),
    ("ogg opus", "ogg", "libopus", {}, 48_000, "audio/ogg", False),
    ("ogg vorbis", "ogg", "vorbis", {"strict": "experimental"}, 44_100, "audio/ogg", False),
    ("ogg flac", "ogg", "flac", {}, 44_100, "audio/ogg", False),
    ("amr", "amr", "libopencore_amrnb", {}, 8_000, "audio/amr", False),
    ("wma", "asf", "wmav2", {}, 44_100, "audio/x-ms-wma", False),
    ("caf", "caf", "pcm_s16be", {}, 8_000, "audio/x-caf", False),
]
ID3 = b"ID3\x04\x00\x00\x00\x00\x02\x00" + b"TIT2\x00\x00\x00\x05\x00\x00\x03made" + bytes(256 - 15)
COVER = b"ID3\x04\x00\x00\x00\x06\x40\x00" + bytes((6 << 14) + (0x40 << 7))


def make():
    import av  # noqa: PLC0415 - an extra

    for name, kind, codec, options, media_type, ends in VIDEOS:
        if codec in av.codecs_available:
            content = video(kind, codec, options)
            add_forms(name, content, media_type, SIZE, seconds=SECONDS, ends=ends)
        else:
            SKIPPED[name] = f"no encoder of {codec} is installed"
    for name, kind, codec, options, rate, media_type, ends in SOUNDS:
        if codec in av.codecs_available:
            add_forms(name, sound(kind, codec, options, rate), media_type, seconds=SECONDS, ends=ends)
        else:
            SKIPPED[name] = f"no encoder of {codec} is installed"
    make_odd()


def make_odd():
    known = {"seconds": SECONDS}
    mp4, mov = video("mp4", "mpeg4"), video("mov", "mpeg4")
    length = int.from_bytes(mov[:4])
    add("mov: without brands", struct.pack(">I4s", length, b"wide") + mov[8:], "video/quicktime", SIZE, **known)
    add("mp4: rotated", rotated(mp4), "video/mp4", SIZE[::-1], **known)
    add("webm: padded type", padded_doctype(video("webm", "libvpx")), "video/webm", SIZE, **known)
    add("aac: behind ID3", ID3 + sound("adts", "aac", {}, 44_100), "audio/aac", **known)
    add("flac: behind ID3", ID3 + sound("flac", "flac", {}, 44_100), "audio/flac", **known)
    mp3 = sound("mp3", "libmp3lame", {"id3v2_version": "0"}, 44_100)
    add("mp3: behind ID3", ID3 + mp3, "audio/mpeg", **known)
    add("mp3: behind a long ID3", COVER + mp3, "audio/mpeg", **known)
    wav = sound("wav", "pcm_s16le", {}, 8_000)
    add("wav: of unknown length", wav[:4] + b"\xff" * 4 + wav[8:], "audio/wav", **known)
    add("ogg theora", theora(), "video/ogg", is_read=False)
    add("midi", midi(), "audio/midi", is_read=False)


def encoded(kind, options, fill):
    import av  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made")
        with av.open(str(path), "w", format=kind, options=options) as output:
            fill(output)
        return path.read_bytes()


def video(kind, codec, options=None):
    from av.video.frame import VideoFrame  # noqa: PLC0415

    def fill(output):
        stream = output.add_stream(codec, rate=25 if codec.startswith(("mpeg1", "mpeg2")) else RATE)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        count = int(SECONDS * float(stream.codec_context.framerate))
        for number in range(count):
            frame = VideoFrame.from_image(noise(size=SIZE))
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))

    return encoded(kind, options or {}, fill)


def sound(kind, codec, options, rate):
    from av.audio.frame import AudioFrame  # noqa: PLC0415

    def fill(output):
        own = {"strict": options["strict"]} if "strict" in options else {}
        stream = output.add_stream(codec, rate=rate, options=own)
        stream.layout = "stereo" if codec in {"vorbis", "wmav2"} else "mono"
        if codec == "wmav2":
            stream.bit_rate = 64_000
        shape = stream.codec_context.format.name
        left, at = int(rate * SECONDS), 0
        while left:
            count = min(stream.codec_context.frame_size or 1024, left)
            frame = AudioFrame(format=shape, layout=stream.layout.name, samples=count)
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            output.mux(stream.encode(frame))
            left, at = left - count, at + count
        output.mux(stream.encode(None))

    return encoded(kind, {name: value for name, value in options.items() if name != "strict"}, fill)


def rotated(mp4):
    """The same video, to be turned by a quarter when it is displayed."""
    place = mp4.index(b"tkhd") + 4 + 40
    one, minus_one = 0x1_0000, 0xFFFF_0000
    return mp4[:place] + struct.pack(">9I", 0, one, 0, minus_one, 0, 0, 0, 0, 0x4000_0000) + mp4[place + 36 :]


def padded_doctype(webm):
    """With the type of document in eight bytes, filled up with zeros."""
    place = webm.index(b"\x42\x82\x84webm")
    size_at = 4
    width = 9 - webm[size_at].bit_length()
    length = int.from_bytes(webm[size_at : size_at + width]) + 4
    header = webm[:size_at] + length.to_bytes(width) + webm[size_at + width : place]
    return header + b"\x42\x82\x88webm" + bytes(4) + webm[place + 7 :]


def theora():
    from tests.marked_files import ogg_page  # noqa: PLC0415

    head = b"\x80theora\x03\x02\x01" + struct.pack(">HH", 4, 3) + bytes(28)
    return ogg_page([head], 0, 2) + ogg_page([b"\x81theora" + bytes(8)], 1) + ogg_page([bytes(300)], 2, 4)


def midi():
    track = b"\x00\x90\x3c\x40\x60\x80\x3c\x40\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", len(track)) + track
