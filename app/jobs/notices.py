"""What a media item's owner is told besides its status: what holds it up (`waiting_for`), and `warnings`."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from app.core.database.text import storable


class DelayCode(StrEnum):
    """What holds a media item up once a worker has claimed it; some are also reasons in its history."""

    OUTCOME_LOOKUP = "outcome_lookup"
    """The provider's answer was lost: it is asked whether it has the request."""
    PROVIDER_UNREACHABLE = "provider_unreachable"
    """The provider has the request, and does not answer now."""
    COPY_DELAYED = "copy_delayed"
    """The result waits for others to be copied, or could not be copied yet."""
    OUTPUT_SUSPECT = "output_suspect"
    """What arrived of the result seems damaged."""
    INPUTS_DELAYED = "inputs_delayed"
    """A file of the input cannot be fetched or passed on now."""
    MODEL_MISSING = "model_missing_here"
    """The worker that claimed it does not have its model."""


class WarningCode(StrEnum):
    """What to know of a result."""

    OUTPUTS_LEFT_OUT = "outputs_left_out"
    """The provider returned more outputs than are kept."""
    NOT_MARKED = "not_marked"
    """The file is damaged or odd, so no mark of origin was written into it."""
    NOT_SIGNED = "not_signed"
    """The file could not be signed with the operator's certificate; its mark of origin is in it."""
    CUT_OFF = "cut_off"
    """The file ends before the end that its format defines: it is what the provider has, or all that arrived."""
    UNKNOWN_TYPE = "unknown_type"
    """What kind of file it is cannot be told from its bytes."""
    UNEXPECTED_TEXT = "unexpected_text"
    """The model makes no text, and the file is text."""
    TOO_MANY_PIXELS = "too_many_pixels"
    """The picture has more pixels than are decoded here: there is no poster of it."""
    OUTPUTS_NOT_KEPT = "outputs_not_kept"
    """Outputs were paid for and could not be fetched; the provider's answer is kept."""


WAITS_FOR_OTHERS: Final = "its result is there, and waits until others are copied"
_RETURNED: Final = {
    DelayCode.COPY_DELAYED: "its result could not be copied yet; it is tried again",
    DelayCode.OUTPUT_SUSPECT: "its result arrived damaged; it is fetched again",
    DelayCode.INPUTS_DELAYED: "a file of its input cannot be fetched or passed on now; it is tried again",
    DelayCode.MODEL_MISSING: "a worker does not have its model; another one may",
}


def returned(reason: str) -> str | None:
    """Why a media item is back in its queue, as it is stored; None: its owner need not know."""
    message = next((text for code, text in _RETURNED.items() if code == reason), None)
    return None if message is None else delay(DelayCode(reason), message)


def delay(code: DelayCode, message: str) -> str:
    """A delay as it is stored: JSON text."""
    return msgspec.json.encode({"code": code, "message": message}).decode()


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to know of a result."""

    code: WarningCode
    message: str


def outputs_left_out(kept: int, left_out: int) -> Notice:
    """The provider returned more outputs than are kept."""
    message = f"the provider returned {kept + left_out} outputs; the first {kept} were kept"
    return Notice(WarningCode.OUTPUTS_LEFT_OUT, message)


def output_not_kept(index: int, reason: str) -> Notice:
    """One output of several could not be kept."""
    return Notice(WarningCode.OUTPUTS_NOT_KEPT, f"output {index} could not be kept: {reason}")


def not_marked(reason: str) -> Notice:
    """No mark of origin was written into a file."""
    return Notice(WarningCode.NOT_MARKED, f"no mark of origin was written: {reason}")


def too_many_pixels(width: int, height: int, most: int) -> Notice:
    """A picture is larger than what is decoded."""
    return Notice(WarningCode.TOO_MANY_PIXELS, f"it has {width}x{height} pixels, more than {most}")


def also_stored(warnings: str | None, notice: Notice) -> str:
    """Warnings as they are stored, and one more."""
    known: list[dict[str, str]] = [] if warnings is None else msgspec.json.decode(warnings)
    return msgspec.json.encode([*known, {"code": notice.code, "message": notice.message}]).decode()


def not_signed(reason: str) -> Notice:
    """A file could not be signed."""
    return Notice(WarningCode.NOT_SIGNED, f"it was not signed: {reason}")


def stored(warnings: Sequence[Notice]) -> str:
    """Warnings as they are stored: JSON text."""
    return msgspec.json.encode([{"code": one.code, "message": storable(one.message)} for one in warnings]).decode()
