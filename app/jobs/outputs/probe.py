"""How long a video or sound is, how large, and a picture of it: found out after it is stored, as far as it goes.

It needs the extra `av`. What fails here fails alone: the file has been paid for and is in the store, so it is delivered
without what could not be found out. Each file is read from the store into a folder that goes away, and looked into by a
process of its own, a few at a time.
"""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
import structlog

from app.jobs.transitions.completion import StoredFile
from app.storage.store import Store

log = structlog.get_logger(__name__)

AVAILABLE: Final = find_spec("av") is not None
AT_ONCE: Final = 2
LONGEST: Final = 45.0
"""Seconds for the process that looks."""
LONGEST_READ: Final = 300.0
"""Seconds for the file's way here."""
PROGRAM: Final = Path(__file__).with_name("probe_process.py")
POSTER_TYPE: Final = "image/jpeg"
FORMATS: Final = {
    "video/mp4": "mp4",
    "video/x-m4v": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "matroska",
    "video/x-msvideo": "avi",
    "audio/mp4": "mp4",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/aac": "aac",
}
"""What is looked into, and its name at FFmpeg."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found out."""

    width: int | None = None
    height: int | None = None
    seconds: float | None = None


class OutputProbe:
    """Looks into stored files; one object for all jobs of a process."""

    def __init__(self, store: Store, max_pixels: int) -> None:
        self._store = store
        self._max_pixels = max_pixels
        self._places = asyncio.Semaphore(AT_ONCE)
        # Threads, because a process is waited for, and because not every event loop starts any.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe")

    async def look_into(self, file: StoredFile) -> StoredFile:
        """The same file with what could be found out about it; a poster is stored beside it."""
        kind = FORMATS.get(file.media_type)
        if kind is None or not AVAILABLE:
            return file
        try:
            async with self._places:
                return await self._look_into(file, kind)
        except Exception as error:  # noqa: BLE001 - whatever it is, the file itself is in the store
            log.warning("not_probed", key=file.key, error=repr(error)[:500])
            return file

    async def _look_into(self, file: StoredFile, kind: str) -> StoredFile:
        with tempfile.TemporaryDirectory(prefix="fleek-probe-") as name:
            folder = Path(name)
            async with asyncio.timeout(LONGEST_READ):
                await self._fetch(file.key, folder / "file")
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, _probe, kind, folder, self._max_pixels)
            poster = folder / "poster"
            key = f"{file.key.rpartition('.')[0]}-poster.jpg" if poster.exists() else None
            if key is not None:
                picture = await asyncio.to_thread(poster.read_bytes)
                await self._store.put(key, _one(picture), POSTER_TYPE)
        return replace(file, width=found.width, height=found.height, seconds=found.seconds, poster_key=key)

    async def _fetch(self, key: str, path: Path) -> None:
        with path.open("wb") as file:
            async for chunk in self._store.get(key):
                await asyncio.to_thread(file.write, chunk)


def _probe(kind: str, folder: Path, max_pixels: int) -> Probed:
    done = subprocess.run(  # noqa: S603 - our own program; what it is given are paths of ours
        [sys.executable, "-I", str(PROGRAM), kind, str(folder / "file"), str(folder / "poster"), str(max_pixels)],
        env={},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LONGEST,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"ended with {done.returncode}: {done.stderr[-300:].decode(errors='replace')}")
    return msgspec.json.decode(done.stdout, type=Probed)


async def _one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk
