"""The files of an input on their way to a provider, before anything is submitted.

Crosses database, store, the internet and the provider, and spends nothing; a crash anywhere costs only the work:

1. Each reference in the input is resolved to a file: an upload, an earlier output, the caller's URL, or bytes in the
   request.
2. A URL that the provider does not read is fetched (`download.py`) and saved as an upload of the same owner.
3. Each is passed on as the provider's capabilities allow: a URL that it reads, a `data:` URI, or its own upload.

A file that is missing ends the media with `input_refused`; one that is unavailable now is retried later.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from app.core.database.pool import RETRYABLE, DatabasePool
from app.core.http_client.protocol import Http
from app.jobs import queries
from app.jobs.inputs.download import fetch
from app.jobs.inputs.references import (
    InlineData,
    InvalidReferenceError,
    OutputReference,
    Path,
    Reference,
    Url,
    field_name,
    file_places,
    parse_reference,
    with_replaced_text,
)
from app.media_generator import adapter_calls
from app.media_generator.errors import InputRefusedError, InputUnreachableError
from app.media_generator.media_generator_model import Capabilities, InputFile, MediaGeneratorModel
from app.media_generator.registry import Offer
from app.storage.store import ObjectNotFoundError, Store, StoreError
from app.uploads.accepted import accepted
from app.uploads.errors import (
    FileTooLargeError,
    PictureTooLargeError,
    TruncatedFileError,
    UnsupportedFileError,
    UploadsBusyError,
    UploadStoreUnavailableError,
    UploadTimeoutError,
)
from app.uploads.queries import StoredFile
from app.uploads.service import MAX_CONCURRENT, Uploads

log = structlog.get_logger(__name__)

MOST_IN_MEMORY: Final = 256 * 1024 * 1024
"""Bytes of `data:` URIs that one process holds at the same time."""
_NOT_ACCEPTED: Final = (FileTooLargeError, PictureTooLargeError, UnsupportedFileError, TruncatedFileError)


class InputsDelayedError(Exception):
    """The files are unavailable now; nothing is lost by trying again later."""

    def __init__(self, message: str, wait: timedelta | None = None) -> None:
        super().__init__(message)
        self.wait = wait
        """The shortest time until then; None: the engine decides."""


@dataclass(frozen=True, slots=True)
class InputPolicy:
    """Where files may come from and how they may be passed on."""

    store_is_public: bool
    """Whether providers can reach the URLs that the store signs."""
    url_lifetime: timedelta
    """Of a signed URL: a provider may begin late."""
    allow_private: bool
    """The setting ALLOW_PRIVATE_ADDRESSES."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One file that was found."""

    file: InputFile
    key: str | None = None
    """In our bucket; None: it is not there."""
    url: str | None = None
    """The caller's own URL, which the provider reads; nothing else is known about the file then."""


class InputStaging:
    """Finds files and passes them on; one object for all jobs of a process."""

    def __init__(self, db: DatabasePool, store: Store, uploads: Uploads, http: Http, policy: InputPolicy) -> None:
        self._db = db
        self._store = store
        self._uploads = uploads
        self._http = http
        self._policy = policy
        self._fetching = asyncio.Semaphore(MAX_CONCURRENT)
        self._memory = _Memory(MOST_IN_MEMORY)

    @asynccontextmanager
    async def staged(self, offer: Offer, owner_id: UUID, given: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any]]:
        """The input as the provider gets it; what it holds in memory is counted until the end of the block.

        Raises:
            InputRefusedError: A file is missing, or the provider does not take it.
            InputUnreachableError, BusyError and the like: The caller's server or the provider is unavailable now.
            InputsDelayedError: Our store or database is unavailable now.
        """
        named = _references_of(offer, given) if offer.takes_files else {}
        if not named:
            yield given
            return
        can = offer.provider.capabilities
        first = {text: path for path, text in reversed(named.items())}
        try:
            sources = {text: await self._find(can, owner_id, text, path) for text, path in first.items()}
            inline = {text for text, source in sources.items() if self._goes_inline(can, source)}
        except (StoreError, UploadStoreUnavailableError, *RETRYABLE) as error:
            raise InputsDelayedError(repr(error)) from error
        async with self._memory.holding(sum(sources[text].file.size for text in inline) * 4 // 3):
            try:
                values = {
                    text: await self._stage(offer.provider, owner_id, sources[text], first[text]) for text in sources
                }
            except (StoreError, UploadStoreUnavailableError, *RETRYABLE) as error:
                raise InputsDelayedError(repr(error)) from error
            log.info("input_files_staged", files=len(values), inline=len(inline))
            yield with_replaced_text(given, lambda _, text: values[text], frozenset(named))

    async def _find(self, can: Capabilities, owner_id: UUID, text: str, path: Path) -> _Source:
        try:
            found = parse_reference(text, allow_private=self._policy.allow_private)
        except InvalidReferenceError as fault:
            raise InputRefusedError(f"{field_name(path)} {fault}") from None
        trusted = not can.reads_inside or self._policy.allow_private
        if isinstance(found, Url) and can.reads_urls and trusted:
            return _Source(_unread_file(), url=found.url)
        with _naming_field(path):
            source = await self._source(owner_id, found)
        if source is None:
            raise InputRefusedError(f"{field_name(path)} names a file that no longer exists")
        return source

    async def _source(self, owner_id: UUID, found: Reference) -> _Source | None:
        if isinstance(found, InlineData):
            return _inline_source(found.data)
        if isinstance(found, Url):
            return self._uploaded(await self._fetched(owner_id, found.url))
        if isinstance(found, OutputReference):
            content = await queries.content(self._db, found.media_id, owner_id, found.index)
            if content is None or content.key is None or content.media_type is None or content.bytes is None:
                return None
            return self._in_bucket(content.key, content.media_type, content.bytes)
        upload = await self._uploads.find(owner_id, found.upload_id)
        return None if upload is None else self._uploaded(upload)

    async def _fetched(self, owner_id: UUID, url: str) -> StoredFile:
        name = url.partition("?")[0].rpartition("/")[2]
        async with self._fetching, aclosing(fetch(self._http, url, allow_private=self._policy.allow_private)) as chunks:
            return await self._save(owner_id, name, chunks)

    async def _save(self, owner_id: UUID, name: str, chunks: AsyncIterator[bytes]) -> StoredFile:
        try:
            return await self._uploads.save(owner_id, name, chunks)
        except _NOT_ACCEPTED as error:
            raise InputRefusedError(f"the file of the input is not accepted: {error.detail}") from error
        except (UploadTimeoutError, UploadsBusyError) as error:
            raise InputUnreachableError(f"the file of the input could not be fetched: {error.detail}") from error

    def _uploaded(self, file: StoredFile) -> _Source:
        return self._in_bucket(file.key, file.media_type, file.bytes)

    def _in_bucket(self, key: str, media_type: str, size: int) -> _Source:
        name = key.rpartition("/")[2]
        return _Source(InputFile(media_type, size, name, lambda: self._store.get(key)), key)

    def _by_url(self, can: Capabilities) -> bool:
        return can.reads_urls and self._policy.store_is_public

    def _goes_inline(self, can: Capabilities, source: _Source) -> bool:
        if source.url is not None or (source.key is not None and self._by_url(can)):
            return False
        return source.file.size <= can.data_uri_bytes

    async def _stage(self, provider: MediaGeneratorModel, owner_id: UUID, source: _Source, path: Path) -> str:
        with _naming_field(path):
            return await self._value_of(provider, owner_id, source)

    async def _value_of(self, provider: MediaGeneratorModel, owner_id: UUID, source: _Source) -> str:
        """What stands for the file in the submission."""
        can, file, key = provider.capabilities, source.file, source.key
        if source.url is not None:
            return source.url
        if key is not None and self._by_url(can):
            return self._store.sign(key, self._policy.url_lifetime)
        if self._goes_inline(can, source):
            return await _data_uri(file)
        if can.uploads:
            return await adapter_calls.upload(provider, file)
        if self._by_url(can):
            saved = await self._save(owner_id, file.name, file.chunks())
            return self._store.sign(saved.key, self._policy.url_lifetime)
        raise InputRefusedError(f"{file.media_type} of {file.size} bytes cannot be passed on: {_unsupported(provider)}")


def _references_of(offer: Offer, given: Mapping[str, Any]) -> dict[Path, str]:
    """The files that the caller names; the schema's own defaults go to the provider unchanged."""
    properties: Mapping[str, Mapping[str, Any]] = offer.card.input_schema.get("properties", {})
    own = {str(rule["default"]) for rule in properties.values() if "default" in rule}
    return {path: text for path, text in file_places(offer.card.input_schema, given) if text not in own}


@contextmanager
def _naming_field(path: Path) -> Generator[None]:
    """Errors name the field of the input that they are about."""
    try:
        yield
    except (InputRefusedError, InputUnreachableError) as error:
        raise type(error)(f"{field_name(path)}: {error.message}", retry_after=error.retry_after) from error


def _unread_file() -> InputFile:
    return InputFile("", 0, "", lambda: _one(b""))


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _inline_source(data: bytes) -> _Source:
    try:
        kind = accepted(data)
    except UnsupportedFileError as error:
        raise InputRefusedError(f"the file of the input is not accepted: {error.detail}") from None
    return _Source(InputFile(kind.media_type, len(data), f"input.{kind.extension}", lambda: _one(data)))


async def _data_uri(file: InputFile) -> str:
    try:
        data = b"".join([chunk async for chunk in file.chunks()])
    except ObjectNotFoundError:
        raise InputRefusedError("the file of the input no longer exists") from None
    return f"data:{file.media_type};base64,{base64.b64encode(data).decode()}"


def _unsupported(provider: MediaGeneratorModel) -> str:
    can = provider.capabilities
    reads = "reads URLs, but the store is not public (S3_PUBLIC_URL)" if can.reads_urls else "reads no URLs"
    inline = f"takes data: URIs up to {can.data_uri_bytes} bytes" if can.data_uri_bytes else "takes no data: URIs"
    return f"{provider.name} {reads}, {inline} and has no uploads"


class _Memory:
    """A share of this process's memory; a job that finds too little left waits until others release theirs."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def holding(self, size: int) -> AsyncGenerator[None]:
        wanted = min(size, self._size)
        while self._free < wanted:
            self._changed.clear()
            await self._changed.wait()
        self._free -= wanted
        try:
            yield
        finally:
            self._free += wanted
            self._changed.set()
