"""What every operation keeps, whoever parses its request."""

import asyncio
from typing import Annotated

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI, Query, Request
from starlette.responses import Response, StreamingResponse

from app.core.database.pool import CONNECTION_LOST, DatabasePool
from app.core.http_server.hot_route import HotPaths, HotRoute
from app.core.http_server.problems import add_problem_answers, explain
from app.core.http_server.route import Route


def api_of(route_class, handle, *methods):
    """A client of an application with one route."""
    app = FastAPI()
    add_problem_answers(app)
    app.router.add_api_route("/", handle, methods=list(methods), route_class_override=route_class)
    app.add_middleware(HotPaths, routes=app.routes, explain=explain)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize("route_class", [Route, HotRoute])
@pytest.mark.parametrize(("method", "status", "times"), [("GET", 200, 2), ("HEAD", 200, 2), ("POST", 503, 1)])
async def test_only_a_read_is_done_again_when_its_connection_ends_under_it(
    settings, route_class, method, status, times
):
    pool, calls = DatabasePool(settings.database_dsn, size=2), []

    async def handle(request: Request) -> Response:
        calls.append(request.method)
        await pool.fetch("SELECT pg_terminate_backend(pg_backend_pid())" if len(calls) == 1 else "SELECT 1")
        return Response()

    async with api_of(route_class, handle, "GET", "POST") as api:
        answer = await api.request(method, "/")
    await pool.close()

    assert (answer.status_code, len(calls)) == (status, times)


async def test_a_read_is_done_again_only_once(settings):
    pool, calls = DatabasePool(settings.database_dsn, size=2), []

    async def handle(request: Request) -> Response:
        calls.append(request.method)
        await pool.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
        return Response()

    async with api_of(HotRoute, handle, "GET") as api:
        answer = await api.get("/")
    await pool.close()

    assert (answer.status_code, len(calls)) == (503, 2)


@pytest.mark.parametrize("route_class", [Route, HotRoute])
async def test_parameter_under_another_name_is_known_by_that_name(route_class):
    async def handle(request: Request, kind: Annotated[str, Query(alias="type")] = "any") -> Response:
        return Response(kind)

    async with api_of(route_class, handle, "GET") as api:
        assert (await api.get("/?type=one")).text == "one"
        wrong = (await api.get("/?kind=one")).json()

    assert wrong["errors"][0]["allowed"] == ["type"]


def test_errors_after_which_a_read_is_repeated_are_those_of_an_ended_connection():
    assert issubclass(asyncpg.ConnectionDoesNotExistError, CONNECTION_LOST)
    for other in (asyncio.TimeoutError, ConnectionRefusedError, asyncpg.TooManyConnectionsError):
        assert not issubclass(other, CONNECTION_LOST)


@pytest.mark.parametrize("route_class", [Route, HotRoute])
@pytest.mark.parametrize(("method", "read"), [("GET", 3), ("HEAD", 0)])
async def test_head_reads_nothing_of_what_would_be_streamed(route_class, method, read):
    reads = []

    async def body():
        for _ in range(3):
            reads.append(1)
            yield b"a"

    async def handle(request: Request) -> StreamingResponse:
        return StreamingResponse(body(), headers={"x-kind": "stream"})

    async with api_of(route_class, handle, "GET") as api:
        answer = await api.request(method, "/")

    assert (answer.status_code, answer.headers["x-kind"], len(reads)) == (200, "stream", read)
