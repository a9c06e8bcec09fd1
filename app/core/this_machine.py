"""Which hosts are this machine itself, by their names; nothing is resolved."""

import ipaddress


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
