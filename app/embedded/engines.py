"""Engines that are started together, and the environment variables with their addresses."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from app.embedded.engine import Engine
from app.embedded.postgres import PostgresEngine
from app.embedded.seaweed import SeaweedEngine
from app.embedded.valkey import ValkeyEngine

POSTGRES: Final = "postgres"
VALKEY: Final = "valkey"
SEAWEED: Final = "seaweedfs"
ALL: Final = (POSTGRES, VALKEY, SEAWEED)


class Engines:
    """Starts the chosen engines at the same time and stops them; a context manager."""

    def __init__(self, data: Path, *, only: Iterable[str] = ALL, durable: bool = True) -> None:
        """Choose engines; nothing is started yet.

        Args:
            data: The folder in which each engine has its own.
            only: The engines to run, of `ALL`.
            durable: Whether acknowledged data must survive a crash; False is faster.
        """
        chosen = frozenset(only)
        if unknown := chosen.difference(ALL):
            raise ValueError(f"unknown engines: {', '.join(sorted(unknown))}")
        self.postgres = PostgresEngine(data / POSTGRES, durable=durable) if POSTGRES in chosen else None
        self.valkey = ValkeyEngine(data / VALKEY, durable=durable) if VALKEY in chosen else None
        self.seaweed = SeaweedEngine(data / SEAWEED, durable=durable) if SEAWEED in chosen else None

    @property
    def chosen(self) -> list[Engine]:
        """The chosen engines, the slowest to start first."""
        return [engine for engine in (self.seaweed, self.valkey, self.postgres) if engine is not None]

    def start(self) -> None:
        """Start all; if one fails, stop the others and raise its error."""
        try:
            for engine in self.chosen:
                engine.launch()
            for engine in self.chosen:
                engine.await_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout: float = 10.0) -> None:
        """Stop all at the same time; those that need more than `timeout` seconds are killed."""
        deadline = time.monotonic() + timeout
        for engine in self.chosen:
            engine.request_stop()
        for engine in self.chosen:
            engine.stop(max(0.0, deadline - time.monotonic()))

    def environment(self) -> dict[str, str]:
        """Addresses and keys of the started engines, by variable."""
        variables: dict[str, str] = {}
        if self.postgres is not None:
            variables["DATABASE_URL"] = self.postgres.dsn
        if self.valkey is not None:
            variables["REDIS_URL"] = self.valkey.url
        if self.seaweed is not None:
            variables |= {
                "S3_ENDPOINT_URL": self.seaweed.endpoint_url,
                "S3_PUBLIC_URL": self.seaweed.endpoint_url,
                "AWS_ACCESS_KEY_ID": self.seaweed.access_key_id,
                "AWS_SECRET_ACCESS_KEY": self.seaweed.secret_access_key,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        return variables

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
