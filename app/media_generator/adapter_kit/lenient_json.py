"""Lenient reads of JSON from other services: values of an unexpected type count as empty."""

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Errors that msgspec raises for bytes that are not JSON, not UTF-8, or nested too deeply."""


def members(value: Any) -> dict[str, Any]:
    """The members of an object; empty if it is not an object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def entries(value: Any) -> list[Any]:
    """The entries of a list; empty if it is not a list."""
    return list(cast("Sequence[Any]", value)) if isinstance(value, list) else []
