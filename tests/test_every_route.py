"""Rules that every route keeps, also those that do not exist yet: walks over all of them."""

import re
from http import HTTPStatus

import httpx2
import pytest
from fastapi.routing import iter_route_contexts

from app.core.http_server.docs_page import ASSETS
from app.core.http_server.request_guard import SAFE_METHODS
from app.core.ids import new_id
from app.main import create_app
from app.media_generator.registry import Registry
from tests.calling_provider import CallingProvider
from tests.support import PUBLIC_URL

OTHERS = [("GET", f"{ASSETS}/swagger-ui.css"), ("GET", "/nothing"), ("POST", "/nothing"), ("OPTIONS", "/media")]
"""What no route of the application names."""
LONG = {"/media/events", "/tools/celery_status"}
"""They have no end, or wait for a worker: only the refusals are looked at."""
FOREIGN_PAGES = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:3000"},
    {"sec-fetch-site": "cross-site", "origin": PUBLIC_URL},
    {"origin": "https://evil.example"},
    {"origin": "http://api.test.evil.example"},
    {"origin": "http://api.test:81"},
    {"origin": "null"},
    {"origin": ""},
]
OUR_PAGES_AND_PROGRAMS = [
    {},
    {"sec-fetch-site": "same-origin", "origin": PUBLIC_URL},
    {"sec-fetch-site": "none"},
    {"origin": PUBLIC_URL},
    {"origin": "HTTPS://API.test"},
    {"sec-fetch-site": "cross-site", "origin": "https://friend.example"},
]


def operations(app):
    """Method and path of every operation, with an id that does not exist in place of each parameter."""
    found = {
        (method, re.sub(r"\{[^}]+\}", str(new_id()), route.path))
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
    }
    return sorted(found) + OTHERS


@pytest.fixture
async def api(api_of):
    return await api_of(None, backend_cors_origins=["https://friend.example"])


@pytest.fixture
def every(api):
    found = operations(api._transport.app)
    assert {("POST", "/media/generate"), ("GET", "/openapi.json"), ("GET", "/tools/metrics")} <= set(found)
    return found


def code(answer):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.headers["x-request-id"]
    return answer.status_code, answer.json()["code"]


async def test_foreign_host_is_refused(api, every):
    for method, path in every:
        for host in ("evil.example", "evil.example:8000", "api.test.evil.example", "127.0.0.1.evil.example"):
            answer = await api.request(method, path, headers={"host": host})

            if method == "HEAD":
                assert answer.status_code == HTTPStatus.MISDIRECTED_REQUEST, (method, path, host)
            else:
                assert code(answer) == (421, "foreign_host"), (method, path, host)


async def test_change_is_refused_to_pages_of_other_sites(api, every):
    changes = [(method, path) for method, path in every if method not in SAFE_METHODS]

    assert len(changes) > 12
    for method, path in changes:
        for headers in FOREIGN_PAGES:
            answer = await api.request(method, path, headers=headers)
            assert code(answer) == (403, "cross_site_request"), (method, path, headers)


async def test_our_pages_and_programs_may_change_things(api, every):
    for method, path in every:
        for headers in OUR_PAGES_AND_PROGRAMS if method not in SAFE_METHODS else ():
            answer = await api.request(method, path, headers=headers)
            assert answer.status_code not in {403, 421}, (method, path, headers)


async def test_callback_of_a_provider_comes_under_the_name_it_was_given(api_of):
    provider = CallingProvider()
    provider.callback_base = "http://host.docker.internal:8000"
    api = await api_of(Registry([provider]), callback_url="https://hooks.example.com")

    for host, status in {"host.docker.internal:8000": 404, "hooks.example.com": 404, "elsewhere.example": 421}.items():
        answer = await api.post(f"/media/callbacks/nobody/{new_id()}", headers={"host": host})
        assert answer.status_code == status, host


async def test_pages_of_other_sites_may_link_to_what_changes_nothing(api):
    answer = await api.get("/tools/status", headers={"sec-fetch-site": "cross-site", "origin": "https://evil.example"})

    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


async def test_no_response_lets_a_browser_guess_what_its_bytes_are(api, every):
    for method, path in every:
        for headers in ({}, {"host": "evil.example"}) if path not in LONG else ({"host": "evil.example"},):
            answer = await api.request(method, path, headers=headers)
            assert answer.headers.get_list("x-content-type-options") == ["nosniff"], (method, path, headers)


async def test_nor_does_the_response_to_a_bug(settings):
    app = create_app(settings)

    @app.get("/bug")
    async def bug():
        raise ZeroDivisionError

    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as api:
        answer = await api.get("/bug")

    assert (answer.status_code, answer.headers.get_list("x-content-type-options")) == (500, ["nosniff"])


async def test_nor_do_files_and_streams(product, settings):
    media = await product.until(await product.faulty(size=1000))
    redirect = await product.api.get(f"/media/content/{media['id']}")
    async with product.api.stream("HEAD", f"/media/{media['id']}/events") as stream:
        streamed = stream.headers

    async with httpx2.AsyncClient(trust_env=False) as browser:
        stored = await browser.get(redirect.headers["location"])

    assert (redirect.status_code, redirect.headers["x-content-type-options"]) == (307, "nosniff")
    assert streamed["x-content-type-options"] == "nosniff"
    # The store's own response: at least it says what we found in the bytes.
    assert stored.headers["content-type"] == media["files"][0]["media_type"] == "image/png"


async def test_every_operation_documents_how_the_guard_refuses(api):
    document = (await api.get("/openapi.json")).json()

    for path, described in document["paths"].items():
        for method, operation in described.items():
            expected = {"400", "421"} | (set() if method in {"get", "head"} else {"403"})
            expected |= {"408"} if "requestBody" in operation else set()
            assert expected <= set(operation["responses"]), (method, path)


TAKE_ANY_QUERY = {"/", "/docs", "/openapi.json", "/docs/oauth2-redirect"}
"""Pages: whoever links to them may add parameters of his own."""


def takes_any_query(path):
    """Also what providers, load balancers and scrapers call."""
    return path in TAKE_ANY_QUERY or path.startswith(("/media/callbacks/", "/tools/", ASSETS))


async def test_unknown_query_parameter_is_refused(api, every):
    known = [(method, path) for method, path in every if not takes_any_query(path) and path != "/nothing"]

    assert len(known) > 25
    for method, path in known:
        if method == "OPTIONS":
            continue
        answer = await api.request(method, path, params={"nonsense": "1"}, json={})
        if method == "HEAD":
            assert answer.status_code == 422, (method, path)
            continue
        assert code(answer) == (422, "invalid_input"), (method, path)
        (wrong,) = answer.json()["errors"]
        assert (wrong["field"], wrong["given"]) == ("nonsense", "1")
        assert wrong["message"].startswith("there is no such parameter"), (method, path)


async def test_what_others_call_takes_parameters_of_theirs(api, every):
    tolerant = [(method, path) for method, path in every if takes_any_query(path) and path not in LONG]

    assert len(tolerant) > 6
    for method, path in tolerant:
        plain = await api.request(method, path)
        answer = await api.request(method, path, params={"nonsense": "1"})
        assert answer.status_code == plain.status_code, (method, path)


def methods_by_path(app):
    """The methods of each path, with an id that does not exist in place of each parameter."""
    found = {}
    for route in iter_route_contexts(app.routes):
        found.setdefault(route.path, set()).update(route.methods or ())
    return {re.sub(r"\{[^}]+\}", str(new_id()), path): methods for path, methods in found.items() if methods}


async def test_head_answers_like_get_or_is_refused_with_what_is_allowed(api):
    checked = set()
    for path, methods in methods_by_path(api._transport.app).items():
        if path in LONG:
            continue
        described = await api.head(path)
        checked.add("GET" in methods)
        assert described.content == b""
        if "GET" in methods:
            read = await api.get(path)
            assert described.status_code == read.status_code, path
            assert described.headers.get("content-type") == read.headers.get("content-type"), path
        else:
            assert described.status_code == 405, path
            assert set(described.headers["allow"].split(", ")) == methods, path

    assert checked == {True, False}


async def test_what_is_allowed_at_a_path_names_every_method_that_works(api):
    for path, methods in methods_by_path(api._transport.app).items():
        answer = await api.request("TRACE", path)
        assert answer.status_code == 405, path
        expected = methods | ({"HEAD"} if "GET" in methods else set())
        assert set(answer.headers["allow"].split(", ")) == expected, path
