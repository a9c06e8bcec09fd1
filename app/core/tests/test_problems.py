"""Each thing that a server can run out of is a problem of its own, with a code and without details."""

import errno

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from app.core.http_server.hot_route import HotPaths, HotRoute
from app.core.http_server.problems import add_problem_answers, explain

LACKING = {
    "disk_full": OSError(errno.ENOSPC, "No space left on device", "/var/secret/path"),
    "disk_full ": OSError(errno.EFBIG, "File too large"),
    "database_full": asyncpg.DiskFullError("could not extend file"),
    "too_many_open_files": OSError(errno.EMFILE, "Too many open files"),
    "out_of_memory": MemoryError(),
    "out_of_memory ": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "database_unavailable": ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"),
    "database_unavailable ": asyncpg.TooManyConnectionsError("too many clients"),
}


@pytest.mark.parametrize("hot", [True, False])
@pytest.mark.parametrize("code", sorted(LACKING))
async def test_what_is_lacking_has_its_own_code(hot, code):
    app = FastAPI()
    add_problem_answers(app)

    async def fail(request: Request) -> Response:
        raise LACKING[code]

    app.router.add_api_route("/", fail, route_class_override=HotRoute if hot else None)
    app.add_middleware(HotPaths, routes=app.routes, explain=explain)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/")

    assert (answer.status_code, answer.json()["code"]) == (503, code.strip())
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"]
    assert "secret" not in answer.text
