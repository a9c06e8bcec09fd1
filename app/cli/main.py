"""The command `fleek`."""

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from app.cli import serve_worker
from app.cli.checks import bucket, database
from app.cli.checks import doctor as doctors
from app.cli.console import complain
from app.cli.errors import CommandError
from app.cli.group import show_help
from app.cli.jobs import commands as jobs_commands
from app.cli.listen.command import listen
from app.cli.models import commands as models_commands
from app.cli.new_provider.new_provider_command import new_provider
from app.cli.operator_runtime import INTERRUPTED
from app.cli.prepare import command as prepare_command
from app.cli.provenance import provenance
from app.cli.running_instance import DATA
from app.cli.up.command import Options, run

app = typer.Typer(
    name="fleek",
    help="The media-generation backend: post a prompt, get a job, find the picture in your own bucket.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (jobs_commands.app, models_commands.app, database.app, bucket.app):
    app.add_typer(group)

More: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="-- OPTION", help="Options passed on unchanged.", show_default=False)
]


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"fleek {importlib.metadata.version('fleek')}")
        raise typer.Exit


@app.callback()
def fleek(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command; without a command, show the help."""
    del version
    show_help(context)


@app.command()
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port the API listens on.")] = 8000,
    host: Annotated[str, typer.Option(help="Address the API listens on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    data: Annotated[Path, typer.Option(help="Folder for data and logs of the engines.")] = DATA,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of worker processes.")] = 1,
) -> None:
    """Start engines, API and workers on this machine; Ctrl-C stops them.

    PostgreSQL, Valkey and an S3 server are started from their wheels and keep their data in the data folder. To use an
    engine of your own instead, set its address in the environment: DATABASE_URL (or POSTGRES_SERVER), REDIS_URL,
    S3_ENDPOINT_URL.
    """
    raise typer.Exit(run(Options(host=host, port=port, data=data, workers=workers)))


@app.command()
def doctor(
    *,
    data: Annotated[
        Path, typer.Option(help="Data folder of a running `fleek up`, whose addresses are then used.")
    ] = DATA,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the effective settings with their sources, and check that everything Fleek needs answers.

    The exit status is 1 if a check fails.
    """
    raise typer.Exit(doctors.run(data, as_json=json))


@app.command()
def prepare(
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the database and the store to answer.")] = 60,
) -> None:
    """Migrate the database and create the bucket if it is missing; run it before each deployment.

    `fleek up` does the same by itself.
    """
    raise typer.Exit(prepare_command.run(wait))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address the API listens on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port the API listens on.")] = 8000,
    processes: Annotated[int, typer.Option(min=1, max=256, envvar="WEB_CONCURRENCY", help="Number of processes.")] = 1,
    more: More = None,
) -> None:
    """Run the API alone, on the engines named in the settings; options after -- are passed to uvicorn."""
    serve_worker.serve(host, port, processes, more or [])


@app.command()
def worker(
    name: Annotated[str | None, typer.Option(help="Name of the worker in Celery and Flower, without the host.")] = None,
    slots: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Jobs in flight at providers over the network; default: WORKER_SLOTS."),
    ] = None,
    more: More = None,
) -> None:
    """Run one worker alone, on the engines named in the settings; options after -- are passed to Celery."""
    serve_worker.work(name, slots, more or [])


app.command()(listen)
app.command()(new_provider)
app.command()(provenance)


def main() -> None:
    """The entry point of the package."""
    try:
        app()
    except CommandError as error:
        complain(str(error))
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
