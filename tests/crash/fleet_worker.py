"""The product's Celery application, with a place to die in: `celery -A tests.crash.fleet_worker worker`."""

import os

from app.tasks.celery import app
from tests.crash import points

__all__ = ["app"]

points.arm(os.environ)
