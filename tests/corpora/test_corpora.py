"""What is said of a file is what it is, for every format, and nothing is said that its bytes do not prove."""

import io
import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.core.file_types import HEAD_BYTES, EndDetector, content_type_of, describe, heif
from app.jobs.outputs import probe, probe_process
from app.provenance.marking import LARGEST_GROWTH, MarkedStream, Outcome
from app.provenance.removal import remove_mark
from app.uploads.accepted import accepted
from app.uploads.errors import UnsupportedFileError
from tests.corpora.files import HAS_AV, SKIPPED, files
from tests.marked_files import MARK
from tests.other_readers import pixels

EVERY = pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
READ = pytest.mark.parametrize("file", [file for file in files() if file.is_read], ids=lambda file: file.name)
NAMED = {
    *("png", "apng", "jpeg", "mpo", "gif", "webp", "avif", "heic", "tiff", "bigtiff", "bmp", "ico", "tga"),
    *("jxl", "psd", "jp2", "svg", "pdf", "glb", "gltf", "usdz", "stl", "ply", "obj", "fbx", "zip", "mp4"),
    *("m4v", "mov", "3gp", "webm", "mkv", "avi", "flv", "wmv", "mp3", "mp2", "aac", "flac", "wav", "aiff"),
    *("aiff-c", "m4a", "amr", "midi", "wma", "srt", "vtt", "csv", "json", "html", "text"),
    *("mpeg program stream", "mpeg transport stream", "ogg theora", "ogg opus", "ogg vorbis", "ogg flac"),
}
SCRIPTED = re.compile(r"html|xml|svg|script")


def described(content):
    return describe(content[:HEAD_BYTES])


def ending(content, step=997):
    found = EndDetector(described(content), content[:HEAD_BYTES])
    for start in range(0, len(content), step):
        found.feed(content[start : start + step])
    return found


def test_every_format_has_a_file():
    missing = NAMED - {file.format for file in files()} - set(SKIPPED)

    assert not HAS_AV or missing == set()


@EVERY
def test_type_is_told(file):
    assert described(file.content).media_type == file.media_type


@EVERY
def test_size_from_the_beginning_is_right_or_missing(file):
    kind = described(file.content)

    assert (kind.width, kind.height) in {file.size, (None, None)}
    assert ending(file.content).pixels in {file.size, None}


@pytest.mark.parametrize("step", [1, 7, 4_096, 1 << 20])
def test_cut_off_is_said_where_it_is_proved(step):
    short = [file for file in files() if step > 7 or len(file.content) < 20_000]

    wrong = [file.name for file in short if ending(file.content, step).is_complete != file.is_complete]
    assert wrong == []


@READ
def test_decoder_says_the_same(file, tmp_path):
    kind = probe.FORMATS.get(file.media_type) or probe.PICTURES.get(file.media_type)
    if kind is None:
        assert file.seconds is None
        pytest.skip("neither of them reads it")
    path = tmp_path / "file"
    path.write_bytes(file.content)
    kind = kind if file.media_type in probe.FORMATS else f"picture:{kind}"

    found = probe_process.probe(kind, str(path), str(tmp_path / "poster"), 1_000_000)

    assert (found["width"], found["height"]) == (file.size or (None, None))
    if file.seconds is not None and found["seconds"] is not None:
        # The last packet may be longer than what is left; a program stream has times for every half second only.
        assert found["seconds"] == pytest.approx(file.seconds, abs=0.6)


@pytest.mark.skipif(not HAS_AV, reason="needs the extra av")
def test_decoder_says_the_same_of_heif_before_it_is_turned():
    import av  # noqa: PLC0415 - an extra

    seen = 0
    for file in (file for file in files() if file.media_type in probe.HEIF and file.is_read):
        found = heif.read(file.content)
        with av.open(io.BytesIO(file.content), format="mov") as container:
            coded = next((frame.width, frame.height) for frame in container.decode(video=0))
        assert found is None or coded == found.coded, file.name
        if file.format == "avif":
            with Image.open(io.BytesIO(file.content)) as image:
                assert image.size == coded
        seen += 1
    assert seen


@EVERY
def test_upload_is_accepted_by_the_same_reading(file):
    kind = described(file.content)
    if kind.is_media:
        assert accepted(file.content) == kind
        return
    with pytest.raises(UnsupportedFileError) as refused:
        accepted(file.content)
    assert re.search(f"{re.escape(kind.media_type)}|no known type|is empty", refused.value.detail)


@EVERY
def test_nothing_is_served_as_what_a_browser_runs(file):
    assert not SCRIPTED.search(described(file.content).content_type)


@pytest.mark.parametrize(
    "type_", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "application/xml", "text/css"]
)
def test_scripts_are_served_as_plain_text(type_):
    assert content_type_of(type_) == "text/plain; charset=utf-8"


def changed(data):
    """A file of the corpora with some of its bytes changed, inserted or cut off."""
    content = bytearray(data.draw(st.sampled_from(files())).content)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, min(len(content), data.draw(st.sampled_from([40, 400, 4_000])))))
        content[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    return bytes(content[: data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else None])


@given(st.data())
@settings(deadline=None, max_examples=400)
def test_no_bytes_raise(data):
    content = data.draw(st.binary(max_size=300)) if data.draw(st.booleans()) else changed(data)
    texts = data.draw(st.lists(st.sampled_from(["text/plain", "application/json", "image/svg+xml", "text/html"])))
    kind = describe(content[:HEAD_BYTES], texts)

    assert (kind.width is None) == (kind.height is None)
    found = EndDetector(kind, content[:HEAD_BYTES])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        found.feed(content[start:end])
    assert found.size == len(content)
    assert found.is_complete == ending(content).is_complete or texts


@given(st.data())
@settings(deadline=None, max_examples=400)
def test_size_is_never_another_than_the_decoders(data):
    content = changed(data)
    kind = described(content)
    if kind.width is None or kind.media_type not in probe.PICTURES:
        return
    with (
        suppress(Exception),
        Image.open(io.BytesIO(content), formats=probe.PICTURES[kind.media_type].split(",")) as image,
    ):
        turned = image.format in {"JPEG", "MPO"} and image.getexif().get(0x0112) in range(5, 9)
        size = image.size[::-1] if turned else image.size
        assert size == (kind.width, kind.height), content[:100]


def marked(content):
    stream = MarkedStream(MARK)
    out = [one for start in range(0, len(content), 4_096) for one in stream.feed(content[start : start + 4_096])]
    return b"".join([*out, *stream.close()]), stream.outcome


@EVERY
def test_mark_of_origin_can_be_taken_out_again(file):
    out, outcome = marked(file.content)

    if outcome in {Outcome.MARKED, Outcome.COMPLETED}:
        assert len(file.content) < len(out) <= len(file.content) + LARGEST_GROWTH
        assert b"".join(remove_mark([out])) == file.content
    else:
        assert out == file.content


@EVERY
def test_mark_of_origin_changes_nothing_of_what_is_known(file):
    out, _ = marked(file.content)

    before, after = described(file.content), described(out)
    assert after.media_type == before.media_type
    # A mark may move the size behind the beginning, but never changes it.
    assert (after.width, after.height) in {(before.width, before.height), (None, None)}
    assert ending(out).is_complete == file.is_complete


def frames(content):
    """All that a decoder finds, as far as it gets: bytes behind the end of a bare stream of frames are an error."""
    import av  # noqa: PLC0415 - an extra

    found = []
    with av.open(io.BytesIO(content)) as container, suppress(av.FFmpegError):
        for packet in container.demux():
            found += [(packet.stream.index, frame.pts, frame.to_ndarray().tobytes()) for frame in packet.decode()]
    return found


@READ
def test_mark_of_origin_changes_no_pixel_and_no_sample(file):
    out, outcome = marked(file.content)

    if outcome not in {Outcome.MARKED, Outcome.COMPLETED}:
        return
    if file.media_type in {*probe.PICTURES, "image/avif"}:
        assert pixels(out) == pixels(file.content)
    elif HAS_AV:
        assert frames(out) == frames(file.content)
        assert frames(out)
