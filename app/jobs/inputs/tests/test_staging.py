"""Files on their way to the provider: as a data URI, a signed URL or an upload, before anything is submitted."""

from dataclasses import replace
from types import SimpleNamespace

from app.media_generator.errors import BusyError
from app.storage.store import StoreUnavailableError
from tests.input_files import LARGE_PNG, data_uri, generate, upload
from tests.support import attempts_of, eventually


async def test_small_file_becomes_a_data_uri(client, provider, start_worker):
    await start_worker()
    first = await client.until(await generate(client))
    uri = await upload(client)

    done = await client.until(
        await generate(client, image=uri, images=[uri, data_uri(), f"media:{first['id']}"], word=uri)
    )

    assert done["status"] == "COMPLETED", done
    given = provider.submitted_inputs[-1]
    assert given["image"] == given["images"][0] == given["images"][1] == data_uri()
    assert given["images"][2].startswith("data:image/png;base64,")
    assert given["word"] == uri
    assert done["input"]["image"] == uri
    assert given["weights"] == "https://example.com/usual.bin"


async def test_large_file_is_uploaded_to_the_provider_once(client, provider, start_worker):
    uri = await upload(client, LARGE_PNG)
    await start_worker()

    done = await client.until(await generate(client, image=uri, images=[uri]))

    assert done["status"] == "COMPLETED", done
    assert provider.uploads == [("image/png", len(LARGE_PNG), LARGE_PNG)]
    assert provider.submitted_inputs == [
        {"image": "upload-1", "images": ["upload-1"], "weights": "https://example.com/usual.bin"}
    ]


async def test_provider_reads_a_public_store_by_signed_urls(client, provider, start_worker):
    provider.capabilities = replace(provider.capabilities, reads_urls=True)
    uri = await upload(client)
    await start_worker(s3_public_url="https://media.example.com")

    done = await client.until(await generate(client, images=[uri, "https://example.com/own.png", data_uri()]))

    assert done["status"] == "COMPLETED", done
    signed, own, inline = provider.submitted_inputs[-1]["images"]
    assert signed.startswith("https://media.example.com/fleek-test/uploads/")
    assert "X-Amz-Expires=86400" in signed
    assert own == "https://example.com/own.png"
    assert inline == data_uri()


async def test_inline_data_too_large_for_the_provider_is_read_from_the_store(client, provider, start_worker):
    provider.capabilities = replace(provider.capabilities, reads_urls=True, data_uri_bytes=0, uploads=False)
    await start_worker(s3_public_url="https://media.example.com")

    done = await client.until(await generate(client, image=data_uri()))

    assert done["status"] == "COMPLETED", done
    assert provider.submitted_inputs[-1]["image"].startswith("https://media.example.com/fleek-test/uploads/")


async def test_file_the_provider_cannot_take_is_refused_before_submit(client, provider, start_worker):
    provider.capabilities = replace(provider.capabilities, uploads=False, reads_urls=True)
    uri = await upload(client, LARGE_PNG)
    await start_worker()

    done = await client.until(await generate(client, image=uri))

    assert done["error"]["code"] == "input_refused"
    assert "store is not public" in done["error"]["message"]
    assert (await attempts_of(client, done), provider.submitted_inputs) == ([], [])


async def test_file_deleted_before_the_job_runs_fails_the_media(client, provider, start_worker):
    uri = await upload(client)
    media = await generate(client, image=uri)
    assert (await client.api.delete(f"/files/{uri.removeprefix('file:')}")).status_code == 204
    await start_worker()

    done = await client.until(media)

    assert (done["error"]["code"], provider.submitted_inputs) == ("input_refused", [])
    assert "input.image" in done["error"]["message"]


async def test_failed_upload_is_retried_before_submit(client, provider, start_worker):
    provider.upload_errors = [BusyError("busy"), RuntimeError("bug")]
    uri = await upload(client, LARGE_PNG)
    await start_worker()

    done = await client.until(await generate(client, image=uri))

    assert (done["status"], len(provider.submitted_inputs)) == ("COMPLETED", 1)


async def test_job_waits_while_the_store_is_down(client, provider, start_worker):
    uri = await upload(client)
    runner = await start_worker()
    inputs = runner._parts.submitter._inputs
    store, inputs._store = inputs._store, SimpleNamespace(get=_unavailable)
    media = await generate(client, image=uri)
    history = f"/media/{media['id']}/history"

    async def events():
        return [item["event"] for item in (await client.api.get(history)).json()["items"]]

    await eventually(events, lambda seen: "returned" in seen or seen.count("claimed") > 1)
    assert provider.submitted_inputs == []
    inputs._store = store

    assert (await client.until(media))["status"] == "COMPLETED"


async def _unavailable(_key):
    raise StoreUnavailableError("down")
    yield b""


async def test_lost_purchase_is_looked_up_with_the_staged_input(client, provider, start_worker):
    provider.loses_answers = True
    uri = await upload(client)
    await start_worker()

    done = await client.until(await generate(client, image=uri))

    assert (done["status"], len(provider.submitted_inputs)) == ("COMPLETED", 1)
    assert provider.looked_up_inputs[0]["image"] == data_uri()
