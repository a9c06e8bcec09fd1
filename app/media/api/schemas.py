"""What goes over the wire, for validation and for the API's documentation."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.jobs.states import (
    DEFAULT_PRIORITY,
    HIGHEST_PRIORITY,
    CancelAnswer,
    MediaStatus,
    MoneySpent,
    OnUnknown,
)
from app.media_generator.costs import CostBasis
from app.webhooks.event_types import EventType

LONGEST_DEADLINE: Final = 30 * 86_400
"""Seconds."""


def _storable(value: str) -> str:
    if "\x00" in value:
        raise ValueError("the character U+0000 cannot be stored")
    if not value.strip():
        raise ValueError("must not be blank")
    return value


Tag: TypeAlias = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_storable)]


class MediaIn(BaseModel):
    """What to generate."""

    model_config = ConfigDict(extra="forbid")
    UNKNOWN_FIELD_HINT: ClassVar[str] = "a model's own parameters belong into 'input'"

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
        description="Anything of yours, at most 4 kB as JSON; it is handed back.",
        examples=[{"order": "A-17"}],
    )
    priority: int = Field(
        default=DEFAULT_PRIORITY,
        strict=True,
        ge=0,
        le=HIGHEST_PRIORITY,
        description="9 is worked on first, 0 last; what waits long counts as more.",
        examples=[5],
    )
    deadline_seconds: float | None = Field(
        default=None,
        strict=True,
        ge=0.001,
        le=LONGEST_DEADLINE,
        description="If it is not finished so long after this request, it ends with ERROR `deadline_exceeded`; "
        "the model's default, if it has one, where this is left out.",
        examples=[600],
    )
    tags: list[Tag] = Field(
        default_factory=list,
        max_length=10,
        description="Words of yours, to filter streams by.",
        examples=[["checkout"]],
    )
    webhook_url: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="Where events of this media are posted, beside your registered endpoints; signed with the secret "
        "of your endpoint of kind `request`, see /webhooks.",
        examples=["https://app.example.com/hooks/fleek"],
    )
    webhook_events: list[EventType] | None = Field(
        default=None,
        min_length=1,
        max_length=len(EventType),
        description="Which events are posted to `webhook_url`; the final ones if left out.",
        examples=[["media.completed", "media.failed"]],
    )
    on_unknown: OnUnknown = Field(
        default=OnUnknown.HOLD,
        description="What follows when nobody can say whether a try was paid. `hold`: ERROR `outcome_unknown`, "
        "bought again only when you ask. `retry`: another try, which may be paid a second time. `fail`: ERROR.",
    )


class ErrorOut(BaseModel):
    """Why the last try failed."""

    code: str = Field(description="The stable name that programs act on.", examples=["provider_busy"])
    message: str


class FileOut(BaseModel):
    """One output in the store."""

    id: UUID
    index: int = Field(description="0 for the first output.")
    media_type: str = Field(description="Read from the bytes.", examples=["image/png"])
    bytes: int
    width: int | None = Field(description="In pixels; null: neither picture nor video, or not known.")
    height: int | None = Field(description="In pixels; null: neither picture nor video, or not known.")
    seconds: float | None = Field(description="Of a video or sound; null: neither, or not known.")
    sha256: str = Field(description="Of the bytes, in hex.")
    url: str = Field(description="The permanent address of the file.")
    poster_url: str | None = Field(description="The permanent address of one picture of a video; null: there is none.")


class CostOut(BaseModel):
    """What a media has cost so far, all its tries together; those that provably were not bought count for nothing."""

    amount: str | None = Field(description="A decimal number; null: not known.", examples=["0.0031"])
    currency: str = Field(examples=["USD"])
    basis: CostBasis | None = Field(
        description="`reported` by the provider, or `computed` at least in part: from what was billed, and the price "
        "in the catalogue."
    )
    estimate: str | None = Field(description="What was expected when it was bought; null: not known.")


class CancelState(BaseModel):
    """What came of the wish to cancel."""

    answer: CancelAnswer = Field(
        description="`requested`: not settled yet. `canceled`: it stopped. `too_late`: it goes on, or is over already."
    )
    money_spent: MoneySpent = Field(
        description="Whether it has cost money; `maybe`: the provider did not say, or only a part."
    )


class WaitingFor(BaseModel):
    """Why its provider sells nothing at present."""

    code: str = Field(examples=["provider_unauthorized"])
    message: str


QueuePosition: TypeAlias = Annotated[
    int | Literal["1000+"] | None,
    Field(
        description="While it waits: how many jobs that could run now come before it. Null: it is not due yet, is not "
        "waiting, or this is a list or the answer to the request itself."
    ),
]
WaitsFor: TypeAlias = Annotated[
    WaitingFor | None,
    Field(
        description="While it waits: why nothing is bought from its provider now. "
        "Null: nothing, or this is a list or the answer to the request itself."
    ),
]
Deadline: TypeAlias = Annotated[
    datetime | None, Field(description="When it ends with `deadline_exceeded`; null: never.")
]
Cancel: TypeAlias = Annotated[
    CancelState | None, Field(description="What came of your wish to cancel; null: you have not asked.")
]


class CancelOut(CancelState):
    """What can be said to a wish to cancel."""

    media_id: UUID
    job_id: UUID
    status: MediaStatus


class MediaOut(BaseModel):
    """A media: what was asked for and what came of it."""

    id: UUID = Field(description="The media; it never changes.")
    job_id: UUID = Field(description="The work on it; what clients poll.")
    status: MediaStatus
    prompt: str
    model: str
    route: str | None = Field(
        description="The route that was asked for; `model` is its target at present. Null: the model itself was."
    )
    input: dict[str, Any] = Field(description="The model's parameters, defaults filled in.")
    progress: float | None = Field(description="0 to 1; null: not known.")
    number_of_tries: int = Field(description="Attempts begun so far.")
    next_run: datetime | None = Field(description="While IN_QUEUE: from when a worker may take it.")
    priority: int
    queue_position: QueuePosition
    waiting_for: WaitsFor
    deadline: Deadline
    on_unknown: OnUnknown
    cancel: Cancel
    error: ErrorOut | None = Field(description="Why the last try failed; null once completed.")
    files: list[FileOut]
    cost: CostOut | None = Field(
        description="Null: nothing was bought yet, or in several currencies; see `/media/{media_id}/attempts`."
    )
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = Field(description="When a worker first took it.")
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
    """Some media, newest first."""

    items: list[MediaOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the page that follows; null: the last page.")


class ContentOut(BaseModel):
    """Where the bytes can be read for a while."""

    url: str = Field(description="Signed; anybody who has it can read the file until it expires.")
    expires_at: datetime
