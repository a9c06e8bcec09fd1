"""A database that an earlier version filled: migrated to head, its API answers are the same and its jobs continue."""

import asyncio
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.core.http_client.client import HttpClient
from app.runtime import open_runtime
from app.worker import build_deliverer, change_publisher
from tests.migrations.make_dump import RECEIVER, answers, fleek
from tests.migrations.providers import registry as accounts_and_route
from tests.migrations.providers import signature
from tests.receiver import Receiver
from tests.support import attempts_of, dsn_of, eventually, make_settings, migrate, on_server

DUMPS = sorted((Path(__file__).parent / "released").glob("*.sql"))
FINAL = {"COMPLETED", "ERROR", "CANCELED"}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
CHANGES_WITH_TIME = {"queue_position", "webhook-timestamp", "webhook-signature"}
AS_SENT = {"payload"}
"""Stored as text by the old version: the times in it are not shifted."""

# As if the dump had been taken just now, so that deadlines, back-off and lifetimes are where they were.
SHIFT = """DO $$ DECLARE found record; BEGIN
    FOR found IN SELECT table_name,
            string_agg(format('%1$I = %1$I + %2$L::interval', column_name, '{by}'), ', ') AS changes
        FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'timestamp with time zone'
        GROUP BY table_name
    LOOP EXECUTE format('UPDATE public.%I SET %s', found.table_name, found.changes); END LOOP;
END $$"""
# As on the server on which it was filled: the ids of later transactions are higher than those in the rows.
ADVANCE_TRANSACTION_ID = """DO $$ DECLARE found record; latest bigint; BEGIN
    FOR found IN SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND column_default LIKE '%pg_current_xact_id%'
    LOOP
        EXECUTE format('SELECT max(%I) FROM public.%I', found.column_name, found.table_name) INTO latest;
        WHILE pg_current_xact_id()::text::bigint <= latest LOOP COMMIT; END LOOP;
    END LOOP;
END $$"""


@dataclass(frozen=True)
class Filled:
    """A database as the old version left it, not migrated yet."""

    dsn: str
    revision: str
    secrets: list[str]
    """Of all webhooks, the previous ones included."""
    answers: dict[str, dict[str, Any]]
    """What the old version's API answered."""
    shift: timedelta
    """By how much its times were moved when it was loaded."""

    def media(self, case: str) -> dict[str, Any]:
        return self.answers["media"][case]

    def webhook(self, path: str) -> dict[str, Any]:
        """The webhook whose address ends like this."""
        return next(one for one in self.answers["webhooks"].values() if (one["url"] or "").endswith(path))


@pytest.fixture(params=DUMPS, ids=lambda dump: dump.stem)
def dump(request) -> Path:
    return request.param


@pytest.fixture
async def receiver():
    async with Receiver() as opened:
        yield opened


@pytest.fixture
async def filled(base_settings, template, dump, receiver):
    origin = receiver.url.removesuffix("/hook")
    sql = dump.read_text(encoding="utf-8").replace(RECEIVER, origin)
    answered = json.loads(dump.with_suffix(".json").read_text(encoding="utf-8").replace(RECEIVER, origin))
    rows = [*answered["media"].values(), *answered["files"].values()]
    taken_at = max(moment(row[name]) for row in rows for name in ("created_at", "updated_at") if name in row)
    shift = datetime.now(UTC) - taken_at
    dsn = dsn_of(base_settings, "filled")
    await on_server(base_settings, "CREATE DATABASE filled")
    connection = await asyncpg.connect(dsn)
    await connection.execute(sql)
    await connection.execute(SHIFT.format(by=f"{shift.total_seconds():.6f} seconds"))
    await connection.execute(ADVANCE_TRANSACTION_ID)
    revision = await connection.fetchval("SELECT version_num FROM public.alembic_version")
    await connection.close()
    yield Filled(dsn, revision, sorted(set(re.findall(r"whsec_[\w+/=]+", sql))), answered, shift)
    await on_server(base_settings, "DROP DATABASE filled WITH (FORCE)")


@pytest.fixture
async def database(filled):
    await asyncio.to_thread(migrate, filled.dsn)
    return filled.dsn


@pytest.fixture
def settings(engines, database):
    return make_settings(
        engines,
        database_url=database,
        lease_seconds=2,
        allow_private_addresses=True,
        callback_url="https://fleek.example",
    )


@pytest.fixture
def registry():
    return accounts_and_route()


@pytest.fixture
async def runtime(settings):
    """Of the worker, with its own instances of the providers."""
    http_client = HttpClient(allow_private_addresses=True)
    async with open_runtime(settings, accounts_and_route(), http_client) as opened:
        yield opened


@pytest.fixture
async def deliverer(runtime, bell):
    bell.deliverer = build_deliverer(runtime, runtime.outgoing)
    runtime.db.on_change = change_publisher(runtime, bell.deliverer)
    await bell.deliverer.start()
    yield bell.deliverer
    await bell.deliverer.stop()


@pytest.fixture
def worker(deliverer, runner, runtime):
    """A running worker; its providers by name."""
    assert runner.in_flight == 0
    return runtime.registry.providers


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def differences(old: Any, new: Any, shift: timedelta, path: str = "") -> list[str]:
    """Where `new` differs from `old`, times shifted; fields that are only in `new` are no difference."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for name, value in old.items()
            if name not in CHANGES_WITH_TIME
            for difference in differences(
                value, new.get(name, "missing"), timedelta(0) if name in AS_SENT else shift, f"{path}/{name}"
            )
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = zip(old, new, strict=True)
        return [one for number, pair in enumerate(pairs) for one in differences(*pair, shift, f"{path}/{number}")]
    if isinstance(old, str) and isinstance(new, str) and MOMENT.fullmatch(old) and MOMENT.fullmatch(new):
        same = moment(old) + shift == moment(new)
    else:
        same = old == new
    return [] if same else [f"{path}: {old!r} became {new!r}"]


async def assert_unchanged(client, filled):
    found = await answers(client, filled.answers["media"])
    old = {kind: said for kind, said in filled.answers.items() if kind != "requests"}
    assert differences(old, found, filled.shift) == []


async def test_api_answers_are_the_same_after_the_upgrade(client, filled):
    await assert_unchanged(client, filled)


async def test_rows_survive_a_downgrade_and_another_upgrade(client, filled, database):
    await asyncio.to_thread(migrate, database, filled.revision, down=True)
    await asyncio.to_thread(migrate, database)

    await assert_unchanged(client, filled)


FINISHED_BY_A_WORKER = {
    "suspect": ["SUCCEEDED"],
    "dead worker, submitted": ["SUCCEEDED"],
    "dead worker, intended": ["SUCCEEDED"],
    "dead worker, rerouted": ["FAILED", "SUCCEEDED"],
    "stopped worker, submitted": ["SUCCEEDED"],
    "stopped worker, intended": ["SUCCEEDED"],
    "retry delayed": ["FAILED", "SUCCEEDED"],
    "due": ["SUCCEEDED"],
    "due, on a route": ["SUCCEEDED"],
    "due, with a deadline": ["SUCCEEDED"],
    "due, local": ["SUCCEEDED"],
    "circuit open": ["SUCCEEDED"],
}
"""With the statuses of their attempts afterwards."""
CANCELED_BY_A_WORKER = ("dead worker, cancel requested", "stopped worker, cancel requested")
PAUSED = ("model paused", "provider paused")


async def statuses_of_attempts(client, media):
    return [attempt["status"] for attempt in await attempts_of(client, media)]


def submitted_to(worker):
    return [attempt_id for account in worker.values() for attempt_id in account.submitted]


def attempts_before(filled):
    return {UUID(one["id"]) for attempts in filled.answers["attempts"].values() for one in attempts}


async def test_worker_finishes_what_was_waiting_or_in_progress(client, filled, worker):
    done = {case: await client.until(filled.media(case), *FINAL) for case in FINISHED_BY_A_WORKER}
    canceled = [await client.until(filled.media(case), *FINAL) for case in CANCELED_BY_A_WORKER]

    assert {case: media["status"] for case, media in done.items()} == dict.fromkeys(done, "COMPLETED")
    assert {case: await statuses_of_attempts(client, media) for case, media in done.items()} == FINISHED_BY_A_WORKER
    assert [(media["status"], media["cancel"]["answer"]) for media in canceled] == [("CANCELED", "canceled")] * 2
    for case in PAUSED:
        assert differences(filled.media(case), await client.media(filled.media(case)), filled.shift) == []
    for media in done.values():
        assert [(await client.api.get(file["url"])).status_code for file in media["files"]] == [307]


async def test_open_attempts_are_not_submitted_a_second_time(client, filled, worker):
    in_progress = [
        case for case in FINISHED_BY_A_WORKER if filled.answers["attempts"][case] and case != "retry delayed"
    ]
    for case in in_progress:
        await client.until(filled.media(case), *FINAL)

    for case in in_progress:
        old = [attempt["id"] for attempt in filled.answers["attempts"][case]]
        assert [attempt["id"] for attempt in await attempts_of(client, filled.media(case))] == old, case
    submitted = submitted_to(worker)
    assert len(submitted) == len(set(submitted))
    assert attempts_before(filled).isdisjoint(submitted)


async def test_final_media_stay_as_they_were_but_for_a_late_result(client, filled, worker):
    late = filled.media("deadline, still running")
    stored = await eventually(lambda: client.media(late), lambda media: media["files"])
    await client.until(filled.media("suspect"), *FINAL)

    assert (stored["status"], await statuses_of_attempts(client, late)) == ("ERROR", ["SUCCEEDED"])
    for case, media in filled.answers["media"].items():
        if media["status"] in FINAL and media["id"] != late["id"]:
            assert differences(media, await client.media(media), filled.shift) == [], case


RETRIED = {
    "input refused": ("COMPLETED", ["FAILED", "SUCCEEDED"]),
    "generation failed": ("COMPLETED", ["FAILED", "SUCCEEDED"]),
    "retries exhausted": ("ERROR", ["FAILED"] * 6),
    "invalid output": ("ERROR", ["FAILED"]),
    "outcome unknown, held": ("COMPLETED", ["UNKNOWN", "SUCCEEDED"]),
    "outcome unknown, failed": ("COMPLETED", ["UNKNOWN", "SUCCEEDED"]),
    "deadline, stopped at the provider": ("ERROR", ["CANCELED", "CANCELED"]),
    "deadline, still running": ("COMPLETED", ["SUCCEEDED"]),
    "deadline, late result stored": ("COMPLETED", ["SUCCEEDED"]),
    "no credit": ("COMPLETED", ["FAILED", "SUCCEEDED"]),
    "worker lost": ("COMPLETED", ["SUCCEEDED"]),
}
"""Status of the media after a retry by its owner, and of all its attempts."""


async def test_owner_can_retry_what_failed_before(client, filled, worker):
    for case in RETRIED:
        answer = await client.api.post(f"/media/{filled.media(case)['id']}/retry")
        assert answer.status_code == 202, answer.text

    for case, (status, attempts) in RETRIED.items():
        media = await client.until(filled.media(case), *FINAL)
        assert (case, media["status"]) == (case, status)
        await eventually(
            lambda media=media: statuses_of_attempts(client, media), lambda found, wanted=attempts: found == wanted
        )
    assert attempts_before(filled).isdisjoint(submitted_to(worker))


async def test_paused_model_and_provider_can_be_resumed(client, filled, worker, settings, tmp_path):
    for name in ("gallery/painter", "resting"):
        await fleek(settings, tmp_path, "jobs", "resume", name)

    assert [(await client.until(filled.media(case), *FINAL))["status"] for case in PAUSED] == ["COMPLETED"] * 2


async def test_idempotency_keys_still_join_the_first_request(client, filled):
    for case, request in filled.answers["requests"].items():
        headers = {"idempotency-key": request["key"]}
        answer = await client.api.post("/media/generate", json=request["body"], headers=headers)
        assert (answer.status_code, answer.json()["id"]) == (202, filled.media(case)["id"])
        other = await client.api.post("/media/generate", json={**request["body"], "prompt": "other"}, headers=headers)
        assert other.status_code == 422

    listed = (await client.api.get("/media", params={"limit": 100})).json()["items"]
    assert len(listed) == len(filled.answers["media"])


async def test_pending_webhook_deliveries_go_out_signed(client, filled, worker, receiver):
    paused, broken = filled.webhook("/paused"), filled.webhook("/broken")
    pending = {one["id"] for one in filled.answers["deliveries"].values() if one["status"] == "pending"}
    for webhook in (paused, broken):
        # Once active again, it receives its pending deliveries at once.
        for status in ("paused", "active"):
            answer = await client.api.patch(f"/webhooks/{webhook['id']}", json={"status": status})
            assert answer.status_code == 200, answer.text
    await client.until(filled.media("due"), "COMPLETED")

    await eventually(lambda: asyncio.sleep(0, {got.id for got in receiver.got}), pending.issubset)
    own = await eventually(
        lambda: asyncio.sleep(0, [got.payload["type"] for got in receiver.got if got.path == "/request?order=18"]),
        lambda types: len(types) == 2,
    )
    assert sorted(own) == ["media.completed", "media.queued"]
    for got in receiver.got:
        assert any(verifies(secret, got) for secret in filled.secrets), got.path
    for webhook in (paused, broken):
        path = f"/webhooks/{webhook['id']}/deliveries"
        await eventually(
            lambda path=path: client.api.get(path),
            lambda answer: {one["status"] for one in answer.json()["items"]} == {"delivered"},
        )
    assert not [got for got in receiver.got if got.path == "/gone"]


def verifies(secret, got):
    try:
        Webhook(secret).verify(got.body, got.headers)
    except WebhookVerificationError:
        return False
    return True


async def test_delivery_of_the_old_version_can_be_replayed(client, filled, worker, receiver):
    path = f"/webhooks/{filled.webhook('/ok')['id']}/deliveries"
    one = next(one for one in filled.answers["deliveries"].values() if one["url"].endswith("/ok"))

    answer = await client.api.post(f"{path}/{one['id']}/replay")
    got = await eventually(lambda: asyncio.sleep(0, [got for got in receiver.got if got.id == one["id"]]))

    assert answer.status_code == 202, answer.text
    assert got[0].payload == one["payload"]


async def test_callbacks_are_checked_with_the_stored_key(client, filled):
    (attempt,) = filled.answers["attempts"]["stopped worker, intended"]

    async def call(given):
        path = f"/media/callbacks/gallery/{attempt['id']}"
        return (await client.api.post(path, content=b"done", headers={"x-signature": given})).status_code

    assert (await call(signature(b"done")), await call(signature(b"done", "another"))) == (204, 401)


async def test_metrics_are_served(client, filled):
    answer = await client.api.get("/tools/metrics")

    assert answer.status_code == 200
    assert "fleek_" in answer.text


async def test_event_stream_replays_the_old_events(client, filled):
    async with asyncio.timeout(30):
        answer = await client.api.get(f"/media/{filled.media('second attempt')['id']}/events")

    data = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    states = [one["type"] for one in data if "type" in one]
    assert states == ["media.queued", "media.started", "media.retry", "media.started", "media.completed"]
    logged = [line["event"] for line in filled.answers["logs"]["second attempt"]]
    assert [one["event"] for one in data if one.get("event") in logged] == logged
