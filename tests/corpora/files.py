"""At least one file of every format that cameras, printers, encoders and models write, made here, not copied.

`files()` makes them once for each process. What stands in a `CorpusFile` was known before any reader of ours saw it.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

HAS_AV = find_spec("av") is not None


@dataclass(frozen=True)
class CorpusFile:
    name: str
    """Format, and form: `jpeg: late header`."""
    content: bytes
    media_type: str
    size: tuple[int, int] | None = None
    """Width and height as displayed; None: it has none, or no installed decoder can tell it."""
    seconds: float | None = None
    """None: it has none, or they are not stated."""
    is_complete: bool = True
    """False only where the format proves that its end is missing."""
    is_read: bool = True
    """Whether a decoder can open it; else it is a beginning that proves the type."""

    @property
    def format(self):
        return self.name.partition(":")[0]


MADE: list[CorpusFile] = []
SKIPPED: dict[str, str] = {}
"""Formats that could not be made, and what is missing."""


def add(name, content, media_type, size=None, **known):
    MADE.append(CorpusFile(name, content, media_type, size, **known))


def add_forms(name, content, media_type, size=None, *, ends=True, **known):
    """The healthy file, with bytes behind its end, and without its end if the format proves that it is missing."""
    add(name, content, media_type, size, **known)
    add(f"{name}: trailing bytes", content + b"trailing bytes" * 3, media_type, size, **known)
    if ends:
        cut = content[: len(content) * 9 // 10]
        add(f"{name}: cut off", cut, media_type, size, is_complete=False, is_read=False)


@cache
def files():
    from tests.corpora import documents, pictures, streams  # noqa: PLC0415 - they register what they make here

    MADE.clear()
    pictures.make()
    documents.make()
    if HAS_AV:
        streams.make()
    else:
        SKIPPED["video and sound"] = "needs the extra av"
    assert len({file.name for file in MADE}) == len(MADE)
    return tuple(MADE)
