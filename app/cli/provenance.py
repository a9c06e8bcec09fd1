"""`fleek provenance`: what a file says of its origin, and whether it is on record."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.console import say
from app.cli.errors import CommandError
from app.cli.operator_runtime import effective_settings, with_runtime
from app.cli.tables import show_json
from app.media import queries
from app.media.provenance import CheckedFile, origin_of
from app.provenance.manifests import Verdict
from app.runtime import Runtime


def provenance(
    file: Annotated[Path, typer.Argument(help="The file.", show_default=False)],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether a file is one of ours, and which marks and manifests are in it.

    The exit status is 0 whatever the answer; it is 1 if the file or the database cannot be read.
    """
    settings = effective_settings()
    try:
        with file.open("rb") as opened:
            origin = origin_of(opened, settings.c2pa_trust_list)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror or error}") from None

    async def look_up(runtime: Runtime) -> CheckedFile:
        return CheckedFile(origin, await queries.file_by_hash(runtime.db, {origin.sha256, origin.source_sha256}))

    checked = with_runtime(look_up)
    if json:
        show_json(_as_json(checked))
        return
    for line in _lines(checked):
        say(line)


def _as_json(checked: CheckedFile) -> dict[str, Any]:
    origin, marks, known = checked.origin, checked.origin.marks, checked.known
    return {
        "is_ours": known is not None,
        "media_id": None if known is None else str(known.media_id),
        "sha256": origin.sha256,
        "source_sha256": origin.source_sha256,
        "bytes": origin.bytes,
        "format": marks.format,
        "marks": [
            {
                "source_type": str(one.source_type),
                "tool": one.tool,
                "model": one.model,
                "media_id": str(one.media_id),
                "holds": checked.holds(one.media_id),
            }
            for one in marks.ours
        ],
        "source_types": list(marks.source_types),
        "c2pa": asdict(origin.manifest),
        "problem": marks.problem or None,
    }


def _lines(checked: CheckedFile) -> list[str]:
    origin, marks, known = checked.origin, checked.origin.marks, checked.known
    ours = "not on record here" if known is None else f"on record: media item {known.media_id}, file {known.index}"
    lines = [f"{origin.bytes} bytes, {marks.format or 'a format without a place for marks'}; {ours}"]
    for one in marks.ours:
        holds = "it holds" if checked.holds(one.media_id) else "it does not hold: changed, copied here, or deleted"
        lines.append(f"mark of {one.tool}: {one.source_type}, {one.model}, media item {one.media_id}; {holds}")
    lines += [f"DigitalSourceType: {one}" for one in marks.source_types]
    lines += _manifest(origin.manifest)
    if marks.problem:
        lines.append(f"not read to its end: {marks.problem}")
    return [*lines, f"sha256 {origin.sha256}", f"sha256 without the mark {origin.source_sha256}"]


def _manifest(verdict: Verdict) -> Iterator[str]:
    if not verdict.present:
        yield "C2PA manifest: none"
        return
    if verdict.valid is None:
        yield f"C2PA manifest: present, {verdict.problem or 'not verified'}"
        return
    trust = {None: "no trust list is set", True: "on the trust list", False: "not on the trust list"}[verdict.trusted]
    issuer = f"signed by {verdict.issuer or 'nobody who is named'}, {trust}"
    yield f"C2PA manifest: {'valid' if verdict.valid else 'NOT valid'}, {issuer}"
    if verdict.problem:
        yield f"C2PA problem: {verdict.problem}"
    yield from (f"C2PA digitalSourceType: {one}" for one in verdict.source_types)
