"""C2PA manifests: what is signed here is read back by the library of its authors, and what is changed does not hold."""

import asyncio
import io
import json
from dataclasses import replace
from tempfile import TemporaryFile
from uuid import UUID

import pytest

from app.provenance import manifests
from app.provenance.manifests import SIGNED_TYPES, Credentials, ManifestError, Verdict, manifest_of, sign, verify
from app.provenance.mark import Mark, SourceType
from app.provenance.marking import MarkedStream
from app.provenance.origin import origin_of
from tests.certificates import ISSUER, signer_files
from tests.http_servers import HttpServer, running
from tests.marked_files import HAS_AV, SAMPLES
from tests.other_readers import pixels, samples

c2pa = pytest.importorskip("c2pa", reason="the extra c2pa is not installed")

MARK = Mark(SourceType.TRAINED, "Fleek 1.0", "acme/model", UUID("0190a000-0000-7000-8000-000000000001"))
PICTURES = {
    "png RGB": "image/png",
    "jpeg RGB": "image/jpeg",
    "webp lossy RGB": "image/webp",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "avif": "image/avif",
}
OTHERS = {"wav": "audio/wav"}
if HAS_AV:
    OTHERS |= {
        "av mp4": "video/mp4",
        "av mov": "video/quicktime",
        "av m4a": "audio/mp4",
        "av mp3": "audio/mpeg",
    }
NAMES = {**PICTURES, **OTHERS}
EVERY = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return signer_files(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def credentials(files):
    return Credentials(files.certificate, files.key, "es256")


def opened(data):
    file = TemporaryFile()  # noqa: SIM115 - closed with the test
    file.write(data)
    file.flush()
    return file


def marked(name):
    stream = MarkedStream(MARK)
    return b"".join([*stream.feed(SAMPLES[name].data), *stream.close()])


def signed(name, credentials):
    with opened(marked(name)) as source, TemporaryFile() as target:
        sign(source, target, NAMES[name], MARK, credentials)
        target.seek(0)
        return target.read()


@EVERY
def test_signed_file_is_read_back_by_the_authors_library(name, credentials):
    content = signed(name, credentials)

    with c2pa.Reader(NAMES[name], io.BytesIO(content)) as reader:
        manifest = reader.get_active_manifest()
        assert reader.get_validation_state() == "Valid"
    assert manifest["signature_info"]["issuer"] == ISSUER
    (actions,) = (one["data"]["actions"] for one in manifest["assertions"] if "actions" in one["label"])
    assert [(one["action"], one["digitalSourceType"]) for one in actions] == [("c2pa.created", SourceType.TRAINED.uri)]
    assert "thumbnail" not in json.dumps(manifest)


@EVERY
def test_signature_takes_a_few_thousand_bytes_and_the_mark_stays(name, credentials):
    content = signed(name, credentials)

    assert 0 < len(content) - len(marked(name)) < 6_000
    with opened(content) as file:
        found = origin_of(file, None)
    assert (found.marks.c2pa, found.marks.ours) == (True, (MARK,))
    assert found.manifest == Verdict(
        present=True, valid=True, issuer=ISSUER, source_types=(SourceType.TRAINED.uri,), trusted=None
    )


@pytest.mark.parametrize("name", PICTURES)
def test_signature_touches_no_pixel(name, credentials):
    assert pixels(signed(name, credentials)) == pixels(SAMPLES[name].data)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.skipif(not HAS_AV, reason="the extra av is not installed")
def test_signature_touches_no_sample(name, credentials):
    assert samples(signed(name, credentials)) == samples(SAMPLES[name].data)


@EVERY
def test_file_that_was_changed_after_it_was_signed_is_not_valid(name, credentials):
    content = bytearray(signed(name, credentials))
    place = content.rindex(SAMPLES[name].data[len(SAMPLES[name].data) // 2 :][:8])
    content[place] ^= 1

    with opened(bytes(content)) as file:
        verdict = verify(file, None)

    assert (verdict.present, verdict.valid) == (True, False)
    assert verdict.problem


def test_only_a_certificate_of_the_trust_list_is_trusted(files, credentials, tmp_path):
    stranger = signer_files(tmp_path)
    with opened(signed("png RGB", credentials)) as file:
        without, listed, unlisted = (verify(file, one) for one in (None, files.root, stranger.root))

    assert [one.valid for one in (without, listed, unlisted)] == [True, True, True]
    assert [one.trusted for one in (without, listed, unlisted)] == [None, True, False]


def test_signed_file_is_not_signed_again(credentials):
    again = pytest.raises(ManifestError, match="has a manifest already")
    with opened(signed("png RGB", credentials)) as file, TemporaryFile() as target, again:
        sign(file, target, "image/png", MARK, credentials)


@pytest.mark.parametrize("change", ["key", "certificate"])
def test_wrong_key_or_certificate_is_an_error(credentials, tmp_path, change):
    wrong = replace(credentials, **{change: getattr(signer_files(tmp_path), change)})
    with opened(marked("png RGB")) as file, TemporaryFile() as target, pytest.raises(ManifestError):
        sign(file, target, "image/png", MARK, wrong)


async def test_manifest_that_is_kept_elsewhere_is_not_fetched(credentials, files):
    async with running(HttpServer()) as server:
        info = c2pa.C2paSignerInfo(b"es256", files.certificate.read_bytes(), files.key.read_bytes(), None)
        target = io.BytesIO()
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest_of(MARK))) as builder:
            builder.set_no_embed()
            builder.set_remote_url(f"{server.url}a.c2pa")
            builder.sign(signer, "image/png", io.BytesIO(SAMPLES["png RGB"].data), target)
        with opened(target.getvalue()) as file:
            found = await asyncio.to_thread(origin_of, file, None)
            verdict = await asyncio.to_thread(verify, file, None)

        assert found.marks.manifest_url.startswith(server.url)
        assert (found.manifest.present, server.connections) == (False, 0)
        assert not verdict.valid


async def test_time_stamp_authority_that_fails_is_an_error_and_no_other_host_is_called(credentials):
    async with running(HttpServer()) as server:
        asking = replace(credentials, timestamp_url=server.url)
        with opened(marked("png RGB")) as file, TemporaryFile() as target, pytest.raises(ManifestError):
            await asyncio.to_thread(sign, file, target, "image/png", MARK, asking)

        assert server.connections == 1


def test_secrets_of_the_environment_do_not_reach_the_process(credentials, monkeypatch, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import json, os; print(json.dumps({'present': True, 'problem': ' '.join(os.environ)}))")
    monkeypatch.setattr(manifests, "_PROGRAM", program)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")

    with opened(b"x") as file:
        assert "AWS_SECRET_ACCESS_KEY" not in (verify(file, None).problem or "")


def test_file_that_is_too_large_is_not_verified(monkeypatch, credentials):
    monkeypatch.setattr(manifests, "LARGEST", 100)

    with opened(signed("png RGB", credentials)) as file:
        verdict = verify(file, None)

    assert (verdict.present, verdict.valid) == (True, None)
    assert verdict.problem == "not verified: it has more than 100 bytes"


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", PICTURES)
def test_what_is_left_of_a_signed_file_is_never_valid(name, share, credentials):
    content = signed(name, credentials)

    with opened(content[: int(len(content) * share)]) as file:
        assert not verify(file, None).valid


def test_every_type_that_is_signed_is_known_to_the_library():
    assert set(SIGNED_TYPES.values()) <= set(c2pa.Builder.get_supported_mime_types())
