"""Names, addresses and ports, checked once and the same way wherever a person writes one."""

import ipaddress
import re

from duetface.errors import ConfigError

DEFAULT_ADDRESS = "127.0.0.1:50061"
LARGEST_PORT = 65535
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def check_address(address: str, where: str) -> str:
    """HOST:PORT as it was given.

    where: the option or key that it stands at.
    Raises ConfigError that names `where` and what is wrong, as `address_fault` says it.
    """
    if fault := address_fault(address):
        raise ConfigError(f"{where}: {fault}")
    return address


def address_fault(address: str, *, any_port: bool = False) -> str:
    """What is wrong with an address, or empty.

    HOST is a DNS name, an IPv4 address or an IPv6 address in brackets; PORT is within 1 to 65535.
    any_port: port 0, "a free one", is allowed too.
    """
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdecimal()) or not (0 if any_port else 1) <= int(port) <= LARGEST_PORT:
        return f"got {address!r}, expected HOST:PORT with a port from 1 to {LARGEST_PORT}, e.g. {DEFAULT_ADDRESS}"
    in_brackets = host.startswith("[") and host.endswith("]")
    if not (_is_ipv6(host[1:-1]) if in_brackets else is_host(host, ipv6=False)):
        return f"got {address!r}, expected HOST:PORT with a name or an IP address (IPv6 in brackets) as HOST"
    return ""


def check_host(host: str, where: str) -> str:
    """A DNS name or IP address as it was given, without a port.  Raises ConfigError that names `where`."""
    if not is_host(host):
        raise ConfigError(f"{where}: got {host!r}, expected a DNS name or an IP address, without a port")
    return host


def is_host(host: str, *, ipv6: bool = True) -> bool:
    """Whether it is a DNS name (RFC 1123) or an IP address; what looks like IPv4 must be IPv4."""
    if ipv6 and _is_ipv6(host):
        return True
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdecimal():  # no top-level domain is a number, so 10.0.0.256 is a slip and no name
        return _is_ipv4(host)
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
