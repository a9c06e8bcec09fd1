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
from app.cli.group import tell
from app.cli.jobs import commands as jobs_commands
from app.cli.listen.command import listen
from app.cli.models import commands as models_commands
from app.cli.new_provider.new_provider_command import new_provider
from app.cli.operator_runtime import INTERRUPTED
from app.cli.prepare import command as prepare_command
from app.cli.running_instance import DATA
from app.cli.up.command import Options, run

app = typer.Typer(
    name="fleek",
    help="The media-generation backend: post a prompt, get a job, find the picture in your own bucket.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (jobs_commands.app, models_commands.app, database.app, bucket.app):
    app.add_typer(group)

More: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="-- OPTION", help="For the program itself.", show_default=False)
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
    """Keep the commands apart from the options of all."""
    del version
    tell(context)


@app.command()
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API.")] = 8000,
    host: Annotated[str, typer.Option(help="Address the API listens on; 0.0.0.0 for all.")] = "127.0.0.1",
    data: Annotated[Path, typer.Option(help="Folder of the engines' data, and of the logs.")] = DATA,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of worker processes.")] = 1,
) -> None:
    """Start everything: engines, API and workers; Ctrl-C stops it.

    PostgreSQL, Valkey and an S3 server are started from their wheels, with their data in the data folder.
    One whose address stands in an environment variable is used instead: DATABASE_URL (or POSTGRES_SERVER),
    REDIS_URL, S3_ENDPOINT_URL.
    """
    raise typer.Exit(run(Options(host=host, port=port, data=data, workers=workers)))


@app.command()
def doctor(
    *,
    data: Annotated[Path, typer.Option(help="Data folder of a `fleek up` that may be running.")] = DATA,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show which settings are in force, and whether all that is needed answers."""
    raise typer.Exit(doctors.run(data, as_json=json))


@app.command()
def prepare(
    wait: Annotated[float, typer.Option(min=0, help="Seconds that database and store may take to answer.")] = 60,
) -> None:
    """Migrate the database and make the bucket where it is missing, then end; `fleek up` does so by itself."""
    raise typer.Exit(prepare_command.run(wait))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address the API listens on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API.")] = 8000,
    processes: Annotated[
        int, typer.Option(min=1, max=256, envvar="WEB_CONCURRENCY", help="Processes that serve it.")
    ] = 1,
    more: More = None,
) -> None:
    """Run the API alone, with the engines that the settings name; what follows -- goes to uvicorn."""
    serve_worker.serve(host, port, processes, more or [])


@app.command()
def worker(
    name: Annotated[str | None, typer.Option(help="Its name in Celery and Flower, without the host.")] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Jobs in flight over the network; WORKER_SLOTS if left out.")
    ] = None,
    more: More = None,
) -> None:
    """Run a worker alone, with the engines that the settings name; what follows -- goes to Celery."""
    serve_worker.work(name, slots, more or [])


app.command()(listen)
app.command()(new_provider)


def main() -> None:
    """The entry point of the distribution."""
    try:
        app()
    except CommandError as error:
        complain(str(error))
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
