"""A program of its own that probes one video or sound: `python probe_process.py FORMAT FILE POSTER MAX_PIXELS`.

It decodes untrusted files, so it runs apart from the worker, with limits, without secrets in its environment, and
imports nothing of ours. It prints a JSON object with `width`, `height` and `seconds`, each null where it is unknown;
a video's first picture that can be decoded goes into the file POSTER.
"""

import json
import resource
import sys
from contextlib import suppress
from typing import Any, Final

import av
from av.error import FFmpegError

MOST_CPU_SECONDS: Final = 20
MOST_BYTES: Final = 3 * 1024**3
"""Of address space; the libraries alone take a third of it."""
LONGEST_SIDE: Final = 1280
"""Of a poster, in pixels."""
QUALITY: Final = 85
MOST_FRAMES: Final = 50
"""Frames that are tried until one is good."""


def probe(kind: str, path: str, poster: str, max_pixels: int) -> dict[str, Any]:
    """Pixel size and duration of a file; the poster is written."""
    # The format is given: some formats read other files, or addresses, that are named in this one.
    with av.open(path, format=kind, options={"protocol_whitelist": "file"}) as container:
        video = next(iter(container.streams.video), None)
        seconds = None if container.duration is None else container.duration / av.time_base
        found = {"width": None, "height": None, "seconds": seconds and round(seconds, 3)}
        if video is None or not video.width or not video.height:
            return found
        with suppress(FFmpegError, OSError, ValueError):
            if video.width * video.height <= max_pixels:
                _save_poster(container, video, poster)
        return {**found, "width": video.width, "height": video.height}


def _save_poster(container: Any, video: Any, poster: str) -> None:
    video.thread_type = "NONE"
    for number, frame in enumerate(container.decode(video)):
        if not frame.is_corrupt:
            picture = frame.to_image()
            picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            picture.convert("RGB").save(poster, format="JPEG", quality=QUALITY)
            return
        if number >= MOST_FRAMES:
            return


def main() -> int:
    """Probe, and print the result."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    kind, path, poster, max_pixels = sys.argv[1:]
    sys.stdout.write(json.dumps(probe(kind, path, poster, int(max_pixels))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
