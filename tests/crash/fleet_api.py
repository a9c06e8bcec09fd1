"""The product's API, as a process of the fleet: `uvicorn tests.crash.fleet_api:app`."""

import os

from app.main import app
from tests.crash import process_setup

__all__ = ["app"]

process_setup.arrange(os.environ)
