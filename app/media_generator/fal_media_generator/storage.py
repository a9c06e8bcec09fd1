"""fal's storage: where a file goes that is too large to stand in a request.

Asked for a place, it names two URLs: one takes the bytes, the other stands for them in a request.
"""

from http import HTTPStatus
from typing import Final

import msgspec

from app.core.http_client.protocol import Http, Request
from app.media_generator.adapter_kit.http import ask
from app.media_generator.adapter_kit.lenient_json import UNREADABLE
from app.media_generator.errors import NotReachedError
from app.media_generator.fal_media_generator import errors
from app.media_generator.media_generator_model import InputFile

LONGEST_UPLOAD: Final = 570.0
"""Seconds; within what the engine gives an upload."""
_HTTP: Final = ("https://", "http://")


class _Place(msgspec.Struct):
    upload_url: str = ""
    file_url: str = ""


class Storage:
    """Of one account."""

    def __init__(self, name: str, base: str, key: str, http: Http) -> None:
        """See `Storage`.

        Args:
            name: The account's, for messages.
            base: Its address.
            key: The account's.
            http: The client.
        """
        self._name = name
        self._base = base.rstrip("/")
        self._key = key
        self._http = http

    async def take(self, file: InputFile) -> str:
        """Hand a file over, held in memory meanwhile; its URL.

        Raises:
            ProviderError: It is not there; nothing was bought.
        """
        place = await self._place(file)
        content = b"".join([chunk async for chunk in file.chunks()])
        # The place is signed, so it is told no key; it is not ours, so it must be a public address.
        put = Request(
            method="PUT",
            url=place.upload_url,
            headers={"Content-Type": file.media_type},
            body=content,
            timeout=LONGEST_UPLOAD,
        )
        answer = await ask(self._http, put, provider=self._name)
        if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}:
            raise NotReachedError(f"{self._name} did not take {file.name}: its storage answered {answer.status}")
        return place.file_url

    async def _place(self, file: InputFile) -> _Place:
        asked = Request(
            method="POST",
            url=f"{self._base}/storage/upload/initiate?storage_type=fal-cdn-v3",
            headers={"Authorization": f"Key {self._key}", "Content-Type": "application/json"},
            body=msgspec.json.encode({"content_type": file.media_type, "file_name": file.name}),
            guarded=False,
        )
        answer = await ask(self._http, asked, provider=self._name)
        if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            raise errors.refusal(self._name, answer.status, answer.headers, answer.body, spending=False)
        try:
            place = msgspec.json.decode(answer.body, type=_Place)
        except UNREADABLE as error:
            raise NotReachedError(f"the storage of {self._name} cannot be understood: {error}") from error
        if not (place.upload_url.startswith(_HTTP) and place.file_url.startswith(_HTTP)):
            raise NotReachedError(f"the storage of {self._name} named no place for {file.name}")
        return place
