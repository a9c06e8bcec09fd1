"""What webhooks send, for the API's documentation: the section `webhooks` of the OpenAPI document."""

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
    ("webhook-id", "The same at every try: know doubles by it."),
    ("webhook-timestamp", "When this try was signed, in seconds since 1970; refuse what is older than five minutes."),
    ("webhook-signature", "One `v1,<base64>` for each valid secret, parted by spaces (Standard Webhooks)."),
)
_SAID: Final = MappingProxyType(
    {
        EventType.QUEUED: "A media waits for a worker",
        EventType.STARTED: "A worker has taken a media",
        EventType.RETRY: "A try failed without cost; another one follows",
        EventType.COMPLETED: "Every file is in the store",
        EventType.FAILED: "A media is over without a result",
        EventType.CANCELED: "A media was canceled",
    }
)


class MediaEventOut(BaseModel):
    """Something has happened to a media."""

    type: EventType
    timestamp: datetime = Field(description="When it happened.")
    sequence: int = Field(description="Rises from event to event of a media; events may arrive in another order.")
    data: MediaOut = Field(description="The media as it was when the event was first sent.")
    omitted: list[str] | None = Field(
        default=None,
        description=f"What was left out or cut, so that the body stays below {MAX_BYTES} bytes; read it at the media.",
        examples=[["input.image"]],
    )


class TestEventData(BaseModel):
    """What a test tells."""

    endpoint_id: UUID
    message: str


class TestEventOut(BaseModel):
    """An event that you have asked for, to try your receiver."""

    type: str = Field(examples=[TEST_TYPE])
    timestamp: datetime
    sequence: int = Field(examples=[0])
    data: TestEventData


def _describe(name: str, summary: str, body: type[BaseModel]) -> None:
    async def received(body: Any) -> None:
        """Answer 2xx within 15 seconds; anything else is tried again, for three days."""

    received.__annotations__ = {"body": body, "return": None}
    webhooks.post(
        name,
        summary=summary,
        operation_id=name.replace(".", "_"),
        response_model=None,
        status_code=204,
        responses={
            410: {"description": "You want nothing more: the endpoint is disabled."},
            "default": {"description": "Tried again, for three days; redirects are not followed."},
        },
        openapi_extra={
            "parameters": [
                {"name": header, "in": "header", "required": True, "description": said, "schema": {"type": "string"}}
                for header, said in _HEADERS
            ]
        },
    )(received)


for _type, _said in _SAID.items():
    _describe(_type, _said, MediaEventOut)
_describe(TEST_TYPE, "You have sent a test", TestEventOut)
