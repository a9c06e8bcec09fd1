"""Request and response bodies, for validation and for the API's documentation."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.core.http_server.route import SEVERAL, several
from app.jobs.notices import WarningCode
from app.jobs.states import (
    DEFAULT_PRIORITY,
    HIGHEST_PRIORITY,
    CancelAnswer,
    MediaStatus,
    MoneySpent,
    OnUnknown,
)
from app.media_generator.costs import CostBasis
from app.provenance.mark import Outcome, SourceType
from app.webhooks.event_types import EventType

MAX_DEADLINE_SECONDS: Final = 30 * 86_400


def _storable(value: str) -> str:
    if "\x00" in value:
        raise ValueError("the character U+0000 cannot be stored")
    if not value.strip():
        raise ValueError("must not be blank")
    return value


Tag: TypeAlias = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_storable)]
Statuses: TypeAlias = Annotated[
    list[MediaStatus] | None, Query(description=f"Only media in this status. {SEVERAL}"), several(MediaStatus)
]
"""The filter by status."""


class MediaIn(BaseModel):
    """What to generate."""

    # The steps for a new field of a media item are in CONTRIBUTING.md.

    model_config = ConfigDict(extra="forbid")
    UNKNOWN_FIELD_HINT: ClassVar[str] = "a model's own parameters belong in 'input'"

    prompt: Annotated[str, AfterValidator(_storable)] = Field(
        min_length=1,
        max_length=20_000,
        description="What to generate, in words.",
        examples=["a lighthouse at dawn"],
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="`provider/name`, as listed at /models; the server's default if left out.",
        examples=["dummy/painter"],
    )
    input: dict[str, Any] = Field(
        default_factory=dict,
        description="The model's own parameters; see the input schema at /models/{provider}/{name}.",
        examples=[{"width": 768, "height": 512, "seed": 7}],
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="Any data of yours, at most 4 kB as JSON; it is returned unchanged.",
        examples=[{"order": "A-17"}],
    )
    priority: int = Field(
        default=DEFAULT_PRIORITY,
        strict=True,
        ge=0,
        le=HIGHEST_PRIORITY,
        description="9 runs first, 0 last; priority rises with waiting time.",
        examples=[5],
    )
    deadline_seconds: float | None = Field(
        default=None,
        strict=True,
        ge=0.001,
        le=MAX_DEADLINE_SECONDS,
        description="If not finished within this time after the request, it ends with ERROR `deadline_exceeded`. "
        "If left out, the model's time limit applies, if it has one.",
        examples=[600],
    )
    tags: list[Tag] = Field(
        default_factory=list,
        max_length=10,
        description="Words of yours, to filter event streams by.",
        examples=[["checkout"]],
    )
    webhook_url: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="Receives the events of this media item, in addition to your registered endpoints; signed with the "
        "secret of your endpoint of kind `request`, see /webhooks.",
        examples=["https://app.example.com/hooks/fleek"],
    )
    webhook_events: list[EventType] | None = Field(
        default=None,
        min_length=1,
        max_length=len(EventType),
        description="Which events are sent to `webhook_url`; the final ones if left out.",
        examples=[["media.completed", "media.failed"]],
    )
    on_unknown: OnUnknown = Field(
        default=OnUnknown.HOLD,
        description="What happens if the payment status of an attempt stays unknown. `hold`: ERROR `outcome_unknown`, "
        "submitted again only if you retry it. `retry`: another attempt, which may be charged a second time. "
        "`fail`: ERROR.",
    )


_FIRST_FIELDS: Final = {
    "prompt",
    "model",
    "input",
    "metadata",
    "priority",
    "deadline_seconds",
    "tags",
    "webhook_url",
    "webhook_events",
    "on_unknown",
}
"""Of `MediaIn`, before any was added."""


def identity(request: MediaIn) -> dict[str, Any]:
    """What an idempotency key stands for, as JSON values.

    A field that was added later counts only if it is not at its default, so that a key from before an update still
    belongs to the same request.
    """
    first = request.model_dump(mode="json", include=_FIRST_FIELDS)
    return first | request.model_dump(mode="json", exclude=_FIRST_FIELDS, exclude_defaults=True)


class ErrorOut(BaseModel):
    """Why the last attempt failed."""

    code: str = Field(description="The stable name that programs act on.", examples=["provider_busy"])
    message: str


class WarningOut(BaseModel):
    """What to know of a result."""

    code: WarningCode
    message: str


class ProvenanceOut(BaseModel):
    """The mark of origin of a file; see how-to/label-ai-media.md."""

    mark: Outcome = Field(
        description="`marked` and `completed` (it had XMP already) were written; `already_marked`, `has_c2pa`, "
        "`no_place` (in its format) and `not_safe` (damaged or odd) are as they came."
    )
    source_type: SourceType | None = Field(description="What was written; null: nothing.")
    c2pa: bool = Field(description="Whether it has a C2PA manifest of its provider.")
    signed: bool = Field(
        default=False, description="Whether it was signed here with the operator's certificate; not who trusts that."
    )
    tool: str | None = Field(default=None, description="What wrote the mark; null: written before this was recorded.")
    at: datetime | None = Field(default=None, description="When that was; null: as above.")
    reason: str | None = Field(description="Why nothing was written, or what to know besides.")


class FileOut(BaseModel):
    """A stored output file."""

    id: UUID
    index: int = Field(description="0 for the first output.")
    media_type: str = Field(description="Detected from the bytes.", examples=["image/png"])
    bytes: int
    width: int | None = Field(description="In pixels; null: neither image nor video, or not known.")
    height: int | None = Field(description="In pixels; null: neither image nor video, or not known.")
    seconds: float | None = Field(description="Duration of a video or sound; null: neither, or not known.")
    sha256: str = Field(description="Of the bytes, in hex.")
    source_sha256: str | None = Field(
        description="Of the bytes as they came from the provider, before the mark of origin was written; null: stored "
        "before there were marks."
    )
    provenance: ProvenanceOut | None = Field(description="Its mark of origin; null: marks were switched off.")
    warnings: list[WarningOut] = Field(description="What to know of this file, such as that it could not be marked.")
    url: str = Field(description="The permanent URL of the file.")
    poster_url: str | None = Field(description="The permanent URL of a video's still image; null: there is none.")


class CostOut(BaseModel):
    """The cost of all attempts so far; one that was provably not submitted counts as zero."""

    amount: str | None = Field(description="A decimal number; null: not known.", examples=["0.0031"])
    currency: str = Field(examples=["USD"])
    basis: CostBasis | None = Field(
        description="`reported` by the provider, or `computed`, at least in part, from billed units and the price in "
        "the catalogue."
    )
    estimate: str | None = Field(description="The estimate at the time of submission; null: not known.")


class CancelState(BaseModel):
    """The result of the cancel request."""

    answer: CancelAnswer = Field(
        description="`requested`: pending. `canceled`: it was stopped. `too_late`: it continues, or had finished."
    )
    money_spent: MoneySpent = Field(
        description="Whether it has cost money; `maybe`: the provider did not say, or said it only in part."
    )


class WaitingFor(BaseModel):
    """Why nothing is submitted to its provider now, or what holds it up there."""

    code: str = Field(examples=["provider_unauthorized"])
    message: str


QueuePosition: TypeAlias = Annotated[
    int | Literal["1000+"] | None,
    Field(
        description="While it waits: how many jobs that could run now are ahead of it. Null: it is not due yet, is not "
        "waiting, or this is a list or the response to the request itself."
    ),
]
WaitsFor: TypeAlias = Annotated[
    WaitingFor | None,
    Field(
        description="While it waits: why it is not submitted to its provider now; for a list, and in the response to "
        "the request itself, null. While it is PROCESSING: what holds it up besides its provider's work. "
        "Null: no such reason."
    ),
]
Deadline: TypeAlias = Annotated[
    datetime | None, Field(description="When it ends with `deadline_exceeded`; null: never.")
]
Cancel: TypeAlias = Annotated[
    CancelState | None, Field(description="The result of your cancel request; null: you sent none.")
]


class CancelOut(CancelState):
    """The answer to a cancel request."""

    media_id: UUID
    job_id: UUID
    status: MediaStatus


class MediaOut(BaseModel):
    """A media item: what was requested, and the result."""

    id: UUID = Field(description="The media item's id; it never changes.")
    job_id: UUID = Field(description="The id of its job, which clients poll.")
    status: MediaStatus
    prompt: str
    model: str
    route: str | None = Field(
        description="The requested route; `model` is its current target. Null: the model itself was requested."
    )
    input: dict[str, Any] = Field(description="The model's parameters, defaults filled in.")
    progress: float | None = Field(description="0 to 1; null: not known.")
    number_of_tries: int = Field(description="Attempts so far.")
    next_run: datetime | None = Field(description="While IN_QUEUE: when a worker may claim it.")
    priority: int
    queue_position: QueuePosition
    waiting_for: WaitsFor
    deadline: Deadline
    on_unknown: OnUnknown
    cancel: Cancel
    error: ErrorOut | None = Field(description="Why the last attempt failed; null once completed.")
    warnings: list[WarningOut] = Field(description="What to know of the result, such as that outputs were left out.")
    files: list[FileOut]
    cost: CostOut | None = Field(
        description="Null: nothing was submitted yet, or in several currencies; see `/media/{media_id}/attempts`."
    )
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = Field(description="When a worker first claimed it.")
    completed_at: datetime | None = Field(description="When it reached a final state.")


class JobOut(BaseModel):
    """The light status of a job."""

    job_id: UUID
    media_id: UUID
    status: MediaStatus
    progress: float | None
    number_of_tries: int
    next_run: datetime | None
    queue_position: QueuePosition
    waiting_for: WaitsFor
    deadline: Deadline
    cancel: Cancel
    error: ErrorOut | None
    updated_at: datetime


class MediaPage(BaseModel):
    """Media items, newest first."""

    items: list[MediaOut]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null: this is the last one.")


class ContentOut(BaseModel):
    """A URL of the file that expires."""

    url: str = Field(description="Signed; anyone who has it can read the file until it expires.")
    expires_at: datetime
