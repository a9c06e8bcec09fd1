"""A program of its own that verifies a C2PA manifest, or signs one: `python manifest_process.py REQUEST < FILE`.

It parses untrusted files, so it runs apart, with limits, without secrets in its environment, and imports nothing of
ours. REQUEST is a JSON object: see `Verifying` and `Signing`. Nothing is fetched: neither manifests that are kept
elsewhere nor certificates' states; a time-stamp authority is called where one is named. It prints a JSON object.
"""

import json
import os
import resource
import sys
from typing import IO, Any, Final, TypedDict
from urllib.parse import urlsplit

import c2pa as _c2pa  # pyright: ignore[reportMissingTypeStubs]

c2pa: Any = _c2pa

MOST_CPU_SECONDS: Final = 60
MOST_BYTES: Final = 2 * 1024**3
"""Of address space; the library holds a large file once, and reserves twice of that."""
_LONGEST_TEXT: Final = 300
_BUFFER_MIB: Final = 16
"""What the library writes into temporary files from here on."""
_UNTRUSTED: Final = "signingCredential.untrusted"


class Verifying(TypedDict):
    """What is verified: standard input."""

    trust_list: str | None
    """The path of trusted certificates, PEM; None: whether it is trusted is not asked."""


class Signing(TypedDict):
    """What is signed: standard input; the result is written to the file descriptor `target`."""

    target: int
    media_type: str
    certificate: str
    """The path of the certificate and its issuers, PEM."""
    key: str
    """The path of the private key, PEM."""
    algorithm: str
    timestamp_url: str | None
    manifest: dict[str, Any]


def verify(file: IO[bytes], request: Verifying) -> dict[str, Any]:
    """What the manifest of a file is worth; `present` is False if it has none that is embedded."""
    trusted = request["trust_list"]
    settings = _settings(verify_trust=trusted is not None)
    if trusted is not None:
        with open(trusted, encoding="utf-8") as anchors:  # noqa: PTH123 - nothing else is needed of pathlib
            settings["trust"] = {"user_anchors": anchors.read()}
    try:
        with (
            c2pa.Context(c2pa.Settings.from_dict(settings)) as context,
            c2pa.Reader(None, file, None, context) as reader,
        ):
            return _verdict(reader, asked=trusted is not None)
    except c2pa.C2paError.ManifestNotFound:
        return {"present": False}
    except c2pa.C2paError as error:
        return {"present": True, "valid": False, "problem": _text(str(error))}


def _verdict(reader: Any, *, asked: bool) -> dict[str, Any]:
    state = reader.get_validation_state()
    manifest = _object(reader.get_active_manifest())
    signature = _object(manifest.get("signature_info"))
    results = _object(_object(reader.get_validation_results()).get("activeManifest"))
    faults = [_object(fault) for fault in results.get("failure", ())]
    faults = [fault for fault in faults if asked or fault.get("code") != _UNTRUSTED]
    return {
        "present": reader.is_embedded(),
        "valid": state in {"Valid", "Trusted"},
        "issuer": _text(signature.get("issuer")),
        "signed_at": _text(signature.get("time")),
        "trusted": state == "Trusted" if asked else None,
        "source_types": _source_types(manifest)[:16],
        "problem": _text(faults[0].get("explanation") or faults[0].get("code")) if faults else None,
    }


def _source_types(manifest: dict[str, Any]) -> list[str | None]:
    found: list[str | None] = []
    for assertion in manifest.get("assertions", ()):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            actions = map(_object, _object(assertion.get("data")).get("actions", ()))
            found += [_text(action["digitalSourceType"]) for action in actions if "digitalSourceType" in action]
    return found


def sign(file: IO[bytes], request: Signing) -> dict[str, Any]:
    """Write the same file with a manifest; refused where it has one already."""
    hosts = [request["timestamp_url"]] if request["timestamp_url"] else []
    settings = _settings(verify_trust=False, hosts=[urlsplit(url).netloc for url in hosts])
    with c2pa.Context(c2pa.Settings.from_dict(settings)) as context:
        earlier = c2pa.Reader.try_create(None, file, None, context)
        if earlier is not None:
            raise ValueError("it has a manifest already")
        file.seek(0)
        with (
            c2pa.Signer.from_info(_signer_info(request)) as signer,
            c2pa.Builder(json.dumps(request["manifest"]), context) as builder,
            os.fdopen(request["target"], "r+b") as target,
        ):
            builder.sign(signer, request["media_type"], file, target)
    return {"signed": True}


def _signer_info(request: Signing) -> Any:
    with open(request["certificate"], "rb") as chain, open(request["key"], "rb") as key:  # noqa: PTH123 - as above
        url = request["timestamp_url"]
        return c2pa.C2paSignerInfo(
            request["algorithm"].encode(), chain.read(), key.read(), None if url is None else url.encode()
        )


def _settings(*, verify_trust: bool, hosts: list[str] | None = None) -> dict[str, Any]:
    return {
        "core": {"allowed_network_hosts": hosts or [], "backing_store_memory_threshold_in_mb": _BUFFER_MIB},
        "verify": {
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
            "verify_trust": verify_trust,
            "verify_timestamp_trust": verify_trust,
        },
        "builder": {"thumbnail": {"enabled": False}},
    }


def _object(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one in place of none."""
    return value or {}


def _text(value: Any) -> str | None:
    """What a stranger's file says, to be shown."""
    if value is None:
        return None
    return "".join(letter for letter in str(value)[:_LONGEST_TEXT] if letter.isprintable())


def main() -> int:
    """Do what is requested, and print the result."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    request = json.loads(sys.argv[1])
    file = sys.stdin.buffer
    file.seek(0)
    sys.stdout.write(json.dumps(sign(file, request) if "key" in request else verify(file, request)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
