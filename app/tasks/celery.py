"""The Celery application: `celery -A app.tasks.celery worker`.

Celery runs the fleet; the jobs are rows. Its messages are bells and small chores, all of them idempotent, none
with an ETA or a countdown. A worker starts, and goes on working, while the broker is away.
"""

from typing import Any, Final

from celery import Celery
from celery.signals import setup_logging
from kombu import Queue

from app.core.bell import WEBHOOKS
from app.core.config import AMQP_SCHEMES, settings_or_exit
from app.core.logging import set_up_logging

BELL_TASK: Final = "fleek.bell"
BELL_HEADER: Final = "fleek_queue"
"""The message header that names the queue of jobs."""
CHORES: Final = "fleek"
"""The queue of everything that is no bell."""

settings = settings_or_exit()
on_rabbitmq: Final = settings.broker_dsn.startswith(AMQP_SCHEMES)
# On RabbitMQ quorum queues: they live on several nodes, and 4 has no other kind that does.
_KIND: Final = {"x-queue-type": "quorum"} if on_rabbitmq else None


def bell_queue(queue: str) -> Queue:
    """The Celery queue on which the bell of one queue of jobs rings."""
    name = f"fleek.bell.{queue}"
    # A lost bell costs a second; acknowledging each costs twice the work.
    return Queue(name, routing_key=name, no_ack=True, queue_arguments=_KIND)


app = Celery("fleek", broker=settings.broker_dsn)
app.conf.update(
    task_queues=[
        Queue(CHORES, routing_key=CHORES, queue_arguments=_KIND),
        bell_queue("network"),
        bell_queue("local"),
        bell_queue(WEBHOOKS),
    ],
    task_default_queue=CHORES,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    enable_utc=True,
    imports=["app.tasks.bell", "app.tasks.chores"],
    # The runner keeps the jobs in flight; the pool is for chores, and threads share its memory.
    worker_pool="threads",
    worker_concurrency=4,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    worker_hijack_root_logger=False,
    worker_soft_shutdown_timeout=settings.shutdown_seconds,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_heartbeat=20,
    broker_transport_options={"connect_timeout": 3, "read_timeout": 5, "write_timeout": 5}
    if on_rabbitmq
    else {"socket_connect_timeout": 3, "socket_timeout": 5, "socket_keepalive": True},
    task_publish_retry=False,
)
# By name: the API rings the bell of this application and loads nothing of a worker.
app.steps["worker"].add("app.tasks.worker:RunnerStep")


@setup_logging.connect(weak=False)
def _log_our_way(**_arguments: Any) -> None:
    set_up_logging(level=settings.log_level)
