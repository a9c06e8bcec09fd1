"""One HTTP request to a receiver."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from app.core import clock
from app.core.database.text import storable
from app.core.http_client.protocol import Answer, ConnectionLostError, OutgoingError, Request
from app.core.redaction import redacted
from app.webhooks import retry_policy

if TYPE_CHECKING:
    from app.core.http_client.client import HttpClient

TIMEOUT_SECONDS: Final = 15.0
ANSWER_BYTES: Final = 1_024
"""How much of an answer's body is kept."""
USER_AGENT: Final = f"Fleek/{version('fleek')}"
_MIN_SECONDS: Final = 1.0
"""What a repeated request gets at least."""


async def post(
    http: "HttpClient", url: str, headers: Mapping[str, str], body: bytes, *, keep_alive: bool = True
) -> tuple[Answer | None, str | None]:
    """The answer, if there is one, and why it is not a success.

    With `keep_alive` connections are reused; when a reused one is lost, the request is sent once more on a new one.
    """
    request = Request(
        method="POST",
        url=url,
        headers={"content-type": "application/json", "user-agent": USER_AGENT, **headers},
        body=body,
        timeout=TIMEOUT_SECONDS,
        most_bytes=ANSWER_BYTES,
        keep_alive=keep_alive,
    )
    begun = clock.seconds()
    try:
        try:
            answer = await http.send(request)
        except ConnectionLostError:
            if not keep_alive:
                raise
            # The receiver may just have closed an idle connection. If the request did arrive, its id is the same.
            left = max(TIMEOUT_SECONDS - (clock.seconds() - begun), _MIN_SECONDS)
            answer = await http.send(replace(request, keep_alive=False, timeout=left))
    except OutgoingError as failure:
        return None, redacted(storable(str(failure))) or type(failure).__name__
    return answer, retry_policy.failure_reason(answer)
