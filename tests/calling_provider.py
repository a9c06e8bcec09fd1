"""A provider that calls back, and its calls."""

import asyncio
import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from fleek.providers import AnswerLostError, CallbackRefusedError, NotReachedError, Reference, Running
from tests.support import eventually


def signature_headers(body, key="first"):
    """The headers of a call that is signed with this key."""
    return {"x-signature": hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}


def reference_data(submission):
    """What the dummy provider needs to be polled for it."""
    order = {"model": submission.model, "number": 1, "prompt": submission.prompt, "submitted_at": 0}
    return {**order, "input": dict(submission.input)}


class CallingProvider(DummyMediaGeneratorModel):
    """Answers each poll with "ask again in an hour" until it is `done`."""

    capabilities = replace(
        DummyMediaGeneratorModel.capabilities, webhook=True, findable=False, submit_timeout=timedelta(seconds=1)
    )

    def __init__(self):
        super().__init__()
        self.submitted = {}
        """Submissions by the attempt's id."""
        self.done = False
        self.loses_answers = False
        self.denials = 0
        """How many submissions it accepts, and says that it never got them."""
        self.polls = 0
        self.keys = ["first"]

    async def submit(self, submission):
        self.submitted[submission.attempt_id] = submission
        reference = await super().submit(submission)
        if self.denials:
            self.denials -= 1
            raise NotReachedError("it never got the request")
        if self.loses_answers:
            raise AnswerLostError("the answer was lost")
        return reference

    async def poll(self, reference):
        self.polls += 1
        return await super().poll(reference) if self.done else Running(wait=timedelta(hours=1))

    async def callback_keys(self):
        return self.keys

    def read_callback(self, callback, keys):
        expected = [signature_headers(callback.body, key)["x-signature"] for key in keys]
        if callback.headers.get("x-signature") not in expected:
            raise CallbackRefusedError("the signature does not fit")
        if not callback.body:
            return None
        submission = self.submitted[callback.attempt_id]
        return Reference(callback.body.decode(), reference_data(submission))

    async def call_back(self, api, attempt_id, body=b"", **headers):
        """The answer to a call at the URL of this attempt; a body is the external id."""
        submission = self.submitted.get(attempt_id)
        path = urlsplit(submission.callback_url).path if submission else f"/media/callbacks/dummy/{attempt_id}"
        return await api.post(path, content=body, headers=headers or signature_headers(body))


async def polled_media(client, provider):
    """A media item whose provider has been polled once and will not be again by itself, and its attempt's id."""
    media = await client.faulty()
    await eventually(lambda: asyncio.sleep(0, provider.polls))
    (attempt_id,) = provider.submitted
    return media, attempt_id


async def media_judged_not_sent(client, provider, *, status):
    """A media item and its attempt, which the provider accepted although it is recorded as not sent."""
    provider.denials, provider.done = 1, True
    media = await client.faulty()
    await eventually(lambda: client.media(media), lambda seen: (seen["status"], seen["number_of_tries"]) == (status, 1))
    (attempt_id,) = provider.submitted
    return media, attempt_id
