"""Which URLs and network addresses given by others may be called; no name is resolved and no connection opened here.

A URL is checked twice: `refusal` when a caller gives it, so that the caller gets the reason, and `is_public` on each
address when a connection is opened (`client.py`). Only the second check protects: a name may resolve to anything.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final
from urllib.parse import SplitResult, urlsplit

MAX_URL_CHARACTERS: Final = 2048
"""The length of a URL that a caller gives."""
ORIGINS_KEPT: Final = 1_000

_NOT_PUBLIC_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # behind a carrier's NAT; the metadata of Alibaba Cloud
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # a public address that reaches Azure's own host
            "169.254.0.0/16",  # link-local; the metadata of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; the metadata of Oracle Cloud
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
"""Global unicast; loopback, link-local, unique local, multicast and similar are outside."""
_NOT_PUBLIC_V6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)
_CARRIES_V4: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv4-mapped addresses, and NAT64, the prefix of every public address in networks without IPv4."""

_NOT_WRITTEN_OUT: Final = re.compile(r"[^!-~]|\\")
"""What must be percent-encoded: spaces, control characters, everything beyond ASCII; and `\\`, a slash to some."""
_NUMBER: Final = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)")
_NAME: Final = re.compile(r"(?=.{1,253}\.?$)[0-9a-z_-]{1,63}(?:\.[0-9a-z_-]{1,63})*\.?")
"""A host name in lower case; without `%`, which clients decode differently."""
_NO_HOST: Final = "must have a host, by its name or address, and, if at all, a port between 1 and 65535"
_SETTING: Final = "for development, set ALLOW_PRIVATE_ADDRESSES=true"


def is_public(address: str) -> bool:
    """Whether a numeric IPv4 or IPv6 address is global unicast; False for anything that is not an address."""
    try:
        return _v6_is_public(IPv6Address(address)) if ":" in address else _v4_is_public(IPv4Address(address))
    except AddressValueError:
        return False


def is_address(host: str) -> bool:
    """Whether a host is a numeric address, not a name."""
    return ":" in host or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None


def _v4_is_public(address: IPv4Address) -> bool:
    return not any(address in network for network in _NOT_PUBLIC_V4)


def _v6_is_public(address: IPv6Address) -> bool:
    if any(address in network for network in _CARRIES_V4):
        return _v4_is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def malformed(url: str) -> str | None:
    """What is wrong with the syntax of a URL; None if nothing is."""
    if _NOT_WRITTEN_OUT.search(url):
        return (
            "must be written in ASCII without spaces and backslashes: percent-encode others, "
            "and spell an international host name as xn--..."
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        return _NO_HOST
    return _fault_of_origin(parts.scheme, parts.netloc)


# A provider is called at thousands of URLs of one host, and parsing the host takes most of the time.
@lru_cache(maxsize=ORIGINS_KEPT)
def _fault_of_origin(scheme: str, netloc: str) -> str | None:
    parts = SplitResult(scheme, netloc, "", "", "")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        return _NO_HOST
    if scheme not in {"http", "https"}:
        return "must begin with http:// or https://"
    if not host or port == 0 or not _is_host(host, bracketed="[" in netloc):
        return _NO_HOST
    if "@" in netloc:
        return "must not carry a user name or a password; send credentials in a header"
    return _fault_of_number(host)


def refusal(url: str, *, allow_private: bool) -> str | None:
    """Why a caller's URL is refused, as the end of a sentence that begins with the field's name; None: it is accepted.

    A name that resolves to a private address passes here and is refused when it is called.

    Args:
        url: As given.
        allow_private: The setting ALLOW_PRIVATE_ADDRESSES.
    """
    if len(url) > MAX_URL_CHARACTERS:
        return f"must have at most {MAX_URL_CHARACTERS} characters"
    fault = malformed(url)
    if fault is not None:
        return fault
    if "#" in url:
        return "must not have a fragment: what follows the # is never sent"
    if not allow_private and _is_private(urlsplit(url)):
        return f"must lead to the public internet, not to a private or loopback address; {_SETTING}"
    return None


def _is_host(host: str, *, bracketed: bool) -> bool:
    return ":" in host if bracketed else _NAME.fullmatch(host) is not None


def _fault_of_number(host: str) -> str | None:
    """Some systems read 2130706433, 0x7f.1 and 127.1 as 127.0.0.1; all are refused here."""
    if ":" in host or not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return None
    try:
        IPv4Address(host)
    except AddressValueError:
        return "must write an IPv4 address as four decimal numbers between 0 and 255, without leading zeros"
    return None


def _is_private(parts: SplitResult) -> bool:
    host = (parts.hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]):
        return not is_public(host)
    return False
