"""Outputs are signed at ingest where the operator has a certificate; the API says so, and checks verify it."""

import hashlib

import pytest

from app.core.config import Settings
from app.core.errors import SettingsError
from app.jobs.outputs import signatures
from app.jobs.outputs.signatures import signer_of
from app.jobs.outputs.tests.test_marks import Delivers, key_of, picture, with_c2pa
from app.media_generator.registry import Registry
from tests.certificates import ISSUER, signer_files
from tests.support import Client

pytest.importorskip("c2pa", reason="the extra c2pa is not installed")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return signer_files(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def registry():
    return Registry([Delivers()])


async def made(client, working, files, source):
    await working(Delivers(source), mark_outputs=True, c2pa_certificate=files.certificate, c2pa_key=files.key)
    done = await client.until(await client.generate(model="dummy/model"))
    return done, done["files"][0]


async def served(runtime, file):
    return b"".join([chunk async for chunk in runtime.store.get(await key_of(runtime.db, file))])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
async def test_output_is_signed_and_checks_verify_it(api_of, working, runtime, files, kind):
    client = Client(await api_of(Registry([Delivers()]), c2pa_trust_list=files.root))
    source = picture(kind)

    done, file = await made(client, working, files, source)

    content = await served(runtime, file)
    checked = (await client.api.post("/provenance/check", content=content)).json()
    assert (file["provenance"]["signed"], file["provenance"]["mark"], file["warnings"]) == (True, "marked", [])
    assert (file["sha256"], file["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert file["source_sha256"] == hashlib.sha256(source).hexdigest()
    assert (checked["is_ours"], checked["media_id"]) == (True, done["id"])
    assert [mark["holds"] for mark in checked["marks"]] == [True]
    manifest = checked["c2pa"]
    assert (manifest["valid"], manifest["trusted"], manifest["issuer"]) == (True, True, ISSUER)


async def test_file_that_cannot_be_signed_is_stored_with_its_mark_and_a_warning(client, working, files, tmp_path):
    other = signer_files(tmp_path)

    _, file = await made(client, working, type(files)(files.certificate, other.key, files.root), picture())

    assert (file["provenance"]["signed"], file["provenance"]["mark"]) == (False, "marked")
    assert [warning["code"] for warning in file["warnings"]] == ["not_signed"]


async def test_file_that_is_too_large_to_be_signed_passes_with_its_mark(client, working, runtime, files, monkeypatch):
    monkeypatch.setattr(signatures, "LARGEST", 1_000)
    source = picture()

    _, file = await made(client, working, files, source)

    assert len(await served(runtime, file)) == file["bytes"] > len(source)
    assert (file["provenance"]["signed"], file["provenance"]["mark"]) == (False, "marked")
    assert [warning["code"] for warning in file["warnings"]] == ["not_signed"]


@pytest.mark.parametrize("source", [with_c2pa(picture()), picture("BMP")], ids=["manifest", "no place"])
async def test_what_has_a_manifest_or_no_place_for_one_stays_as_it_came(client, working, runtime, files, source):
    _, file = await made(client, working, files, source)

    assert await served(runtime, file) == source
    assert file["provenance"]["signed"] is False
    assert "not_signed" not in [warning["code"] for warning in file["warnings"]]


def test_certificate_that_cannot_be_read_is_an_invalid_setting(tmp_path, files):
    unset = Settings(_env_file=None)
    missing = Settings(_env_file=None, c2pa_certificate=tmp_path / "none.pem", c2pa_key=files.key)

    assert signer_of(unset) is None
    with pytest.raises(SettingsError, match=r"C2PA_CERTIFICATE: .* cannot be read"):
        signer_of(missing)


def test_certificate_without_its_key_is_an_invalid_setting(files):
    with pytest.raises(ValueError, match="belong together"):
        Settings(_env_file=None, c2pa_certificate=files.certificate)
