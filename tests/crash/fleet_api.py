"""The product's API, with a place to die in: `uvicorn tests.crash.fleet_api:app`."""

import os

from app.main import app
from tests.crash import points

__all__ = ["app"]

points.arm(os.environ)
