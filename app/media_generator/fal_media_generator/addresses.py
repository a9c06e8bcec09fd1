"""Builds parts of the queue's URLs."""

from typing import Final
from urllib.parse import quote

from app.media_generator.media_generator_model import Submission

_NAMESPACES: Final = frozenset({"comfy", "workflows"})
"""Prefixes of model names that precede the owner."""


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
