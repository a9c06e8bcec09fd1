"""The states of a media item and of an attempt, and which event leads from which to which. Imports nothing of ours."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class MediaStatus(StrEnum):
    """Where a media item stands."""

    IN_QUEUE = "IN_QUEUE"  # waiting for a worker, or for `next_run`
    PROCESSING = "PROCESSING"  # one worker holds the lease
    COMPLETED = "COMPLETED"  # the bytes are in the store
    ERROR = "ERROR"  # finished without a result; `error` says why
    CANCELED = "CANCELED"  # stopped by its owner


class AttemptStatus(StrEnum):
    """Where one attempt at a provider stands."""

    INTENDED = "INTENDED"  # committed before the provider is called; money may be spent from here on
    SUBMITTED = "SUBMITTED"  # the provider accepted it; the external id is known
    SUCCEEDED = "SUCCEEDED"  # its outputs are in the store
    FAILED = "FAILED"  # the provider refused it or failed
    CANCELED = "CANCELED"  # the provider stopped it because we asked
    UNKNOWN = "UNKNOWN"  # payment status unknown: it may have cost money


class Rendition(StrEnum):
    """Another form of a file."""

    POSTER = "poster"  # one picture of a video


class OnUnknown(StrEnum):
    """What follows when it is unknown whether an attempt was charged."""

    HOLD = "hold"  # ERROR; submitted again only if its owner requests it, and a late result is still stored
    RETRY = "retry"  # another attempt, which may be charged a second time
    FAIL = "fail"  # ERROR; the attempt is not followed up


class CancelAnswer(StrEnum):
    """The result of a cancel request."""

    REQUESTED = "requested"  # passed on; no result yet
    CANCELED = "canceled"  # it stopped
    TOO_LATE = "too_late"  # it continues, or has ended already


class MoneySpent(StrEnum):
    """Whether a media item has cost money."""

    NO = "no"
    YES = "yes"
    MAYBE = "maybe"  # unknown, or the provider does not say how much of it was charged


class MediaEvent(StrEnum):
    """What happens to a media item; each has one function in `transitions/`."""

    REQUESTED = "requested"  # a client requested it
    CLAIMED = "claimed"  # a worker claimed it
    RETURNED = "returned"  # its worker stopped, died or could not reach the store; the attempt continues elsewhere
    REROUTED = "rerouted"  # its target provably cost nothing; it moves to the next one of its route
    RETRY_SCHEDULED = "retry_scheduled"  # the attempt failed without cost; the next one starts at `next_run`
    COMPLETED = "completed"  # every output is stored and checked
    FAILED = "failed"  # there will be no further attempt
    EXPIRED = "expired"  # its deadline passed
    GIVEN_UP = "given_up"  # too many workers died while they held it
    CANCELED = "canceled"  # its owner canceled it in time
    RETRY_ASKED = "retry_asked"  # its owner explicitly requested another attempt
    CANCEL_ASKED = "cancel_asked"  # its owner requested a cancel; the status changes when the provider has answered
    LATE_STORED = "late_stored"  # the result of an attempt whose media has ended is in the store


@dataclass(frozen=True, slots=True)
class Transition:
    """From one of `sources` to `target`; no sources: the media comes into being."""

    sources: frozenset[MediaStatus]
    target: MediaStatus


UNDER_WAY: Final = frozenset({MediaStatus.IN_QUEUE, MediaStatus.PROCESSING})

TRANSITIONS: Final = MappingProxyType(
    {
        MediaEvent.REQUESTED: Transition(frozenset(), MediaStatus.IN_QUEUE),
        MediaEvent.CLAIMED: Transition(frozenset({MediaStatus.IN_QUEUE}), MediaStatus.PROCESSING),
        MediaEvent.RETURNED: Transition(frozenset({MediaStatus.PROCESSING}), MediaStatus.IN_QUEUE),
        MediaEvent.REROUTED: Transition(UNDER_WAY, MediaStatus.IN_QUEUE),
        MediaEvent.RETRY_SCHEDULED: Transition(frozenset({MediaStatus.PROCESSING}), MediaStatus.IN_QUEUE),
        MediaEvent.COMPLETED: Transition(frozenset({MediaStatus.PROCESSING}), MediaStatus.COMPLETED),
        MediaEvent.FAILED: Transition(frozenset({MediaStatus.PROCESSING}), MediaStatus.ERROR),
        MediaEvent.EXPIRED: Transition(UNDER_WAY, MediaStatus.ERROR),
        MediaEvent.GIVEN_UP: Transition(frozenset({MediaStatus.IN_QUEUE}), MediaStatus.ERROR),
        MediaEvent.CANCELED: Transition(
            frozenset({MediaStatus.IN_QUEUE, MediaStatus.PROCESSING}), MediaStatus.CANCELED
        ),
        MediaEvent.RETRY_ASKED: Transition(frozenset({MediaStatus.ERROR, MediaStatus.CANCELED}), MediaStatus.IN_QUEUE),
    }
)

NOTES: Final = frozenset({MediaEvent.CANCEL_ASKED, MediaEvent.LATE_STORED})
"""Events that are recorded and change no status."""

FINAL: Final = frozenset({MediaStatus.COMPLETED, MediaStatus.ERROR, MediaStatus.CANCELED})
"""States that only the owner can leave, by requesting a retry."""

OPEN_ATTEMPT: Final = frozenset({AttemptStatus.INTENDED, AttemptStatus.SUBMITTED})
"""An attempt in one of these may still bring a result; a media item has one at most."""

HIGHEST_PRIORITY: Final = 9
DEFAULT_PRIORITY: Final = 5
RESUMED: Final = 10
"""The rank of a media item with an open attempt: money may be spent already, so it comes before every priority."""
SUSPECT: Final = 11
"""The rank of a media item whose worker died more than once; claimed apart from all others, a few at a time."""
SHELVED: Final = -1
"""The rank of a media item whose model is paused: claims skip it."""
PAUSED_BY_OPERATOR: Final = "paused"
"""The code of models and providers that an operator has paused."""
SUSPECT_FROM: Final = 2
"""Takeovers that make a media item a suspect."""


def chart() -> str:
    """The state chart as a Mermaid diagram, drawn from the table."""
    lines = ["stateDiagram-v2"]
    for event, transition in TRANSITIONS.items():
        sources = [str(source) for source in sorted(transition.sources)] or ["[*]"]
        lines += [f"    {source} --> {transition.target}: {event}" for source in sources]
    lines += [f"    {status} --> [*]" for status in sorted(FINAL)]
    return "\n".join(lines)
