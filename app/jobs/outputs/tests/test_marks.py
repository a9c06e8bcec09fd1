"""Outputs get a mark of origin on their way into the store: read back, reversible, and told in the API."""

import hashlib
from base64 import b64encode
from dataclasses import replace
from datetime import datetime, timedelta
from io import BytesIO
from uuid import UUID
from zlib import crc32

import pytest
from PIL import Image

from app.core.ids import new_id
from app.jobs.inputs.source_types import source_types
from app.jobs.outputs.mark_stored import StoredFileMarker
from app.jobs.outputs.marks import TOOL
from app.media import mark_log
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.registry import Registry
from app.provenance.mark import Mark, SourceType
from app.provenance.marking import MarkedStream
from app.provenance.reading import read_marks
from app.provenance.removal import remove_mark
from app.storage.store import StoreUnavailableError
from fleek.providers import ModelCard, Output, Running, Succeeded
from tests.sample_media import MP4
from tests.support import Client, eventually


def picture(kind="PNG", **options):
    made = BytesIO()
    Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 40).convert("RGB").save(made, kind, **options)
    return made.getvalue()


def with_c2pa(png):
    """A PNG with a chunk as C2PA manifests have, behind its header."""
    body = b"caBX" + b"a manifest store"
    return png[:33] + len(body[4:]).to_bytes(4) + body + crc32(body).to_bytes(4) + png[33:]


CARD = ModelCard(
    name="model",
    title="A trained model",
    description="",
    output_types=("image/png", "image/jpeg", "image/webp", "image/gif"),
    input_schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {"image": {"type": "string", "format": "uri"}},
    },
    example={},
)


class Delivers(DummyMediaGeneratorModel):
    """Delivers these bytes."""

    def __init__(self, *contents):
        super().__init__()
        self.contents = contents

    def models(self):
        return (*super().models(), CARD)

    async def poll(self, reference):
        return Succeeded(tuple(Output(str(index)) for index in range(len(self.contents))))

    async def open(self, output):
        yield self.contents[int(output.location)]


async def stored(client, media):
    """The files of a media item as clients get them: description and bytes."""
    return [(file, (await client.api.get(file["url"], follow_redirects=True)).content) for file in media["files"]]


@pytest.fixture
def registry():
    return Registry([Delivers()])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_output_is_marked_and_only_inserted(client, working, runtime, kind):
    source = picture(kind)
    await working(Delivers(source), mark_outputs=True)

    done = await client.until(await client.generate(model="dummy/model"))

    (file,) = done["files"]
    content = b"".join([chunk async for chunk in runtime.store.get(await key_of(runtime.db, file))])
    (mark,) = read_marks([content]).ours
    assert (mark.source_type, mark.model, str(mark.media_id)) == (SourceType.TRAINED, "dummy/model", done["id"])
    assert b"".join(remove_mark([content])) == source
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert file["source_sha256"] == hashlib.sha256(source).hexdigest()
    assert file["bytes"] == len(content)
    at = datetime.fromisoformat(file["provenance"].pop("at"))
    assert at >= datetime.fromisoformat(done["created_at"])
    assert file["provenance"] == {
        "mark": "marked",
        "source_type": "trainedAlgorithmicMedia",
        "c2pa": False,
        "signed": False,
        "tool": TOOL,
        "reason": None,
    }
    assert file["warnings"] == []
    with Image.open(BytesIO(content)) as marked, Image.open(BytesIO(source)) as came:
        assert marked.tobytes() == came.tobytes()


async def key_of(db, file):
    (row,) = await db.fetch("SELECT key FROM files WHERE sha256 = $1", file["sha256"])
    return row["key"]


async def test_what_the_painter_made_is_not_said_to_be_of_a_trained_model(client, working):
    await working(DummyMediaGeneratorModel(), mark_outputs=True)

    done = await client.until(await client.generate(model="dummy/painter", input={"width": 64, "height": 64}))

    assert done["files"][0]["provenance"]["source_type"] == "algorithmicMedia"


async def test_file_with_a_c2pa_manifest_stays_as_it_came(client, working):
    source = with_c2pa(picture())
    await working(Delivers(source), mark_outputs=True)

    done = await client.until(await client.generate(model="dummy/model"))

    (file,) = done["files"]
    assert (file["provenance"]["mark"], file["provenance"]["c2pa"]) == ("has_c2pa", True)
    assert file["sha256"] == file["source_sha256"] == hashlib.sha256(source).hexdigest()


async def test_marks_can_be_switched_off(client, working):
    source = picture()
    await working(Delivers(source), mark_outputs=False)

    done = await client.until(await client.generate(model="dummy/model"))

    (file,) = done["files"]
    assert (file["provenance"], file["sha256"]) == (None, hashlib.sha256(source).hexdigest())


async def test_provenance_of_a_media_item_names_both_hashes(client, working):
    await working(Delivers(picture(), picture("JPEG")), mark_outputs=True)
    done = await client.until(await client.generate(model="dummy/model"))

    answer = (await client.api.get(f"/media/{done['id']}/provenance")).json()

    assert (answer["media_id"], answer["model"]) == (done["id"], "dummy/model")
    assert [one["sha256"] for one in answer["files"]] == [file["sha256"] for file in done["files"]]
    assert all(one["source_sha256"] != one["sha256"] for one in answer["files"])


async def test_check_knows_a_file_by_either_hash_and_says_whether_its_mark_holds(client, working, runtime):
    source = picture()
    await working(Delivers(source), mark_outputs=True)
    done = await client.until(await client.generate(model="dummy/model"))
    key = await key_of(runtime.db, done["files"][0])
    content = b"".join([chunk async for chunk in runtime.store.get(key)])

    async def check(data):
        return (await client.api.post("/provenance/check", content=data)).json()

    served, came = await check(content), await check(source)
    another = await check(picture("JPEG"))
    changed = await check(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])

    assert (served["is_ours"], served["media_id"], served["marks"][0]["holds"]) == (True, done["id"], True)
    assert (came["is_ours"], came["media_id"], came["marks"]) == (True, done["id"], [])
    assert (another["is_ours"], another["media_id"], another["marks"]) == (False, None, [])
    assert (changed["is_ours"], changed["marks"][0]["holds"]) == (False, False)


async def test_mark_that_names_another_media_item_does_not_hold(client, working):
    stream = MarkedStream(Mark(SourceType.TRAINED, "Fleek 0", "dummy/model", new_id()))
    copied = b"".join([*stream.feed(picture()), *stream.close()])
    await working(Delivers(copied), mark_outputs=True)
    done = await client.until(await client.generate(model="dummy/model"))

    answer = (await client.api.post("/provenance/check", content=copied)).json()

    assert done["files"][0]["provenance"]["mark"] == "already_marked"
    assert (answer["is_ours"], answer["media_id"]) == (True, done["id"])
    assert [mark["holds"] for mark in answer["marks"]] == [False]


async def test_result_of_a_picture_that_went_in_is_a_composite(api_of, working):
    provider = Delivers(picture())
    provider.capabilities = replace(provider.capabilities, data_uri_bytes=1_000_000)
    await working(provider, mark_outputs=True)
    given = f"data:image/png;base64,{b64encode(picture()).decode()}"
    client = Client(await api_of(Registry([provider])))
    done = await client.until(await client.generate(model="dummy/model", input={"image": given}))

    assert done["files"][0]["provenance"]["source_type"] == "compositeWithTrainedAlgorithmicMedia"


async def test_poster_of_a_video_is_marked_too(client, working, runtime):
    pytest.importorskip("av")
    await working(Delivers(MP4), mark_outputs=True)
    done = await client.until(await client.generate(model="dummy/model"))

    (row,) = await runtime.db.fetch("SELECT poster_key FROM files")
    poster = b"".join([chunk async for chunk in runtime.store.get(row["poster_key"])])

    assert [str(mark.media_id) for mark in read_marks([poster]).ours] == [done["id"]]


async def test_check_of_nothing_is_refused(client):
    answer = await client.api.post("/provenance/check", content=b"")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize("content", [b"text", b"\x89PNG\r\n\x1a\n" + b"\xff" * 500, bytes(100_000)])
async def test_check_answers_for_any_bytes(client, content):
    answer = await client.api.post("/provenance/check", content=content)

    assert answer.status_code == 200, answer.text
    assert (answer.json()["is_ours"], answer.json()["bytes"]) == (False, len(content))


async def test_late_result_is_marked_too(client, db, working):
    class Slow(Delivers):
        ready = False

        async def poll(self, reference):
            return await super().poll(reference) if self.ready else Running()

    provider = Slow(picture())
    await working(provider, mark_outputs=True)
    media = await client.generate(model="dummy/model", deadline_seconds=1)
    await client.until(media, "ERROR")
    provider.ready = True

    late = await eventually(lambda: client.media(media), lambda seen: seen["files"])

    assert late["files"][0]["provenance"]["mark"] == "marked"


async def unmarked_media(client, working, *contents):
    await working(Delivers(*contents), mark_outputs=False)
    return await client.until(await client.generate(model="dummy/model"))


async def mark_all(runtime):
    known = source_types(runtime.registry)
    return await StoredFileMarker(runtime.db, runtime.store, known).mark_all(lambda _: None)


async def test_stored_files_are_marked_afterwards_and_once(client, working, runtime):
    source, manifest = picture(), with_c2pa(picture())
    media = await unmarked_media(client, working, source, manifest)

    first, again = await mark_all(runtime), await mark_all(runtime)

    assert (first.marked, first.left_as_they_are, first.failed) == (1, 1, 0)
    assert (again.marked, again.left_as_they_are, again.failed) == (0, 0, 0)
    marked, kept = await rows_of(runtime.db, media)
    content = b"".join([chunk async for chunk in runtime.store.get(marked["key"])])
    assert b"".join(remove_mark([content])) == source
    assert (marked["sha256"], marked["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert marked["source_sha256"] == hashlib.sha256(source).hexdigest()
    assert (kept["mark"], kept["sha256"]) == ("has_c2pa", hashlib.sha256(manifest).hexdigest())
    assert marked["updated_at"] > datetime.fromisoformat(media["updated_at"])


async def test_stored_result_of_a_picture_that_went_in_is_a_composite(api_of, working, runtime):
    provider = Delivers(picture())
    provider.capabilities = replace(provider.capabilities, data_uri_bytes=1_000_000)
    known = Registry([provider])
    await working(provider, mark_outputs=False)
    given = f"data:image/png;base64,{b64encode(picture()).decode()}"
    client = Client(await api_of(known))
    for body in ({"image": given}, {}):
        await client.until(await client.generate(model="dummy/model", input=body))

    await StoredFileMarker(runtime.db, runtime.store, source_types(known)).mark_all(lambda _: None)

    written = [entry.source_type async for entry in mark_log.entries(runtime.db)]
    assert written == [SourceType.COMPOSITE, SourceType.TRAINED]


async def test_log_of_marks_names_tool_time_and_both_hashes_of_every_file(client, working, runtime):
    await working(Delivers(picture(), with_c2pa(picture())), mark_outputs=True)
    done = await client.until(await client.generate(model="dummy/model"))

    log = [entry async for entry in mark_log.entries(runtime.db)]

    assert [(entry.sha256, entry.source_sha256) for entry in log] == [
        (file["sha256"], file["source_sha256"]) for file in done["files"]
    ]
    assert [(str(entry.media_id), entry.model, entry.tool) for entry in log] == [(done["id"], "dummy/model", TOOL)] * 2
    assert [(entry.mark, entry.provider_c2pa) for entry in log] == [("marked", False), ("has_c2pa", True)]
    assert all(entry.marked_at for entry in log)
    later = log[-1].stored_at + timedelta(seconds=1)
    assert [entry async for entry in mark_log.entries(runtime.db, later)] == []
    assert [entry async for entry in mark_log.entries(runtime.db, None, log[0].stored_at)] == []


async def rows_of(db, media):
    """The files on record: a finished media item is kept in the API's memory, which does not see a change."""
    return await db.fetch(
        "SELECT f.key, f.sha256, f.source_sha256, f.bytes, f.provenance->>'mark' AS mark, m.updated_at FROM files f"
        " JOIN media m ON m.id = f.media_id WHERE m.id = $1 ORDER BY f.index",
        UUID(media["id"]),
    )


async def test_marking_that_died_before_it_was_recorded_is_recorded_by_the_next_run(
    client, working, runtime, monkeypatch
):
    source = picture()
    media = await unmarked_media(client, working, source)

    async def dies(*_arguments):
        raise StoreUnavailableError("as if it were killed")

    with monkeypatch.context() as patched:
        patched.setattr("app.jobs.outputs.mark_stored.record_mark", dies)
        assert (await mark_all(runtime)).failed == 1
    counts = await mark_all(runtime)

    (file,) = await rows_of(runtime.db, media)
    assert (counts.marked, counts.failed) == (1, 0)
    assert (file["mark"], file["source_sha256"]) == ("marked", hashlib.sha256(source).hexdigest())


async def test_object_that_is_not_the_one_on_record_is_left_alone(client, working, runtime):
    media = await unmarked_media(client, working, picture())
    key = await key_of(runtime.db, media["files"][0])
    other = picture("JPEG")

    async def chunks():
        yield other

    await runtime.store.put(key, chunks(), "image/png")
    counts = await mark_all(runtime)

    assert (counts.marked, counts.failed) == (0, 1)
    assert b"".join([chunk async for chunk in runtime.store.get(key)]) == other
