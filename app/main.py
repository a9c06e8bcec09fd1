"""The API: `uvicorn app.main:app`."""

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.telemetry import TelemetryConfig
from starlette.types import Lifespan, Receive, Scope, Send

from app.core import process_memory
from app.core.bell import WEBHOOKS, Bell
from app.core.change_channel import CALLBACKS, REQUEST_BATCH_SECONDS, ChangeChannel
from app.core.config import Settings
from app.core.database.pool import Change, ChangeListener
from app.core.http_server.access_log import AccessLog
from app.core.http_server.allowed_hosts import AllowedHosts
from app.core.http_server.client_limit import ClientLimit
from app.core.http_server.docs_page import add_docs_page
from app.core.http_server.hot_route import HotPaths
from app.core.http_server.problems import DocumentedApp, add_problem_answers, explain
from app.core.http_server.request_guard import RequestGuard
from app.core.http_server.shutdown import on_stop_signal
from app.core.http_server.slow_heads import limit_heads
from app.core.load_settings import load_settings, settings_or_exit
from app.core.telemetry.logging import set_up_logging
from app.idempotency.keys import EXPIRES, REPLAYED
from app.jobs.callbacks.receiver import CallbackReceiver
from app.media.api import (
    callback_router,
    content_router,
    estimate_router,
    events_router,
    models_router,
    provenance_router,
    router,
    timeline_router,
    webhook_docs,
)
from app.media.api.dependencies import MediaDependencies
from app.media.events.batched_reads import BatchedReads
from app.media.events.payloads import Payloads
from app.media.events.subscriptions import Subscriptions
from app.media.provenance import ProvenanceCheck
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.tasks.bell import CeleryBell
from app.tools import router as tools_router
from app.tools.metrics import MetricsPage
from app.uploads.api import router as uploads_router
from app.webhooks.api import router as webhooks_router

DESCRIPTION = """Post a prompt, get a job, find the picture in your own bucket behind a URL that never dies.

`POST /media/generate` answers at once; poll `/media/status/{job_id}` until `status` is final; each file's
`url` leads to its bytes. Errors are `application/problem+json` with a stable `code`."""
TAGS: Final[list[dict[str, Any]]] = [
    {"name": name} for name in ("media", "models", "files", "events", "timeline", "webhooks", "callbacks", "tools")
]
"""Groups of operations in the order of the documentation; routes are ordered for matching."""
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own; ours is `tracing.py`. Both would record a request twice, and checking for it costs 3 %."""


class FleekApp(DocumentedApp):
    """The application; when it starts, it limits the time of request heads on its server."""

    head_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the start of the server, or one request."""
        if scope["type"] == "lifespan":
            limit_heads(receive, self.head_seconds)
        await super().__call__(scope, receive, send)


def _change_publisher(channel: ChangeChannel, bell: Bell) -> ChangeListener:
    def publish(changes: Collection[Change], *, deliveries_due: bool) -> None:
        channel.publish(changes)
        if deliveries_due:
            bell.ring(WEBHOOKS)

    return publish


def create_app(settings: Settings | None = None, bell: Bell | None = None, registry: Registry | None = None) -> FastAPI:
    """The application.

    Args:
        settings: None: from the environment.
        bell: What wakes workers; None: Celery.
        registry: The providers; None: those installed and configured.
    """
    chosen = settings or load_settings()
    hosts = AllowedHosts(chosen)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        set_up_logging(level=chosen.log_level)
        async with open_runtime(chosen, registry, process="api") as runtime:
            hosts.add(
                provider.callback_base for provider in runtime.registry.providers.values() if provider.callback_base
            )
            with nullcontext(bell) if bell is not None else CeleryBell() as waker:
                app.state.runtime = runtime
                app.state.bell = waker
                app.state.metrics = MetricsPage(runtime.db)
                subscriptions = Subscriptions(runtime.db, runtime.changes)
                reads = BatchedReads(runtime.db, Payloads(runtime.db, chosen.public_url))
                callbacks = CallbackReceiver(runtime.db, runtime.registry, ChangeChannel(runtime.cache, CALLBACKS))
                services = runtime.media_services(waker)
                app.state.media = MediaDependencies(
                    services,
                    chosen.public_url,
                    subscriptions,
                    reads,
                    callbacks,
                    chosen.max_output_bytes,
                    ProvenanceCheck(runtime.db, chosen.c2pa_trust_list),
                    ClientLimit(runtime.cache, "checks", chosen.provenance_checks_per_minute),
                )
                runtime.changes.batch_seconds = REQUEST_BATCH_SECONDS
                runtime.db.on_change = _change_publisher(runtime.changes, waker)
                subscriptions.start()
                on_stop_signal(subscriptions.leave)
                process_memory.trim()
                yield
                await subscriptions.stop()

    app = _application(chosen, lifespan)
    _add_routes(app, chosen, hosts)
    return app


def _application(chosen: Settings, lifespan: Lifespan[FastAPI]) -> FleekApp:
    """The application without routes."""
    app = FleekApp(
        title=chosen.project_name,
        version=version("fleek"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        webhooks=webhook_docs.webhooks,
        telemetry=_NO_TELEMETRY,
    )
    app.head_seconds = chosen.request_head_seconds
    add_problem_answers(app)
    add_docs_page(app)
    return app


def _add_routes(app: FastAPI, chosen: Settings, hosts: AllowedHosts) -> None:
    media = (
        callback_router,
        router,
        content_router,
        estimate_router,
        events_router,
        timeline_router,
        provenance_router,
        models_router,
    )
    for part in (*media, uploads_router, webhooks_router, tools_router):
        app.include_router(part.router)
    routes = [
        *callback_router.router.routes,
        *estimate_router.router.routes,
        *router.router.routes,
        *content_router.router.routes,
        *events_router.router.routes,
        *webhooks_router.router.routes,
        *uploads_router.router.routes,
    ]
    app.add_middleware(HotPaths, routes=routes, explain=explain)
    if chosen.backend_cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=chosen.backend_cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Location", "ETag", "Retry-After", "X-Request-ID", REPLAYED, EXPIRES],
        )
    app.add_middleware(RequestGuard, settings=chosen, hosts=hosts, explain=explain)
    app.add_middleware(AccessLog, lines=chosen.access_log)


app = create_app(settings_or_exit())
