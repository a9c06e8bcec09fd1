"""Takes a mark out of a file again: what is left are the very bytes that came.

Nothing but what `marking.py` wrote is ever removed; a file without a mark of ours passes unchanged. Removal has to know
the whole file, so it is kept in a temporary file (in memory up to 1 MiB).
"""

from collections.abc import Iterable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Final

from app.provenance.errors import DamagedError, ProvenanceError
from app.provenance.formats import HEAD_BYTES, Format, format_of
from app.provenance.mark import find_written
from app.provenance.window import Edit, FileWindow, Readable, Xmp

_IN_MEMORY: Final = 1024 * 1024
_CHUNK: Final = 256 * 1024


def remove_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same file without our mark, if it has one."""
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        for chunk in chunks:
            file.write(chunk)
        yield from removed_from(file)


def removed_from(file: Readable) -> Iterator[bytes]:
    """The bytes of an opened file without our mark, if it has one."""
    size = file.seek(0, 2)
    place = 0
    for edit in _checked(_edits(file), size):
        yield from _between(file, place, edit.start)
        yield edit.inserted
        place = edit.start + edit.removed
    yield from _between(file, place, size)


def _between(file: Readable, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        file.seek(start)
        chunk = file.read(min(_CHUNK, end - start))
        if not chunk:
            return
        start += len(chunk)
        yield chunk


def _edits(file: Readable) -> list[Edit]:
    file.seek(0)
    kind = format_of(file.read(HEAD_BYTES))
    if kind is None:
        return []
    marks = list(_marks(file, kind))
    try:
        return _undone(marks[-1 if kind.last else 0]) if marks else []
    except (ProvenanceError, ValueError, OverflowError):
        # What looks like a mark was not written by us as it stands there.
        return []


def _marks(file: Readable, kind: Format) -> Iterator[Xmp]:
    """Packets with a mark of ours, as far as the file can be read."""
    try:
        for part in kind.walk(FileWindow(file)):
            if isinstance(part, Xmp) and find_written(part.data) is not None:
                yield part
    except ProvenanceError:
        return


def _undone(part: Xmp) -> list[Edit]:
    written = find_written(part.data)
    if written is None:
        raise DamagedError("it has no mark")
    if written.alone:
        return part.delete(written.restore)
    if part.undo is not None:
        return part.undo(written.restore)
    return part.resize(part.data[: written.start] + part.data[written.end :])


def _checked(edits: Sequence[Edit], size: int) -> list[Edit]:
    """Edits in their order; none at all if they do not fit the file."""
    ordered = sorted(edits, key=lambda edit: edit.start)
    place = 0
    for edit in ordered:
        if edit.start < place or edit.removed < 0 or edit.start + edit.removed > size:
            return []
        place = edit.start + edit.removed
    return ordered
