"""Writes docs/reference/file-types.md: what is known of a file of every format that the tests make."""

from app.core.file_types import HEAD_BYTES, describe
from app.provenance.mark import Mark, SourceType
from app.provenance.marking import MarkedStream, Outcome
from app.uploads.accepted import accepted
from app.uploads.errors import UnsupportedFileError
from tests.corpora.files import CorpusFile, files
from tests.marked_files import MARK

_OUTCOMES = {
    Outcome.MARKED: "yes",
    Outcome.COMPLETED: "yes",
    Outcome.NO_PLACE: "no place",
    Outcome.NOT_SAFE: "not safe",
}

INTRO = """# File types

What a file is, is read from its first 64 KiB, never from a name or a header, and in the same way for results and for
uploads. A result is kept whatever it is; what nobody knows is `application/octet-stream`. An upload that is no picture,
video or sound is refused with `unsupported_file`, one that is cut off with `file_cut_off`.

- **Size** is in pixels as displayed: turned as Exif (JPEG, TIFF), `irot` (HEIC, AVIF) or a video's matrix say, and
  cropped as `clap` says. It is null where it is not certain. Where the beginning does not state it, a decoder reads it
  once a result is stored: Pillow for pictures, PyAV (extra `av`) for video and sound. Uploads are not decoded.
- **Seconds** need the extra `av`.
- **Whole** is `no` only where the format proves that its end is missing; bytes behind the end are no fault.
- **Served as** is the Content-Type. What a browser would run scripts of is served as plain text.
- **Mark** says whether a result gets a [mark of origin](../how-to/label-ai-media.md). It can be taken out again: what
  is left are the very bytes that came.

The files are made by `tests/corpora`, and this table is compared with them by a test.

| File | `media_type` | Size | Seconds | Whole | Upload | Served as | Mark |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def _is_accepted(content: bytes) -> bool:
    try:
        accepted(content)
    except UnsupportedFileError:
        return False
    return True


def _mark(content: bytes) -> str:
    stream = MarkedStream(Mark(SourceType.TRAINED, "Fleek", "a/model", MARK.media_id))
    stream.feed(content)
    stream.close()
    return _OUTCOMES.get(stream.outcome, str(stream.outcome))


def _row(file: CorpusFile) -> str:
    kind = describe(file.content[:HEAD_BYTES])
    size = "" if file.size is None else f"{file.size[0]} x {file.size[1]}"
    seconds = "" if file.seconds is None else f"{file.seconds:g}"
    taken = "yes" if file.is_complete else "`file_cut_off`"
    taken = taken if _is_accepted(file.content) else "`unsupported_file`"
    served = "the same" if kind.content_type == kind.media_type else f"`{kind.content_type}`"
    whole = "yes" if file.is_complete else "no"
    cells = file.name, f"`{kind.media_type}`", size, seconds, whole, taken, served, _mark(file.content)
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def file_types_page() -> str:
    """The page."""
    return INTRO + "\n".join(_row(file) for file in files()) + "\n"
