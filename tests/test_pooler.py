"""The product behind a real PgBouncer in transaction mode, which hands each transaction to any of three sessions."""

import asyncio

import asyncpg
import httpx2
import pytest

from app.core.database.migrations import current_revision, newest_revision
from app.core.database.pool import DatabasePool
from app.main import create_app
from app.runtime import open_runtime
from app.worker import build_runner
from tests.fleek_cli import fleek
from tests.support import PUBLIC_URL, Client, attempts_of, dsn_of, environment_of, make_settings, migrate, on_server
from tests.system_servers import PgBouncer

CLIENTS = 12


@pytest.fixture(params=[False, True], ids=["keeps none", "keeps statements"])
def pooled(request, engines, database, tmp_path):
    """Settings that lead through a pooler to the test's database."""
    with PgBouncer(tmp_path, database, keeps_statements=request.param) as pooler:
        yield make_settings(
            engines,
            database_url=pooler.dsn,
            database_connections=CLIENTS,
            database_prepared_statements=request.param,
            provider_limits={"dummy": 50},  # claims in turn: more than one statement in a transaction
        )


async def test_jobs_go_through_a_pooler_in_transaction_mode(pooled, bell):
    app = create_app(pooled, bell)
    transport = httpx2.ASGITransport(app)
    async with (
        open_runtime(pooled) as runtime,
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL, timeout=30) as api,
    ):
        bell.runner = build_runner(runtime)
        await bell.runner.start()
        client = Client(api)
        asked = await asyncio.gather(*(client.faulty(delay=0.1) for _ in range(60)))
        waiting = await client.generate(model="dummy/faulty", input={"delay": 30})
        canceled = await api.post(f"/media/{waiting['id']}/cancel")
        done = [await client.until(media) for media in asked]
        await client.until(waiting)
        tries = await attempts_of(client, asked[0])
        page = (await api.get("/media", params={"limit": 50})).json()
        ready = await api.get("/tools/ready")
        await bell.runner.stop()

    assert {media["status"] for media in done} == {"COMPLETED"}
    assert canceled.status_code == 200, canceled.text
    assert len(tries) == 1
    assert len(page["items"]) == 50
    assert ready.status_code == 200, ready.text


async def test_many_statements_at_once_get_their_own_answers(pooled):
    db = DatabasePool(pooled.database_dsn, size=CLIENTS, prepared=pooled.database_prepared_statements)

    async def ask(number):
        # A text for each, so that a session which mixed them up would be found out.
        row = await db.fetchrow(f"SELECT {number % 40} AS mine, $1::int AS given, pg_sleep(0.001)", number)
        return row["mine"], row["given"]

    seen = await asyncio.gather(*(ask(number) for number in range(400)))
    await db.close()

    assert seen == [(number % 40, number) for number in range(400)]


async def test_without_the_setting_a_pooler_that_keeps_no_statements_is_no_use(engines, database, tmp_path):
    with PgBouncer(tmp_path, database, keeps_statements=False) as pooler:
        db = DatabasePool(pooler.dsn, size=CLIENTS)
        answers = await asyncio.gather(
            *(db.fetchrow("SELECT $1::int, pg_sleep(0.002)", number % 7) for number in range(100)),
            return_exceptions=True,
        )
        await db.close()

    assert any(isinstance(answer, asyncpg.PostgresError) for answer in answers)


async def test_the_migration_goes_through_a_pooler(engines, base_settings, template, tmp_path):
    await on_server(base_settings, "CREATE DATABASE pooled")
    with PgBouncer(tmp_path, dsn_of(base_settings, "pooled"), keeps_statements=False) as pooler:
        # as managed services write it
        await asyncio.to_thread(migrate, f"{pooler.dsn}?sslmode=prefer")
        await asyncio.to_thread(migrate, pooler.dsn, "base", down=True)
        settings = make_settings(engines, database_url=pooler.dsn)
        prepared = fleek("prepare", folder=tmp_path, **environment_of(settings, DATABASE_PREPARED_STATEMENTS="false"))
        assert prepared.returncode == 0, prepared.stderr
        db = DatabasePool(pooler.dsn, size=1, prepared=False)
        revision = await current_revision(db)
        await db.close()
    await on_server(base_settings, "DROP DATABASE pooled WITH (FORCE)")

    assert revision == newest_revision()
