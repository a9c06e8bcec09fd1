"""Which hosts are this machine itself, by their names; nothing is resolved.

Whatever listens here is never asked through a proxy, however HTTP_PROXY and its like are set: the proxy is another
machine, or would lead elsewhere from its own loopback.
"""

import ipaddress
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, build_opener


def is_this_machine(host: str | None) -> bool:
    """Whether a host, as it stands in a URL, leads to this machine: a loopback name or address, or none at all."""
    name = (host or "").rstrip(".").lower()
    if not name or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or (mapped or address).is_unspecified


def opener(url: str) -> OpenerDirector:
    """What opens this URL with the standard library: through the environment's proxy, or directly on this machine."""
    return build_opener(ProxyHandler({})) if is_this_machine(urlsplit(url).hostname) else build_opener()
