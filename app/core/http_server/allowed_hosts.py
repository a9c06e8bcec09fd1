"""The names under which the API is reached: what a Host header may say.

A page of another site can have its own name resolve to this machine (DNS rebinding). The browser then takes the API for
a part of that site, and the page reads everything. Such a request carries the site's name in its Host header, so names
that are not ours are refused. An IP address is always accepted: rebinding needs a name, and health checks of
orchestrators and load balancers ask by address.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from app.core.config import Settings

ANY: Final = "*"
LOCAL: Final = "localhost"
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@?#\s]+)(:[0-9]{0,5})?", re.ASCII)
_LONGEST: Final = 262
"""A name of 255 characters, a colon and a port."""
_REMEMBERED: Final = 1024


class AllowedHosts:
    """Decides about Host headers; the port never matters."""

    def __init__(self, settings: Settings) -> None:
        self._any = ANY in settings.allowed_hosts
        self._names = {LOCAL, *settings.allowed_hosts}
        # `*.example.com` means names below it, not itself, as in a certificate.
        self._suffixes = (f".{LOCAL}", *(host[1:] for host in settings.allowed_hosts if host.startswith("*.")))
        self._remembered = lru_cache(_REMEMBERED)(self._accepts)
        self.add(url for url in (settings.public_url, settings.callback_base) if url is not None)

    def add(self, urls: Iterable[str]) -> None:
        """Accept the hosts of these addresses, too."""
        self._names |= {_as_sent(name.rstrip(".")) for url in urls if (name := urlsplit(url).hostname)}
        self._remembered.cache_clear()

    def accepts(self, host: bytes) -> bool:
        """Whether a Host header with this value is for us."""
        return len(host) <= _LONGEST and self._remembered(host)

    def _accepts(self, host: bytes) -> bool:
        found = _HOST.fullmatch(host.decode("latin-1").lower())
        if found is None:
            return False
        name = found[1].rstrip(".")
        return self._any or name in self._names or name.endswith(self._suffixes) or _is_address(name)


def _as_sent(name: str) -> str:
    """A name as clients send it: one with an umlaut in its ASCII form."""
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
