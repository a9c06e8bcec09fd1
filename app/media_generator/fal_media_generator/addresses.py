"""Parts of the queue's URLs."""

from typing import Final
from urllib.parse import quote

from app.media_generator.media_generator_model import Submission

_NAMESPACES: Final = frozenset({"comfy", "workflows"})
"""First parts of names that come before the owner's."""


def app_of(model: str) -> str:
    """The part of a model's name under which its requests are kept: owner and app, without the path inside of it."""
    parts = model.split("/")
    return "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])


def webhook(submission: Submission) -> str:
    """What asks for a callback, which tells the model, as fal does not; empty: there is nobody to call."""
    if submission.callback_url is None:
        return ""
    address = f"{submission.callback_url}?model={quote(submission.model, safe='')}"
    return f"?fal_webhook={quote(address, safe='')}"
