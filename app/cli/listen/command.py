"""`fleek listen`: its options."""

from typing import Annotated, Final, TypeAlias

import typer

from app.cli.console import complain
from app.cli.listen.format import EVENT_NAMES, PROGRESS
from app.cli.listen.session import ListenOptions, run
from app.cli.running_instance import DATA, running_addresses
from app.core.errors import SettingsError
from app.core.http_client.addresses import malformed
from app.core.load_settings import load_settings
from app.jobs.states import MediaStatus
from app.webhooks.signing import PREFIX, new_secret, signatures

_LOCAL_RECEIVER: Final = "http://127.0.0.1:3000/hook"

Secret: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Secret for the signatures; default: a new one for each run.",
        envvar="FLEEK_LISTEN_SECRET",
        show_default=False,
    ),
]
Statuses: TypeAlias = Annotated[
    list[MediaStatus] | None,
    typer.Option(
        case_sensitive=False, help="Only events that lead to this status; may be repeated.", show_default=False
    ),
]


def listen(
    *,
    forward_to: Annotated[
        str | None, typer.Option(metavar="URL", help="Post each event, signed, to this URL.", show_default=False)
    ] = None,
    api: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="URL of the API; default: the running `fleek up`, or PUBLIC_URL.", envvar="FLEEK_API"
        ),
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help=f"Only these events: {', '.join(EVENT_NAMES)}.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only media of this model.", show_default=False)] = None,
    tag: Annotated[str | None, typer.Option(help="Only media with this tag.", show_default=False)] = None,
    status: Statuses = None,
    progress: Annotated[bool, typer.Option("--progress", help="Also show progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON: one object per event, one per line.")] = False,
    secret: Secret = None,
) -> None:
    """Show events as they happen, and forward them to a webhook receiver under development.

    Shows the events of all media from now on, until Ctrl-C. While the API is unreachable it waits, then resumes without
    a gap. With --forward-to, the receiver gets what a worker would send: each event once, in order, with the same body
    and a signature; the webhook-id of an event is the same in every run.
    """
    chosen = _names(events) | ({PROGRESS} if progress else set[str]())
    address = _api(api)
    query = {"status": ",".join(status) if status else None, "model": model, "tag": tag}
    options = ListenOptions(
        api=address,
        query={name: str(value) for name, value in query.items() if value is not None},
        names=frozenset(chosen),
        as_json=json,
        forward_to=None if forward_to is None else _address(forward_to, "--forward-to", _LOCAL_RECEIVER),
        secret=new_secret() if secret is None else _secret(secret),
    )
    complain(f"listening at {address}")
    if options.forward_to is not None:
        secret_used = (
            "the given secret" if secret is not None else f"{options.secret}; pass it with --secret to use it again"
        )
        complain(f"forwarding to {options.forward_to}, signed with {secret_used}")
    raise typer.Exit(run(options))


def _names(events: list[str] | None) -> set[str]:
    chosen = {name.strip().removeprefix("media.") for given in events or () for name in given.split(",")} - {""}
    if unknown := chosen.difference(EVENT_NAMES):
        raise typer.BadParameter(
            f"unknown event {', '.join(sorted(unknown))}; known are {', '.join(EVENT_NAMES)}", param_hint="--events"
        )
    return chosen or set(EVENT_NAMES)


def _api(given: str | None) -> str:
    example = "http://127.0.0.1:8000"
    if given is not None:
        return _address(given, "--api", example).rstrip("/")
    found = running_addresses(DATA).get("PUBLIC_URL")
    if found is None:
        try:
            found = load_settings().public_url
        except SettingsError as error:
            complain(f"invalid setting: {error.detail}; or give the URL of the API with --api")
            raise typer.Exit(1) from error
    return found.rstrip("/")


def _address(given: str, option: str, example: str) -> str:
    if fault := malformed(given):
        raise typer.BadParameter(f"{given} {fault}; for example {example}", param_hint=option)
    return given


def _secret(given: str) -> str:
    try:
        signatures([given], "", 0, b"")
        usable = given.removeprefix(PREFIX) != ""
    except ValueError:
        usable = False
    if not usable:
        raise typer.BadParameter(
            f"it must be {PREFIX} followed by base64, for example {new_secret()}", param_hint="--secret"
        )
    return given
