"""The request of a purchase: JSON for a generation, a form with files for an edit."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from app.media_generator.adapter_kit.multipart import form
from app.media_generator.errors import InputRefusedError
from app.media_generator.media_generator_model import Submission

IMAGES: Final = "image"
"""The parameter that turns a generation into an edit: reference images."""
MASK: Final = "mask"
_DATA: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII)


def is_edit(submission: Submission) -> bool:
    """Whether the input has reference images."""
    return bool(submission.input.get(IMAGES))


def as_json(submission: Submission, fixed: Mapping[str, Any]) -> tuple[str, bytes]:
    """Media type and body of a generation.

    Args:
        submission: The attempt.
        fixed: Fields that every request for this model contains.
    """
    parameters = {name: value for name, value in submission.input.items() if name not in {IMAGES, MASK}}
    return "application/json", msgspec.json.encode({"prompt": submission.prompt, **fixed, **parameters})


def as_form(submission: Submission, fixed: Mapping[str, Any]) -> tuple[str, bytes]:
    """Media type and body of an edit.

    Raises:
        InputRefusedError: A picture is not a data URI.
    """
    parameters = {name: value for name, value in submission.input.items() if name not in {IMAGES, MASK}}
    given: Sequence[str] = submission.input[IMAGES]
    files = [(IMAGES if len(given) == 1 else f"{IMAGES}[]", picture) for picture in given]
    if submission.input.get(MASK):
        files.append((MASK, submission.input[MASK]))
    body, media_type = form(
        {name: _text(value) for name, value in {"prompt": submission.prompt, **fixed, **parameters}.items()},
        [_file(name, number, uri) for number, (name, uri) in enumerate(files)],
    )
    return media_type, body


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _file(name: str, number: int, uri: str) -> tuple[str, str, str, bytes]:
    head = _DATA.match(uri)
    if head is None:
        raise InputRefusedError(f"input.{name.removesuffix('[]')} must be a picture as a data URI")
    try:
        content = base64.b64decode(uri[head.end() :], validate=True)
    except binascii.Error as error:
        raise InputRefusedError(f"input.{name.removesuffix('[]')} is not base64: {error}") from error
    return name, f"{number}.{head[1].partition('/')[2]}", head[1], content
