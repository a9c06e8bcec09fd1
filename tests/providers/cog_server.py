"""Runs a real Cog server with a small predictor, as in every Cog container, without Docker."""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from app.core.this_machine import opener
from tests.support import Program

PREDICTOR = """
import tempfile
import time

from cog import BasePredictor, Input, Path
from PIL import Image


class Predictor(BasePredictor):
    def predict(
        self,
        prompt: str = Input(description="What to paint."),
        width: int = Input(default=64, ge=16, le=2048),
        count: int = Input(default=1, ge=1, le=4),
        delay: float = Input(default=0.0),
        fail: bool = Input(default=False),
    ) -> list[Path]:
        for step in range(1, 5):
            time.sleep(delay / 4)
            print(f"{step * 25}%|####      | {step}/4")
        if fail:
            raise ValueError("simulated failure")
        files = []
        for _ in range(count):
            file = tempfile.mkstemp(suffix=".png")[1]
            Image.effect_mandelbrot((width, width), (-2, -1.5, 1, 1.5), 50).save(file)
            files.append(Path(file))
        return files
"""
READY_SECONDS = 60


@contextmanager
def cog_server(folder: Path) -> Generator[str]:
    """The address of a server that ends with the block."""
    with cog_program(folder) as (address, _program):
        yield address


@contextmanager
def cog_program(folder: Path, *options: str, port: int = 0) -> Generator[tuple[str, Program]]:
    """Address and process of a server. Pass `port` to replace one that has just ended."""
    (folder / "predict.py").write_text(PREDICTOR)
    (folder / "cog.yaml").write_text('predict: "predict.py:Predictor"\n')
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
        port = free.getsockname()[1]
    environment = {
        # It starts its worker as `python` from the PATH.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COG_PREDICT_TYPE_STUB": "predict.py:Predictor",
        "PORT": str(port),
        "TMPDIR": tempfile.mkdtemp(dir=folder),
    }
    arguments = ("cog.server.http", "--host", "127.0.0.1", *options)
    with Program(*arguments, environment=environment, log=folder / "cog.log", folder=folder) as program:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + READY_SECONDS
        while not _ready(address):
            assert program.process.poll() is None, program.output
            assert time.monotonic() < deadline, program.output
            time.sleep(0.1)
        yield address, program


def _ready(address: str) -> bool:
    try:
        with opener(address).open(f"{address}/health-check", timeout=5) as answer:
            return b'"READY"' in answer.read()
    except OSError:
        return False
