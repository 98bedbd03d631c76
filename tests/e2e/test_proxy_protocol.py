"""PROXY protocol version 2: behind a load balancer the client is who the balancer says, and nobody else may say it."""
import json
import shutil
import signal
import socket
import struct
import subprocess

import pytest
from harness import Client, free_port, put_down, tls_context, wait_until

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def header(client="192.0.2.7", port=54321, command=0x21, extensions=b""):
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    there = "::1" if ":" in client else "127.0.0.1"
    body = socket.inet_pton(family, client) + socket.inet_pton(family, there) + struct.pack(">HH", port, 443) + extensions
    return SIGNATURE + bytes([command, 0x21 if ":" in client else 0x11]) + struct.pack(">H", len(body)) + body


def connect(gateway, first):
    """A TLS connection whose first bytes are these, in as many pieces."""
    raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in [first] if isinstance(first, bytes) else first:
        raw.sendall(piece)
    client = Client.__new__(Client)
    client.sock = tls_context(gateway.cafile).wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False,
                                                              do_handshake_on_connect=False)
    client.sock.do_handshake()  # also where the socket was reset before it was wrapped, of which wrap_socket() says nothing
    client.pending, client.ended = bytearray(), None
    return client


def is_refused(gateway, first):
    try:
        connect(gateway, first).close()
    except OSError as error:  # ssl.SSLError, ConnectionError, and "not connected" are all of them
        assert not isinstance(error, TimeoutError), "refused means at once"
        return True
    return False


def configure(config):
    config["listeners"][0].update(proxy_protocol=True, trusted_proxies=["127.0.0.0/8"])


def seen_by_backend(client, key, **more):
    return dict(map(tuple, json.loads(client.request(path="/v1/echo", key=key, **more).body)["headers"]))


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_the_address_counts_for_backends_and_logs(gateway, backend, key, address):
    with connect(gateway, header(address)) as client:
        headers = seen_by_backend(client, key, headers={"x-request-id": f"from-{address.replace(':', '-')}", "x-forwarded-for": "10.9.9.9"})
    assert headers["x-forwarded-for"] == address
    assert gateway.logged(f"from-{address.replace(':', '-')}")["client"] == address


def test_a_header_in_pieces_and_with_extensions_is_understood(gateway, backend, key):
    whole = header(extensions=b"\x01\x00\x02h2" + b"\x02\x00\x09localhost")
    with connect(gateway, [whole[i:i + 1] for i in range(len(whole))]) as client:
        assert seen_by_backend(client, key)["x-forwarded-for"] == "192.0.2.7"


def test_a_balancer_that_speaks_for_itself_is_itself(gateway, backend, key):
    with connect(gateway, SIGNATURE + b"\x20\x00\x00\x00") as client:
        assert seen_by_backend(client, key)["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("first", [b"", b"PROXY TCP4 192.0.2.7 127.0.0.1 54321 443\r\n", header(command=0x22), SIGNATURE + b"\x21\x00\x00\x00",
                                   SIGNATURE + b"\x21\x11\xff\xff", header(extensions=b"\x03\x00\x04\x00\x00\x00\x00")],
                         ids=["none", "version-1", "unknown-command", "unspecified", "too-long", "wrong-checksum"])
def test_without_a_good_header_a_trusted_balancer_is_refused(gateway, backend, first):
    assert is_refused(gateway, first)
    wait_until(lambda: "a connection from the trusted proxy 127.0.0.1 is refused" in gateway.errors(), 5, "the log says so")


def test_nobody_else_may_connect(start):
    def change(config):
        configure(config)
        config["listeners"][0]["trusted_proxies"] = ["10.0.0.0/8"]
    gateway = start.gateway(change=change)
    assert is_refused(gateway, header())


def test_limits_and_lists_are_about_the_client(start, key):
    def change(config):
        configure(config)
        config["listeners"][0]["deny"] = ["198.51.100.0/24"]
        config["limits"]["each"] = {"by": ["address"], "requests": "1/h", "request_burst": 1}
        config["routes"][0]["limits"] = ["each"]
    gateway = start.gateway(change=change)
    statuses = []
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        with connect(gateway, header(address)) as client:
            statuses.append(client.request(key=key).status)
    assert statuses == [200, 429, 200]
    assert is_refused(gateway, header("198.51.100.9"))


def test_a_balancer_that_says_nothing_is_given_up(start):
    def change(config):
        configure(config)
        config["listeners"][0]["handshake_timeout"] = "300ms"
    gateway = start.gateway(change=change)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as silent:
        silent.sendall(header()[:20])
        assert silent.recv(1) == b""


def test_it_is_switched_on_and_off_by_a_reload(start, key):
    gateway = start.gateway()
    with gateway.client() as held:
        assert held.request(key=key).status == 200
        configure(gateway.config)
        assert gateway.reload().returncode == 0
        assert held.request(key=key).status == 200, "connections that are there live on"
        assert is_refused(gateway, b"")
        with connect(gateway, header()) as client:
            assert client.request(key=key).status == 200
    gateway.config["listeners"][0].update(proxy_protocol=False, trusted_proxies=[])
    assert gateway.reload().returncode == 0
    assert gateway.ask(key=key).status == 200


@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")
def test_haproxy_in_front_is_believed(gateway, backend, key, tmp_path):
    port = free_port()
    (tmp_path / "haproxy.cfg").write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n"
        f"frontend in\n bind 127.0.0.1:{port}\n default_backend out\n"
        f"backend out\n server gateway 127.0.0.1:{gateway.port} send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl\n")
    process = subprocess.Popen(["haproxy", "-f", str(tmp_path / "haproxy.cfg"), "-db"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def listens():
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return True
            except OSError:
                return False
        wait_until(listens, 10, "haproxy listens")
        with Client(port, gateway.cafile) as client:
            assert seen_by_backend(client, key)["x-forwarded-for"] == "127.0.0.1"
    finally:
        put_down(process, signal.SIGTERM)
