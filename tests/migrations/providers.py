"""The providers of a filled database: `dummy` and three more accounts of it, with a route over two of them.

`gallery` calls back and signs its callbacks, `unpaid` runs out of credit, `resting` is paused by the operator.
"""

import asyncio
import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from app.media_generator.catalogue import Catalogue
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.registry import Registry
from app.media_generator.routes import Route, Target
from fleek.providers import CallbackRefusedError, NotReachedError

if TYPE_CHECKING:
    from uuid import UUID

ROUTE = "route/portrait"
NEVER_ANSWERED = "never answered"
"""A prompt: while its provider is silent, `submit` does not return and `find` fails."""
KEY = "gallery key 1"
"""`gallery` signs its callbacks with it."""


def signature(body: bytes, key: str = KEY) -> str:
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


class Account(DummyMediaGeneratorModel):
    """A dummy provider with a name of its own, that records which attempts were submitted to it."""

    def __init__(self, name: str, *, silent: bool) -> None:
        super().__init__()
        self.name = name
        self.silent = silent
        self.submitted: list[UUID] = []

    async def submit(self, submission):
        self.submitted.append(submission.attempt_id)
        if self.silent and submission.prompt == NEVER_ANSWERED:
            await asyncio.sleep(3600)
        return await super().submit(submission)

    async def find(self, submission, since):
        if self.silent and submission.prompt == NEVER_ANSWERED:
            raise NotReachedError("silent, as planned")
        return await super().find(submission, since)


class Gallery(Account):
    """Calls back, with a signature."""

    capabilities = replace(DummyMediaGeneratorModel.capabilities, webhook=True, submit_timeout=timedelta(seconds=3))

    async def callback_keys(self):
        return [KEY]

    def read_callback(self, callback, keys):
        given = callback.headers.get("x-signature", "")
        if not any(hmac.compare_digest(given, signature(callback.body, key)) for key in keys):
            raise CallbackRefusedError("the signature does not fit")


def registry(*, silent: bool = False) -> Registry:
    """All accounts, and the route."""
    named = [Account(name, silent=silent) for name in ("dummy", "unpaid", "resting")]
    route = Route(ROUTE, (Target("dummy/faulty"), Target("gallery/faulty")))
    return Registry([*named, Gallery("gallery", silent=silent)], catalogue=Catalogue(routes=[route]))
