"""A program of its own that probes one file: `python probe_process.py FORMAT FILE POSTER MAX_PIXELS`.

It decodes untrusted files, so it runs apart from the worker, with limits, without secrets in its environment, and
imports nothing of ours. It prints a JSON object with `width`, `height` and `seconds`, each null where it is unknown;
a video's first picture that can be decoded goes into the file POSTER. FORMAT is one of FFmpeg's, or `picture:` and some
of Pillow's, separated by commas: of a picture only the size is read, nothing is decoded.
"""

import json
import resource
import sys
from contextlib import suppress
from typing import Any, Final

MOST_CPU_SECONDS: Final = 20
MOST_BYTES: Final = 3 * 1024**3
"""Of address space; the libraries alone take a third of it."""
LONGEST_SIDE: Final = 1280
"""Of a poster, in pixels."""
QUALITY: Final = 85
MOST_FRAMES: Final = 50
"""Frames that are tried until one is good."""
PICTURE: Final = "picture:"
ORIENTATION: Final = 0x0112
"""The Exif tag; values from 5 on swap width and height."""
SWAPPED: Final = range(5, 9)
PREVIEW: Final = (254, 330)
"""TIFF tags of a preview, and of a picture whose full size is in a directory of its own."""


def probe(kind: str, path: str, poster: str, max_pixels: int) -> dict[str, Any]:
    """Pixel size and duration of a file; the poster of a video is written."""
    if kind.startswith(PICTURE):
        return _probe_picture(kind.removeprefix(PICTURE).split(","), path)
    return _probe_streams(kind, path, poster, max_pixels)


def _probe_picture(formats: list[str], path: str) -> dict[str, Any]:
    from PIL import Image  # noqa: PLC0415 - only what is needed is loaded

    Image.MAX_IMAGE_PIXELS = None  # no pixel is decoded
    with Image.open(path, formats=formats) as image:
        tags: Any = getattr(image, "tag_v2", {})
        if tags.get(PREVIEW[0], 0) & 1 or PREVIEW[1] in tags:
            return {"width": None, "height": None, "seconds": None}
        width, height = image.size
        # Pillow turns a TIFF by itself.
        if image.format in {"JPEG", "MPO"} and image.getexif().get(ORIENTATION) in SWAPPED:
            width, height = height, width
    return {"width": width, "height": height, "seconds": None}


def _probe_streams(kind: str, path: str, poster: str, max_pixels: int) -> dict[str, Any]:
    import av  # noqa: PLC0415 - an extra
    from av.error import FFmpegError  # noqa: PLC0415
    from av.stream import Disposition  # noqa: PLC0415

    # The format is given: some formats read other files, or addresses, that are named in this one.
    with av.open(path, format=kind, options={"protocol_whitelist": "file"}) as container:
        # The cover of a song is no video.
        videos = (stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic)
        video = next(videos, None)
        seconds = None if container.duration is None else container.duration / av.time_base
        found = {"width": None, "height": None, "seconds": seconds and round(seconds, 3)}
        if video is None or not video.width or not video.height:
            return found
        width, height = video.width, video.height
        if width * height > max_pixels:
            return {**found, "width": width, "height": height}
        with suppress(FFmpegError, OSError, ValueError):
            if _save_poster(container, video, poster) % 180:
                width, height = height, width
        return {**found, "width": width, "height": height}


def _save_poster(container: Any, video: Any, poster: str) -> int:
    """Write the poster; returns by how many degrees the video is turned when it is displayed."""
    video.thread_type = "NONE"
    for number, frame in enumerate(container.decode(video)):
        if not frame.is_corrupt:
            turned = int(frame.rotation)
            picture = frame.to_image()
            picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            if turned % 90 == 0:
                picture = picture.rotate(turned, expand=True)
            picture.convert("RGB").save(poster, format="JPEG", quality=QUALITY)
            return turned
        if number >= MOST_FRAMES:
            break
    return 0


def main() -> int:
    """Probe, and print the result."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    kind, path, poster, max_pixels = sys.argv[1:]
    sys.stdout.write(json.dumps(probe(kind, path, poster, int(max_pixels))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
