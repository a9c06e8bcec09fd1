"""Parts of others' JSON that may be anything: read as what they should be, or as nothing."""

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises at bytes that are no JSON, are not UTF-8, or are nested without end."""


def members(value: Any) -> dict[str, Any]:
    """The members of an object; none if it is no object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def entries(value: Any) -> list[Any]:
    """The entries of a list; none if it is no list."""
    return list(cast("Sequence[Any]", value)) if isinstance(value, list) else []
