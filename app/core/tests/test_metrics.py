"""Counters and histograms of one process: buckets, bounded series, threads."""

import asyncio

from app.core.telemetry.metrics import MAX_SERIES, MICRO, Counter, Histogram


def test_histogram_bucket_bounds_are_inclusive():
    histogram = Histogram("fleek_test_seconds", "Of this test.", ("kind",), (0.1, 1.0))
    for value in (-5, 0.1, 0.11, 1.0, 99):
        histogram.observe(value, "a")

    assert histogram.take() == {
        '["fleek_test_seconds","a","0.1"]': 2,
        '["fleek_test_seconds","a","1.0"]': 2,
        '["fleek_test_seconds","a","+Inf"]': 1,
        '["fleek_test_seconds","a","sum"]': round((0.1 + 0.11 + 1.0 + 99) * MICRO),
    }
    assert histogram.take() == {}


def test_number_of_series_is_bounded():
    counter = Counter("fleek_test", "Of this test.", ("who",))
    for number in range(MAX_SERIES + 50):
        counter.add(str(number))
    counter.add("0")

    taken = counter.take()

    assert len(taken) == MAX_SERIES + 1
    assert (taken['["fleek_test","other",""]'], taken['["fleek_test","0",""]']) == (50, 2)


async def test_no_count_is_lost_between_threads():
    counter = Counter("fleek_test", "Of this test.")
    taken = []

    def count():
        for _ in range(20_000):
            counter.add()

    counting = [asyncio.create_task(asyncio.to_thread(count)) for _ in range(4)]
    while not all(task.done() for task in counting):
        taken += counter.take().values()
        await asyncio.sleep(0)
    taken += counter.take().values()

    assert sum(taken) == 80_000
