"""The simulated services of others: the product's own adapters understand them, and their troubles are real."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
from aiohttp import web

from app.core.http_client.client import HttpClient
from app.core.ids import new_id
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.callbacks import Callback
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from app.media_generator.media_generator_model import Failed, Submission, Succeeded
from app.media_generator.model_card import ModelCard
from app.media_generator.replicate_media_generator.provider import ReplicateMediaGeneratorModel
from tests.crash.simulator.__main__ import make_app
from tests.crash.simulator.books import DONE, FAILED, attempt_in
from tests.crash.simulator.fal import Fal
from tests.crash.simulator.own import BOOKS
from tests.crash.simulator.replicate import PAGE, Replicate
from tests.crash.simulator.service import without_secret
from tests.crash.troubles import CLOCK_OFF, TIME_SCALE, Draw, Fate
from tests.providers.replicate_gateway import TOKEN

SCHNELL = ModelCard("black-forest-labs/flux-schnell", "Schnell", "", ("image/png",), {"type": "object"}, {})
FAL_SCHNELL = ModelCard("fal-ai/flux/schnell", "Schnell", "", ("image/png",), {"type": "object"}, {})


@asynccontextmanager
async def simulated(*troubles):
    """The address of a simulator of these troubles alone, and its books; nothing else goes wrong, and all is quick."""
    app = make_app(Draw(frozenset(troubles), "a seed", longest=0.0))
    app[BOOKS].draw.fate = lambda: Fate("ok", delay=0.0, accept_after=0.0, size=2_000, tells_webhook=False)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", app[BOOKS]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def replicate_at(address):
    http = HttpClient(allow_private_addresses=True)
    account = Account("replicate", {"api_token": TOKEN, "base_url": f"{address}/v1"})
    yield ReplicateMediaGeneratorModel.open_account(ProviderSetup(account, http, (SCHNELL,)))
    await http.close()


@asynccontextmanager
async def fal_at(address):
    http = HttpClient(allow_private_addresses=True)
    variables = {"key": "id:secret", "base_url": f"{address}/queue", "jwks_url": f"{address}/queue/keys"}
    yield FalMediaGeneratorModel.open_account(ProviderSetup(Account("fal", variables), http, (FAL_SCHNELL,)))
    await http.close()


def submission(prompt="a lighthouse", *, model=SCHNELL.name, url="http://nobody.test/media/callbacks/replicate/{}"):
    attempt = new_id()
    return Submission(attempt, 1, model, prompt, {}, callback_url=url.format(attempt))


@pytest.mark.parametrize(("connect", "model"), [(replicate_at, SCHNELL.name), (fal_at, FAL_SCHNELL.name)])
async def test_what_is_bought_there_has_bytes_of_its_own_and_is_known_by_its_attempt(connect, model):
    async with simulated() as (address, books), connect(address) as provider:
        orders = [submission(model=model) for _ in range(2)]
        references = [await provider.submit(one) for one in orders]
        outcomes = [await provider.poll(one) for one in references]
        files = [b"".join([chunk async for chunk in provider.open(one.outputs[0])]) for one in outcomes]

    bought = [books.purchases[one.external_id] for one in references]
    assert all(isinstance(one, Succeeded) for one in outcomes)
    assert files == [one.picture for one in bought]
    assert files[0] != files[1]
    assert [one.attempt_id for one in bought] == [str(one.attempt_id) for one in orders]


@pytest.mark.parametrize(("connect", "model"), [(replicate_at, SCHNELL.name), (fal_at, FAL_SCHNELL.name)])
async def test_what_fails_late_is_reported_as_failed(connect, model):
    async with simulated() as (address, books), connect(address) as provider:
        reference = await provider.submit(submission(model=model))
        books.purchases[reference.external_id].fate = Fate("fail_late", delay=0.0, accept_after=0.0, size=2_000)
        outcome = await provider.poll(reference)

    assert books.purchases[reference.external_id].state == FAILED
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "generation_failed"


async def test_a_list_has_pages_and_other_peoples_entries_and_is_searched_by_the_adapter():
    begun = datetime.now(UTC)
    async with simulated("others_entries") as (address, books), replicate_at(address) as provider:
        orders = [submission(f"picture {nth}") for nth in range(PAGE + 5)]
        bought = {one.prompt: (await provider.submit(one)).external_id for one in orders}
        found = await provider.find(orders[0], begun)

    assert any(one.attempt_id is None for one in books.purchases.values())
    ids = [one.external_id for one in (getattr(found, "alike", None) or [found])]
    assert ids == [bought["picture 0"]]


async def test_a_clock_that_is_off_shows_in_every_time():
    async with (
        simulated("clock_off") as (address, books),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        create = f"{address}/v1/models/{SCHNELL.name}/predictions"
        async with client.post(create, json={"input": {"prompt": "p"}}) as answer:
            prediction = await answer.json()
            date = parsedate_to_datetime(answer.headers["Date"])

    offset, most = books.clock_offset, CLOCK_OFF * TIME_SCALE
    assert most / 2 <= abs(offset) <= most
    expected = datetime.now(UTC) + timedelta(seconds=offset)
    assert abs(datetime.fromisoformat(prediction["created_at"]) - expected) < timedelta(seconds=most / 3)
    assert abs(date - expected) < timedelta(seconds=most / 3)


async def test_an_answer_may_come_twice_on_a_kept_connection():
    async with simulated("answers_twice") as (address, books):
        books.draw.among = lambda names, _share: "answers_twice" if "answers_twice" in names else ""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(f"GET /v1/predictions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        answers = [await reader.readuntil(b'"results": []}') for _ in range(2)]
        writer.close()

    assert [one.split(b"\r\n")[0] for one in answers] == [b"HTTP/1.1 200 OK"] * 2


@pytest.mark.parametrize("service", [Replicate, Fal])
async def test_a_callback_is_signed_and_says_what_it_is_about(service):
    connect, model = (replicate_at, SCHNELL.name) if service is Replicate else (fal_at, FAL_SCHNELL.name)
    async with simulated() as (address, books), connect(address) as provider:
        reference = await provider.submit(submission(model=model))
        bought = books.purchases[reference.external_id]
        keys = await provider.callback_keys()
        body, headers = service(books).called_back(bought, address)
        names = {name.lower(): value for name, value in headers.items()}
        called = provider.read_callback(Callback(new_id(), names, body, datetime.now(UTC), {"model": model}), keys)

    assert bought.state == DONE
    assert called == reference


def test_an_address_without_its_secret_still_names_the_attempt():
    attempt = str(new_id())
    url = f"http://api.test/media/callbacks/fal/{attempt}/0123abcd?model=m"

    assert without_secret(url) == f"http://api.test/media/callbacks/fal/{attempt}?model=m"
    assert attempt_in(url) == attempt_in(without_secret(url)) == attempt
