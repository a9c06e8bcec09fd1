"""What is refused before any route sees it. Pure ASGI, for every path; letting a request through costs microseconds.

- A Host header that is not ours: see `allowed_hosts.py`.
- A request that changes something and was sent by a page of another site. Browsers send some of these without asking
  first (a form, a `fetch` without a body), and say who sent them: `Sec-Fetch-Site`, or at least `Origin`. Programs send
  neither and are not affected; nor are pages of BACKEND_CORS_ORIGINS.
- A header that says two things where only one can be meant.
- A body that arrives too slowly: see `timed_body.py`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.config import Settings
from app.core.errors import FleekError
from app.core.http_server.allowed_hosts import ANY, AllowedHosts
from app.core.http_server.hot_route import Explain
from app.core.http_server.timed_body import BodyLimits, TimedBody, has_body

Fields: TypeAlias = Mapping[bytes, bytes]

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing, and without CORS a page of another site cannot read the response."""
SINGLE: Final = (b"host", b"idempotency-key", b"origin", b"sec-fetch-site", b"content-length", b"content-type")
"""Headers of which the first and the last value could mean different requests."""
_OF_OUR_OWN: Final = frozenset({b"same-origin", b"none"})
"""Values of Sec-Fetch-Site: a page of this API, or the user's own doing, such as a bookmark."""


class ForeignHostError(FleekError):
    """The Host header names somebody else."""

    status = 421
    code = "foreign_host"
    title = "Not the name of this API"


class CrossSiteRequestError(FleekError):
    """A page of another site sent a request that changes something."""

    status = 403
    code = "cross_site_request"
    title = "Sent by a page of another site"


class AmbiguousHeaderError(FleekError):
    """A header that may appear once appears several times."""

    status = 400
    code = "ambiguous_header"
    title = "Ambiguous header"


class RequestGuard:
    """Lets a request through to the application, or answers it with a problem document."""

    def __init__(self, app: ASGIApp, *, settings: Settings, hosts: AllowedHosts, explain: Explain) -> None:
        self._app = app
        self._accepts_host = hosts.accepts
        self._origins = frozenset(origin.lower().encode() for origin in settings.backend_cors_origins)
        self._public_origin = _origin_of(settings.public_url)
        self._limits = BodyLimits(settings.request_body_seconds, settings.request_body_rate)
        self._explain = explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fields: Fields = dict(scope["headers"])
        if has_body(fields):
            body = TimedBody(receive, send, self._limits, expects=b"expect" in fields)
            receive, send = body.receive, body.send
        error = self._refusal(scope, fields)
        if error is None:
            await self._app(scope, receive, send)
            return
        response = await self._explain(Request(scope), error)
        assert response is not None  # noqa: S101 - an error of the caller always has one
        await response(scope, receive, send)

    def _refusal(self, scope: Scope, fields: Fields) -> FleekError | None:
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        if len(fields) != len(headers) and (repeated := _repeated(headers)) is not None:
            return AmbiguousHeaderError(f"the header {repeated} appears several times; send it once")
        # Every browser sends it; probes that speak HTTP/1.0 may not.
        host = fields.get(b"host") or b"localhost"
        if not self._accepts_host(host):
            return ForeignHostError(_foreign(host))
        if scope["method"] not in SAFE_METHODS and not self._is_of_our_own(host, fields):
            return CrossSiteRequestError(_cross_site(fields.get(b"origin")))
        return None

    def _is_of_our_own(self, host: bytes, fields: Fields) -> bool:
        """Whether a page of our own, of an origin that the operator has named, or a program has sent this."""
        origin, site = fields.get(b"origin"), fields.get(b"sec-fetch-site")
        if origin is None and site is None:
            return True
        if origin is not None and (origin.lower() in self._origins or ANY.encode() in self._origins):
            return True
        if site is not None:
            return site in _OF_OUR_OWN
        # Browsers leave Sec-Fetch-Site out where the API is reached by plain HTTP at another machine. A proxy may have
        # ended TLS, so the scheme tells nothing.
        assert origin is not None  # noqa: S101 - or both were missing
        return origin.lower() == self._public_origin or origin.lower().partition(b"://")[2] == host.lower()


def _foreign(host: bytes) -> str:
    name = host.decode("latin-1")[:200]
    named = re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)(:[0-9]*)?", name)
    if named is None:
        return f"the Host header {name!r} is no name: send the host of PUBLIC_URL"
    return (
        f"this API is not {name!r}: use the host of PUBLIC_URL, or let the operator add {named[1].lower()} to the "
        "setting ALLOWED_HOSTS and restart the API"
    )


def _cross_site(origin: bytes | None) -> str:
    if origin is None or b"://" not in origin:
        return (
            "a page of another site, which does not say which, must not change anything here; programs leave out the "
            "headers Origin and Sec-Fetch-Site"
        )
    shown = origin.decode("latin-1")[:200]
    return (
        f"a page of {shown} must not change anything here, unless the operator adds {shown} to the setting "
        "BACKEND_CORS_ORIGINS and restarts the API"
    )


def _origin_of(url: str) -> bytes:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower().encode()


def _repeated(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    names = [name for name, _ in headers]
    return next((name.decode().title() for name in SINGLE if names.count(name) > 1), None)
