"""`fleek store`: whether the bucket accepts, returns, serves and protects files."""

import asyncio
import io
import re
import urllib.error
from collections.abc import AsyncIterator, Iterable
from csv import writer as csv_writer
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from app.cli.console import say, without_passwords
from app.cli.errors import FAILURE, WrongUsageError
from app.cli.group import show_help
from app.cli.operator_runtime import effective_settings, with_runtime
from app.cli.tables import CheckResult, checks_as_json, show_checks, show_json
from app.core.config import Settings
from app.core.ids import new_id
from app.core.this_machine import opener
from app.jobs.inputs.source_types import source_types
from app.jobs.outputs.mark_stored import MarkCounts, StoredFileMarker
from app.media import mark_log
from app.media.mark_log import MarkEntry
from app.runtime import Runtime
from app.storage.s3 import S3Store
from app.storage.store import ObjectNotFoundError, StoreError, StoreUnavailableError

app = typer.Typer(
    name="store",
    help="Check the bucket, mark what is in it, print the log of marks.",
    callback=show_help,
    invoke_without_command=True,
)

TIMES: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
PROBE: Final = b"fleek store check"
LIFETIME: Final = timedelta(minutes=1)
ANSWER_SECONDS: Final = 5.0
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_HINTS: Final = {
    "InvalidAccessKeyId": "the store does not know AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
    "AccessDenied": "allow the key to put, get and delete objects in the bucket",
    "NoSuchBucket": "run fleek prepare to create the bucket, or change BUCKET_NAME",
    "AuthorizationHeaderMalformed": "set AWS_DEFAULT_REGION to the region of the bucket",
    "PermanentRedirect": "set AWS_DEFAULT_REGION to the region of the bucket",
}
"""What to do, by S3 error code."""
_DEFAULT_HINT: Final = "check S3_ENDPOINT_URL, BUCKET_NAME, AWS_DEFAULT_REGION and the AWS_ keys"


@app.command()
def check(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Write, read, sign, download and delete a small file; nothing is left behind.

    The signed URL is opened from this machine, at S3_PUBLIC_URL; if clients are in another network, run it there.
    The exit status is 1 if a check fails.
    """
    settings = effective_settings()
    checks = asyncio.run(_probe(settings))
    healthy = all(one.ok for one in checks)
    if json:
        show_json({"ok": healthy, "checks": checks_as_json(checks)})
    else:
        show_checks(checks)
    raise typer.Exit(0 if healthy else FAILURE)


@app.command()
def mark(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Write the mark of origin into files that were stored without one; see docs/how-to/label-ai-media.md.

    It can be stopped and run again at any time. The exit status is 1 if a file could not be read or written.
    """

    def report(counts: MarkCounts) -> None:
        if not json:
            say(_counted(counts))

    async def run(runtime: Runtime) -> MarkCounts:
        return await StoredFileMarker(runtime.db, runtime.store, source_types(runtime.registry)).mark_all(report)

    counts = with_runtime(run)
    if json:
        show_json(asdict(counts))
    else:
        say(f"done: {_counted(counts)}")
    raise typer.Exit(FAILURE if counts.failed else 0)


@app.command()
def marks(
    since: Annotated[
        datetime | None, typer.Option(formats=TIMES, help="Only files stored from then on, in UTC.", show_default=False)
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=TIMES, help="Only files stored before, in UTC.", show_default=False)
    ] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header; the default.")] = False,
) -> None:
    """Print the log of marks, the oldest first: of each stored file what was marked, when, by what, and both hashes.

    It is what an auditor asks for; see docs/how-to/label-ai-media.md.
    """
    if json and csv:
        raise WrongUsageError("use --json or --csv, not both")

    async def run(runtime: Runtime) -> None:
        if not json:
            say(_csv_line(MarkEntry.__struct_fields__))
        async for entry in mark_log.entries(runtime.db, _in_utc(since), _in_utc(until)):
            fields = {name: getattr(entry, name) for name in MarkEntry.__struct_fields__}
            if json:
                show_json(fields)
            else:
                say(_csv_line(map(_as_text, fields.values())))

    with_runtime(run)


def _in_utc(when: datetime | None) -> datetime | None:
    return None if when is None else when.replace(tzinfo=UTC)


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv_writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _counted(counts: MarkCounts) -> str:
    return f"{counts.marked} marked, {counts.left_as_they_are} left as they are, {counts.failed} failed"


async def _probe(settings: Settings) -> list[CheckResult]:
    """The result of each step, up to the first one without which the next makes no sense."""
    store, key = S3Store(settings), f"fleek-check/{new_id()}"
    first, reachable = await _bucket(store, settings)
    checks = [first]
    if reachable:
        checks.append(await _write(store, key))
    if not reachable or not checks[-1].ok:
        return checks
    try:
        checks += [await _read(store, key), await _signed(store, key, settings), await _private(store, key)]
    finally:
        checks.append(await _delete(store, key))
    return checks


async def _bucket(store: S3Store, settings: Settings) -> tuple[CheckResult, bool]:
    """Whether it exists, and whether the store answers at all: a refused HEAD request gives no reason, a write does."""
    place = settings.s3_endpoint_url or "aws"
    try:
        await store.check()
    except ObjectNotFoundError as error:
        return CheckResult("bucket", ok=False, detail=f"{error} at {place}", hint=_HINTS["NoSuchBucket"]), False
    except StoreError as error:
        answers = not isinstance(error, StoreUnavailableError)
        return CheckResult("bucket", ok=False, detail=f"{error} ({place})", hint=_DEFAULT_HINT), answers
    return CheckResult("bucket", ok=True, detail=f"{settings.bucket_name} exists at {place}"), True


async def _write(store: S3Store, key: str) -> CheckResult:
    async def chunks() -> AsyncIterator[bytes]:
        yield PROBE

    try:
        await store.put(key, chunks(), "text/plain")
    except StoreError as error:
        return _refused("write", error)
    return CheckResult("write", ok=True, detail="accepts files")


async def _read(store: S3Store, key: str) -> CheckResult:
    try:
        found = b"".join([chunk async for chunk in store.get(key)])
    except StoreError as error:
        return _refused("read", error)
    if found != PROBE:
        return CheckResult("read", ok=False, detail="returns other bytes than were written", hint=_DEFAULT_HINT)
    return CheckResult("read", ok=True, detail="returns them unchanged")


async def _signed(store: S3Store, key: str, settings: Settings) -> CheckResult:
    """Whether a client can download the file from a URL that is signed for S3_PUBLIC_URL."""
    place = settings.s3_signing_url or "aws"
    hint = "S3_PUBLIC_URL must be the address at which clients reach the store itself"
    try:
        status, body = await asyncio.to_thread(_fetch, store.sign(key, LIFETIME))
    except OSError as error:
        return CheckResult(
            "signed URL", ok=False, detail=f"{place} does not answer from here ({_name(error)})", hint=hint
        )
    if (status, body) != (200, PROBE):
        return CheckResult(
            "signed URL", ok=False, detail=f"{place} answered {status} {_code(body.decode('latin1'))}", hint=hint
        )
    return CheckResult("signed URL", ok=True, detail=f"works at {place}")


async def _private(store: S3Store, key: str) -> CheckResult:
    """Whether the file cannot be read without a signature."""
    url = store.sign(key, LIFETIME).partition("?")[0]
    try:
        status, _ = await asyncio.to_thread(_fetch, url)
    except OSError as error:
        return CheckResult("private", ok=False, detail=f"cannot be checked ({_name(error)})", hint="see above")
    if status == 200:  # noqa: PLR2004 - HTTP OK
        hint = "remove public access from the bucket; LocalStack always allows it and is for development only"
        return CheckResult("private", ok=False, detail="anyone can read files without a signature", hint=hint)
    return CheckResult("private", ok=True, detail="files cannot be read without a signature")


async def _delete(store: S3Store, key: str) -> CheckResult:
    try:
        await store.delete(key)
    except StoreError as error:
        return _refused("delete", error)
    return CheckResult("delete", ok=True, detail="deletes files")


def _refused(name: str, error: StoreError) -> CheckResult:
    """A failed step, with the store's error code if there is one."""
    code = _code(str(error.__cause__))
    return CheckResult(name, ok=False, detail=f"{error} {code}".strip(), hint=_HINTS.get(code, _DEFAULT_HINT))


def _code(text: str) -> str:
    found = _CODE.search(text)
    return "" if found is None else found[1]


def _name(error: OSError) -> str:
    reason = getattr(error, "reason", error)
    return without_passwords(type(reason).__name__ if isinstance(reason, Exception) else str(reason))


def _fetch(url: str) -> tuple[int, bytes]:
    """Status and first bytes, fetched as a client without our client library would."""
    try:
        with opener(url).open(url, timeout=ANSWER_SECONDS) as answer:
            return answer.status, answer.read(1000)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(1000)
