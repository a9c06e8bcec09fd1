"""What holds a media item up stands in `waiting_for`, whatever its status, and is gone once it goes on."""

import asyncio

from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from fleek.providers import NotReachedError
from tests.support import eventually


class SlowToDeliver(DummyMediaGeneratorModel):
    """Delivers no output before `ready` is set."""

    def __init__(self):
        super().__init__()
        self.ready = asyncio.Event()
        self.unreachable = False

    async def open(self, output):
        if self.unreachable and not self.ready.is_set():
            raise NotReachedError("down")
        await self.ready.wait()
        async for chunk in super().open(output):
            yield chunk


async def told(client, media):
    seen = await eventually(lambda: client.media(media), lambda seen: seen["waiting_for"])
    return seen["status"], seen["waiting_for"]["code"]


async def test_result_that_could_not_be_copied_says_so_in_its_queue(client, working):
    provider = SlowToDeliver()
    provider.unreachable = True
    await working(provider, retry_base_seconds=0.5, retry_max_seconds=0.5)
    media = await client.faulty()

    assert (await told(client, media))[1] == "copy_delayed"
    provider.ready.set()
    done = await client.until(media)
    assert (done["status"], done["waiting_for"]) == ("COMPLETED", None)


async def test_result_that_waits_for_others_to_be_copied_says_so(client, working):
    provider = SlowToDeliver()
    await working(provider, output_copies=3)
    media = [await client.faulty() for _ in range(4)]

    async def waiting():
        seen = [await client.media(one) for one in media]
        return [one for one in seen if one["waiting_for"]]

    held = await eventually(waiting)
    provider.ready.set()
    done = [await client.until(one) for one in media]

    assert {(one["status"], one["waiting_for"]["code"]) for one in held} == {("PROCESSING", "copy_delayed")}
    assert {(one["status"], one["waiting_for"] is None) for one in done} == {("COMPLETED", True)}
