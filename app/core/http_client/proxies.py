"""Which calls go through a forward proxy: OUTGOING_PROXY, or else what the environment says.

- Without OUTGOING_PROXY: HTTPS_PROXY for `https://`, HTTP_PROXY for `http://`, and ALL_PROXY where there is no such
  one; in lower case they take precedence, as in curl.
- OUTGOING_PROXY: this one for all calls; `off`: none.
- Never: this machine itself, and whatever NO_PROXY names: hosts with their subdomains, addresses, networks such as
  `10.0.0.0/8`, each of the first two with a port if it is meant for that port only, or `*`.

A proxy speaks HTTP. One that the environment names and that does not, such as a SOCKS proxy, is not ignored: calls
that should go through it fail before anything is sent.
"""

import ipaddress
import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from app.core.config import PROXY_OFF, Settings
from app.core.this_machine import is_this_machine

Scheme: TypeAlias = Literal["http", "https"]
SCHEMES: Final = ("http", "https")
SETTING: Final = "OUTGOING_PROXY"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy."""

    url: str
    """Without user and password."""
    authorization: str | None = field(repr=False)
    """The header Proxy-Authorization; None: it asks for no password."""
    variable: str
    """What names it."""
    fault: str | None = None
    """Why it cannot be used, as the end of a sentence; None: it can."""

    @property
    def place(self) -> str:
        """Its host and port, for messages."""
        return self.url.partition("://")[2]


class Proxies:
    """Chooses the proxy of a call."""

    def __init__(self, of: Mapping[str, Proxy], excluded: str = "") -> None:
        """See `Proxies`.

        Args:
            of: The proxy for each of SCHEMES; one that is missing is reached directly.
            excluded: As NO_PROXY.
        """
        self._of = of
        self._excluded = [part.strip().lower() for part in excluded.split(",") if part.strip()]

    def choose(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """The proxy for a call; None: it goes directly.

        Args:
            scheme: Of the URL.
            host: As it stands in the URL, brackets aside.
            port: With the scheme's own filled in.
        """
        proxy = self._of.get(scheme)
        if proxy is None or is_this_machine(host):
            return None
        name = host.rstrip(".").lower()
        return None if any(_covers(entry, name, port) for entry in self._excluded) else proxy


DIRECT: Final = Proxies({})
"""For tests, and for what never leaves this machine."""


def proxies_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> Proxies:
    """Those of this process."""
    given = None if settings.outgoing_proxy is None else settings.outgoing_proxy.get_secret_value()
    if given == PROXY_OFF:
        return DIRECT
    excluded = _variable(environment, "NO_PROXY")[1]
    if given is not None:
        proxy = read_proxy(given, SETTING)
        return Proxies(dict.fromkeys(SCHEMES, proxy), excluded)
    found = {scheme: _from_environment(environment, scheme) for scheme in SCHEMES}
    return Proxies({scheme: proxy for scheme, proxy in found.items() if proxy is not None}, excluded)


def read_proxy(given: str, variable: str) -> Proxy:
    """A proxy from its URL; without a scheme it is `http://`."""
    address = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        return Proxy("", None, variable, "is no address of a proxy")
    if parts.scheme not in SCHEMES:
        return Proxy("", None, variable, f"names a {parts.scheme} proxy, and only http:// and https:// are spoken")
    if not host:
        return Proxy("", None, variable, "names no host")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(pair.encode()).decode()}"
    place = f"[{host}]" if ":" in host else host
    return Proxy(f"{parts.scheme}://{place}" + (f":{port}" if port else ""), authorization, variable)


def _from_environment(environment: Mapping[str, str], scheme: str) -> Proxy | None:
    for wanted in (f"{scheme.upper()}_PROXY", "ALL_PROXY"):
        name, value = _variable(environment, wanted)
        if value:
            return read_proxy(value, name)
    return None


def _variable(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable in lower case or else in capitals, with its value."""
    return next(
        ((spelled, value) for spelled in (name.lower(), name) if (value := environment.get(spelled, "").strip())),
        (name, ""),
    )


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY, in lower case, covers a host."""
    if entry == "*":
        return True
    if "/" in entry:
        return _is_in_network(host, entry)
    name, colon, given_port = entry.rpartition(":")
    # More than one colon without brackets: an IPv6 address.
    if colon and given_port.isdecimal() and (":" not in name or name.endswith("]")):
        if int(given_port) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").strip(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
