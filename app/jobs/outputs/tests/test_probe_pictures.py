"""Pictures whose beginning does not say their size: a decoder says it, in a process of its own."""

import hashlib
from dataclasses import replace

import pytest

from app.core.file_types import HEAD_BYTES, describe
from app.core.ids import new_id
from app.jobs.outputs import probe
from app.jobs.outputs.probe import OutputProbe
from app.jobs.transitions.completion import StoredFile
from tests.corpora.files import files
from tests.corpora.heif import box

MAX_PIXELS = 1_000_000
LATE = [
    file
    for file in files()
    if file.is_read and file.media_type.startswith("image/") and describe(file.content[:HEAD_BYTES]).width is None
]


async def one(content):
    yield content


async def stored(store, content):
    kind = describe(content[:HEAD_BYTES])
    key = f"media/probed/{new_id()}.{kind.extension}"
    await store.put(key, one(content), kind.content_type)
    digest = hashlib.sha256(content).hexdigest()
    return StoredFile(new_id(), 0, key, kind.media_type, len(content), kind.width, kind.height, digest)


@pytest.mark.parametrize("file", LATE, ids=lambda file: file.name)
async def test_size_is_found_by_a_decoder(runtime, file):
    before = await stored(runtime.store, file.content)

    after = await OutputProbe(runtime.store, MAX_PIXELS).probe(before)

    width, height = file.size or (None, None)
    assert after == replace(before, width=width, height=height)


async def test_long_list_of_properties_is_read_to_its_end(runtime):
    content = next(file.content for file in files() if file.name == "avif")
    begin = int.from_bytes(content[:4])
    padded = content[:begin] + box(b"free", bytes(HEAD_BYTES)) + content[begin:]
    before = await stored(runtime.store, padded)

    after = await OutputProbe(runtime.store, MAX_PIXELS).probe(before)

    assert (before.width, after.width, after.height) == (None, 52, 36)


async def test_picture_is_delivered_without_a_size_when_its_probe_fails(runtime, monkeypatch, tmp_path):
    program = tmp_path / "probe.py"
    program.write_text("import os; os.abort()")
    monkeypatch.setattr(probe, "PROGRAM", program)
    before = await stored(runtime.store, next(file.content for file in LATE if file.format == "psd"))

    assert await OutputProbe(runtime.store, MAX_PIXELS).probe(before) == before


def test_huge_picture_is_measured_and_not_decoded(tmp_path):
    content = bytearray(next(file.content for file in LATE if file.format == "tga"))
    content[12:16] = b"\xff\xff\xff\xff"
    (tmp_path / "file").write_bytes(content)

    found = probe._run_process("picture:TGA", tmp_path, MAX_PIXELS)

    assert (found.width, found.height) == (65_535, 65_535)
