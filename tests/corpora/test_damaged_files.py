"""Whatever has become of a file on its way, the readers of its bytes end without an error."""

import random

import pytest

from app.core.file_types import HEAD_BYTES, EndDetector, bmff, describe, pictures, scenes, streams, text
from app.core.file_types.gif import GifBlocks
from app.core.file_types.jpeg import JpegSegments
from tests.corpora.files import files
from tests.corpora.heif import box

ROUNDS = 12
READERS = (bmff.recognise, pictures.recognise, pictures.recognise_weakly, streams.recognise)
READERS += (scenes.recognise, scenes.recognise_text, scenes.recognise_weakly, text.recognise)


def damaged(content, chance):
    """Cut off, with other bytes, with a range of zeros, or with a piece taken out."""
    content = bytearray(content[: HEAD_BYTES + 1_000])
    for _ in range(chance.randint(1, 3)):
        # Beginnings matter most.
        most = chance.choice([16, 64, 512, len(content)])
        start = chance.randrange(min(most, len(content)) or 1)
        end = start + chance.choice([1, 2, 4, 8, 100])
        match chance.randrange(5):
            case 0:
                del content[start:]
            case 1:
                content[start:end] = chance.randbytes(len(content[start:end]))
            case 2:
                content[start:end] = bytes(len(content[start:end]))
            case 3:
                content[start:end] = b"\xff" * len(content[start:end])
            case _:
                del content[start:end]
    return bytes(content)


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_damaged_file_is_described(file):
    chance = random.Random(file.name)
    media_type = describe(file.content[:HEAD_BYTES]).media_type
    for _ in range(ROUNDS):
        content = damaged(file.content, chance)
        head = content[:HEAD_BYTES]

        for read in READERS:
            read(head)
        pictures.size_of(media_type, head)

        kind = describe(head)
        assert kind.width is None or min(kind.width, kind.height) > 0
        ends = [EndDetector(kind, head), JpegSegments(), GifBlocks()]
        for start in range(0, len(content), step := chance.choice([99, 1_000, HEAD_BYTES])):
            for end in ends:
                end.feed(content[start : start + step])
        assert isinstance(ends[0].is_complete, bool)


@pytest.mark.parametrize(
    "file", [file for file in files() if file.name == file.format and b"iinf" in file.content[:1_000]]
)
def test_empty_list_of_pictures_is_no_error(file):
    at = file.content.index(b"iinf") - 4
    length = int.from_bytes(file.content[at : at + 4])
    emptied = file.content[:at] + box(b"iinf") + box(b"free", bytes(length - 16)) + file.content[at + length :]

    assert pictures.size_of(file.media_type, emptied) is not None
    assert describe(emptied).media_type == file.media_type
