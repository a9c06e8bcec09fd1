"""The move of a media item to the next target of its route."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from app.jobs.transitions import release, reroute
from app.jobs.transitions.attempt import record_purchases
from app.jobs.transitions.reroute import Reroute
from tests.jobs import begin_attempt, claim_lease, purchase_of, request_media


async def reroute_of_open_attempt(db, worker_id, *, purchased=False):
    """A move to the second target of a held media whose attempt is open."""
    await request_media(db, model="first/grey", route="route/portrait", route_input="{}")
    lease = await claim_lease(db, worker_id)
    attempt_id = await begin_attempt(db, lease, model="first/grey")
    if purchased:
        await record_purchases.many(db, [purchase_of(attempt_id)])
    error = '{"code": "x", "message": "x"}'
    return Reroute(lease, attempt_id, "first/grey", "second/grey", "local", '{"a": 1}', 1, error)


async def test_reroute_is_applied_once_and_changes_everything_that_belongs_to_the_model(db, worker_id):
    move = await reroute_of_open_attempt(db, worker_id)

    assert await asyncio.gather(*(reroute.reroute.many(db, [move]) for _ in range(4))) in (
        [[True], [False], [False], [False]],
        [[False], [True], [False], [False]],
        [[False], [False], [True], [False]],
        [[False], [False], [False], [True]],
    )
    row = await db.fetchrow("SELECT status, model, provider, queue, input, route_step, worker_id FROM media")
    assert tuple(row) == ("IN_QUEUE", "second/grey", "second", "local", '{"a": 1}', 1, None)


@pytest.mark.parametrize("case", ["purchased", "lease lost", "backwards", "paid before"])
async def test_reroute_is_refused_where_money_may_be_spent_or_the_lease_is_lost(db, worker_id, case):
    move = await reroute_of_open_attempt(db, worker_id, purchased=case == "purchased")
    if case == "lease lost":
        move = replace(move, lease=replace(move.lease, fencing_token=move.lease.fencing_token + 1))
    if case == "backwards":
        await db.execute("UPDATE media SET route_step = 1")
    if case == "paid before":
        await db.execute(
            "INSERT INTO attempts (id, media_id, number, status, model, input_hash, sent) "
            "SELECT gen_random_uuid(), id, 9, 'UNKNOWN', model, '00', 'UNKNOWN' FROM media"
        )

    assert await reroute.reroute.many(db, [move]) == [False]
    assert await reroute.reroute_waiting(db, [move]) == [False]
    row = await db.fetchrow("SELECT m.status, m.model, a.status FROM media m JOIN attempts a ON a.number = 1")
    assert tuple(row) == ("PROCESSING", "first/grey", "SUBMITTED" if case == "purchased" else "INTENDED")


async def test_waiting_media_with_an_open_attempt_is_not_rerouted(db, worker_id):
    move = await reroute_of_open_attempt(db, worker_id)
    await release.return_held(db, [move.lease], reason="test", delay=timedelta(0))

    assert await reroute.reroute_waiting(db, [replace(move, attempt_id=None)]) == [False]
