"""The product's Celery application, as a process of the fleet: `celery -A tests.crash.fleet_worker worker`."""

import os

from app.tasks.celery import app
from tests.crash import process_setup

__all__ = ["app"]

process_setup.arrange(os.environ)
