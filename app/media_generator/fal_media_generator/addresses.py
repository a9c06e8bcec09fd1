"""Builds and reads parts of the queue's URLs."""

import re
from typing import Final
from urllib.parse import quote, unquote

from app.core.http_client.protocol import Answer
from app.media_generator.adapter_kit.purchase_calls import member
from app.media_generator.media_generator_model import Submission

_NAMESPACES: Final = frozenset({"comfy", "workflows"})
"""Prefixes of model names that precede the owner."""
_IN_URL: Final = re.compile(r"/requests/([^/?#]+)")
_NAMED: Final = (member("request_id"), member("response_url"))


def app_of(model: str) -> str:
    """The part of a model's name that its requests are stored under: owner and app, without the path within the app."""
    parts = model.split("/")
    return "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])


def webhook(submission: Submission) -> str:
    """The query that requests a callback; its URL carries the model, which fal omits. Empty: no callback."""
    if submission.callback_url is None:
        return ""
    address = f"{submission.callback_url}?model={quote(submission.model, safe='')}"
    return f"?fal_webhook={quote(address, safe='')}"


def request_of(answer: Answer) -> str | None:
    """The request that a status is about, by its id or the URL of its result; None: it does not say."""
    request_id, url = (read(answer) for read in _NAMED)
    return request_id or request_in(url or "")


def request_in(url: str) -> str | None:
    """The request whose status or result is at a URL; None: none is."""
    found = _IN_URL.search(url)
    return None if found is None else unquote(found[1])
