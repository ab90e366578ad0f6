"""Addresses: what gRPC would quietly misread is refused where it is written."""

import pytest

from duetface.address import address_fault, check_address, check_host
from duetface.errors import ConfigError


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "0.0.0.0:65535", "localhost:50061", "faces.hq.example:50061", "[::]:50061", "[2001:db8::1]:443"],
)
def test_an_address_is_taken_as_it_was_given(address: str) -> None:
    """Names, IPv4, IPv6 in brackets."""
    assert check_address(address, "--listen") == address


@pytest.mark.parametrize(
    "address",
    [
        "", ":", "localhost", ":50061", "localhost:", "localhost:0", "localhost:65536", "127.0.0.1:80000",
        "localhost:-1", "localhost:+5", "localhost:٥", "localhost:5 ", "256.0.0.1:5", "10.0.0:5", "::1:5", "[::1:5",
        "[localhost]:5", "a b:5", "unix:/tmp/s:5", "dns:///h:5", "-a.example:5", "a..b:5",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_place_it_stands_at(address: str) -> None:
    """127.0.0.1:80000 would listen on port 14464 and say nothing."""
    with pytest.raises(ConfigError, match=r"^--listen: got .*, expected HOST:PORT"):
        check_address(address, "--listen")


def test_a_free_port_can_be_asked_for_where_that_makes_sense() -> None:
    """Tests; nobody could find a service that picks a port by itself."""
    assert address_fault("127.0.0.1:0", any_port=True) == ""
    assert address_fault("127.0.0.1:0")


def test_a_host_is_a_name_or_an_address_without_a_port() -> None:
    """It stands in the certificate: what no client can ask for would be found out at the first connection."""
    for host in ("hq", "faces.hq.example", "10.0.0.7", "2001:db8::1", "xn--bcher-kva.example"):
        assert check_host(host, "--host") == host
    for host in ("", "hq:50061", "https://hq", "bücher.example", "10.0.0.256", "[::1]", "a/b", f"{'a' * 64}.b"):
        with pytest.raises(ConfigError, match=r"^--host: got .*, expected a DNS name or an IP address"):
            check_host(host, "--host")
