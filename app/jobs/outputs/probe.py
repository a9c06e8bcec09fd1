"""Duration, pixel size and poster of a video or sound, and the size of a picture whose beginning does not say it.

They are probed after the file is stored. Video and sound need the extra `av`. A failure here fails nothing else: the
file has been paid for and is in the store, so it is delivered without these values. Each file is read from the store
into a temporary folder, and probed by a process of its own, a few at a time.
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

from app.core.file_types import heif
from app.jobs.notices import also_stored, too_many_pixels
from app.jobs.outputs.marks import marked_bytes
from app.jobs.transitions.completion import StoredFile
from app.provenance.mark import Mark
from app.storage.store import Store

log = structlog.get_logger(__name__)

AVAILABLE: Final = find_spec("av") is not None
AT_ONCE: Final = 2
LONGEST: Final = 45.0
"""Seconds for the probe process."""
LONGEST_READ: Final = 300.0
"""Seconds for reading the file from the store."""
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
    "video/3gpp": "3gp",
    "video/3gpp2": "3gp",
    "audio/3gpp": "3gp",
    "audio/3gpp2": "3gp",
    "image/heic-sequence": "mov",
    "video/ogg": "ogg",
    "video/x-flv": "flv",
    "video/x-ms-wmv": "asf",
    "video/x-ms-asf": "asf",
    "audio/x-ms-wma": "asf",
    "video/mpeg": "mpeg",
    "video/mp2t": "mpegts",
    "audio/x-aiff": "aiff",
    "audio/x-caf": "caf",
    "audio/amr": "amr",
    "audio/amr-wb": "amr",
}
"""Types that are probed, and their FFmpeg formats."""
PICTURES: Final = {
    "image/png": "PNG",
    "image/apng": "PNG",
    "image/gif": "GIF",
    "image/jpeg": "JPEG,MPO",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/x-icon": "ICO,CUR",
    "image/x-tga": "TGA",
    "image/jp2": "JPEG2000",
    "image/jpx": "JPEG2000",
    "image/vnd.adobe.photoshop": "PSD",
    "image/vnd.ms-dds": "DDS",
    "image/x-portable-pixmap": "PPM",
    "image/qoi": "QOI",
}
"""Types whose size a decoder says where the beginning of the file does not, and their Pillow formats."""
HEIF: Final = frozenset({"image/heic", "image/heif", "image/avif"})
"""Types whose list of properties may be longer than the beginning; decoders do not tell how pictures are cropped."""
LONGEST_LIST: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Probed:
    """The result; null: unknown."""

    width: int | None = None
    height: int | None = None
    seconds: float | None = None


class OutputProbe:
    """Probes stored files; one object for all jobs of a process."""

    def __init__(self, store: Store, max_pixels: int) -> None:
        self._store = store
        self._max_pixels = max_pixels
        self._slots = asyncio.Semaphore(AT_ONCE)
        # Threads wait for the processes, because not every event loop can start any.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe")

    async def probe(self, file: StoredFile, mark: Mark | None = None) -> StoredFile:
        """The same file with what the probe found; a poster with the same mark is stored beside it."""
        kind = FORMATS.get(file.media_type) if AVAILABLE else None
        if file.width is None and file.media_type in PICTURES:
            kind = f"picture:{PICTURES[file.media_type]}"
        if kind is None and (file.media_type not in HEIF or file.width is not None):
            return file
        try:
            async with self._slots:
                return await self._probe_file(file, kind, mark)
        except Exception as error:  # noqa: BLE001 - whatever it is, the file itself is in the store
            log.warning("not_probed", key=file.key, error=repr(error)[:500])
            return file

    async def _probe_file(self, file: StoredFile, kind: str | None, mark: Mark | None) -> StoredFile:
        with tempfile.TemporaryDirectory(prefix="fleek-probe-") as name:
            folder = Path(name)
            async with asyncio.timeout(LONGEST_READ):
                await self._fetch(file.key, folder / "file")
            if kind is None:
                size = await asyncio.to_thread(_listed_size, folder / "file")
                return self._sized(replace(file, width=size[0], height=size[1]))
            loop = asyncio.get_running_loop()
            probed = await loop.run_in_executor(self._threads, _run_process, kind, folder, self._max_pixels)
            poster = folder / "poster"
            key = f"{file.key.rpartition('.')[0]}-poster.jpg" if poster.exists() else None
            if key is not None:
                picture = await asyncio.to_thread(poster.read_bytes)
                content = picture if mark is None else marked_bytes(picture, mark)
                await self._store.put(key, _one_chunk(content), POSTER_TYPE)
        probed_file = replace(file, width=probed.width, height=probed.height, seconds=probed.seconds, poster_key=key)
        return self._sized(probed_file)

    def _sized(self, file: StoredFile) -> StoredFile:
        """The same file, with a warning if it has more pixels than are decoded."""
        if not (file.width and file.height) or file.width * file.height <= self._max_pixels:
            return file
        return replace(
            file, warnings=also_stored(file.warnings, too_many_pixels(file.width, file.height, self._max_pixels))
        )

    async def _fetch(self, key: str, path: Path) -> None:
        with path.open("wb") as file:
            async for chunk in self._store.get(key):
                await asyncio.to_thread(file.write, chunk)


def _listed_size(path: Path) -> tuple[int | None, int | None]:
    with path.open("rb") as file:
        found = heif.read(file.read(LONGEST_LIST))
    return (None, None) if found is None else found.displayed


def _run_process(kind: str, folder: Path, max_pixels: int) -> Probed:
    done = subprocess.run(  # noqa: S603 - our own program and paths
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


async def _one_chunk(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk
