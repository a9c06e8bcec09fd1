"""Runs paintings in threads, so that the event loop never waits for arithmetic.

Nothing here must survive a crash: the same order gives the same pixels, so a lost file is painted again.
"""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from app.media_generator.dummy_media_generator.orders import Order

THREADS: Final = 2
"""Concurrent paintings; as many as a worker has local slots by default."""
KEPT: Final = 32
"""Finished paintings that are kept until they are fetched; the oldest is dropped first."""


class Work:
    """One order in progress or finished."""

    def __init__(self, order: Order, pool: ThreadPoolExecutor) -> None:
        self.progress = 0.0
        """0 to 1."""
        self.file = asyncio.get_running_loop().run_in_executor(pool, self._make, order)

    def _make(self, order: Order) -> bytes:
        # numpy and Pillow cost 10 MB: processes that never paint, such as the API, do not load them.
        from app.media_generator.dummy_media_generator.painter import encode, paint  # noqa: PLC0415

        file = encode(paint(order.painting, self._report), order.output_format)
        self.progress = 1.0
        return file

    def _report(self, share: float) -> None:
        self.progress = min(share, 0.99)


class Studio:
    """Accepts orders and keeps finished files until they are fetched."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="painter")
        self._works: OrderedDict[Order, Work] = OrderedDict()

    def work(self, order: Order) -> Work:
        """The work on an order, started now if it was not."""
        work = self._works.get(order)
        if work is None:
            work = self._works[order] = Work(order, self._pool)
            self._drop_oldest()
        return work

    async def fetch(self, order: Order) -> bytes:
        """The file of an order."""
        try:
            return await asyncio.shield(self.work(order).file)
        finally:
            self._works.pop(order, None)

    def close(self) -> None:
        """Start nothing more; paintings in progress are not awaited."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _drop_oldest(self) -> None:
        finished = [order for order, work in self._works.items() if work.file.done()]
        for order in finished[:-KEPT]:
            del self._works[order]
