"""Celery's broker as others of ours meet it: what it raises, and whether it answers."""

import contextlib
from typing import Final

from kombu.exceptions import KombuError

from app.tasks.celery import app

_connection = app.connection_for_write()
BROKER_ERRORS: Final[tuple[type[BaseException], ...]] = (
    *_connection.connection_errors,
    *_connection.channel_errors,
    KombuError,
    OSError,
)
"""What a broker that is away, slow or unwilling raises; each transport has exceptions of its own."""


def reach() -> None:
    """Connect and open a channel; blocks, within the time-outs of `broker_transport_options`.

    Raises:
        ConnectionError: There is no answer, or a refusal.
    """
    broker = app.connection_for_write()
    try:
        broker.connect()
        broker.channel()
    except BROKER_ERRORS as error:
        raise ConnectionError(str(error)) from error
    finally:
        with contextlib.suppress(*BROKER_ERRORS):
            broker.release()
