"""A purchase belongs to one attempt: whoever records it first keeps it, and what is not proven never wins by chance."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from app.jobs.transitions.attempt import PurchaseRecord, intend, record_purchases
from tests.jobs import intent_of, purchase_of, register_worker, request_and_claim

RECORDED, TAKEN, CONTESTED, SETTLED = (
    PurchaseRecord.RECORDED,
    PurchaseRecord.TAKEN,
    PurchaseRecord.CONTESTED,
    PurchaseRecord.SETTLED,
)


async def open_attempts(db, count, *models, input_hash="00"):
    """Ids of that many attempts of media of their own, whose purchases are unknown."""
    worker_id = await register_worker(db)
    intents = []
    for index in range(count):
        lease = await request_and_claim(db, worker_id)
        intent = intent_of(lease, **({"model": models[index % len(models)]} if models else {}))
        intents.append(replace(intent, input_hash=input_hash))
    await intend.many(db, intents)
    return [intent.attempt_id for intent in intents]


async def owners(db):
    return [tuple(row) for row in await db.fetch("SELECT id, external_id FROM attempts WHERE external_id IS NOT NULL")]


async def test_purchase_of_another_attempt_is_refused(db):
    first, second = await open_attempts(db, 2)

    assert await record_purchases.many(db, [purchase_of(first, "p")]) == [RECORDED]
    assert await record_purchases.many(db, [purchase_of(second, "p")]) == [TAKEN]

    assert await owners(db) == [(first, "p")]


async def test_attempt_keeps_the_purchase_that_it_has(db):
    (first,) = await open_attempts(db, 1)
    await record_purchases.many(db, [purchase_of(first, "p")])

    assert await record_purchases.many(db, [purchase_of(first, "q")]) == [SETTLED]

    assert await owners(db) == [(first, "p")]


async def test_one_statement_with_one_purchase_for_two_attempts_records_it_once(db):
    first, second = await open_attempts(db, 2)

    recorded = await record_purchases.many(db, [purchase_of(first, "p"), purchase_of(second, "p")])

    assert sorted(recorded) == [RECORDED, TAKEN]
    assert len(await owners(db)) == 1


async def test_of_many_that_record_one_purchase_at_once_exactly_one_wins(db):
    for turn in range(10):
        attempts = await open_attempts(db, 6)

        recorded = await asyncio.gather(
            *(record_purchases.many(db, [purchase_of(one, f"p{turn}")]) for one in attempts)
        )

        assert sorted(result for (result,) in recorded) == [RECORDED] + [TAKEN] * 5
        await db.execute("DELETE FROM media")


async def test_two_accounts_may_use_the_same_id(db):
    first, second = await open_attempts(db, 2, "dummy/faulty", "other/faulty")

    assert await record_purchases.many(db, [purchase_of(first, "p"), purchase_of(second, "p")]) == [RECORDED] * 2


async def test_database_itself_refuses_a_purchase_with_two_owners(db):
    first, second = await open_attempts(db, 2)
    await record_purchases.many(db, [purchase_of(first, "p")])

    with pytest.raises(asyncpg.UniqueViolationError):
        await db.execute("UPDATE attempts SET external_id = 'p' WHERE id = $1", second)


async def test_unproven_purchase_is_recorded_where_no_other_attempt_can_have_made_it(db):
    (first,) = await open_attempts(db, 1)
    await open_attempts(db, 1, input_hash="another input")

    assert await record_purchases.many(db, [purchase_of(first, "p", proven=False)]) == [RECORDED]


@pytest.mark.parametrize("rival", ["INTENDED", "UNKNOWN"])
async def test_unproven_purchase_is_refused_while_an_equal_attempt_may_have_made_it(db, rival):
    first, second = await open_attempts(db, 2)
    await db.execute("UPDATE attempts SET status = $2 WHERE id = $1", second, rival)

    assert await record_purchases.many(db, [purchase_of(first, "p", proven=False)]) == [CONTESTED]
    assert await owners(db) == []


async def test_unproven_purchase_is_recorded_once_the_equal_attempt_has_its_own(db):
    first, second = await open_attempts(db, 2)
    await record_purchases.many(db, [purchase_of(second, "q")])

    assert await record_purchases.many(db, [purchase_of(first, "p", proven=False)]) == [RECORDED]


async def test_unproven_purchase_is_recorded_if_the_equal_attempt_was_made_long_before(db):
    first, second = await open_attempts(db, 2)
    await db.execute("UPDATE attempts SET created_at = created_at - interval '11 minutes' WHERE id = $1", second)

    assert await record_purchases.many(db, [purchase_of(first, "p", proven=False)]) == [RECORDED]
