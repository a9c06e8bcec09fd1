"""What goes over the wire, for validation and for the API's documentation."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.media.states import MediaStatus


def _storable(value: str) -> str:
    if "\x00" in value:
        raise ValueError("the character U+0000 cannot be stored")
    if not value.strip():
        raise ValueError("must not be blank")
    return value


class MediaIn(BaseModel):
    """What to generate."""

    model_config = ConfigDict(extra="forbid")

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
    width: int | None = Field(description="In pixels; null: not a picture.")
    height: int | None = Field(description="In pixels; null: not a picture.")
    sha256: str = Field(description="Of the bytes, in hex.")
    url: str = Field(description="The permanent address of the file.")


class MediaOut(BaseModel):
    """A media: what was asked for and what came of it."""

    id: UUID = Field(description="The media; it never changes.")
    job_id: UUID = Field(description="The work on it; what clients poll.")
    status: MediaStatus
    prompt: str
    model: str
    input: dict[str, Any] = Field(description="The model's parameters, defaults filled in.")
    progress: float | None = Field(description="0 to 1; null: not known.")
    number_of_tries: int = Field(description="Attempts begun so far.")
    next_run: datetime | None = Field(description="While IN_QUEUE: from when a worker may take it.")
    error: ErrorOut | None = Field(description="Why the last try failed; null once completed.")
    files: list[FileOut]
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
