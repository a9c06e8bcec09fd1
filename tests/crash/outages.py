"""What happens to engines: killed, restarted, frozen, for as long as it takes to be noticed."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.embedded.engine import Engine
from app.embedded.process import port_is_usable
from tests.crash.fleet import PATIENCE_SECONDS, until


@asynccontextmanager
async def away(engine: Engine, *, politely: bool = False, empty: bool = False) -> AsyncGenerator[None]:
    """An engine that is gone inside the block, and back at the same address behind it.

    Args:
        engine: Runs now.
        politely: Stopped as an operator would; otherwise killed.
        empty: It comes back without its data.
    """
    port = engine.port
    if politely:
        await asyncio.to_thread(engine.stop)
    else:
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: not engine.alive)
    try:
        yield
    finally:
        if empty:
            shutil.rmtree(engine.data / "data")
        # Its children may take a moment longer to leave; on another port nobody would find it.
        await until(lambda: port_is_usable(port, twin=engine.twins), seconds=PATIENCE_SECONDS)
        engine.launch()
        await asyncio.to_thread(engine.await_ready)
        assert engine.port == port, f"{engine.name} came back elsewhere"


@asynccontextmanager
async def frozen(engine: Engine) -> AsyncGenerator[None]:
    """An engine that takes connections and answers nothing inside the block."""
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(engine.pid, signal.SIGCONT)
