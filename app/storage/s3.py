"""The store on any S3, through obstore: one client for the server's address, one that only signs for the clients'."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as ObstoreS3

from app.core.config import Settings
from app.core.telemetry.metrics import STORE_CALLS, Timed
from app.storage.store import ObjectNotFoundError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from obstore.store import S3Config

PART_BYTES: Final = 8 * 1024 * 1024
"""Objects up to this size are written in one request; larger ones in parts of it (S3 takes 5 MiB and more)."""
PARTS_AT_ONCE: Final = 2
"""Of one object, each in memory until it is written; obstore's own 12 took 100 MiB for each object on its way."""
CACHE_FOREVER: Final = "private, max-age=31536000, immutable"


def _client(settings: Settings, endpoint: str | None) -> ObstoreS3:
    place: S3Config = {} if endpoint is None else {"endpoint": endpoint}
    return ObstoreS3(
        settings.bucket_name,
        config=place,
        region=settings.aws_default_region,
        access_key_id=settings.aws_access_key_id,
        secret_access_key=settings.aws_secret_access_key.get_secret_value(),
        virtual_hosted_style_request=endpoint is None,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=3),
            "timeout": timedelta(seconds=60),
        },
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
    )


class S3Store:
    """A private bucket on AWS or on any server that speaks S3."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.bucket_name
        inside, outside = (None if url == "aws" else url for url in (settings.s3_endpoint_url, settings.s3_signing_url))
        self._objects = _client(settings, inside)
        self._signer = self._objects if inside == outside else _client(settings, outside)

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
                    _rejoin(start, chunks),
                    attributes=attributes,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """See `Store.get`."""
        with _store_errors(key, "get"):
            answer = await obstore.get_async(self._objects, key)
            async for chunk in answer.stream(min_chunk_size=256 * 1024):
                yield bytes(chunk)

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
        """See `Store.prepare`. obstore creates no buckets, but signs: a PUT on the bucket itself creates it."""
        url = obstore.sign(self._objects, "PUT", "", timedelta(minutes=1))
        await self._ask("PUT", url, made={200, 409})

    async def check(self) -> None:
        """See `Store.check`."""
        url = obstore.sign(self._objects, "HEAD", "", timedelta(minutes=1))
        await self._ask("HEAD", url, made={200})

    async def _ask(self, method: str, url: str, *, made: set[int]) -> None:
        try:
            status = await asyncio.to_thread(_ask, method, url)
        except OSError as error:
            raise StoreUnavailableError(f"the store does not answer: {type(error).__name__}") from error
        if status == 404:  # noqa: PLR2004 - the bucket itself
            raise ObjectNotFoundError(f"there is no bucket {self._bucket!r}")
        if status not in made:
            raise StoreError(f"the store answered {status} for bucket {self._bucket!r}: check its keys")


def _ask(method: str, url: str) -> int:
    """The status of one small request; once in a while, so it is worth no client of its own."""
    request = urllib.request.Request(url, method=method)  # noqa: S310 - an address of the operator's
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - likewise
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def _rejoin(start: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chain(start):
        yield chunk
    async for chunk in rest:
        yield chunk


class _Call(Timed):
    """Measures a call; of large objects with the time that their source takes."""

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
