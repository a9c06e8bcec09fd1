"""Calls through a forward proxy: which go through it, what arrives, what a failure of it proves, and the guard."""

import asyncio
import ssl

import pytest
import trustme

from app.core.config import Settings
from app.core.http_client import protocol
from app.core.http_client.protocol import Request
from app.core.http_client.proxies import DIRECT, Proxies, proxies_of, read_proxy
from app.core.redaction import Redactor
from tests.forward_proxy import forward_proxy
from tests.http_servers import NEVER, FixedResolver, post

PUBLIC = "93.184.216.34"
PASSWORD = "p4ssw0rd-of-the-Proxy"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def certified(authority):
    """The server's side of TLS for shop.example, and a client that trusts it."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("shop.example").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def through(proxy, user=""):
    given = read_proxy(proxy.url.replace("://", f"://{user}"), "HTTPS_PROXY")
    return Proxies({"http": given, "https": given})


def at(*addresses):
    return lambda: FixedResolver(list(addresses))


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("keep_alive", [True, False])
async def test_https_is_tunnelled_and_http_is_given_to_the_proxy(
    start_server, make_client, certified, guarded, keep_alive
):
    tls, trusting = certified
    safe, plain = await start_server(tls=tls), await start_server()
    for server, url in ((safe, "https://shop.example/a%2Fb?c=d"), (plain, "http://shop.example/a%2Fb?c=d")):
        async with forward_proxy(leads_to=server.port, password=PASSWORD) as proxy:
            client = make_client(resolver=at(PUBLIC), tls=trusting, proxies=through(proxy, f"me:{PASSWORD}@"))
            for _ in range(2):
                request = post(url, headers={"X-Key": "k"}, body=b"{}", guarded=guarded, keep_alive=keep_alive)
                answer = await client.send(request)
                assert (answer.status, answer.body) == (200, b"ok")
            await client.close()

        kind = ("CONNECT", "shop.example:443") if server is safe else ("POST", url)
        assert set(proxy.passed) == {kind}
        assert proxy.refused == []
        assert len(server.requests) == 2
        for head, body in server.requests:
            assert head.startswith("POST /a%2Fb?c=d HTTP/1.1\r\n")
            assert "x-key: k" in head.lower()
            assert "proxy-" not in head.lower()
            assert body == b"{}"


async def test_stream_comes_through_the_proxy(start_server, make_client):
    server = await start_server()
    async with forward_proxy(leads_to=server.port) as proxy:
        client = make_client(resolver=at(PUBLIC), proxies=through(proxy))
        async with client.stream(Request(method="GET", url="http://shop.example/file")) as answer:
            body = b"".join([chunk async for chunk in answer.chunks])
        await client.close()

    assert (body, proxy.passed) == (b"ok", [("GET", "http://shop.example/file")])


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("status", [403, 407, 502, 503, 504])
async def test_what_a_refusal_of_the_proxy_proves(start_server, make_client, scheme, status):
    server = await start_server()
    async with forward_proxy(leads_to=server.port) as proxy:
        proxy.answers = status
        client = make_client(resolver=at(PUBLIC), proxies=through(proxy))
        sending = client.send(post(f"{scheme}://shop.example/buy", body=b"{}"))
        if scheme == "http" and status == 403:
            assert (await sending).status == 403
            return
        with pytest.raises(protocol.OutgoingError) as caught:
            await sending

    # A proxy that sees the request may have passed it on before it says that the server does not answer.
    unknown = scheme == "http" and status != 407
    assert type(caught.value) is (protocol.GatewayError if unknown else protocol.ProxyError)
    assert caught.value.may_have_arrived is unknown
    assert str(status) in str(caught.value)
    assert server.connections == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_cannot_be_reached_has_sent_nothing(start_server, make_client, scheme):
    async def hang(_writer):
        await asyncio.sleep(NEVER)

    hanging = await start_server(hang)
    gone = Proxies(dict.fromkeys(("http", "https"), read_proxy("http://127.0.0.1:1", "HTTPS_PROXY")))
    nameless = Proxies(dict.fromkeys(("http", "https"), read_proxy("http://proxy.invalid:1", "HTTPS_PROXY")))
    silent = Proxies(dict.fromkeys(("http", "https"), read_proxy(hanging.url, "HTTPS_PROXY")))

    for proxies, words in ((gone, "no connection to the proxy 127.0.0.1:1"), (nameless, "the proxy proxy.invalid:1")):
        with pytest.raises(protocol.ProxyError, match=words):
            await make_client(proxies=proxies).send(post(f"{scheme}://shop.example/", guarded=False, timeout=5))
    with pytest.raises(protocol.OutgoingError) as caught:
        await make_client(proxies=silent).send(post(f"{scheme}://shop.example/", guarded=False, timeout=0.3))
    assert caught.value.may_have_arrived is (scheme == "http")


async def test_proxy_that_closes_the_connection_instead_of_a_tunnel_has_sent_nothing(start_server, make_client):
    server = await start_server()
    async with forward_proxy(leads_to=server.port) as proxy:
        proxy.answers = 0
        client = make_client(resolver=at(PUBLIC), proxies=through(proxy))
        with pytest.raises(protocol.ProxyError, match="ended the connection"):
            await client.send(post("https://shop.example/"))
        with pytest.raises(protocol.ConnectionLostError):
            await client.send(post("http://shop.example/"))


async def test_certificate_is_checked_through_the_tunnel(start_server, make_client, certified):
    tls, trusting = certified
    server = await start_server(tls=tls)
    async with forward_proxy(leads_to=server.port) as proxy:
        client = make_client(resolver=at(PUBLIC), tls=trusting, proxies=through(proxy))
        for url, client_ in (
            ("https://other.example/", client),
            ("https://shop.example/", make_client(resolver=at(PUBLIC), proxies=through(proxy))),
        ):
            with pytest.raises(protocol.TlsError, match="not trusted"):
                await client_.send(post(url))
    assert server.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["127.0.0.1"], [PUBLIC, "192.168.1.1"], ["169.254.169.254"]])
async def test_guarded_call_asks_the_resolver_before_the_proxy(start_server, make_client, scheme, addresses):
    server = await start_server()
    async with forward_proxy(leads_to=server.port) as proxy:
        client = make_client(resolver=at(*addresses), proxies=through(proxy))
        with pytest.raises(protocol.RefusedAddressError):
            await client.send(post(f"{scheme}://shop.example/"))
        with pytest.raises(protocol.RefusedAddressError):
            await client.send(post(f"{scheme}://10.1.2.3/"))

    assert (proxy.heads, server.connections) == ([], 0)


async def test_guarded_call_to_a_name_that_only_the_proxy_knows_is_not_sent(make_client, dns_resolver):
    async with forward_proxy(leads_to=1) as proxy:
        client = make_client(resolver=dns_resolver, proxies=through(proxy))
        with pytest.raises(protocol.NameResolutionError):
            await client.send(post("https://no.test/", timeout=5))
    assert proxy.heads == []


async def test_this_machine_is_never_asked_through_a_proxy(start_server, make_client):
    server = await start_server()
    async with forward_proxy(leads_to=server.port) as proxy:
        client = make_client(allow_private_addresses=True, proxies=through(proxy), resolver=at("127.0.0.1"))
        for host in ("127.0.0.1", "localhost", "engine.localhost", "localhost."):
            assert (await client.send(post(f"http://{host}:{server.port}/"))).status == 200
    assert proxy.heads == []


async def test_proxy_that_speaks_no_http_is_not_passed_by(start_server, make_client):
    server = await start_server()
    client = make_client(resolver=at("127.0.0.1"), proxies=chosen(ALL_PROXY="socks5://127.0.0.1:1080"))

    with pytest.raises(protocol.ProxyError, match="ALL_PROXY names a socks5 proxy") as caught:
        await client.send(post(f"http://shop.example:{server.port}/", guarded=False))

    assert "OUTGOING_PROXY" in str(caught.value)
    assert server.connections == 0


def chosen(outgoing=None, **environment):
    return proxies_of(Settings(_env_file=None, outgoing_proxy=outgoing), environment)


def place(proxies, url, port=None):
    scheme, _, host = url.partition("://")
    found = proxies.choose(scheme, host, port or {"http": 80, "https": 443}[scheme])
    return None if found is None else found.place


@pytest.mark.parametrize(
    ("given", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "http://a:1"}, "a:1", None),
        ({"HTTPS_PROXY": "http://a:1"}, None, "a:1"),
        ({"ALL_PROXY": "http://a:1"}, "a:1", "a:1"),
        ({"ALL_PROXY": "http://a:1", "HTTPS_PROXY": "b:2"}, "a:1", "b:2"),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://high:2"}, None, "low:1"),
        ({"all_proxy": "https://me:you@a:1/"}, "a:1", "a:1"),
        ({"HTTP_PROXY": "", "ALL_PROXY": " "}, None, None),
        ({"HTTP_PROXY": "http://a:1", "outgoing": "off"}, None, None),
        ({"HTTP_PROXY": "http://a:1", "outgoing": "OFF"}, None, None),
        ({"HTTP_PROXY": "http://a:1", "outgoing": "http://me:you@b:2"}, "b:2", "b:2"),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "*"}, None, None),
        ({"outgoing": "http://b:2", "no_proxy": "shop.example"}, None, None),
    ],
)
def test_proxy_is_the_setting_or_else_that_of_the_environment(given, http, https):
    proxies = chosen(**given)

    assert (place(proxies, "http://shop.example"), place(proxies, "https://shop.example")) == (http, https)


@pytest.mark.parametrize(
    ("excluded", "host", "port", "direct"),
    [
        ("shop.example", "shop.example", None, True),
        ("shop.example", "SHOP.example.", None, True),
        ("shop.example", "a.shop.example", None, True),
        (".shop.example", "a.shop.example", None, True),
        ("*.shop.example", "a.shop.example", None, True),
        ("shop.example", "notshop.example", None, False),
        ("shop.example:8443", "shop.example", 8443, True),
        ("shop.example:8443", "shop.example", None, False),
        ("other.example, 10.0.0.0/8", "10.20.30.40", None, True),
        ("10.0.0.0/8", "11.0.0.1", None, False),
        ("10.0.0.5", "10.0.0.5", None, True),
        ("10.0.0.5", "10.0.0.50", None, False),
        ("fd00::/8", "fd12::1", None, True),
        ("[fd12::1]:443", "fd12::1", 443, True),
        ("fd12::1", "fd12::1", 443, True),
        ("10.0.0.0/8", "ten.example", None, False),
        (",, ,", "shop.example", None, False),
        (".", "shop.example", None, False),
    ],
)
def test_no_proxy_names_hosts_with_their_subdomains_addresses_and_networks(excluded, host, port, direct):
    proxies = chosen(ALL_PROXY="http://a:1", NO_PROXY=excluded)

    assert (place(proxies, f"https://{host}", port) is None) is direct


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::ffff:127.0.0.1", "a.localhost"]
)
def test_this_machine_is_reached_directly_whatever_the_variables_say(host):
    assert place(chosen("http://b:2", ALL_PROXY="http://a:1"), f"http://{host}") is None


@pytest.mark.parametrize("given", ["socks5://a:1", "a:1", "http://", "on", "http://a:99999", "http://a/path"])
def test_setting_that_names_no_proxy_is_refused_without_being_repeated(given):
    with pytest.raises(ValueError, match="outgoing_proxy") as caught:
        Settings(_env_file=None, outgoing_proxy=given)

    assert "must be `off`, or look like" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("OUTGOING_PROXY", "http://"),
        *((name, scheme) for name in ("HTTPS_PROXY", "http_proxy", "ALL_PROXY") for scheme in ("http://", "")),
    ],
)
async def test_password_of_the_proxy_is_masked(monkeypatch, name, scheme):
    monkeypatch.setenv(name, f"{scheme}me:{PASSWORD}@127.0.0.1:3128")
    settings = Settings(_env_file=None)
    known = Redactor(settings.secrets)
    authorization = read_proxy(f"http://me:{PASSWORD}@a:1", name).authorization

    assert PASSWORD not in repr(settings)
    assert "***" in known.text(f"sent {authorization}")
    assert known.text(f"the password {PASSWORD}!") == "the password ***!"
    assert PASSWORD not in repr(read_proxy(f"http://me:{PASSWORD}@a:1", name))


async def test_nothing_of_the_password_is_in_an_error(make_client):
    proxy = read_proxy(f"http://me:{PASSWORD}@127.0.0.1:1", "HTTPS_PROXY")
    client = make_client(proxies=Proxies({"https": proxy}))

    with pytest.raises(protocol.ProxyError) as caught:
        await client.send(post("https://shop.example/", guarded=False))

    assert PASSWORD not in str(caught.value)
    assert "me:" not in str(caught.value)


async def test_calls_without_a_proxy_are_direct(start_server, make_client, monkeypatch):
    server, proxy = await start_server(), await start_server()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    await asyncio.gather(
        *(make_client(proxies=proxies).send(post(server.url, guarded=False)) for proxies in (DIRECT, chosen("off")))
    )

    assert (server.connections, proxy.connections) == (2, 0)
