"""Health checks and metrics, for load balancers and for people."""

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse, Response

from app.core.errors import UnavailableError
from app.core.http_server.problems import problems
from app.core.http_server.route import TolerantRoute
from app.runtime import Runtime
from app.tools.checks import Check, check_all
from app.tools.exposition import CONTENT_TYPE
from app.tools.round_trip import round_trip

if TYPE_CHECKING:
    from app.tools.metrics import MetricsPage

# Load balancers and scrapers may add parameters of their own.
router = APIRouter(prefix="/tools", tags=["tools"], route_class=TolerantRoute)


REPORTED_ONLY: Final = frozenset({"providers", "workers", "clock"})
"""What may be wrong while the API is ready: others keep working, and the database's clock is used."""


class NotReadyError(UnavailableError):
    """A part of the service does not respond."""

    code = "not_ready"
    title = "Not ready"


class StatusOut(BaseModel):
    """The process is alive."""

    status: str = Field(examples=["ok"])
    name: str
    environment: str


class CheckOut(BaseModel):
    """The result of one check."""

    name: str = Field(examples=["database"])
    ok: bool
    detail: str
    hint: str


class ReadyOut(BaseModel):
    """Everything that the API needs responds."""

    status: str = Field(examples=["ready"])
    checks: list[CheckOut]


class CeleryStatusOut(BaseModel):
    """A worker replied to a task."""

    status: str = Field(examples=["ok"])
    round_trip_milliseconds: float


async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


def _out(check: Check) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "detail": check.detail, "hint": check.hint}


@router.get("/status", summary="Is the process alive?")
async def status(runtime: RuntimeDep) -> StatusOut:
    """Checks nothing but the process itself."""
    return StatusOut(status="ok", name=runtime.settings.project_name, environment=runtime.settings.environment)


@router.get("/ready", response_model=ReadyOut, responses=problems(503), summary="Is it ready?")
async def ready(runtime: RuntimeDep) -> dict[str, Any]:
    """Checks database, migrations, broker, clock, workers, store and providers; 503 names what is wrong."""
    checks = await check_all(runtime)
    wrong = [check for check in checks if not check.ok and check.name not in REPORTED_ONLY]
    if wrong:
        detail = "; ".join(f"{check.name}: {check.detail}" for check in wrong)
        raise NotReadyError(detail, checks=[_out(check) for check in checks])
    return {"status": "ready", "checks": [_out(check) for check in checks]}


@router.get("/celery_status", responses=problems(503), summary="Does a worker reply?")
async def celery_status(runtime: RuntimeDep) -> CeleryStatusOut:
    """Sends a task through broker and worker and waits for its reply, five seconds at most."""
    trip = await round_trip(runtime)
    return CeleryStatusOut(status="ok", round_trip_milliseconds=trip.milliseconds)


@router.get("/metrics", response_class=PlainTextResponse, summary="Metrics for Prometheus")
async def read_metrics(request: Request) -> Response:
    """Queues, durations, errors and costs over all processes, in Prometheus' text format."""
    page: MetricsPage = request.app.state.metrics
    return Response(await page.read(), headers={"content-type": CONTENT_TYPE})
