"""The recorder of a media item's log events: bounded, and undisturbed by rows that the database refuses."""

import asyncio

from app.core.database.pool import DatabasePool
from app.core.ids import new_id
from app.logs.recorder import MOST, Recorder


async def test_full_recorder_counts_the_events_it_drops(settings):
    recorder = Recorder(DatabasePool("postgresql://127.0.0.1:9/x", size=1))

    for number in range(MOST + 7):
        recorder.record({"event": "e", "number": number})

    assert recorder.dropped == 7


async def test_event_refused_by_the_database_does_not_stop_the_recorder(db):
    recorder = Recorder(db)
    recorder.start()
    good = {"timestamp": "2026-01-01T00:00:00Z", "level": "info", "event": "good", "media_id": str(new_id())}
    recorder.record({"event": "no media"})
    recorder.record({**good, "event": "bad\x00name"})
    await asyncio.sleep(0.6)
    recorder.record({**good, "text": "a\x00b", "odd": object()})
    await recorder.stop()

    rows = await db.fetch("SELECT event, fields->>'text' AS text FROM logs")
    assert [tuple(row) for row in rows] == [("good", "ab")]
