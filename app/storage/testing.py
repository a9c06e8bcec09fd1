"""The contract of stores, as tests: subclass `StoreContract` and provide the fixture `store`."""

# ruff: noqa: S101 - these are tests

import asyncio
import urllib.error
from collections.abc import AsyncIterator
from datetime import timedelta
from email.message import Message
from email.utils import format_datetime

from app.core.ids import new_id
from app.core.this_machine import opener
from app.storage.store import ObjectNotFoundError, Store

MIB = 1024 * 1024


class StoreContract:
    """What every store must do; the fixture `store` is a store whose bucket exists."""

    async def test_put_object_can_be_read(self, store: Store) -> None:
        """Small objects are written in one request."""
        key = self._key()
        await store.put(key, _chunks(b"abc", b"", b"def"), "image/png")

        assert await _read(store, key) == b"abcdef"

    async def test_empty_object_is_stored(self, store: Store) -> None:
        """No chunks are no error."""
        key = self._key()
        await store.put(key, _chunks(), "image/png")

        assert await _read(store, key) == b""

    async def test_large_object_is_stored_completely(self, store: Store) -> None:
        """Large ones are written in parts."""
        key = self._key()
        parts = [bytes([number]) * MIB for number in range(20)]
        await store.put(key, _chunks(*parts), "image/png")

        assert await _read(store, key) == b"".join(parts)

    async def test_second_put_replaces_object(self, store: Store) -> None:
        """A repeated copy gives the same result."""
        key = self._key()
        await store.put(key, _chunks(b"old"), "image/png")
        await store.put(key, _chunks(b"new"), "image/png")

        assert await _read(store, key) == b"new"

    async def test_failing_source_leaves_nothing_behind(self, store: Store) -> None:
        """Neither in one request nor in parts."""
        for count in (1, 20):
            key = self._key()
            try:
                await store.put(key, _failing(count), "image/png")
            except ZeroDivisionError:
                pass
            else:
                raise AssertionError("the source's error was not raised")
            assert not await _exists(store, key)

    async def test_missing_object_is_not_found(self, store: Store) -> None:
        """With an error of its own."""
        assert not await _exists(store, self._key())

    async def test_head_says_what_reading_sends(self, store: Store) -> None:
        """The headers of a signed URL, without the bytes, for small objects and for those written in parts."""
        for parts in (1, 12):
            key = self._key()
            await store.put(key, _chunks(*[b"x" * MIB] * parts), "image/webp")
            head = await store.head(key)
            sent = await asyncio.to_thread(_headers, store.sign(key, timedelta(minutes=5)))

            assert (head.media_type, head.bytes, head.etag) == ("image/webp", parts * MIB, sent["ETag"])
            assert format_datetime(head.modified, usegmt=True) == sent["Last-Modified"]
            assert sent["Accept-Ranges"] == "bytes"

    async def test_head_of_missing_object_is_not_found(self, store: Store) -> None:
        """As reading it."""
        try:
            await store.head(self._key())
        except ObjectNotFoundError:
            return
        raise AssertionError("there was something")

    async def test_delete_is_repeatable(self, store: Store) -> None:
        """Deleting a missing object is no error."""
        key = self._key()
        await store.put(key, _chunks(b"abc"), "image/png")
        await store.delete(key)
        await store.delete(key)

        assert not await _exists(store, key)

    async def test_signed_url_is_readable_without_credentials(self, store: Store) -> None:
        """With the bytes and the media type."""
        key = self._key()
        await store.put(key, _chunks(b"abc"), "image/webp")

        status, media_type, body = await asyncio.to_thread(_fetch, store.sign(key, timedelta(minutes=5)))

        assert (status, media_type, body) == (200, "image/webp", b"abc")

    async def test_unsigned_url_is_forbidden(self, store: Store) -> None:
        """The bucket is private, and a signature is valid for one key."""
        key, other = self._key(), self._key()
        await store.put(key, _chunks(b"abc"), "image/webp")
        await store.put(other, _chunks(b"abc"), "image/webp")
        signed = store.sign(key, timedelta(minutes=5))

        for url in (signed.partition("?")[0], signed.replace(key, other)):
            assert (await asyncio.to_thread(_fetch, url))[0] == 403  # noqa: PLR2004 - forbidden

    async def test_prepare_is_repeatable_and_check_then_succeeds(self, store: Store) -> None:
        """Every process may prepare the bucket."""
        await store.prepare()
        await store.prepare()
        await store.check()

    @staticmethod
    def _key() -> str:
        return f"contract/{new_id()}.bin"


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _failing(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * MIB
    raise ZeroDivisionError


async def _read(store: Store, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.get(key)])


async def _exists(store: Store, key: str) -> bool:
    try:
        await _read(store, key)
    except ObjectNotFoundError:
        return False
    return True


def _headers(url: str) -> Message:
    with opener(url).open(url, timeout=10) as answer:
        headers: Message = answer.headers
        return headers


def _fetch(url: str) -> tuple[int, str | None, bytes]:
    try:
        with opener(url).open(url, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None, b""
