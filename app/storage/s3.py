"""The store on any S3, through obstore: one client for S3_ENDPOINT_URL, and one that signs for S3_PUBLIC_URL."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import MemoryStore
from obstore.store import S3Store as ObstoreS3

from app.core.config import Settings
from app.core.telemetry.metrics import STORE_CALLS, Timed
from app.core.this_machine import is_this_machine, opener
from app.storage.store import ObjectHead, ObjectNotFoundError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

PART_BYTES: Final = 5 * 1024 * 1024
"""Objects up to this size are written in one request, larger ones in parts of this size, which S3 requires."""
CONCURRENT_PARTS: Final = 1
"""Of one object: one part is collected while another is written, so each upload takes 10 to 15 MiB of memory. With
obstore's default of 12 it would take 100 MiB."""
CACHE_FOREVER: Final = "private, max-age=31536000, immutable"


def _client(settings: Settings, endpoint: str | None) -> ObstoreS3:
    config: S3Config = {} if endpoint is None else {"endpoint": endpoint}
    # Without a proxy of its own, the client would take that of the environment, also for this machine.
    host = urlsplit(endpoint or "").hostname or ""
    direct: ClientConfig = {"proxy_url": endpoint, "proxy_excludes": host} if endpoint and is_this_machine(host) else {}
    return ObstoreS3(
        settings.bucket_name,
        config=config,
        region=settings.aws_default_region,
        access_key_id=settings.aws_access_key_id,
        secret_access_key=settings.aws_secret_access_key.get_secret_value(),
        virtual_hosted_style_request=endpoint is None,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=3),
            "timeout": timedelta(seconds=60),
            **direct,
        },
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
    )


class S3Store:
    """A private bucket on AWS or on any S3-compatible server."""

    def __init__(self, settings: Settings) -> None:
        # Its threads start with the first call; if that fails, for want of files or memory, so does every later one.
        obstore.put(MemoryStore(), "started", b"")
        self._bucket = settings.bucket_name
        own, public = (None if url == "aws" else url for url in (settings.s3_endpoint_url, settings.s3_signing_url))
        self._objects = _client(settings, own)
        self._signer = self._objects if own == public else _client(settings, public)

    async def put(self, key: str, chunks: AsyncIterator[bytes], media_type: str) -> None:
        """See `Store.put`; up to PART_BYTES are held in memory."""
        attributes = {"Content-Type": media_type, "Cache-Control": CACHE_FOREVER}
        start: list[bytes] = []
        size = 0
        async for chunk in chunks:
            start.append(chunk)
            size += len(chunk)
            if size > PART_BYTES:
                break
        with _store_errors(key, "put"):
            if size <= PART_BYTES:
                await obstore.put_async(self._objects, key, b"".join(start), attributes=attributes, use_multipart=False)
            else:
                await obstore.put_async(
                    self._objects,
                    key,
                    _chained(start, chunks),
                    attributes=attributes,
                    chunk_size=PART_BYTES,
                    max_concurrency=CONCURRENT_PARTS,
                )

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """See `Store.get`."""
        with _store_errors(key, "get"):
            answer = await obstore.get_async(self._objects, key)
            async for chunk in answer.stream(min_chunk_size=256 * 1024):
                yield bytes(chunk)

    async def head(self, key: str) -> ObjectHead:
        """See `Store.head`."""
        with _store_errors(key, "head"):
            answer = await obstore.get_async(self._objects, key, options={"head": True})
            media_type = str(answer.attributes.get("Content-Type", "application/octet-stream"))
            meta = answer.meta
            return ObjectHead(media_type, meta["size"], meta["e_tag"], meta["last_modified"])

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        try:
            with _store_errors(key, "delete"):
                await obstore.delete_async(self._objects, key)
        except ObjectNotFoundError:
            return

    def sign(self, key: str, lifetime: timedelta) -> str:
        """See `Store.sign`; no request is made."""
        return obstore.sign(self._signer, "GET", key, lifetime)

    async def prepare(self) -> None:
        """See `Store.prepare`. obstore cannot create buckets, but a signed PUT on the bucket itself does."""
        url = obstore.sign(self._objects, "PUT", "", timedelta(minutes=1))
        await self._request("PUT", url, success={200, 409})

    async def check(self) -> None:
        """See `Store.check`."""
        url = obstore.sign(self._objects, "HEAD", "", timedelta(minutes=1))
        await self._request("HEAD", url, success={200})

    async def _request(self, method: str, url: str, *, success: set[int]) -> None:
        try:
            status = await asyncio.to_thread(_status_of, method, url)
        except OSError as error:
            raise StoreUnavailableError(f"the store does not answer: {type(error).__name__}") from error
        if status == 404:  # noqa: PLR2004 - of the bucket
            raise ObjectNotFoundError(f"there is no bucket {self._bucket!r}")
        if status not in success:
            raise StoreError(f"the store answered {status} for bucket {self._bucket!r}: check its keys")


def _status_of(method: str, url: str) -> int:
    """The status of one request; too rare to keep a client for it."""
    request = urllib.request.Request(url, method=method)  # noqa: S310 - the operator's own address
    try:
        with opener(url).open(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def _chained(start: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    start.reverse()
    while start:
        yield start.pop()  # not kept: it would stay in memory until the last byte
    async for chunk in rest:
        yield chunk


class _Call(Timed):
    """Measures a call; for large objects this includes the time of their source."""

    def outcome_of(self, error: BaseException) -> str:
        if isinstance(error, FileNotFoundError):
            return "not_found"
        return "unavailable" if isinstance(error, BaseError | OSError) else super().outcome_of(error)


@contextmanager
def _store_errors(key: str, operation: str) -> Generator[None]:
    try:
        with _Call(STORE_CALLS, operation):
            yield
    except FileNotFoundError as error:
        raise ObjectNotFoundError(f"there is no object {key!r}") from error
    except (BaseError, OSError) as error:
        raise StoreUnavailableError(f"the store failed: {type(error).__name__}") from error
    except BaseException as error:
        # Of obstore's Rust; no subclass of Exception, so nobody else would catch it.
        if type(error).__name__ == "PanicException":
            raise StoreUnavailableError("the store's client failed") from error
        raise
