"""Libraries that a process must not load: each costs memory or start-up time."""

import subprocess
import sys

from tests.support import ROOT


def test_api_process_loads_no_worker_library():
    parts = ("celery", "numpy", "PIL", "aiohttp", "sqlalchemy", "av", "puremagic")
    script = f"import sys, app.main; print([name for name in {parts} if name in sys.modules])"

    seen = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert seen.stdout.strip() == "[]"


def test_api_process_loads_what_reads_marks_with_the_first_check():
    parts = ("app.provenance.containers", "app.provenance.manifests", "app.jobs.outputs", "xml.parsers.expat")
    script = f"import sys, app.main; print([name for name in {parts} if name in sys.modules])"

    seen = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert seen.stdout.strip() == "[]"


def test_api_types_of_the_http_client_do_not_load_aiohttp():
    modules = "app.main, app.core.http_client.protocol, app.core.http_client.addresses"
    check = f"import sys, {modules}; sys.exit('aiohttp' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def test_without_an_endpoint_no_telemetry_library_is_loaded():
    # The API package itself comes with FastAPI.
    parts = (
        "app.core.telemetry.otel",
        "opentelemetry.sdk",
        "opentelemetry.exporter",
        "opentelemetry.proto",
        "sentry_sdk",
    )
    script = f"import sys, app.main, app.tasks.worker; print([name for name in {parts} if name in sys.modules])"

    seen = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert seen.stdout.strip() == "[]"
