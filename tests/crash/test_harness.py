"""The harness itself: a simulator, adapters or an audit that were wrong would prove nothing."""

import hashlib
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
        ("accept_then_503", Sent.UNKNOWN, 1),
        ("accept_then_garbage", Sent.UNKNOWN, 1),
        ("accept_then_silence", Sent.UNKNOWN, 1),
        ("not_accepted_503", Sent.UNKNOWN, 0),
        ("not_accepted_drop", Sent.UNKNOWN, 0),
        ("long_wait", Sent.NO, 0),
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


@pytest.mark.parametrize("trouble", ["output_cut", "output_html", "output_drips"])
async def test_an_output_that_does_not_arrive_at_first_is_whole_later(fleet, provider, trouble):
    submission = order(provider, output=trouble, size=2_000)
    reference = await provider.submit(submission)
    (bought,) = [one for one in (await fleet.books())["purchases"] if one["id"] == reference.external_id]
    outcome = await provider.poll(reference)

    first = await fetched(provider, outcome.outputs[0])
    second = await fetched(provider, outcome.outputs[0])

    assert (first == bought["sha256"]) == (trouble == "output_drips")
    assert second == bought["sha256"]


async def fetched(provider, output):
    """The hash of what arrives; None: it breaks off."""
    digest = hashlib.sha256()
    try:
        async for chunk in provider.open(output):
            digest.update(chunk)
    except ProviderError:
        return None
    return digest.hexdigest()


SPOILT = {
    "lost": ("lost", "it was accepted"),
    "stuck": ("stuck", "it is IN_QUEUE"),
    "twice": ("bought twice", "then s\\d+"),
    "bytes": ("wrong file", "that nobody made"),
    "stranger": ("wrong file", "for attempt .* of audit-well"),
    "gone": ("inconsistent", "its file answers 404"),
    "left": ("thrown away", "what was paid for is not fetched"),
    "ended": ("thrown away", "is done, and the media is ERROR output_invalid"),
    "free": ("booked as not sent", "is said to have cost nothing"),
    "other": ("wrong purchase", "names s\\d+ .* of audit-well"),
    "unknown": ("unknown without need", "SUCCEEDED"),
    "canceled": ("wrong end", "nobody wanted that"),
}
"""What is done to an audited job (see `_spoil`), and what the audit says of it."""
TO_MEDIA = 'UPDATE media SET status = \'{}\', error = \'{{"code": "{}", "message": ""}}\' WHERE id::text = $1'
FILES_GONE = "DELETE FROM files WHERE media_id::text = $1"


async def _spoil(fleet, provider, store, media):
    """Break the promise in every way; by the name of the job."""
    well = media["well"]
    # What keeps a purchase from having two owners.
    await fleet.fetch("DROP INDEX IF EXISTS uq_attempts_purchase")
    for statement, name in (
        ("DELETE FROM media WHERE id::text = $1", "lost"),
        ("UPDATE media SET status = 'IN_QUEUE' WHERE id::text = $1", "stuck"),
        ("UPDATE files SET source_sha256 = repeat('0', 64) WHERE media_id::text = $1", "bytes"),
        (
            f"UPDATE files SET source_sha256 = ({OF_WELL.format('f.source_sha256')}) WHERE media_id::text = $1",
            "stranger",
        ),
        ("UPDATE attempts SET status = 'SUBMITTED' WHERE media_id::text = $1", "left"),
        ("UPDATE attempts SET sent = 'NO' WHERE media_id::text = $1", "free"),
        (f"UPDATE attempts SET external_id = ({OF_WELL.format('a.external_id')}) WHERE media_id::text = $1", "other"),
        (FILES_GONE, "ended"),
        (TO_MEDIA.format("ERROR", "output_invalid"), "ended"),
        (TO_MEDIA.format("ERROR", "outcome_unknown"), "unknown"),
        ("UPDATE media SET status = 'CANCELED' WHERE id::text = $1", "canceled"),
    ):
        await fleet.fetch(statement.replace("$2", f"'{well}'"), media[name])
    ((key,),) = await fleet.fetch("SELECT key FROM files WHERE media_id::text = $1", media["gone"])
    await store.delete(key)
    await provider.submit(Submission(new_id(), 2, "image", "audit-twice", provider.complete_input("image", {})))


OF_WELL = """SELECT {} FROM files f JOIN attempts a USING (media_id) WHERE media_id::text = $2"""


async def test_the_audit_finds_whatever_breaks_the_promise(fleet, provider, base_settings):
    names = [*SPOILT, "well"]
    media = {name: (await ask(fleet, Order(f"audit-{name}")))["id"] for name in names}
    fleet.start_worker()
    await rest(fleet, prefix="audit-")
    fleet.end_workers()
    before = await audit(fleet, media.values(), prefix="audit-")

    await _spoil(fleet, provider, S3Store(base_settings), media)
    after = await audit(fleet, media.values(), prefix="audit-", sample=None)

    assert before.holds, before.culprits
    told = "\n".join(after.culprits)
    for name, (kind, what) in SPOILT.items():
        assert re.search(f"{kind}: .*{media[name] if name != 'twice' else 'audit-twice'}.*{what}", told), (name, told)
    assert f"audit-well ({media['well']})" not in told
