"""Request and response bodies of webhooks."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self, TypeAlias
from uuid import UUID

from fastapi import Query
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

from app.core.http_server.route import SEVERAL, several
from app.webhooks.event_types import FINAL_TYPES, TEST_TYPE, EventType
from app.webhooks.states import DeliveryStatus, EndpointKind, EndpointStatus

MAX_URL_CHARACTERS: Final = 2048
MAX_DESCRIPTION_CHARACTERS: Final = 500
DAY_SECONDS: Final = 86_400
NEXT: Final = "Pass it as `cursor` to get the next page; null: this is the last one."
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:")

_TYPES: Final = (*(str(found) for found in EventType), TEST_TYPE)


def _storable(value: str) -> str:
    if "\x00" in value:
        raise ValueError("the character U+0000 cannot be stored")
    return value


def _known_type(given: str) -> str:
    if given not in _TYPES:
        raise ValueError(f"must be one of {', '.join(_TYPES)}")
    return given


def _without_duplicates(events: list[EventType]) -> list[EventType]:
    return list(dict.fromkeys(events))


def _check_format(moment: object) -> object:
    # Otherwise "5" would be accepted, as seconds since 1970.
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
        max_length=MAX_URL_CHARACTERS,
        description="Where events are posted to: http or https, and not a private address.",
        examples=["https://example.com/hooks/fleek"],
    ),
]
Events: TypeAlias = Annotated[
    list[EventType],
    Field(
        min_length=1,
        max_length=len(EventType),
        description="The events it receives; by default completed, failed and canceled.",
        examples=[[*FINAL_TYPES]],
    ),
    AfterValidator(_without_duplicates),
]
Description: TypeAlias = Annotated[
    str,
    AfterValidator(_storable),
    Field(max_length=MAX_DESCRIPTION_CHARACTERS, description="Your own note.", examples=["shop, production"]),
]
DeliveryType: TypeAlias = Annotated[
    str,
    AfterValidator(_known_type),
    WithJsonSchema({"type": "string", "enum": [*_TYPES], "examples": ["media.completed"]}),
]
Statuses: TypeAlias = Annotated[
    list[DeliveryStatus] | None,
    Query(description=f"Only deliveries in this status. {SEVERAL}"),
    several(DeliveryStatus),
]
Types: TypeAlias = Annotated[
    list[DeliveryType] | None, Query(description=f"Only events of this type. {SEVERAL}"), several(_TYPES)
]
Moment: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_check_format), AfterValidator(_in_utc)]


class WebhookIn(BaseModel):
    """An endpoint to register."""

    model_config = ConfigDict(extra="forbid")

    url: Url
    events: Events = Field(default_factory=lambda: [*FINAL_TYPES])
    description: Description = ""


class WebhookChangeIn(BaseModel):
    """What to change; fields that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid")

    # The factories keep defaults out of the documentation; their values are never used.
    url: Url = Field(default_factory=str)
    events: Events = Field(default_factory=list[EventType])
    description: Description = Field(default_factory=str)
    status: Literal["active", "paused"] = Field(
        default_factory=lambda: "active",
        description="`paused` keeps events; `active` sends them at once, and retries for another three days.",
    )


class RotateIn(BaseModel):
    """How to replace the secret."""

    model_config = ConfigDict(extra="forbid")

    overlap_seconds: int = Field(
        default=DAY_SECONDS,
        strict=True,
        ge=0,
        le=7 * DAY_SECONDS,
        description="For how long deliveries are also signed with the previous secret; 0: not at all.",
    )


class ReplayIn(BaseModel):
    """Which deliveries to replay."""

    model_config = ConfigDict(extra="forbid")

    since: Moment = Field(description="Created at this time or later.", examples=["2026-11-22T08:00:00Z"])
    until: Moment | None = Field(default=None, description="Created before this time; null: before now.")
    statuses: list[DeliveryStatus] = Field(
        default_factory=lambda: [DeliveryStatus.FAILED],
        min_length=1,
        max_length=len(DeliveryStatus),
        description="By default `failed`; `pending` deliveries are sent now instead of at their next attempt.",
        examples=[["failed"]],
    )
    types: list[DeliveryType] | None = Field(
        default=None, min_length=1, max_length=len(_TYPES), description="Only of these types; null: all."
    )
    cursor: str | None = Field(default=None, max_length=100, description="`next_cursor` of the previous response.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until is not None and self.until <= self.since:
            raise ValueError("`until` must be later than `since`")
        return self


class ReasonOut(BaseModel):
    """Why it is not active."""

    code: str = Field(description="A stable name for programs.", examples=["paused_by_owner"])
    message: str


class WebhookOut(BaseModel):
    """An endpoint."""

    id: UUID
    kind: EndpointKind = Field(
        description="`request`: it stands for the addresses that requests name as `webhook_url`; its secret signs "
        "what is sent there."
    )
    url: str | None = Field(description="Null for the kind `request`: each request brings its own.")
    events: list[EventType] = Field(description="Empty for the kind `request`: each request brings its own.")
    description: str
    status: EndpointStatus
    reason: ReasonOut | None = Field(description="Why it is not active.")
    failing_since: datetime | None = Field(
        description="Every attempt since then has failed; null: the last one succeeded."
    )
    not_before: datetime | None = Field(
        description="Nothing is sent before: the receiver has answered with `Retry-After`."
    )
    previous_until: datetime | None = Field(
        description="Until then deliveries are also signed with the previous secret."
    )
    created_at: datetime
    updated_at: datetime


class WebhookSecretOut(WebhookOut):
    """An endpoint with its secret, which is shown only here."""

    secret: str = Field(
        description="For checking signatures (Standard Webhooks).",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )


class WebhookPage(BaseModel):
    """Some endpoints, newest first."""

    items: list[WebhookOut]
    next_cursor: str | None = Field(description=NEXT)


class DeliveryOut(BaseModel):
    """One event for one endpoint."""

    id: UUID = Field(description="The `webhook-id` of every attempt.")
    type: DeliveryType
    media_id: UUID | None = Field(description="Null: a test.")
    sequence: int = Field(description="Increases from event to event of a media item; 0: a test.")
    url: str | None = Field(description="Where it is sent.")
    at: datetime = Field(description="When the event happened.")
    status: DeliveryStatus
    tries: int = Field(description="Attempts started.")
    sending: bool = Field(description="Whether it is being sent now.")
    next_at: datetime | None = Field(description="When it is sent next; null: it is being sent, or finished.")
    give_up_at: datetime | None = Field(
        description="An attempt that fails later than this is the last; null: it is finished."
    )
    created_at: datetime = Field(description="The list is ordered by this.")
    finished_at: datetime | None = Field(description="When it was delivered or failed for good.")


class DeliveryPage(BaseModel):
    """Some deliveries, newest first."""

    items: list[DeliveryOut]
    next_cursor: str | None = Field(description=NEXT)


class TryOut(BaseModel):
    """One request to the receiver, and its answer."""

    number: int = Field(description="1 for the first.")
    at: datetime = Field(description="When it started.")
    url: str
    request_headers: dict[str, str] = Field(
        description="Without the signature, which is not stored.",
        examples=[{"webhook-id": "0199c6a5-0000-4000-8000-000000000001", "webhook-timestamp": "1790000000"}],
    )
    milliseconds: int = Field(description="How long it took.")
    status_code: int | None = Field(description="Null: no answer.")
    error: str | None = Field(description="Why it counts as a failure; null: it succeeded.")
    answer: str = Field(description="The first part of the answer's body.")


class DeliveryDetailOut(DeliveryOut):
    """One delivery with its body and its attempts."""

    payload: dict[str, Any] | None = Field(description="The body; null: not sent yet.")
    log: list[TryOut] = Field(description="Newest first, the last 100.")


class ReplayOut(BaseModel):
    """The result of a replay."""

    replayed: int = Field(description="How many deliveries will be sent again.")
    next_cursor: str | None = Field(
        description="There are more: repeat the request with this as `cursor`; null: that was all."
    )
