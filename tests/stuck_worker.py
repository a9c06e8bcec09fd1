"""Runs a worker that claims once with success, and then waits for ever in its next claim; it still reports."""

import asyncio
import runpy
import sys

from app.jobs.worker.runner import Runner

_claim = Runner._claim


async def claim(self, queue, slots, limit):
    if self.in_flight:
        await asyncio.Event().wait()
    return await _claim(self, queue, slots, limit)


if __name__ == "__main__":
    Runner._claim = claim
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
