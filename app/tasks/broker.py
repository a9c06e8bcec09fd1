"""The broker: its queues, and Celery's own messages without Celery.

The API only sends. Celery takes 4 MiB and reads more than a hundred settings for that; a message is a few lines of
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
# On RabbitMQ quorum queues: they live on several nodes, and 4 has no other kind that does.
_KIND: Final = {"x-queue-type": "quorum"} if on_rabbitmq else None
CHORES: Final = Queue("fleek", routing_key="fleek", queue_arguments=_KIND)
"""The queue of everything that is no bell."""


def bell_queue(queue: str) -> Queue:
    """The Celery queue on which the bell of one queue of jobs rings."""
    name = f"fleek.bell.{queue}"
    # A lost bell costs a second; acknowledging each costs twice the work.
    return Queue(name, routing_key=name, no_ack=True, queue_arguments=_KIND)


def connection() -> Connection:
    """A connection to the broker; nobody is called yet."""
    return Connection(settings.broker_dsn, connect_timeout=CONNECT_SECONDS, transport_options=dict(TRANSPORT))


_connection = connection()
BROKER_ERRORS: Final[tuple[type[BaseException], ...]] = (
    *_connection.connection_errors,
    *_connection.channel_errors,
    KombuError,
    OSError,
)
"""What a broker that is away, slow or unwilling raises; each transport has exceptions of its own."""


def reach() -> None:
    """Connect and open a channel; blocks, within the time-outs of `TRANSPORT`.

    Raises:
        ConnectionError: There is no answer, or a refusal.
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
    """Send the message of one task, which nobody runs after `expires`; `queue` is there already."""
    task_id = str(new_id())
    told = {
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
    # To the default exchange, which leads to the queue of that name.
    Producer(channel).publish(
        (list(arguments), {}, embedded),
        routing_key=queue.name,
        serializer="json",
        correlation_id=task_id,
        headers=told,
    )
