"""The broker: its queues, and Celery messages without Celery.

The API only sends. Celery needs 4 MiB and reads more than a hundred settings for that; a message is a few lines of
kombu, in a format that Celery keeps stable for senders in other languages.

Source: Celery, Message Protocol, version 2.
"""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from kombu import Connection, Producer, Queue
from kombu.exceptions import KombuError

from app.core.config import AMQP_SCHEMES
from app.core.ids import new_id
from app.core.load_settings import settings_or_exit

BELL_TASK: Final = "fleek.bell"
BELL_HEADER: Final = "fleek_queue"
"""The message header that names the queue of jobs."""
PING_TASK: Final = "fleek.ping"
CONNECT_SECONDS: Final = 4

settings = settings_or_exit()
on_rabbitmq: Final = settings.broker_dsn.startswith(AMQP_SCHEMES)
TRANSPORT: Final[Mapping[str, Any]] = (
    {"connect_timeout": 3, "read_timeout": 5, "write_timeout": 5}
    if on_rabbitmq
    else {"socket_connect_timeout": 3, "socket_timeout": 5, "socket_keepalive": True}
)
# On RabbitMQ quorum queues: the only replicated kind that version 4 has.
_KIND: Final = {"x-queue-type": "quorum"} if on_rabbitmq else None
MAINTENANCE: Final = Queue("fleek", routing_key="fleek", queue_arguments=_KIND)
"""The queue of all tasks but the wake-up signals."""


def bell_queue(queue: str) -> Queue:
    """The Celery queue for the wake-up signals of one queue of jobs."""
    name = f"fleek.bell.{queue}"
    # A lost signal costs a second; acknowledging each doubles the work.
    return Queue(name, routing_key=name, no_ack=True, queue_arguments=_KIND)


def connection() -> Connection:
    """A connection to the broker, not opened yet."""
    return Connection(settings.broker_dsn, connect_timeout=CONNECT_SECONDS, transport_options=dict(TRANSPORT))


_connection = connection()
BROKER_ERRORS: Final[tuple[type[BaseException], ...]] = (
    *_connection.connection_errors,
    *_connection.channel_errors,
    KombuError,
    OSError,
)
"""Raised for a broker that is down, slow or refusing; each transport has its own exceptions."""


def reach() -> None:
    """Connect and open a channel; blocks, within the time-outs of `TRANSPORT`.

    Raises:
        ConnectionError: The broker does not respond, or refuses.
    """
    broker = connection()
    try:
        broker.connect()
        broker.channel()
    except BROKER_ERRORS as error:
        raise ConnectionError(str(error)) from error
    finally:
        with contextlib.suppress(*BROKER_ERRORS):
            broker.release()


def send(
    channel: Any,
    queue: Queue,
    task: str,
    arguments: Sequence[Any] = (),
    *,
    headers: Mapping[str, str] | None = None,
    expires: datetime | None = None,
) -> None:
    """Send the message of one task, which is not run after `expires`; `queue` must exist."""
    task_id = str(new_id())
    message_headers = {
        "lang": "py",
        "task": task,
        "id": task_id,
        "root_id": task_id,
        "retries": 0,
        "timelimit": [None, None],
        "ignore_result": True,
        "expires": None if expires is None else expires.isoformat(),
        **dict.fromkeys(("parent_id", "group", "eta", "shadow")),
        **(headers or {}),
    }
    embedded = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    # To the default exchange, which routes to the queue of that name.
    Producer(channel).publish(
        (list(arguments), {}, embedded),
        routing_key=queue.name,
        serializer="json",
        correlation_id=task_id,
        headers=message_headers,
    )
