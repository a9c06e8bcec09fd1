"""The options of `fleek listen`."""

from typing import Annotated, Final, TypeAlias

import typer

from app.cli.console import complain
from app.cli.listen.format import NAMES, PROGRESS
from app.cli.listen.session import Listening, run
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
        help="Sign with this one; otherwise each run makes its own.",
        envvar="FLEEK_LISTEN_SECRET",
        show_default=False,
    ),
]


def listen(
    *,
    forward_to: Annotated[
        str | None, typer.Option(metavar="URL", help="Post each event to this address, signed.", show_default=False)
    ] = None,
    api: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Address of the API; the running `fleek up`, or PUBLIC_URL.", envvar="FLEEK_API"
        ),
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help=f"Only these: {', '.join(NAMES)}.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only media of this model.", show_default=False)] = None,
    tag: Annotated[str | None, typer.Option(help="Only media with this tag.", show_default=False)] = None,
    status: Annotated[
        MediaStatus | None, typer.Option(help="Only events that lead to this status.", show_default=False)
    ] = None,
    progress: Annotated[bool, typer.Option("--progress", help="Show, too, how far media are.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A JSON document for each event, for programs.")] = False,
    secret: Secret = None,
) -> None:
    """Show events as they come, and try a receiver of webhooks: each event is posted once, signed, in order.

    It shows what happens from now on to all media, until Ctrl-C. While the API is away it waits, and goes on where it
    was, without a gap. With --forward-to, a receiver gets what a worker would send: the same body, signed, under a
    webhook-id that stays the same for the same event, run after run.
    """
    chosen = _names(events) | ({PROGRESS} if progress else set[str]())
    address = _api(api)
    query = {"status": status, "model": model, "tag": tag}
    listening = Listening(
        api=address,
        query={name: str(value) for name, value in query.items() if value is not None},
        names=frozenset(chosen),
        as_json=json,
        forward_to=None if forward_to is None else _address(forward_to, "--forward-to", _LOCAL_RECEIVER),
        secret=new_secret() if secret is None else _secret(secret),
    )
    complain(f"listening at {address}")
    if listening.forward_to is not None:
        kept = "the secret that you gave" if secret is not None else f"{listening.secret}; keep it with --secret"
        complain(f"forwarding to {listening.forward_to}, signed with {kept}")
    raise typer.Exit(run(listening))


def _names(events: list[str] | None) -> set[str]:
    chosen = {name.strip().removeprefix("media.") for given in events or () for name in given.split(",")} - {""}
    if unknown := chosen.difference(NAMES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", param_hint="--events")
    return chosen or set(NAMES)


def _api(given: str | None) -> str:
    example = "http://127.0.0.1:8000"
    if given is not None:
        return _address(given, "--api", example).rstrip("/")
    found = running_addresses(DATA).get("PUBLIC_URL")
    if found is None:
        try:
            found = load_settings().public_url
        except SettingsError as error:
            complain(f"invalid setting: {error.detail}; or say where the API is with --api")
            raise typer.Exit(1) from error
    return found.rstrip("/")


def _address(given: str, option: str, example: str) -> str:
    if fault := malformed(given):
        raise typer.BadParameter(f"{given} {fault}; give it like {example}", param_hint=option)
    return given


def _secret(given: str) -> str:
    try:
        signatures([given], "", 0, b"")
        usable = given.removeprefix(PREFIX) != ""
    except ValueError:
        usable = False
    if not usable:
        raise typer.BadParameter(f"it consists of {PREFIX} and base64, such as {new_secret()}", param_hint="--secret")
    return given
