"""The address the API listens on: whether it is usable, and how clients on this machine reach it."""

import errno
import ipaddress
import socket
import time
from typing import Final
from urllib.parse import urlsplit

from app.cli.errors import CommandError
from app.core.config import Settings
from app.core.http_server.allowed_hosts import AllowedHosts

LOCAL: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
PAUSE_SECONDS: Final = 0.1


class BindAddress:
    """One host and port."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @property
    def address(self) -> tuple[str, int]:
        """For a client on this machine."""
        return LOCAL.get(self.host, self.host), self.port

    @property
    def url(self) -> str:
        """The same as a URL."""
        host = self.address[0]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def exposed(self) -> bool:
        """Whether other machines may reach it."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    def allowed_hosts(self, settings: Settings) -> dict[str, str]:
        """The variable with which the API accepts the name that it listens on; empty: it does so anyway."""
        if AllowedHosts(settings).accepts(urlsplit(self.url).netloc.encode()):
            return {}
        return {"ALLOWED_HOSTS": ",".join([*settings.allowed_hosts, self.host])}

    def check(self, *, wait_seconds: float = 0) -> None:
        """Make sure that a server can listen there now.

        Args:
            wait_seconds: How long to wait for a port that is taken.

        Raises:
            CommandError: It cannot; the message says why.
        """
        deadline = time.monotonic() + wait_seconds
        while (fault := self._fault()) is not None:
            if fault != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise CommandError(self._explain(fault))
            time.sleep(PAUSE_SECONDS)

    def _fault(self) -> int | None:
        """The error number of an attempt to listen; 0: the host cannot be resolved."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError):
            return 0
        for family, kind, protocol, _, address in found:
            try:
                with socket.socket(family, kind, protocol) as candidate:
                    # ignore connections in TIME_WAIT
                    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    candidate.bind(address)
            except OSError as error:
                return error.errno
        return None

    def _explain(self, fault: int) -> str:
        match fault:
            case errno.EADDRINUSE:
                return f"port {self.port} is taken; choose another with --port"
            case errno.EACCES:
                return f"port {self.port} needs root privileges; choose one above 1023 with --port"
            case 0 | errno.EADDRNOTAVAIL:
                return f"{self.host} is not an address of this machine; choose another with --host"
            case _:
                reason = errno.errorcode.get(fault, str(fault))
                return f"cannot listen on {self.host}, port {self.port} ({reason})"
