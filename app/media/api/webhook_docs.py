"""What webhooks send: the section `webhooks` of the OpenAPI document."""

from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.media.api.schemas import MediaOut
from app.media.events.payloads import MAX_BYTES
from app.webhooks.event_types import TEST_TYPE, EventType

webhooks = APIRouter()

_HEADERS: Final = (
    ("webhook-id", "The same at every attempt; use it to deduplicate."),
    ("webhook-timestamp", "When this attempt was signed, in seconds since 1970; refuse it after five minutes."),
    ("webhook-signature", "One `v1,<base64>` for each valid secret, separated by spaces (Standard Webhooks)."),
)
_SUMMARIES: Final = MappingProxyType(
    {
        EventType.QUEUED: "A media item waits for a worker",
        EventType.STARTED: "A worker has claimed a media item",
        EventType.RETRY: "An attempt failed without cost; another one follows",
        EventType.COMPLETED: "A media item is completed: every file is stored",
        EventType.FAILED: "A media item failed",
        EventType.CANCELED: "A media item was canceled",
    }
)


class MediaEventOut(BaseModel):
    """An event of a media item."""

    type: EventType
    timestamp: datetime = Field(description="When it happened.")
    sequence: int = Field(description="Rises from event to event of a media item; events may arrive in another order.")
    data: MediaOut = Field(description="The media item as it was when the event was first sent.")
    omitted: list[str] | None = Field(
        default=None,
        description=f"What was left out or cut to keep the body below {MAX_BYTES} bytes; read it from the media item.",
        examples=[["input.image"]],
    )


class TestEventData(BaseModel):
    """The data of a test event."""

    endpoint_id: UUID
    message: str


class TestEventOut(BaseModel):
    """An event that you requested, to test your receiver."""

    type: str = Field(examples=[TEST_TYPE])
    timestamp: datetime
    sequence: int = Field(examples=[0])
    data: TestEventData


def _describe(name: str, summary: str, body: type[BaseModel]) -> None:
    async def received(body: Any) -> None:
        """Answer 2xx within 15 seconds; anything else is retried for three days."""

    received.__annotations__ = {"body": body, "return": None}
    webhooks.post(
        name,
        summary=summary,
        operation_id=name.replace(".", "_"),
        response_model=None,
        status_code=204,
        responses={
            410: {"description": "Send no more: the endpoint is disabled."},
            "default": {"description": "Retried for three days; redirects are not followed."},
        },
        openapi_extra={
            "parameters": [
                {"name": header, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
                for header, text in _HEADERS
            ]
        },
    )(received)


for _type, _summary in _SUMMARIES.items():
    _describe(_type, _summary, MediaEventOut)
_describe(TEST_TYPE, "You requested a test event", TestEventOut)
