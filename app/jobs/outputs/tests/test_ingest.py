"""Outputs on their way into the store."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from app.jobs.outputs import received
from app.media_generator.dummy_media_generator.png import png_of_about
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import (
    MissingOutputError,
    NotReachedError,
    OutputGoneError,
    SuspectOutputError,
    UnconfirmedOutputError,
)
from app.media_generator.media_generator_model import Failed, Output, Succeeded
from tests.support import attempts_of, eventually

JSON = "application/json"
PICTURE = png_of_about(20_000)
LARGE = png_of_about(12_000_000)


async def test_words_in_place_of_a_picture_fail_the_media_and_are_shown(product):
    done = await product.until(await product.faulty(wrong_bytes="text"))

    assert (done["status"], done["error"]["code"], done["files"]) == ("ERROR", "output_invalid", [])
    assert "text in place of a result" in done["error"]["message"]
    assert "without another purchase" in done["error"]["message"]


async def test_picture_that_is_cut_off_each_time_is_kept_with_a_warning(product):
    done = await product.until(await product.faulty(wrong_bytes="truncated"))

    assert (done["status"], done["error"], done["warnings"]) == ("COMPLETED", None, [])
    (file,) = done["files"]
    assert [one["code"] for one in file["warnings"]] == ["cut_off"]
    assert file["media_type"] == "image/png"
    assert file["bytes"] > 0


async def test_large_output_is_stored_completely(product):
    done = await product.until(await product.faulty(size=20_000_000))

    assert done["status"] == "COMPLETED"
    assert done["files"][0]["bytes"] > 19_000_000


class Fetches(DummyMediaGeneratorModel):
    """What each fetch brings, the last one for ever: bytes, or bytes and then an error; and it counts purchases."""

    def __init__(self, *fetches):
        super().__init__()
        self.fetches = list(fetches)
        self.fetched = self.bought = 0
        self.gone = False

    async def submit(self, submission):
        self.bought += 1
        return await super().submit(submission)

    async def poll(self, reference):
        if self.gone:
            return Failed(OutputGoneError("deleted"))
        return await super().poll(reference)

    async def open(self, output):
        self.fetched += 1
        fetch = self.fetches.pop(0) if len(self.fetches) > 1 else self.fetches[0]
        for piece in fetch if isinstance(fetch, tuple) else (fetch,):
            if isinstance(piece, Exception):
                raise piece
            for start in range(0, len(piece), 300_000):
                yield piece[start : start + 300_000]


class ErrorPages(Fetches):
    """An error page that differs each time."""

    async def open(self, output):
        self.fetched += 1
        if self.fetches and self.fetched > self.fetches[0]:
            yield PICTURE
            return
        yield b"<html>request %d failed" % self.fetched


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "first",
    [
        PICTURE[:-100],
        (PICTURE[:-100], NotReachedError("the connection was lost")),
        b"<html><title>502 Bad Gateway</title>",
        b'{"error": "try again"}',
        b"",
        MissingOutputError("404"),
        (PICTURE[:9000] + b"x" + PICTURE[9001:], SuspectOutputError("its md5 differs")),
        LARGE[:-100],
        (LARGE, SuspectOutputError("its md5 differs")),
    ],
    ids=["cut", "lost", "html", "json", "empty", "missing", "damaged", "large-cut", "large-damaged"],
)
async def test_bad_download_is_not_a_bad_purchase(client, working, first):
    provider = Fetches(first if isinstance(first, tuple | bytes) else (first,), PICTURE)
    await working(provider)

    done = await client.until(await client.faulty())

    assert (done["status"], done["number_of_tries"], provider.bought) == ("COMPLETED", 1, 1)
    assert done["files"][0]["sha256"] == sha256(PICTURE)


async def test_error_pages_that_differ_are_fetched_again_later(client, working):
    provider = ErrorPages(7)
    await working(provider, output_retry_seconds=60)

    media = await client.faulty()
    done = await client.until(media)
    history = (await client.api.get(f"/media/{media['id']}/history")).json()

    assert (done["status"], provider.bought) == ("COMPLETED", 1)
    assert provider.fetched == 8
    reasons = [event["detail"]["reason"] for event in history["items"] if event["event"] == "returned"]
    assert reasons == ["output_suspect"] * 3


async def test_error_pages_for_long_fail_the_media_and_a_retry_fetches_again(client, working):
    provider = ErrorPages()
    await working(provider, output_retry_seconds=0.3)
    media = await client.faulty()
    failed = await client.until(media)
    assert (failed["status"], failed["error"]["code"]) == ("ERROR", "output_invalid")
    assert provider.fetched > 2

    provider.fetches = [provider.fetched + 1]
    await client.api.post(f"/media/{media['id']}/retry")
    done = await client.until(media, "COMPLETED")

    assert (done["number_of_tries"], provider.bought) == (1, 1)
    assert [attempt["status"] for attempt in await attempts_of(client, media)] == ["SUCCEEDED"]


async def test_retry_after_the_result_is_gone_says_so_and_the_next_one_buys(client, working):
    provider = Fetches(b"garbage")
    await working(provider)
    media = await client.faulty()
    await client.until(media)

    provider.gone = True
    await client.api.post(f"/media/{media['id']}/retry")
    gone = await client.until(media)
    assert (gone["error"]["code"], provider.bought) == ("output_gone", 1)
    assert "deleted; POST /media/{media_id}/retry makes another purchase" in gone["error"]["message"]

    provider.gone, provider.fetches = False, [PICTURE]
    await client.api.post(f"/media/{media['id']}/retry")
    done = await client.until(media, "COMPLETED")
    assert (done["number_of_tries"], provider.bought) == (2, 2)


async def test_error_page_that_comes_several_times_loses_nothing(client, working):
    page = b"<html>502 Bad Gateway</html>"
    provider = Fetches(page, page, page, PICTURE)
    await working(provider, output_retry_seconds=60)

    done = await client.until(await client.faulty())

    assert (done["status"], provider.bought, provider.fetched) == ("COMPLETED", 1, 4)


async def test_result_without_outputs_is_asked_for_again(client, working):
    class Empty(Fetches):
        polls = 0

        async def poll(self, reference):
            self.polls += 1
            outcome = await super().poll(reference)
            return Succeeded(()) if self.polls == 1 else outcome

    provider = Empty(PICTURE)
    await working(provider, output_retry_seconds=60)

    done = await client.until(await client.faulty())

    assert (done["status"], provider.bought, provider.polls) == ("COMPLETED", 1, 2)


async def test_missing_output_is_fetched_for_a_while(client, working):
    provider = Fetches((MissingOutputError("acme answered 404"),))
    await working(provider, output_retry_seconds=0.3)

    done = await client.until(await client.faulty())

    assert (done["status"], done["error"]["code"], provider.bought) == ("ERROR", "output_gone", 1)
    assert provider.fetched > 2


async def test_same_bytes_again_are_accepted_where_only_an_etag_differs(client, working):
    provider = Fetches((PICTURE, UnconfirmedOutputError("its ETag differs")))
    await working(provider)

    done = await client.until(await client.faulty())

    assert (done["status"], provider.fetched) == ("COMPLETED", 2)
    assert done["files"][0]["sha256"] == sha256(PICTURE)


async def test_picture_with_too_many_pixels_is_kept_with_a_warning(client, working):
    provider = Fetches(PICTURE)
    await working(provider, max_pixels=4096)

    done = await client.until(await client.faulty())

    assert (done["status"], provider.fetched) == ("COMPLETED", 1)
    assert [one["code"] for one in done["files"][0]["warnings"]] == ["too_many_pixels"]


async def test_bytes_that_nobody_knows_are_kept_with_a_warning(client, working):
    strange = bytes(range(256)) * 300
    provider = Fetches(strange)
    await working(provider)

    done = await client.until(await client.faulty())

    (file,) = done["files"]
    assert (done["status"], provider.fetched, file["sha256"]) == ("COMPLETED", 1, sha256(strange))
    assert (file["media_type"], file["width"]) == ("application/octet-stream", None)
    assert [one["code"] for one in file["warnings"]] == ["unknown_type"]


async def test_pictures_that_are_cut_off_anew_each_time_are_kept_in_the_end(client, working):
    class Shorter(Fetches):
        async def open(self, output):
            self.fetched += 1
            yield PICTURE[: -100 - self.fetched]

    provider = Shorter(b"")
    await working(provider, output_retry_seconds=0.3)

    done = await client.until(await client.faulty())

    assert (done["status"], provider.bought) == ("COMPLETED", 1)
    assert provider.fetched > 2
    assert done["files"][0]["sha256"] == sha256(PICTURE[: -100 - provider.fetched])
    assert [one["code"] for one in done["files"][0]["warnings"]] == ["cut_off"]


class Several(Fetches):
    """Three outputs: what each one is, by its number, however often it is fetched."""

    async def poll(self, reference):
        outcome = await super().poll(reference)
        outputs = tuple(Output(str(index)) for index in range(3))
        return replace(outcome, outputs=outputs) if isinstance(outcome, Succeeded) else outcome

    async def open(self, output):
        self.fetched += 1
        content = self.fetches[int(output.location)]
        if isinstance(content, Exception):
            raise content
        yield content


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"<html>502 Bad Gateway</html>", "HTML page"),
        (b"", "empty file"),
        (OutputGoneError("acme has deleted it"), "acme has deleted it"),
        (MissingOutputError("acme answered 404"), "acme answered 404"),
        (NotReachedError("connection refused"), None),
    ],
    ids=["html", "empty", "gone", "missing", "unreachable"],
)
async def test_one_output_that_cannot_be_had_does_not_take_the_others_with_it(client, working, broken, message):
    provider = Several(PICTURE, broken, PICTURE)
    await working(provider, output_retry_seconds=0.3, silence_hours=0.001)

    done = await client.until(await client.faulty())

    assert (done["status"], provider.bought) == ("COMPLETED", 1)
    assert [(file["index"], file["sha256"]) for file in done["files"]] == [(0, sha256(PICTURE)), (2, sha256(PICTURE))]
    (warning,) = done["warnings"]
    assert warning["code"] == "outputs_not_kept"
    assert warning["message"].startswith("output 1 could not be kept: ")
    assert (message or "connection refused") in warning["message"]
    for index, status in ((0, 200), (1, 404), (2, 200)):
        answer = await client.api.get(f"/media/content/{done['id']}?index={index}", headers={"accept": JSON})
        assert answer.status_code == status


class Writes(Fetches):
    """Its outputs are text."""

    def models(self):
        return [replace(card, output_types=("text/plain",)) for card in super().models()]


async def test_error_page_is_no_text_of_a_model(client, working):
    provider = Writes(b"<!DOCTYPE html><title>502</title>", b"a poem")
    await working(provider)

    done = await client.until(await client.faulty())

    assert (done["status"], done["files"][0]["sha256"]) == ("COMPLETED", sha256(b"a poem"))


class Drips(DummyMediaGeneratorModel):
    """Outputs of long prompts drip; others come at once."""

    def __init__(self):
        super().__init__()
        self.dripping = self.broken_off = 0

    async def submit(self, submission):
        reference = await super().submit(submission)
        return replace(reference, data={**reference.data, "drips": submission.prompt == "drip"})

    async def poll(self, reference):
        outcome = await super().poll(reference)
        drips = isinstance(outcome, Succeeded) and reference.data["drips"]
        return replace(outcome, outputs=(Output("drip"),)) if drips else outcome

    async def open(self, output):
        if output.location != "drip":
            async for chunk in super().open(output):
                yield chunk
            return
        self.dripping += 1
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.02)
        finally:
            self.dripping -= 1
            self.broken_off += 1


async def test_dripping_outputs_leave_places_for_others(client, working):
    provider = Drips()
    await working(provider, output_copies=6)
    for _ in range(8):
        await client.generate(model="dummy/faulty", prompt="drip")
    await eventually(lambda: _value(provider.dripping), lambda dripping: dripping == 4)

    # The local painter needs none of the places of the network.
    done = [await client.until(await client.generate(model="dummy/painter", prompt="quick")) for _ in range(2)]

    assert [one["status"] for one in done] == ["COMPLETED"] * 2
    assert provider.dripping == 4


async def test_dripping_output_is_interrupted(client, working, monkeypatch):
    monkeypatch.setattr(received, "WINDOW", 0.2)
    provider = Drips()
    await working(provider, output_copies=6)
    await client.generate(model="dummy/faulty", prompt="drip")

    await eventually(lambda: _value(provider.broken_off), lambda broken_off: broken_off >= 2)


async def _value(value):
    return value


class OneShot(Several):
    """Its first output can be fetched once, the second is missing for a while."""

    fetched_first = 0

    async def open(self, output):
        self.fetched_first += output.location == "0"
        if output.location == "0" and self.fetched:
            raise OutputGoneError("it can be fetched once")
        async for chunk in super().open(output):
            yield chunk


async def test_what_was_copied_is_not_fetched_again_while_others_are_missing(client, working):
    provider = OneShot(PICTURE, MissingOutputError("404"), LARGE)
    await working(provider, output_retry_seconds=0.3)

    done = await client.until(await client.faulty())

    assert [(file["index"], file["sha256"]) for file in done["files"]] == [(0, sha256(PICTURE)), (2, sha256(LARGE))]
    assert [one["message"] for one in done["warnings"]] == ["output 1 could not be kept: 404"]
    assert provider.fetched_first == 1


async def test_unreachable_output_does_not_keep_others_from_being_fetched(client, working):
    provider = OneShot(PICTURE, NotReachedError("connection refused"), LARGE)
    await working(provider, retry_max_seconds=0.1)
    media = await client.faulty()
    await eventually(lambda: asyncio.sleep(0, provider.fetched > 5))

    provider.fetches[1] = PICTURE
    done = await client.until(media)

    assert [file["sha256"] for file in done["files"]] == [sha256(PICTURE), sha256(PICTURE), sha256(LARGE)]


@pytest.mark.parametrize(
    "first", [PICTURE[:-100], (PICTURE[:-100], NotReachedError("the connection was lost"))], ids=["cut", "lost"]
)
async def test_damaged_file_that_never_comes_again_is_kept(client, working, first):
    class Once(Fetches):
        async def open(self, output):
            if self.fetched:
                self.fetched += 1
                raise OutputGoneError("it can be fetched once")
            async for chunk in super().open(output):
                yield chunk

    provider = Once(first, b"")
    await working(provider, retry_max_seconds=0.1)

    done = await client.until(await client.faulty())

    assert (done["status"], done["files"][0]["sha256"]) == ("COMPLETED", sha256(PICTURE[:-100]))
    assert [one["code"] for one in done["files"][0]["warnings"]] == ["cut_off"]
