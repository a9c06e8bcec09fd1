"""Which Host headers are for us."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.config import Settings
from app.core.http_server.allowed_hosts import AllowedHosts

NAMES = {"public_url": "https://media.example.com/fleek", "callback_url": "https://hooks.example.com:8443"}


def hosts_of(**settings):
    return AllowedHosts(Settings(_env_file=None, **NAMES, **settings))


@pytest.mark.parametrize(
    "host",
    [
        "media.example.com",
        "Media.Example.COM:443",
        "media.example.com.",
        "hooks.example.com",
        "hooks.example.com:1",
        "localhost",
        "localhost:8000",
        "fleek.localhost:8000",
        "127.0.0.1:8000",
        "127.8.8.8",
        "[::1]:8000",
        "[::1]",
        "0.0.0.0:8000",
        # of a pod, a container, a machine in the network
        "10.244.1.17:8000",
        "192.168.1.5",
        "[fd00::17]:8000",
    ],
)
def test_own_names_and_addresses_are_accepted(host):
    assert hosts_of().accepts(host.encode())


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":8000",
        "evil.example",
        "example.com",
        "x.media.example.com",
        "media.example.com.evil.example",
        "evil.example:media.example.com",
        "media.example.com@evil.example",
        "evil.example#.localhost",
        "evil.example/.localhost",
        "notlocalhost",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io",
        "::1",
        "[evil.example]",
        "media.example.com:80:80",
        "media.example.com:http",
        "media.example.com, evil.example",
        " media.example.com",
        "media.example.com\n",
        "x" * 70_000,
    ],
)
def test_everything_else_is_refused(host):
    assert not hosts_of().accepts(host.encode())


def test_setting_adds_names_and_the_names_below_one():
    hosts = hosts_of(allowed_hosts="fleek-api, *.Svc.Cluster.local,fleek_api,xn--mnchen-3ya.example.")

    for host in (b"fleek-api", b"fleek-api:8000", b"FLEEK_API", b"a.b.svc.cluster.local", b"xn--mnchen-3ya.example"):
        assert hosts.accepts(host), host
    for host in (b"svc.cluster.local", b"evilsvc.cluster.local", b"fleek-api.evil.example"):
        assert not hosts.accepts(host), host


def test_star_leaves_the_check_to_a_proxy():
    assert hosts_of(allowed_hosts="*").accepts(b"anything.example:1")


def test_callback_addresses_of_providers_are_added():
    hosts = hosts_of()

    refused = hosts.accepts(b"host.docker.internal:8000")
    hosts.add(["http://host.docker.internal:8000/below"])

    assert (refused, hosts.accepts(b"host.docker.internal:8000")) == (False, True)


@pytest.mark.parametrize("value", ["https://a.example", "a.example:80", "a example", "*.", "**", "a.*", "[::1]", "-a"])
def test_setting_takes_names_only(value):
    with pytest.raises(ValueError, match="names without scheme"):
        hosts_of(allowed_hosts=value)


@given(st.text(alphabet="abc.-_:[]*127@/\\ \x00é", max_size=12))
def test_no_name_below_a_foreign_one_is_accepted(prefix):
    assert not hosts_of().accepts(f"{prefix}evil.example".encode())


@given(st.binary(max_size=40))
def test_no_bytes_are_a_bug(host):
    hosts_of().accepts(host)
