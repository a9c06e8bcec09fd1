"""Response bodies of input files."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field


class UploadOut(BaseModel):
    """An input file."""

    id: UUID
    uri: str = Field(description="How an `input` names it.", examples=["file:01924f3c-8d5a-7cc3-9a51-2f6d1c0b7e42"])
    name: str = Field(description="As uploaded, without folders.", examples=["portrait.png"])
    media_type: str = Field(description="Detected from the bytes.", examples=["image/png"])
    bytes: int = Field(examples=[48213])
    width: int | None = Field(description="In pixels; null: not a picture.", examples=[768])
    height: int | None = Field(description="In pixels; null: not a picture.", examples=[512])
    sha256: str = Field(description="Of the bytes, in hex.")
    created_at: datetime
    expires_at: datetime = Field(
        description="When it is removed; uploading it again, or naming it in a request, extends this."
    )


class UploadPage(BaseModel):
    """Some input files, newest first."""

    items: list[UploadOut]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null: this is the last one.")
