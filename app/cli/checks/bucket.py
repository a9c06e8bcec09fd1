"""`fleek store`: whether the bucket takes, keeps, hands out and protects files."""

import asyncio
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Final

import typer

from app.cli.console import without_passwords
from app.cli.errors import FAULT
from app.cli.group import tell
from app.cli.operator_runtime import settings_in_force
from app.cli.tables import Finding, plain_checks, show_checks, show_json
from app.core.config import Settings
from app.core.ids import new_id
from app.storage.s3 import S3Store
from app.storage.store import ObjectNotFoundError, StoreError, StoreUnavailableError

app = typer.Typer(name="store", help="Check the bucket.", callback=tell, invoke_without_command=True)

PROBE: Final = b"fleek store check"
LIFETIME: Final = timedelta(minutes=1)
ANSWER_SECONDS: Final = 5.0
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_HINTS: Final = {
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is not known there",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is not the one of AWS_ACCESS_KEY_ID",
    "AccessDenied": "the key must be allowed to put, get and delete objects of the bucket",
    "NoSuchBucket": "run fleek prepare, which makes the bucket, or change BUCKET_NAME",
    "AuthorizationHeaderMalformed": "set AWS_DEFAULT_REGION to the region of the bucket",
    "PermanentRedirect": "set AWS_DEFAULT_REGION to the region of the bucket",
}
"""What to do about an error code of S3's."""
_USUAL_HINT: Final = "check S3_ENDPOINT_URL, BUCKET_NAME, AWS_DEFAULT_REGION and the AWS_ keys"


@app.command()
def check(*, json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Write, read, hand out and delete a small file; nothing is left behind.

    Its signed URL is opened from here, at S3_PUBLIC_URL: where clients reach another network than this machine, run it
    where they are.
    """
    settings = settings_in_force()
    checks = asyncio.run(_probe(settings))
    healthy = all(one.ok for one in checks)
    if json:
        show_json({"ok": healthy, "checks": plain_checks(checks)})
    else:
        show_checks(checks)
    raise typer.Exit(0 if healthy else FAULT)


async def _probe(settings: Settings) -> list[Finding]:
    """What came of each step, until one without which the next makes no sense."""
    store, key = S3Store(settings), f"fleek-check/{new_id()}"
    first, go_on = await _bucket(store, settings)
    checks = [first]
    if go_on:
        checks.append(await _write(store, key))
    if not go_on or not checks[-1].ok:
        return checks
    try:
        checks += [await _read(store, key), await _signed(store, key, settings), await _private(store, key)]
    finally:
        checks.append(await _delete(store, key))
    return checks


async def _bucket(store: S3Store, settings: Settings) -> tuple[Finding, bool]:
    """Whether it is there, and whether trying to write tells more: a refusal of this question gives no reason."""
    place = settings.s3_endpoint_url or "aws"
    try:
        await store.check()
    except ObjectNotFoundError as error:
        return Finding("bucket", ok=False, detail=f"{error} at {place}", hint=_HINTS["NoSuchBucket"]), False
    except StoreError as error:
        answers = not isinstance(error, StoreUnavailableError)
        return Finding("bucket", ok=False, detail=f"{error} ({place})", hint=_USUAL_HINT), answers
    return Finding("bucket", ok=True, detail=f"{settings.bucket_name} is there, at {place}"), True


async def _write(store: S3Store, key: str) -> Finding:
    async def chunks() -> AsyncIterator[bytes]:
        yield PROBE

    try:
        await store.put(key, chunks(), "text/plain")
    except StoreError as error:
        return _refused("write", error)
    return Finding("write", ok=True, detail="takes files")


async def _read(store: S3Store, key: str) -> Finding:
    try:
        found = b"".join([chunk async for chunk in store.get(key)])
    except StoreError as error:
        return _refused("read", error)
    if found != PROBE:
        return Finding("read", ok=False, detail="gives back other bytes than it got", hint=_USUAL_HINT)
    return Finding("read", ok=True, detail="gives them back")


async def _signed(store: S3Store, key: str, settings: Settings) -> Finding:
    """Whether a client's address for the file works; it is signed for S3_PUBLIC_URL."""
    place = settings.s3_signing_url or "aws"
    hint = "S3_PUBLIC_URL must be the address at which clients reach the store, with the bucket's own server behind it"
    try:
        status, body = await asyncio.to_thread(_fetch, store.sign(key, LIFETIME))
    except OSError as error:
        return Finding("signed URL", ok=False, detail=f"{place} does not answer from here ({_name(error)})", hint=hint)
    if (status, body) != (200, PROBE):
        return Finding(
            "signed URL", ok=False, detail=f"{place} answered {status} {_code(body.decode('latin1'))}", hint=hint
        )
    return Finding("signed URL", ok=True, detail=f"opens at {place}")


async def _private(store: S3Store, key: str) -> Finding:
    """Whether the file stays closed to somebody without a signature."""
    url = store.sign(key, LIFETIME).partition("?")[0]
    try:
        status, _ = await asyncio.to_thread(_fetch, url)
    except OSError as error:
        return Finding("private", ok=False, detail=f"cannot be found out ({_name(error)})", hint="see above")
    if status == 200:  # noqa: PLR2004 - somebody got it
        hint = "take public access from the bucket; LocalStack lets everybody read and is for development only"
        return Finding("private", ok=False, detail="everybody can read files without a signature", hint=hint)
    return Finding("private", ok=True, detail="without a signature nobody reads")


async def _delete(store: S3Store, key: str) -> Finding:
    try:
        await store.delete(key)
    except StoreError as error:
        return _refused("delete", error)
    return Finding("delete", ok=True, detail="deletes files")


def _refused(name: str, error: StoreError) -> Finding:
    """A failure with the store's own code for it, if it has named one."""
    code = _code(str(error.__cause__))
    return Finding(name, ok=False, detail=f"{error} {code}".strip(), hint=_HINTS.get(code, _USUAL_HINT))


def _code(text: str) -> str:
    found = _CODE.search(text)
    return "" if found is None else found[1]


def _name(error: OSError) -> str:
    reason = getattr(error, "reason", error)
    return without_passwords(type(reason).__name__ if isinstance(reason, Exception) else str(reason))


def _fetch(url: str) -> tuple[int, bytes]:
    """As a client without our client library; the status and the first bytes."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - an address of the operator's
            return answer.status, answer.read(1000)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(1000)
