"""The harness itself: a simulator, adapters or an audit that were wrong would prove nothing."""

import importlib.util
import re
from datetime import UTC, datetime

import pytest

from app.core.ids import new_id
from app.storage.s3 import S3Store
from fleek.providers import ProviderError, Running, Sent, Submission
from fleek.testing import ProviderContract
from tests.crash.audit import audit, rest
from tests.crash.fleet import PLUGIN
from tests.crash.orders import Order, ask

# Loaded from its file: as an installed plug-in it would be offered by every other test's API.
spec = importlib.util.spec_from_file_location("fleek_simulator_itself", PLUGIN / "fleek_simulator.py")
plugin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plugin)


@pytest.fixture
def provider(fleet, monkeypatch):
    monkeypatch.setenv("SIMULATOR_URL", fleet.environment["SIMULATOR_URL"])
    return plugin.SimulatorMediaGeneratorModel()


def order(provider, **given):
    attempt = new_id()
    return Submission(attempt, 1, "image", f"media of {attempt}", provider.complete_input("image", given))


async def paid(fleet, submission):
    return sum(one["media"] == submission.prompt for one in (await fleet.books())["purchases"])


class TestSimulator(ProviderContract):
    @pytest.fixture
    def provider(self, provider):
        return provider

    def refused(self):
        return order(plugin.SimulatorMediaGeneratorModel(), mode="busy")


@pytest.mark.parametrize(
    ("mode", "sent", "costs"),
    [
        ("busy", Sent.NO, 0),
        ("refused", Sent.NO, 0),
        ("accept_then_drop", Sent.UNKNOWN, 1),
        ("accept_then_500", Sent.UNKNOWN, 1),
        ("accept_then_silence", Sent.UNKNOWN, 1),
    ],
)
async def test_trouble_is_what_it_is_called_and_the_adapter_says_whether_it_may_have_cost(
    fleet, provider, mode, sent, costs
):
    submission = order(provider, mode=mode)

    with pytest.raises(ProviderError) as caught:
        await provider.submit(submission)

    assert caught.value.sent is sent
    assert await paid(fleet, submission) == costs


async def test_a_simulator_that_is_not_there_was_sent_nothing(provider, monkeypatch):
    monkeypatch.setenv("SIMULATOR_URL", "http://127.0.0.1:9")

    with pytest.raises(ProviderError) as caught:
        await provider.submit(order(provider))

    assert caught.value.sent is Sent.NO


async def test_every_submission_that_is_taken_is_counted(fleet, provider):
    submission = order(provider)
    for _ in range(2):
        await provider.submit(submission)

    assert await paid(fleet, submission) == 2


async def test_what_was_never_bought_is_not_found_and_what_cannot_be_told_is_not_guessed(provider):
    now = datetime.now(UTC)

    assert await provider.find(order(provider), now) is None
    with pytest.raises(ProviderError):
        await provider.find(order(provider, findable=False), now)


async def test_what_is_canceled_is_over(provider):
    reference = await provider.submit(order(provider, delay=60))
    running = await provider.poll(reference)

    assert await provider.cancel(reference) == "canceled"
    assert isinstance(running, Running)
    assert not isinstance(await provider.poll(reference), Running)


async def test_the_audit_finds_what_is_lost_stuck_bought_twice_or_does_not_agree(fleet, provider, base_settings):
    prompts = [
        "audit-lost",
        "audit-stuck",
        "audit-twice",
        "audit-bytes",
        "audit-gone",
        "audit-free",
        "audit-left",
        "audit-well",
    ]
    media = {prompt: (await ask(fleet, Order(prompt)))["id"] for prompt in prompts}
    fleet.start_worker()
    await rest(fleet, prefix="audit-")
    fleet.end_workers()
    before = await audit(fleet, media.values(), prefix="audit-")

    await fleet.fetch("DELETE FROM media WHERE prompt = 'audit-lost'")
    await fleet.fetch("UPDATE media SET status = 'IN_QUEUE' WHERE prompt = 'audit-stuck'")
    again = Submission(new_id(), 2, "image", "audit-twice", provider.complete_input("image", {}))
    await provider.submit(again)
    await fleet.fetch("UPDATE files SET sha256 = repeat('0', 64) WHERE media_id::text = $1", media["audit-bytes"])
    ((key,),) = await fleet.fetch("SELECT key FROM files WHERE media_id::text = $1", media["audit-gone"])
    await S3Store(base_settings).delete(key)
    await fleet.fetch("UPDATE attempts SET status = 'SUBMITTED' WHERE media_id::text = $1", media["audit-left"])
    await fleet.fetch("UPDATE attempts SET sent = 'NO' WHERE media_id::text = $1", media["audit-free"])
    found = await audit(fleet, media.values(), prefix="audit-")

    assert before.holds, before.culprits
    assert found.lost == [media["audit-lost"]]
    assert found.stuck == ["audit-stuck is IN_QUEUE"]
    assert found.bought_twice == ["audit-twice"]
    told = "\n".join(found.faults)
    for fault in (
        "audit-twice: p-\\d+ was bought for an attempt that is not written down",
        "audit-bytes has other bytes than the provider made for it",
        "audit-bytes: its file has other bytes than are written down",
        "audit-left: what was paid for is not fetched",
        "audit-gone: its file answers 404",
        "audit-free: attempt 1 is said to have cost nothing",
    ):
        assert re.search(fault, told), (fault, told)
    assert "audit-not-at-all" not in told
