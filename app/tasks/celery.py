"""The Celery application: `celery -A app.tasks.celery worker`.

Celery runs the processes; the jobs are rows. Its messages are wake-up signals and small maintenance tasks, all
idempotent, none with an ETA or a countdown. A worker starts and keeps working while the broker is down.
"""

from typing import Any

from celery import Celery
from celery.signals import setup_logging

from app.core.bell import WEBHOOKS
from app.core.telemetry.log_stream import protect_standard_streams
from app.core.telemetry.logging import set_up_logging
from app.tasks.broker import MAINTENANCE, TRANSPORT, bell_queue, settings

app = Celery("fleek", broker=settings.broker_dsn)
app.conf.update(
    task_queues=[MAINTENANCE, bell_queue("network"), bell_queue("local"), bell_queue(WEBHOOKS)],
    task_default_queue=MAINTENANCE.name,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    enable_utc=True,
    imports=["app.tasks.maintenance_tasks"],
    # The runner keeps the jobs in flight; the pool is for maintenance tasks, and threads share its memory.
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
    broker_transport_options=dict(TRANSPORT),
    task_publish_retry=False,
)
# By name: whoever only inspects this application loads nothing of a worker.
app.steps["worker"].add("app.tasks.worker:RunnerStep")


@setup_logging.connect(weak=False)
def _set_up_logging(**_arguments: Any) -> None:
    protect_standard_streams()
    set_up_logging(level=settings.log_level)
