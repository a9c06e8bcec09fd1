"""Requests to and answers from a Cog server."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from app.core.http_client.protocol import Request
from app.media_generator.media_generator_model import Submission

UNFINISHED: Final = frozenset({"starting", "processing"})
"""Statuses of a prediction that is not finished."""


_UPLOADED: Final = re.compile(r"/media/callbacks/[^/]+/files/(?P<attempt>[0-9a-f-]{36})\.(?P<part>[0-9a-f]{32})$")


class Answer(msgspec.Struct):
    """A prediction, in the answer to the request or in a callback."""

    status: str = ""
    input: Any = None
    output: Any = None
    error: Any = None
    logs: str | None = None
    metrics: dict[str, Any] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it is the end of a prediction; one without a status that is known is, if it has a result."""
        return self.status not in UNFINISHED and (bool(self.status) or self.output is not None)


class _ServerSetup(msgspec.Struct):
    started_at: str | None = None


class Health(msgspec.Struct):
    """The answer of `/health-check`."""

    status: str = ""
    """READY: a slot is free. BUSY: none is."""
    setup: _ServerSetup | None = None

    @property
    def start(self) -> str | None:
        """Start time of the server, different after each restart; None: not reported."""
        return None if self.setup is None else self.setup.started_at


def prediction(base: str, submission: Submission, given: Mapping[str, Any], *, timeout: float) -> Request:
    """The request for a prediction; with a callback it is answered as soon as the server has started."""
    body: dict[str, Any] = {"input": given}
    headers = {"Content-Type": "application/json"}
    if submission.callback_url is not None:
        body |= {"webhook": submission.callback_url, "webhook_events_filter": ["completed"]}
        headers["Prefer"] = "respond-async"
    return Request(
        method="PUT",
        url=f"{base}/predictions/{submission.attempt_id}",
        headers=headers,
        body=json.dumps(body).encode(),
        timeout=timeout,
        guarded=False,
    )


def is_url(location: str) -> bool:
    """Whether a file is at a URL."""
    return location[:8].lower().startswith(("http://", "https://"))


def file_location(file: str, answer: str) -> str | None:
    """Where a file of an answer is: at its URL, or in the vault if it was uploaded; None: in the answer itself."""
    if not is_url(file):
        return None
    staged = _UPLOADED.search(file)
    # Files of other attempts are never read, whatever an answer names.
    ours = staged is not None and answer.endswith(staged["attempt"])
    return f"{answer}.{staged['part']}" if staged is not None and ours else file
