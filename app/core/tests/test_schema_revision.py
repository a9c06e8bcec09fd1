"""Processes on a database whose schema is older or newer than their code."""

import signal

from app.core.database.migrations import revisions
from tests.support import Client, eventually, worker


async def test_api_is_ready_on_a_newer_schema_and_not_on_an_older_one(client, db):
    await db.execute("UPDATE alembic_version SET version_num = '9999'")
    ahead = await client.api.get("/tools/ready")
    await db.execute("UPDATE alembic_version SET version_num = '0001'")
    behind = await client.api.get("/tools/ready")

    checks = {check["name"]: check for check in ahead.json()["checks"]}
    assert checks["migrations"]["detail"] == "at revision 9999 of a newer release"
    assert behind.status_code == 503
    assert f"the database is at revision 0001, this code needs {revisions().newest}" in behind.json()["detail"]


async def test_a_worker_waits_for_its_schema(client: Client, settings, db, tmp_path):
    await db.execute("UPDATE alembic_version SET version_num = '0001'")
    media = await client.faulty()
    with worker(settings, tmp_path / "worker.log") as running:

        async def waits():
            return "waiting_for_schema" in running.output

        await eventually(waits)
        assert (await client.media(media))["status"] == "IN_QUEUE"
        await db.execute("UPDATE alembic_version SET version_num = $1", revisions().newest)
        assert (await client.until(media))["status"] == "COMPLETED"


async def test_a_worker_waiting_for_its_schema_can_be_stopped(settings, db, tmp_path):
    await db.execute("DROP TABLE alembic_version")
    with worker(settings, tmp_path / "worker.log") as running:

        async def waits():
            return "waiting_for_schema" in running.output

        await eventually(waits)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
    assert "runner_crashed" not in running.output
