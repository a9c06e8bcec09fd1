"""Which files are accepted as inputs: pictures, videos and sounds. Nothing is paid yet, so the others are refused."""

from app.core.file_types import HEAD_BYTES, Kind, describe
from app.uploads.errors import UnsupportedFileError


def accepted(head: bytes) -> Kind:
    """The type of a file that begins like this.

    Raises:
        UnsupportedFileError: It is no picture, video or sound.
    """
    kind = describe(head[:HEAD_BYTES])
    if kind.is_media:
        return kind
    if not head:
        raise UnsupportedFileError("the file cannot be used: it is empty; send a picture, a video or a sound")
    found = "of no known type" if kind.media_type == "application/octet-stream" else kind.media_type
    begin = f"it is {found}, and begins with {head[:8]!r}"
    raise UnsupportedFileError(f"the file is no picture, video or sound: {begin}; convert it to one of these")
