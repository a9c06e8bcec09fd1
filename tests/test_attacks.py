"""What an attacker found once, and must not find again: odd providers, odd moments, odd texts."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import asyncpg
import httpx2
import pytest

from app.core.ids import new_id
from app.jobs.scheduling import provider_circuits
from app.jobs.states import AttemptStatus
from app.jobs.transitions import claim as claiming
from app.jobs.transitions import expiry, failure, late_attempts
from app.jobs.transitions.attempt import _INTEND, Intent, Purchase, intend, record_purchases
from app.jobs.transitions.base import Lease
from app.jobs.transitions.completion import StoredFile
from app.jobs.transitions.failure import Failure
from app.jobs.transitions.late_attempts import LateResult
from app.jobs.transitions.request import request
from app.jobs.worker import leases
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    CreditError,
    GenerationFailedError,
    InputRefusedError,
    NotReachedError,
    UnauthorizedError,
)
from app.media_generator.media_generator_model import CancelAnswer, Canceled, Failed, Reference, Running, Succeeded
from tests.support import attempts_of, claim, eventually, new_media

DUMMY = DummyMediaGeneratorModel.capabilities
FACT = (
    '{"external_id": "dummy-x", "data": {"model": "faulty", "number": 1, "input": {"size": 40000}, "submitted_at": 0}}'
)


async def bought(client, media):
    return await eventually(
        lambda: attempts_of(client, media), lambda items: items and items[0]["status"] == "SUBMITTED"
    )


async def held_by(db, client, **body):
    """A media in the hands of a worker that does nothing, with an intent."""
    media = await client.generate(model="dummy/faulty", **body)
    worker_id, attempt_id = new_id(), new_id()
    await leases.register(db, worker_id, "test")
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held = Lease(row.id, row.fence)
    await intend.many(db, [Intent(held, attempt_id, "dummy/faulty", "1", "00")])
    return media, held, attempt_id, worker_id


@pytest.mark.parametrize("prompt", ["a sign that says \\u0000", "back\\\\slashes \\\\u0000", '"\\ud83d"'])
async def test_a_prompt_that_looks_like_an_escape_is_a_prompt(client, working, prompt):
    await working(DummyMediaGeneratorModel())

    done = await client.until(await client.generate(prompt=prompt, model="dummy/faulty"))

    assert (done["status"], done["prompt"]) == ("COMPLETED", prompt)


class HalfAnEmoji(DummyMediaGeneratorModel):
    async def poll(self, reference):
        return Failed(GenerationFailedError("prompt 'I love \ud83d' was \x00 flagged"))


async def test_half_an_emoji_in_an_error_is_no_reason_to_go_on_for_ever(client, working):
    await working(HalfAnEmoji())

    done = await client.until(await client.faulty())

    assert (done["error"]["code"], "I love ?" in done["error"]["message"]) == ("generation_failed", True)


class Costly(DummyMediaGeneratorModel):
    async def poll(self, reference):
        outcome = await super().poll(reference)
        return Succeeded(outcome.outputs, Decimal("1e15")) if isinstance(outcome, Succeeded) else outcome


async def test_a_cost_that_nobody_can_pay_does_not_cost_the_result(client, working):
    await working(Costly())

    assert (await client.until(await client.faulty()))["status"] == "COMPLETED"


class Nonsense(DummyMediaGeneratorModel):
    async def poll(self, reference):
        return Running(progress="half of it", wait=timedelta(0))


async def test_an_adapter_that_talks_nonsense_is_given_up(client, working):
    await working(Nonsense())

    done = await client.until(await client.faulty())

    assert (done["status"], done["error"]["code"]) == ("ERROR", "output_invalid")


class Sloppy(DummyMediaGeneratorModel):
    async def submit(self, submission):
        reference = await super().submit(submission)
        return Reference(reference.external_id, None) if submission.prompt == "sloppy" else reference


async def test_a_reference_that_cannot_be_stored_harms_no_other_job(client, db, working):
    await working(Sloppy())
    await client.generate(prompt="sloppy", model="dummy/faulty")
    good = [await client.faulty() for _ in range(3)]
    unreadable = await client.faulty(delay=30)
    await bought(client, unreadable)
    await db.execute("UPDATE attempts SET reference = '7' WHERE media_id = $1", unreadable["id"])
    await db.execute("DELETE FROM workers")

    more = [await client.faulty() for _ in range(3)]

    assert {(await client.until(one))["status"] for one in (*good, *more)} == {"COMPLETED"}
    broken = await eventually(lambda: client.media(unreadable), lambda seen: seen["error"])
    assert broken["error"]["code"] == "job_broken"


class Versions(DummyMediaGeneratorModel):
    """Its first answer is lost, and it cannot be asked."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=0.5), findable=False)
    calls = 0

    async def submit(self, submission):
        self.calls += 1
        if self.calls == 1:
            raise AnswerLostError("lost")
        return await super().submit(submission)


async def test_a_purchase_that_turns_up_late_never_touches_the_files_of_another(client, db, working):
    await working(Versions())
    done = await client.until(await client.generate(model="dummy/faulty", on_unknown="retry"))
    (first, _) = await db.fetch("SELECT id FROM attempts ORDER BY number")

    await record_purchases.many(db, [Purchase(first["id"], "dummy-x", FACT)])
    await asyncio.sleep(2)

    location = (await client.api.get(done["files"][0]["url"])).headers["location"]
    async with httpx2.AsyncClient() as outside:
        body = (await outside.get(location)).content
    assert hashlib.sha256(body).hexdigest() == done["files"][0]["sha256"]


class Asked(DummyMediaGeneratorModel):
    """While it is asked what became of a call, the one who made it writes that down."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=0.5))
    db = None
    sold = 0

    async def submit(self, submission):
        self.sold += 1
        raise AnswerLostError("lost")

    async def find(self, submission, since):
        await record_purchases.many(self.db, [Purchase(submission.attempt_id, "dummy-x", FACT)])
        raise NotReachedError("search is down")


@pytest.mark.parametrize("policy", ["hold", "retry"])
async def test_what_is_written_down_outranks_what_somebody_concluded(client, db, working, policy):
    provider = Asked()
    provider.db = db
    await working(provider)

    done = await client.until(await client.generate(model="dummy/faulty", on_unknown=policy))

    assert (done["status"], done["number_of_tries"], provider.sold) == ("COMPLETED", 1, 1)


@pytest.mark.parametrize("verdict", ["NO", "UNKNOWN"])
async def test_a_verdict_without_knowledge_is_refused_once_there_is_some(client, db, verdict):
    _, held, attempt_id, _ = await held_by(db, client)
    await record_purchases.many(db, [Purchase(attempt_id, "dummy-x", FACT)])
    status = AttemptStatus.UNKNOWN if verdict == "UNKNOWN" else AttemptStatus.FAILED

    blind = Failure(held, attempt_id, status, verdict, '{"code": "x", "message": ""}')

    assert await failure.fail.many(db, [blind]) == [False]
    assert (await db.fetchrow("SELECT status FROM attempts"))["status"] == "SUBMITTED"


class RefusesSlowly(DummyMediaGeneratorModel):
    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=2), findable=False)

    async def submit(self, submission):
        await asyncio.sleep(1.5)
        raise InputRefusedError("no such style")


async def test_a_refusal_that_is_known_is_not_forgotten(client, db, working):
    await working(RefusesSlowly())
    media = await client.generate(model="dummy/faulty", deadline_seconds=0.7)
    await client.until(media)
    await db.execute("UPDATE media SET time_limit = NULL")
    await client.api.post(f"/media/{media['id']}/retry")

    done = await client.until(media)

    assert done["error"]["code"] == "input_refused"


async def test_a_retry_goes_on_with_what_turned_out_to_be_bought(client, db):
    media, held, first, worker_id = await held_by(db, client)
    unknown = Failure(held, first, AttemptStatus.UNKNOWN, "UNKNOWN", '{"code": "outcome_unknown", "message": ""}')
    await failure.fail.many(db, [unknown])
    await client.api.post(f"/media/{media['id']}/retry")
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held, second = Lease(row.id, row.fence), new_id()
    await intend.many(db, [Intent(held, second, "dummy/faulty", "1", "00")])
    await record_purchases.many(db, [Purchase(first, "dummy-x", FACT)])
    failed = Failure(held, second, AttemptStatus.FAILED, "YES", '{"code": "generation_failed", "message": ""}')
    await failure.fail.many(db, [failed])

    await client.api.post(f"/media/{media['id']}/retry")

    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    assert row["attempt_id"] == first


class Unreachable(DummyMediaGeneratorModel):
    """Cannot be told to stop; counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.cancels = self.polls = 0

    async def cancel(self, reference):
        self.cancels += 1
        raise NotReachedError("connection refused")

    async def poll(self, reference):
        self.polls += 1
        raise BusyError("slow down", retry_after=timedelta(0))


async def test_nobody_is_asked_without_a_pause(client, working):
    provider = Unreachable()
    await working(provider)
    media = await client.faulty(delay=60)
    await bought(client, media)
    await client.api.post(f"/media/{media['id']}/cancel")
    await asyncio.sleep(3)

    assert provider.cancels < 100
    assert provider.polls < 100


class Patient(DummyMediaGeneratorModel):
    async def submit(self, submission):
        raise BusyError("later", retry_after=timedelta(seconds=1e12))


async def test_a_provider_that_asks_for_centuries_gets_a_day(client, db, working):
    await working(Patient())
    media = await client.faulty()
    await eventually(lambda: client.media(media), lambda seen: seen["error"])

    (row,) = await db.fetch("SELECT next_run - now() AS pause FROM media")

    assert row["pause"] <= timedelta(days=1)
    assert (await client.api.get("/media")).status_code == 200


class Keyless(DummyMediaGeneratorModel):
    async def submit(self, submission):
        await asyncio.sleep(0.2)
        raise UnauthorizedError("the key is not valid")


async def test_of_many_that_meet_a_bad_key_at_once_one_finds_out_and_the_others_wait(client, db, working):
    media = [await client.faulty() for _ in range(30)]
    await working(Keyless(), provider_pause_seconds=60)
    await eventually(lambda: db.fetch("SELECT 1 FROM attempts WHERE status = 'FAILED'"), lambda rows: len(rows) == 30)

    statuses = [(await client.media(one))["status"] for one in media]

    assert sorted(statuses) == ["ERROR", *["IN_QUEUE"] * 29]


class BadKeyThenBusy(DummyMediaGeneratorModel):
    calls = 0

    async def submit(self, submission):
        self.calls += 1
        if self.calls <= 7:
            raise UnauthorizedError("the key is not valid")
        if self.calls == 8:
            raise BusyError("busy")
        return await super().submit(submission)


async def test_trials_are_not_held_against_the_job_that_makes_them(client, working):
    await working(BadKeyThenBusy(), provider_pause_seconds=0.2)
    await client.until(await client.faulty())

    done = await client.until(await client.faulty())

    assert done["status"] == "COMPLETED"


async def test_of_many_workers_one_makes_a_trial(db):
    ids = [new_id() for _ in range(8)]
    for worker_id in ids:
        await leases.register(db, worker_id, "test")
    for _ in range(30):
        await request(db, new_media(owner_id=new_id()))
    await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=timedelta(0))

    claims = await asyncio.gather(*(claim(db, "network", worker_id=worker_id, limit=20) for worker_id in ids))

    assert sum(len(rows) for rows in claims) == 1


class BadGateway(DummyMediaGeneratorModel):
    polls = 0

    async def poll(self, reference):
        self.polls += 1
        if self.polls == 1:
            raise AnswerLostError("502 from a load balancer")
        return await super().poll(reference)


async def test_a_lost_answer_to_a_poll_says_nothing_about_the_purchase(client, working):
    await working(BadGateway())

    done = await client.until(await client.generate(model="dummy/faulty", on_unknown="retry"))

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)


class SlowToStop(DummyMediaGeneratorModel):
    def __init__(self):
        super().__init__()
        self.told = {}

    async def cancel(self, reference):
        self.told[reference.external_id] = asyncio.get_running_loop().time()
        return CancelAnswer.REQUESTED

    async def poll(self, reference):
        told = self.told.get(reference.external_id)
        if told is not None and asyncio.get_running_loop().time() - told > 2:
            return Canceled(Decimal(0))
        done = self.told and told is None
        return await super().poll(reference) if done else Running(wait=timedelta(seconds=0.2))


async def test_a_retry_of_what_we_are_stopping_buys_anew_when_it_has_stopped(client, working):
    provider = SlowToStop()
    await working(provider)
    media = await client.generate(model="dummy/faulty", deadline_seconds=4)
    await client.until(media)
    await eventually(lambda: asyncio.sleep(0, provider.told))
    await client.api.post(f"/media/{media['id']}/retry")

    done = await client.until(media)

    assert done["status"] == "COMPLETED"
    assert [attempt["status"] for attempt in await attempts_of(client, media)] == ["CANCELED", "SUCCEEDED"]


class HangsOnOne(DummyMediaGeneratorModel):
    def __init__(self):
        super().__init__()
        self.told = set()

    async def cancel(self, reference):
        if reference.data["prompt"] == "hang":
            await asyncio.sleep(3600)
        self.told.add(reference.external_id)
        return CancelAnswer.CANCELED


async def test_a_provider_that_hangs_keeps_nobody_elses_from_being_told_to_stop(client, working):
    provider = HangsOnOne()
    await working(provider)
    for prompt in ("hang", "other"):
        media = await client.generate(prompt=prompt, model="dummy/faulty", input={"hang": True}, deadline_seconds=0.5)
        await client.until(media)

    assert await eventually(lambda: asyncio.sleep(0, provider.told))


async def test_an_intent_that_is_committed_while_its_media_ends_is_looked_after(client, db, settings):
    await client.faulty()
    worker_id, attempt_id = new_id(), new_id()
    await leases.register(db, worker_id, "test")
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held = Lease(row.id, row.fence)
    other = await asyncpg.connect(settings.database_dsn)
    transaction = other.transaction()
    await transaction.start()
    intent = ([held.media_id], [held.fencing_token], [attempt_id], ["dummy/faulty"], ["1"], ["00"], [None], ["USD"])
    await other.fetch(_INTEND, *intent)
    expiring = asyncio.create_task(expiry.expire.many(db, [held]))
    await asyncio.sleep(0.3)
    await transaction.commit()
    await other.close()
    assert await expiring == [True]

    assert await late_attempts.adopt(db) == 1
    assert (await db.fetchrow("SELECT look_at, stop FROM attempts"))["stop"]


async def test_a_late_result_and_a_retry_do_not_trip_over_each_other(client, db):
    for _ in range(40):
        media, held, attempt_id, _ = await held_by(db, client)
        await record_purchases.many(db, [Purchase(attempt_id, "dummy-x", FACT)])
        await expiry.expire.many(db, [held])
        file = StoredFile(new_id(), 0, "media/x/0.png", "image/png", 10, 1, 1, "ab")

        _, answer = await asyncio.gather(
            late_attempts.store(db, LateResult(attempt_id, held.media_id, (file,))),
            client.api.post(f"/media/{media['id']}/retry"),
        )

        assert answer.status_code == 202
        await db.execute("DELETE FROM media")


async def test_a_claim_that_cannot_have_its_turn_stops_no_heartbeat(client, db, settings, working):
    frozen = await asyncpg.connect(settings.database_dsn)
    transaction = frozen.transaction()
    await transaction.start()
    await frozen.execute("SELECT pg_advisory_xact_lock($1)", claiming._CLAIM_LOCK)
    runner = await working(DummyMediaGeneratorModel(), provider_limits={"dummy": 5}, lease_seconds=3)
    media = await client.faulty()
    await asyncio.sleep(5)
    row = await db.fetchrow("SELECT now() - seen_at AS silent FROM workers WHERE id = $1", runner.worker_id)
    await transaction.rollback()
    await frozen.close()

    done = await client.until(media)

    assert row["silent"] < timedelta(seconds=3)
    assert done["status"] == "COMPLETED"


async def test_whoever_is_frozen_with_the_lock_in_his_hands_loses_it(settings, db):
    connection = await asyncpg.connect(settings.database_dsn)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        f"SET LOCAL idle_in_transaction_session_timeout = '3s'; SELECT pg_advisory_xact_lock({7:d})"
    )

    rows = await eventually(lambda: free(db), bool)

    assert rows
    connection.terminate()


async def free(db):
    try:
        return await db.fetch_in_turn(7, "SELECT 1")
    except (asyncpg.LockNotAvailableError, OSError):
        return []


async def test_the_oldest_of_an_owner_comes_first_whatever_its_provider(db):
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    for oldest, others in (("aaa", "zzz"), ("zzz", "aaa")):
        await db.execute("DELETE FROM media")
        for model, number, waits in ((oldest, 1, 100), (others, 5, 10)):
            for _ in range(number):
                new = new_media(f"{model}/m")
                await request(db, new)
                await db.execute(
                    "UPDATE media SET next_run = now() - $2::interval WHERE id = $1", new.id, timedelta(seconds=waits)
                )

        (row,) = await claim(db, "network", worker_id=worker_id, limit=1)

        assert row["provider"] == oldest
