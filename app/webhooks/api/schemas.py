"""What goes over the wire about webhooks, for validation and for the API's documentation."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from app.webhooks.event_types import FINAL_TYPES, TEST_TYPE, EventType
from app.webhooks.states import DeliveryStatus, EndpointKind, EndpointStatus

LONGEST_URL: Final = 2048
LONGEST_DESCRIPTION: Final = 500
DAY: Final = 86_400
NEXT: Final = "Give it as `cursor` for what follows; null: that was all."
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:")

_TYPES: Final = (*(str(found) for found in EventType), TEST_TYPE)


def _storable(value: str) -> str:
    if "\x00" in value:
        raise ValueError("the character U+0000 cannot be stored")
    return value


def _known(given: str) -> str:
    if given not in _TYPES:
        raise ValueError(f"must be one of {', '.join(_TYPES)}")
    return given


def _each_once(events: list[EventType]) -> list[EventType]:
    return list(dict.fromkeys(events))


def _written_out(moment: object) -> object:
    # Otherwise "5" would pass, as seconds since 1970.
    if not isinstance(moment, str) or not _RFC_3339.match(moment):
        raise ValueError("must be a time with its offset, such as 2026-11-22T08:00:00Z")
    return moment


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from None


Url: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_URL,
        description="Where events are posted to: http or https, and not a private address.",
        examples=["https://example.com/hooks/fleek"],
    ),
]
Events: TypeAlias = Annotated[
    list[EventType],
    Field(
        min_length=1,
        max_length=len(EventType),
        description="What it is told of; at first, if left out: completed, failed, canceled.",
        examples=[[*FINAL_TYPES]],
    ),
    AfterValidator(_each_once),
]
Description: TypeAlias = Annotated[
    str,
    AfterValidator(_storable),
    Field(max_length=LONGEST_DESCRIPTION, description="A note of yours.", examples=["shop, production"]),
]
DeliveryType: TypeAlias = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": [*_TYPES], "examples": ["media.completed"]})
]
Moment: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]


class WebhookIn(BaseModel):
    """An endpoint to register."""

    model_config = ConfigDict(extra="forbid")

    url: Url
    events: Events = Field(default_factory=lambda: [*FINAL_TYPES])
    description: Description = ""


class WebhookChangeIn(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    # The factories keep defaults out of the documentation; what they make is never looked at.
    url: Url = Field(default_factory=str)
    events: Events = Field(default_factory=list[EventType])
    description: Description = Field(default_factory=str)
    status: Literal["active", "paused"] = Field(
        default_factory=lambda: "active",
        description="`paused` keeps events; `active` sends them at once, and tries for three days more.",
    )


class RotateIn(BaseModel):
    """How one secret follows the other."""

    model_config = ConfigDict(extra="forbid")

    overlap_seconds: int = Field(
        default=DAY,
        strict=True,
        ge=0,
        le=7 * DAY,
        description="For so long deliveries carry a signature by the secret before, too; 0: it ends now.",
    )


class ReplayIn(BaseModel):
    """Which deliveries to send once more."""

    model_config = ConfigDict(extra="forbid")

    since: Moment = Field(description="Written at this time or later.", examples=["2026-11-22T08:00:00Z"])
    until: Moment | None = Field(default=None, description="Written before this; null: before now.")
    statuses: list[DeliveryStatus] = Field(
        default_factory=lambda: [DeliveryStatus.FAILED],
        min_length=1,
        max_length=len(DeliveryStatus),
        description="`failed` if left out; with `pending`, what waits for its next try is sent now.",
        examples=[["failed"]],
    )
    types: list[DeliveryType] | None = Field(
        default=None, min_length=1, max_length=len(_TYPES), description="Only of these types; null: of all."
    )
    cursor: str | None = Field(default=None, max_length=100, description="`next_cursor` of the answer before.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until is not None and self.until <= self.since:
            raise ValueError("`until` must be later than `since`")
        return self


class ReasonOut(BaseModel):
    """Why nothing is sent to it."""

    code: str = Field(description="The stable name that programs act on.", examples=["paused_by_owner"])
    message: str


class WebhookOut(BaseModel):
    """An endpoint."""

    id: UUID
    kind: EndpointKind = Field(
        description="`request`: it stands for the addresses that came as `webhook_url` with requests; its secret "
        "signs what goes there."
    )
    url: str | None = Field(description="Null: each request brings its own.")
    events: list[EventType] = Field(description="Empty for the kind `request`: each request brings its own.")
    description: str
    status: EndpointStatus
    reason: ReasonOut | None = Field(description="Why it is not active.")
    failing_since: datetime | None = Field(description="Since then every try has failed; null: the last one went well.")
    not_before: datetime | None = Field(description="It has asked us to wait until then.")
    previous_until: datetime | None = Field(description="Until then the secret before this one signs, too.")
    created_at: datetime
    updated_at: datetime


class WebhookSecretOut(WebhookOut):
    """An endpoint with its secret, which is shown here and never again."""

    secret: str = Field(
        description="What receivers check signatures with (Standard Webhooks).",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )


class WebhookPage(BaseModel):
    """Some endpoints, newest first."""

    items: list[WebhookOut]
    next_cursor: str | None = Field(description=NEXT)


class DeliveryOut(BaseModel):
    """One event for one endpoint."""

    id: UUID = Field(description="The `webhook-id` of every try.")
    type: DeliveryType
    media_id: UUID | None = Field(description="Null: a test.")
    sequence: int = Field(description="Rises from event to event of a media; 0: a test.")
    url: str | None = Field(description="Where it goes.")
    at: datetime = Field(description="When it happened.")
    status: DeliveryStatus
    tries: int = Field(description="Tries begun.")
    sending: bool = Field(description="Whether it is being sent now.")
    next_at: datetime | None = Field(description="When it is sent next; null: it is being sent, or over.")
    give_up_at: datetime | None = Field(description="A try that fails later than this is the last; null: it is over.")
    created_at: datetime = Field(description="When it was written down; the list goes by this.")
    finished_at: datetime | None = Field(description="When it was delivered or given up.")


class DeliveryPage(BaseModel):
    """Some deliveries, newest first."""

    items: list[DeliveryOut]
    next_cursor: str | None = Field(description=NEXT)


class TryOut(BaseModel):
    """One request to the receiver, and its answer."""

    number: int = Field(description="1 for the first.")
    at: datetime = Field(description="When it began.")
    url: str
    request_headers: dict[str, str] = Field(
        description="Those that name it; its signature is not kept.",
        examples=[{"webhook-id": "0199c6a5-0000-4000-8000-000000000001", "webhook-timestamp": "1790000000"}],
    )
    milliseconds: int = Field(description="How long it took.")
    status_code: int | None = Field(description="Null: there was no answer.")
    error: str | None = Field(description="Why it counts as a failure; null: it went well.")
    answer: str = Field(description="The first part of the answer's body.")


class DeliveryDetailOut(DeliveryOut):
    """One delivery with its body and its tries."""

    payload: dict[str, Any] | None = Field(description="The body; null: not sent yet.")
    log: list[TryOut] = Field(description="Newest first, the last 100.")


class ReplayOut(BaseModel):
    """What came of a replay."""

    replayed: int = Field(description="Deliveries that are to be sent once more.")
    next_cursor: str | None = Field(description="There are more: ask again with this `cursor`; null: that was all.")
