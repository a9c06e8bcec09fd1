"""Answers that hold pictures and are no JSON object: the pictures are kept, whatever surrounds them."""

import base64
import json
import os
import time

import pytest

from app.core.http_client.protocol import OutgoingError
from app.core.ids import new_id
from app.media_generator.adapter_kit.answer_store import AnswerStore
from app.media_generator.errors import AnswerLostError, OutputError, UnreadableAnswerError
from app.media_generator.openai_media_generator import answers
from tests.support import pieces

PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + os.urandom(60_000)  # as the first chunk of a PNG begins
TEXT = base64.b64encode(PICTURE)
WHOLE = b'{"data":[{"b64_json":"' + TEXT + b'"}]}'
ADDRESS = b"https://a.test/x.png?sig=" + b"a" * 20_000


async def pictures_of(body):
    found = (await answers.read(pieces(body), "https://a.test/v1/images/generations")).pictures
    return [await content(body, one) if isinstance(one, answers.Span) else one for one in found]


async def content(body, span):
    async def chunks():
        async for chunk in pieces(body):
            yield chunk

    return b"".join([chunk async for chunk in answers.decode(chunks(), span)])


@pytest.mark.parametrize(
    "body",
    [
        b'"data:image/png;base64,' + TEXT + b'"',
        b'event: done\ndata: {"b64_json":"' + TEXT + b'"}\n\n',
        b")]}',\n" + WHOLE,
        WHOLE[:-1],
        WHOLE[:-3],
        WHOLE + b"\n" + b'{"error": null}',
    ],
    ids=["string", "events", "prefix", "no brace", "no end", "two"],
)
async def test_picture_is_kept_whatever_surrounds_it(vault, body):
    kept = await AnswerStore("lab", vault, most_bytes=10**7).keep(new_id(), pieces(body), lenient=True)

    assert b"".join([chunk async for chunk in vault.open(kept)]) == body
    assert await pictures_of(body) == [PICTURE]


async def test_pictures_before_a_cut_are_kept_and_the_cut_one_is_an_output():
    body = b'{"data":[{"b64_json":"' + TEXT + b'"},{"b64_json":"' + TEXT[:40_000]

    assert await pictures_of(body) == [PICTURE, PICTURE[:30_000]]


async def test_answer_that_breaks_off_is_kept_only_with_a_picture(vault):
    async def broken(body):
        yield body
        raise OutgoingError("reset")

    store = AnswerStore("lab", vault, most_bytes=10**7)

    assert await store.keep(new_id(), broken(WHOLE[:50_000]), lenient=True)
    for body in (b'{"data":[', b'{"created": 7, "usage": {"x": "y"'):
        with pytest.raises(OutgoingError):
            await store.keep(new_id(), broken(body), lenient=True)
    with pytest.raises((AnswerLostError, UnreadableAnswerError)):
        await store.keep(new_id(), pieces(b"<html>busy</html>"), lenient=True)


async def test_long_address_is_no_base64():
    assert await pictures_of(json.dumps({"data": [{"url": ADDRESS.decode()}]}).encode()) == [ADDRESS.decode()]


async def test_too_many_strings_are_unreadable_at_once():
    started = time.monotonic()

    with pytest.raises((UnreadableAnswerError, OutputError)):
        await pictures_of(b"[" + b'"",' * 3_000_000 + b'""]')
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("end", [b"", b"\\", b"A", b"\\u00"], ids=str)
async def test_picture_is_cut_off_anywhere(end):
    (found,) = await pictures_of(b'{"data":[{"b64_json":"' + TEXT[:40_000] + end)

    assert found == PICTURE[:30_000]


async def test_unknown_escape_does_not_cost_the_picture():
    assert await pictures_of(b'{"data":[{"b64_json":"' + TEXT + rb'\q"}]}') == [PICTURE]
