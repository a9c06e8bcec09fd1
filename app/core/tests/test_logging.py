"""What never appears in the log."""

import json
import subprocess
import sys

from tests.support import ROOT


def test_secrets_are_never_logged():
    program = """
import structlog
from app.core.telemetry.logging import set_up_logging
set_up_logging(level="INFO")
structlog.get_logger("x").info("called", api_token="abc", authorization="Bearer abc", url="u")
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    line = json.loads(run.stderr)
    assert (line["api_token"], line["authorization"], line["url"]) == ("***", "***", "u")
