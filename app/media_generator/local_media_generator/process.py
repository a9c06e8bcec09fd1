"""The worker's side of a compute process: started on demand, one order at a time, replaced when it dies.

Its libraries (onnxruntime, torch) are never loaded into the worker, and a crash loses nothing: the current order is
started again.
"""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from app.media_generator.errors import ContentStoppedError, GenerationFailedError
from app.media_generator.local_media_generator.messages import (
    LENGTH_BYTES,
    READ_FROM,
    Completed,
    FromProcess,
    Order,
    OrderFailed,
    Progress,
    Stop,
    ToProcess,
    frame,
)

STOP_SECONDS: Final = 10.0
"""How long a process may take to cancel an order, before it is killed."""
MAX_DEATHS: Final = 3
"""How many processes may die of one order: retries cost nothing, but other orders must not wait forever."""
_SYSTEM_VARIABLES: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_",
    "TMP",
    "TEMP",
    "PYTHON",
    "VIRTUAL_ENV",
    "XDG_",
    "LD_",
    "SYSTEMROOT",
)
_LIBRARY_VARIABLES: Final = ("CUDA", "NVIDIA", "HIP_", "ROC", "HF_", "TORCH", "PYTORCH", "OMP_", "MKL_", "ORT_")

log = structlog.get_logger(__name__)


class _Died(Exception):  # noqa: N818 - never leaves this module
    """The process is gone."""


class _Child:
    """A running process and the state of its message stream."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._size: int | None = None
        """Of the frame that is being read: a read may be canceled between its two parts."""

    async def send(self, message: ToProcess) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._process.stdin.write(frame(message))
            await self._process.stdin.drain()
        except OSError as error:
            raise _Died from error

    async def receive(self) -> FromProcess:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            if self._size is None:
                self._size = int.from_bytes(await self._process.stdout.readexactly(LENGTH_BYTES), "big")
            body = await self._process.stdout.readexactly(self._size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise _Died from error
        self._size = None
        message: FromProcess = READ_FROM.decode(body)
        return message

    async def end(self) -> int:
        """Kill it, unless it is dead; return its exit code."""
        if self._process.returncode is None:
            # Not through asyncio: it would reap the exit code here, and its own child watcher would then find none.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        return await self._process.wait()

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid


class ComputeProcess:
    """One model's process, and the queue for it."""

    def __init__(self, module: str, arguments: Sequence[str] = (), *, idle_seconds: float) -> None:
        """See `ComputeProcess`; starts nothing yet.

        Args:
            module: Run with `python -m`; it ends in `serve`.
            arguments: Of its command line.
            idle_seconds: Time without orders after which the process ends, to free its memory.
        """
        self._command = (sys.executable, "-m", module, *arguments)
        self._idle_seconds = idle_seconds
        self._turn = asyncio.Lock()
        self._child: _Child | None = None
        self._last_code = 0
        """Exit code of the last process."""
        self._idle: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None: none is running."""
        return self._child.pid if self._child is not None else None

    async def make(self, order: Order, report: Callable[[float], None]) -> bytes:
        """The file of an order, when it is its turn. If the caller is canceled, so is the order; the process stays.

        Raises:
            GenerationFailedError: The model failed, or its process died repeatedly.
        """
        async with self._turn:
            self._schedule_idle_end(None)
            try:
                return await self._make_with_restarts(order, report)
            finally:
                self._schedule_idle_end(self._idle_seconds)

    async def _make_with_restarts(self, order: Order, report: Callable[[float], None]) -> bytes:
        """Process an order, with a new process after each death."""
        # An idle process may have died of something else, which is noticed only on the next message.
        left = MAX_DEATHS if self._child is None else MAX_DEATHS + 1
        while True:
            try:
                return await self._try(order, report)
            except _Died:
                left -= 1
                if left == 0:
                    raise GenerationFailedError(_death_message(self._last_code)) from None
                report(0)

    async def _try(self, order: Order, report: Callable[[float], None]) -> bytes:
        """Process an order in one process.

        Raises:
            _Died: The process died; its progress is lost.
        """
        child = self._child = await self._running()
        try:
            return await _answer(child, order, report)
        except _Died:
            self._last_code = await self._end()
            log.warning("compute_process_died", command=self._command[2], exit_code=self._last_code)
            raise
        except asyncio.CancelledError:
            await self._cancel_order(child)
            raise

    async def close(self) -> None:
        """End the process, whatever it is doing."""
        self._schedule_idle_end(None)
        await self._end()

    async def _running(self) -> _Child:
        if self._child is not None and self._child.alive:
            return self._child
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            env=_environment(os.environ),
            start_new_session=True,  # Ctrl-C in a terminal is for the worker, which then ends it
        )
        log.info("compute_process_started", command=self._command[2], pid=process.pid)
        return _Child(process)

    async def _cancel_order(self, child: _Child) -> None:
        canceled = False
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await child.send(Stop())
                while isinstance(await child.receive(), Progress):
                    pass
            canceled = True
        except (_Died, TimeoutError):
            pass
        finally:
            if not canceled:
                await self._end()

    async def _end(self) -> int:
        child, self._child = self._child, None
        return await child.end() if child is not None else 0

    def _schedule_idle_end(self, seconds: float | None) -> None:
        """Schedule the end of an idle process; None: cancel it, because there is an order."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.create_task(self._end_after(seconds)) if seconds is not None else None

    async def _end_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with self._turn:
            await self._end()


async def _answer(child: _Child, order: Order, report: Callable[[float], None]) -> bytes:
    await child.send(order)
    while True:
        match await child.receive():
            case Progress(share):
                report(share)
            case Completed(file):
                return file
            case OrderFailed(message, content):
                raise (ContentStoppedError if content else GenerationFailedError)(message)
            case _:
                raise GenerationFailedError("the order was canceled")


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """The variables that Python and the libraries need; none of our addresses and secrets."""
    passed_on = (*_SYSTEM_VARIABLES, *_LIBRARY_VARIABLES)
    return {name: value for name, value in given.items() if name.upper().startswith(passed_on)}


def _death_message(code: int) -> str:
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"the compute process died ({how}); the machine may be short of memory"
