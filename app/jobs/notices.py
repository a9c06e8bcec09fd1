"""What a media item's owner is told besides its status: what holds it up (`waiting_for`), and `warnings`."""

from enum import StrEnum

import msgspec


class DelayCode(StrEnum):
    """What holds a media item up while it is PROCESSING."""

    OUTCOME_LOOKUP = "outcome_lookup"
    """The provider's answer was lost: it is asked whether it has the request."""
    PROVIDER_UNREACHABLE = "provider_unreachable"
    """The provider has the request, and does not answer now."""
    COPY_DELAYED = "copy_delayed"
    """The result waits for a place among those that are copied, or could not be copied yet."""


class WarningCode(StrEnum):
    """What to know of a result."""

    OUTPUTS_LEFT_OUT = "outputs_left_out"
    """The provider returned more outputs than are kept."""


def delay(code: DelayCode, message: str) -> str:
    """A delay as it is stored: JSON text."""
    return msgspec.json.encode({"code": code, "message": message}).decode()


def outputs_left_out(kept: int, left_out: int) -> str:
    """The warnings of a result of which outputs were left out, as they are stored: JSON text."""
    message = f"the provider returned {kept + left_out} outputs; the first {kept} were kept"
    return msgspec.json.encode([{"code": WarningCode.OUTPUTS_LEFT_OUT, "message": message}]).decode()
