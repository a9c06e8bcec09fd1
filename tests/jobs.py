"""Jobs for tests of the engine's own statements: requested, claimed and attempted where no worker runs."""

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.ids import new_id
from app.jobs.states import AttemptStatus
from app.jobs.transitions.attempt import Intent, Purchase, intend
from app.jobs.transitions.base import Lease
from app.jobs.transitions.completion import Completion, StoredFile
from app.jobs.transitions.failure import Failure
from app.jobs.transitions.request import request
from app.jobs.worker import leases
from tests.support import claim, new_media

MODEL = "dummy/faulty"


async def register_worker(db, name="test"):
    """The id of a new worker."""
    worker_id = new_id()
    await leases.register(db, worker_id, name)
    return worker_id


async def request_media(db, owner_id=DEFAULT_OWNER_ID, *, model=MODEL, overdue=None, **columns):
    """The id of a new media in the queue; `overdue`: for how long it has been due."""
    new = new_media(model, owner_id=owner_id, **columns)
    await request(db, new)
    if overdue is not None:
        await db.execute("UPDATE media SET next_run = now() - $2::interval WHERE id = $1", new.id, overdue)
    return new.id


async def claim_lease(db, worker_id):
    """The lease on the media that is next."""
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    return Lease(row.id, row.fence)


async def request_and_claim(db, worker_id):
    """The lease on a new media, the only one that is due."""
    media_id = await request_media(db)
    lease = await claim_lease(db, worker_id)
    assert lease.media_id == media_id
    return lease


def intent_of(lease, attempt_id=None, *, model=MODEL):
    """What is about to be submitted."""
    return Intent(lease, attempt_id or new_id(), model, "1", "00")


async def begin_attempt(db, lease, *, model=MODEL):
    """The id of a new attempt, whose intent is committed."""
    intent = intent_of(lease, model=model)
    assert await intend.many(db, [intent]) != [None]
    return intent.attempt_id


def purchase_of(attempt_id, external_id=None, *, proven=True):
    """What the provider accepted."""
    external_id = external_id or f"ext-{attempt_id}"
    return Purchase(attempt_id, external_id, f'{{"external_id": "{external_id}"}}', proven)


def dummy_purchase(attempt_id, *, size=None):
    """What the dummy provider accepted; it can be polled for a result."""
    given = "" if size is None else f'"size": {size}'
    data = f'{{"model": "faulty", "number": 1, "input": {{{given}}}, "submitted_at": 0}}'
    external_id = f"dummy-{attempt_id}"
    return Purchase(attempt_id, external_id, f'{{"external_id": "{external_id}", "data": {data}}}')


def failure_of(lease, attempt_id, *, status=AttemptStatus.FAILED, sent="NO", code="provider_busy", retry_after=None):
    """How an attempt failed."""
    return Failure(lease, attempt_id, status, sent, f'{{"code": "{code}", "message": ""}}', retry_after)


def stored_file():
    """An output in the bucket."""
    return StoredFile(new_id(), 0, "media/x/0.png", "image/png", 10, 1, 1, "ab")


def completion_of(lease, attempt_id):
    """A result of one file."""
    return Completion(lease, attempt_id, (stored_file(),))


async def media_with_open_attempt(client, db, worker_id):
    """A media item that this worker holds, the lease on it, and the id of its attempt."""
    media = await client.faulty()
    lease = await claim_lease(db, worker_id)
    return media, lease, await begin_attempt(db, lease)


async def media_of_a_dead_worker(client, db, **plan):
    """A media item, and its attempt whose worker died between intent and answer."""
    media = await client.faulty(**plan)
    lease = await claim_lease(db, await register_worker(db, "dead"))
    attempt_id = await begin_attempt(db, lease)
    await db.execute("DELETE FROM workers")
    return media, attempt_id


async def attempt_rows(db, media):
    """Number, status, sent, external id and error code of each attempt."""
    rows = await db.fetch(
        """SELECT number, status, sent, external_id, error->>'code' AS code FROM attempts
        WHERE media_id = $1 ORDER BY number""",
        media["id"],
    )
    return [tuple(row) for row in rows]
