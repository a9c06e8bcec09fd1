"""What a mark costs beside a plain copy: `uv run python -m bench.marks`; see README.md."""

import argparse
import asyncio
import gc
import hashlib
import io
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable
from typing import Final
from uuid import UUID

from PIL import Image

from app.core.config import Settings
from app.core.file_types import HEAD_BYTES, EndDetector, describe
from app.provenance.mark import Mark, Outcome, SourceType
from app.provenance.marking import MarkedStream
from app.storage.s3 import S3Store
from bench.report import HEADER, Row, Target, table
from bench.stage import MEASURED, MIB, OTHERS, Stage, pin

CHUNK: Final = 64 * 1024
MARK: Final = Mark(SourceType.TRAINED, "Fleek 1.0", "acme/text-to-image", UUID("0190a000-0000-7000-8000-000000000001"))
SHARE: Final = Target(must=5.0, good=2.0, at_most=True)


def files(video_mib: int) -> dict[str, bytes]:
    """What models return, in the sizes in which they do."""
    picture = Image.merge("RGB", [Image.effect_noise((1024, 1024), 12) for _ in range(3)])
    found = {}
    for name, kind, options in (
        ("PNG 1024x1024", "PNG", {"compress_level": 1}),
        ("JPEG 1024x1024", "JPEG", {"quality": 92}),
        ("WebP 1024x1024", "WEBP", {"quality": 90, "method": 0}),
    ):
        out = io.BytesIO()
        picture.save(out, kind, **options)
        found[name] = out.getvalue()
    out = io.BytesIO()
    frames = [picture.resize((256, 256)).rotate(turn).quantize(64) for turn in range(0, 360, 60)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    found["GIF, 6 frames"] = out.getvalue()
    head = b"\0\0\0\x14ftypisom\0\0\0\0isom" + b"\0\0\0\x10moov\0\0\0\x08free"
    size = video_mib * MIB
    found[f"MP4, {video_mib} MiB"] = head + (8 + size).to_bytes(4) + b"mdat" + bytes(size)
    return found


def chunks(data: bytes) -> list[bytes]:
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]


async def copied(store: S3Store, data: bytes) -> None:
    """As ingest does it without marks."""
    kind = describe(data[:HEAD_BYTES])
    ending, digest = EndDetector(kind, data[:HEAD_BYTES]), hashlib.sha256()

    async def checked() -> AsyncIterator[bytes]:
        for chunk in chunks(data):
            ending.feed(chunk)
            digest.update(chunk)
            yield chunk

    await store.put("bench/file", checked(), kind.content_type)


def marked(pieces: list[bytes]) -> None:
    stream = MarkedStream(MARK)
    for piece in pieces:
        stream.feed(piece)
    stream.close()
    if stream.outcome != Outcome.MARKED:
        raise RuntimeError(stream.reason)


def passed_on(pieces: list[bytes]) -> None:
    for piece in pieces:
        [piece].copy()


def hashed(pieces: list[bytes]) -> None:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)


def cpu_of(run: Callable[[], object], times: int) -> float:
    """Milliseconds of this process, all threads."""
    began = time.process_time_ns()
    for _ in range(times):
        run()
    return (time.process_time_ns() - began) / 1e6 / times


async def cpu_of_copy(store: S3Store, data: bytes, times: int) -> float:
    began = time.process_time_ns()
    for _ in range(times):
        await copied(store, data)
    return (time.process_time_ns() - began) / 1e6 / times


async def measure(store: S3Store, options: argparse.Namespace) -> list[Row]:
    rows = []
    for name, data in files(options.video).items():
        rows += await measure_one(store, name, data, options.rounds)
    return rows


async def measure_one(store: S3Store, name: str, data: bytes, rounds: int) -> list[Row]:
    pieces, times = chunks(data), max(1, int(8 * MIB / len(data)))
    await copied(store, data)
    found: dict[str, list[float]] = {"copy": [], "mark": [], "hash": []}
    gc.disable()
    for _ in range(rounds):
        found["copy"].append(await cpu_of_copy(store, data, times))
        found["mark"].append(cpu_of(lambda: marked(pieces), times) - cpu_of(lambda: passed_on(pieces), times))
        found["hash"].append(cpu_of(lambda: hashed(pieces), times))
    gc.enable()
    copy, mark, digest = (statistics.median(found[kind]) for kind in ("copy", "mark", "hash"))
    size = len(data) / MIB
    note = f"{size:.2f} MiB: {1000 * mark:,.0f} us a file, {1000 * mark / size:,.0f} us a MiB; copy {copy:.2f} ms"
    return [
        Row(f"{name}: mark", 100 * mark / copy, "% of copy", SHARE, note),
        Row(f"{name}: second sha256", 100 * digest / copy, "% of copy", None, f"{digest:.2f} ms"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="the median is shown")
    parser.add_argument("--video", type=int, default=64, help="MiB of the video")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with Stage() as stage:
        stage.pin_engines(OTHERS)
        pin(os.getpid(), MEASURED)
        known = {name.lower(): value for name, value in stage.environment.items()}
        rows = asyncio.run(measure(S3Store(Settings(**known)), options))  # type: ignore[arg-type]
    if options.json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        print(table([HEADER, *(row.cells for row in rows)]))


if __name__ == "__main__":
    main()
