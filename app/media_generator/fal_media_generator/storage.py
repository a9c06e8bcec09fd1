"""fal's storage, for files that are too large to be part of a request.

An upload is initiated first; the answer holds two URLs: one to upload to, one to use in a request.
"""

from typing import Final

import msgspec

from app.core.http_client.protocol import Http, Request
from app.media_generator.adapter_kit.http import ask, is_success
from app.media_generator.adapter_kit.lenient_json import read
from app.media_generator.errors import NotReachedError
from app.media_generator.fal_media_generator import errors
from app.media_generator.media_generator_model import InputFile

LONGEST_UPLOAD: Final = 570.0
"""In seconds; below the engine's time limit of an upload."""
_HTTP: Final = ("https://", "http://")


class _UploadUrls(msgspec.Struct):
    upload_url: str = ""
    file_url: str = ""


class Storage:
    """The storage of one account."""

    def __init__(self, name: str, base: str, key: str, http: Http) -> None:
        """See `Storage`.

        Args:
            name: The account's, for messages.
            base: Base URL.
            key: The account's.
            http: The client.
        """
        self._name = name
        self._base = base.rstrip("/")
        self._key = key
        self._http = http

    async def upload(self, file: InputFile) -> str:
        """Upload a file, which is held in memory meanwhile; return its URL.

        Raises:
            ProviderError: The upload failed; nothing was billed.
        """
        urls = await self._initiate(file)
        content = b"".join([chunk async for chunk in file.chunks()])
        # The URL is signed, so it needs no key; it is not configured by the operator, so its address must be public.
        put = Request(
            method="PUT",
            url=urls.upload_url,
            headers={"Content-Type": file.media_type},
            body=content,
            timeout=LONGEST_UPLOAD,
        )
        answer = await ask(self._http, put, provider=self._name)
        if not is_success(answer.status):
            raise NotReachedError(f"{self._name} did not accept {file.name}: its storage answered {answer.status}")
        return urls.file_url

    async def _initiate(self, file: InputFile) -> _UploadUrls:
        initiation = Request(
            method="POST",
            url=f"{self._base}/storage/upload/initiate?storage_type=fal-cdn-v3",
            headers={"Authorization": f"Key {self._key}", "Content-Type": "application/json"},
            body=msgspec.json.encode({"content_type": file.media_type, "file_name": file.name}),
            guarded=False,
        )
        answer = await ask(self._http, initiation, provider=self._name)
        if not is_success(answer.status):
            raise errors.refusal(self._name, answer.status, answer.headers, answer.body, spending=False)
        urls = read(answer.body, _UploadUrls, of=f"the storage of {self._name}")
        if not (urls.upload_url.startswith(_HTTP) and urls.file_url.startswith(_HTTP)):
            raise NotReachedError(f"the storage of {self._name} returned no URLs for {file.name}")
        return urls
