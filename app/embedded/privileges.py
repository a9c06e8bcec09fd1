"""Drops root privileges: PostgreSQL refuses to run as root, so it runs as an existing unprivileged user."""

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from app.embedded.errors import EngineStartError

USER = "nobody"
KEPT = {"dac_override": 1, "dac_read_search": 2}
"""Capabilities by name and bit; with them it reaches its files inside folders that only root may enter."""
SETPCAP = 8
"""The bit of the capability that is needed to change the securebits."""


@dataclass(frozen=True)
class Account:
    """The user a process runs as."""

    uid: int
    gid: int

    @property
    def options(self) -> list[str]:
        """Options for `setpriv`."""
        held = _held_capabilities()
        kept = ",".join(["-all", *(f"+{name}" for name, bit in KEPT.items() if held >> bit & 1)])
        options = [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--no-new-privs"]
        options += [f"--inh-caps={kept}", f"--ambient-caps={kept}"]
        # otherwise access(2), which PostgreSQL calls on its own binary, ignores them
        return [*options, "--securebits=+no_setuid_fixup"] if held >> SETPCAP & 1 else options

    def take_ownership(self, folder: Path) -> None:
        """Change the owner of a folder and everything in it."""
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for(engine: str, folder: Path) -> Account | None:
    """The user that should run on this folder; None: the current one.

    Raises:
        EngineStartError: We are root and cannot switch to another user.
    """
    if os.geteuid() != 0:
        return None
    if shutil.which("setpriv") is None:
        raise EngineStartError(engine, "it cannot run as root, and `setpriv` (util-linux) is not installed")
    if folder.exists() and folder.stat().st_uid != 0:
        return Account(folder.stat().st_uid, folder.stat().st_gid)
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        raise EngineStartError(engine, f"it cannot run as root, and there is no user {USER!r}") from None
    return Account(user.pw_uid, user.pw_gid)


def _held_capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapPrm"))
