"""Clients that are slow, vanish, shout or lie: each has its status and its bound, and leaves nothing behind."""
import os
import signal
import socket
import ssl
import threading
import time

import backend as behave
import pytest
from harness import BrokenTransfer, join, wait_until
from hostile import MIB, client_from, connect, every_slot_is_free, is_closed, nothing_is_left, over, processor_seconds, reset, sockets
from test_memory import settled

SLOTS = 20


def configure(config):
    config["listeners"][0].update(handshake_timeout="1s", header_timeout="1s", idle_timeout="2s", max_connections_per_address=1000)
    config["pools"]["main"]["servers"][0]["max_in_flight"] = SLOTS
    for route in config["routes"]:
        route["max_body"] = "8MiB"
        route["timeouts"] = {"first_byte": "5s", "idle": "1s", "total": "60s"}


def reason_of(gateway, request_id):
    return gateway.logged(request_id)["reason"]


def drip(sock, data, every=0.05):
    """A byte at a time until the peer has had enough; how many it took."""
    for sent, byte in enumerate(data):
        try:
            sock.sendall(bytes([byte]))
        except OSError:
            return sent
        if sent % 4 == 0 and is_readable(sock):
            return sent
        time.sleep(every)
    return len(data)


def is_readable(sock):
    import select
    return bool(select.select([sock], [], [], 0)[0])


# ---- Slow ----

def test_a_head_that_comes_drop_by_drop_is_408_when_its_time_is_up(gateway, backend):
    with gateway.client() as client:
        head = b"GET /open/models HTTP/1.1\r\nHost: localhost\r\n" + b"X-Drop: y\r\n" * 1000
        began = time.monotonic()
        assert drip(client.sock, head) < len(head), "it was not listened to for ever"
        assert client.read_response().status == 408
        assert time.monotonic() - began >= 0.9, "nor cut off early"
        assert client.at_end() == "clean"


def test_a_handshake_that_comes_drop_by_drop_is_given_up_and_counted(gateway, backend):
    failed = gateway.metric("sallyport_tls_handshakes_failed_total")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with connect(gateway) as sock:
        bytes_of_hello = outgoing.read()
        assert drip(sock, bytes_of_hello) < len(bytes_of_hello)
        wait_until(lambda: is_closed(sock), 5, "it is closed")
    wait_until(lambda: gateway.metric("sallyport_tls_handshakes_failed_total") > failed, 5, "it is counted")


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_stops_in_the_middle_is_408(gateway, backend, framing):
    head, body = {"length": ("Content-Length: 1000", b"some"), "chunked": ("Transfer-Encoding: chunked", b"4\r\nsome\r\n3e8\r\nso")}[framing]
    with gateway.client() as client:
        client.send(f"POST /open/slow HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: stops-{framing}\r\n{head}\r\n\r\n".encode() + body)
        assert client.read_response().status == 408
        assert client.at_end() == "clean"
    assert reason_of(gateway, f"stops-{framing}") == "request too slow"


def test_who_does_not_read_is_cut_off_and_the_server_is_let_go(gateway, backend):
    backend.on("/open/flood", behave.floods(256 * MIB))
    client = gateway.client(receive_buffer=8192)
    client.send_request("GET", "/open/flood", headers={"X-Request-ID": "does-not-read"})
    assert backend.wait_for(lambda b: b.requests)
    assert backend.wait_for(lambda b: b.requests[0].connection.closed_at, 10), "the backend connection is closed"
    assert reason_of(gateway, "does-not-read") == "client too slow"
    with pytest.raises(BrokenTransfer):
        client.read_response()
    client.close()


def test_who_reads_slowly_but_reads_gets_everything(gateway, backend):
    backend.on("/open/large", behave.fixed(200, b"x" * MIB))
    with gateway.client(receive_buffer=8192) as client:
        client.send_request("GET", "/open/large")
        response = client.read_head()
        for _ in range(16):  # pauses shorter than the idle timeout, a transfer longer than it
            response.body += client.read_exactly(MIB // 16)
            time.sleep(0.1)
        assert response.body == b"x" * MIB


# ---- Gone without a word ----

def vanish(client):
    """Closes without a packet where the kernel lets us (TCP_REPAIR), so that the peer holds a half-open connection; else falls silent."""
    try:
        client.sock.setsockopt(socket.IPPROTO_TCP, 19, 1)
        client.sock.close()
    except PermissionError:
        pass


@pytest.mark.parametrize("stage", ["idle", "in the head", "in the body"])
def test_a_client_that_vanishes_without_a_word_is_forgotten(gateway, backend, stage):
    client = gateway.client()
    if stage == "in the head":
        client.send("GET /open/models HTTP/1.1\r\nHost:")
    elif stage == "in the body":
        client.send("POST /open/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nhalf")
    else:
        client.request("GET", "/open/echo")
    wait_until(lambda: gateway.metric("sallyport_connections") >= 1, 5, "it is counted")
    vanish(client)
    nothing_is_left(gateway)


def test_the_kernel_asks_after_silent_clients(gateway, backend):
    """Keep-alive probes are on: a host that vanished in the middle of a long stream is found out by them."""
    with gateway.client() as client:
        client.request("GET", "/open/echo")
        ours = client.sock.getsockname()[1]
        def timer():
            with open("/proc/net/tcp") as file:
                rows = [line.split() for line in file.read().splitlines()[1:]]
            return next(row[5] for row in rows if row[1].endswith(f":{gateway.port:04X}") and row[2].endswith(f":{ours:04X}"))
        wait_until(lambda: timer().startswith("02:"), 5, "the keep-alive timer runs")


# ---- Bombs ----

BOMBS = {
    "one endless field": (431, b"GET /open/x HTTP/1.1\r\nHost: localhost\r\nX-Bomb: ", b"y" * 65536),
    "endlessly many fields": (431, b"GET /open/x HTTP/1.1\r\nHost: localhost\r\n", b"a: b\r\n" * 10000),
    "an endless target": (414, b"GET /open/", b"a" * 65536),
    "an endless method": ((400, 414, 501), b"", b"A" * 65536),
    "endless empty lines": (400, b"", b"\r\n" * 10000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_in_the_head_is_refused_long_before_its_end(gateway, backend, bomb):
    status, head, filling = BOMBS[bomb]
    with gateway.client() as client:
        sent = 0
        try:
            client.send(head)
            while sent < 64 * MIB:
                client.send(filling)
                sent += len(filling)
                if is_readable(client.sock):
                    break
        except OSError:
            pass
        assert sent < 8 * MIB
        try:
            assert client.read_response().status in (status if isinstance(status, tuple) else (status,))
        except BrokenTransfer:
            assert sent > 256 * 1024, "only who sends on and on after the answer may lose it to a reset"
    assert not backend.requests


@pytest.mark.measures
def test_ten_thousand_tiny_chunks_are_one_body_and_little_work(gateway, backend):
    worker = gateway.workers()[0]
    before = processor_seconds(worker)
    with gateway.client() as client:
        client.send("POST /open/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            client.send(b"1\r\nx\r\n" * 100)
        client.send(b"0\r\n\r\n")
        assert client.read_response().json()["length"] == 10000
    assert processor_seconds(worker) - before <= 0.5
    assert backend.requests[-1].body == b"x" * 10000


@pytest.mark.parametrize("bomb", ["extensions", "one extension", "trailers", "size of zeros"])
def test_a_bomb_between_the_chunks_is_400(gateway, backend, bomb):
    pieces = {
        "extensions": b"1;name=value\r\nx\r\n" * 5000,
        "one extension": b"1;" + b"n" * 50000,
        "trailers": b"1\r\nx\r\n0\r\n" + b"X-Trailer: y\r\n" * 5000,
        "size of zeros": b"0" * 50000,
    }
    with gateway.client() as client:
        client.send("POST /open/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(pieces[bomb])
        assert client.read_response().status == 400


@pytest.mark.parametrize("length,status", [("999999999999999999", 413), ("18446744073709551616", 400), ("99999999999999999999999999", 400)])
def test_a_huge_content_length_is_refused_before_a_byte_of_it(gateway, backend, length, status):
    with gateway.client() as client:
        client.send(f"POST /open/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
        assert client.read_response().status == status
    assert not backend.requests


@pytest.mark.measures
def test_a_thousand_pipelined_requests_are_answered_in_order_and_held_in_little_memory(gateway, backend):
    worker = gateway.workers()[0]
    gateway.ask("GET", "/open/echo")
    before = settled(worker)
    with gateway.client(receive_buffer=8192, timeout=60) as client:
        burst = b"".join(b"GET /open/%d HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\n\r\n" % (number, b"t" * 500) for number in range(1000))
        pusher = threading.Thread(target=client.send, args=(burst,), daemon=True)
        pusher.start()
        assert backend.wait_for(lambda b: b.requests)
        assert settled(worker) - before <= MIB
        assert len(backend.requests) < 1000, "who does not read is not served on and on"
        assert [client.read_response().json()["target"] for _ in range(1000)] == [f"/open/{number}" for number in range(1000)]
        join([pusher])


# ---- TLS ----

def test_a_request_in_records_of_one_byte_is_a_request(gateway, backend):
    with gateway.client() as client:
        for byte in b"POST /open/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n" + b"z" * 20:
            client.sock.send(bytes([byte]))
        assert client.read_response().json()["length"] == 20


NO_TLS = {
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": b"\0" * 4096,
    "a record longer than records are": b"\x16\x03\x01\xff\xff" + b"\1" * 70000,
    "encrypted records at once": b"\x17\x03\x03\x00\x20" + b"x" * 32,
    "another protocol": b"SSH-2.0-x\r\n",
}


@pytest.mark.parametrize("what", NO_TLS)
def test_what_is_no_tls_gets_no_answer_but_an_alert(gateway, backend, what):
    with connect(gateway) as sock:
        try:
            sock.sendall(NO_TLS[what])
        except OSError:
            pass
        heard = b""
        try:
            while piece := sock.recv(4096):
                heard += piece
        except ConnectionError:
            pass
        assert len(heard) <= 7 and heard[:1] in (b"", b"\x15"), heard
    assert gateway.ask("GET", "/open/echo").status == 200


def test_garbage_after_the_handshake_breaks_that_connection_alone(gateway, backend):
    raw = connect(gateway)
    with over(raw, gateway) as client:
        assert client.request("GET", "/open/echo").status == 200
        os.write(client.sock.fileno(), b"\x17\x03\x03\x00\x40" + os.urandom(64))  # a record that nobody sealed
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            client.sock.recv(1)
    assert gateway.ask("GET", "/open/echo").status == 200


# ---- Resets ----

def in_the_handshake(gateway):
    sock = connect(gateway)
    sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    return sock


def with_client(*said, read=False):
    def begin(gateway):
        client = gateway.client()
        for piece in said:
            client.send(piece)
        if read:
            client.read_head()
        return client.sock
    return begin


HEAD = b"POST /open/held HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
STAGES = {
    "after accept": connect,
    "in the handshake": in_the_handshake,
    "after the handshake": with_client(),
    "in the head": with_client(HEAD[:30]),
    "in the body": with_client(HEAD, b"x" * 50000),
    "before the answer": with_client(b"GET /open/never HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "in the answer": with_client(b"GET /open/flood HTTP/1.1\r\nHost: localhost\r\n\r\n", read=True),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("leave", ["reset", "close"])
def test_clients_that_leave_leave_nothing_behind(gateway, backend, stage, leave):
    nothing_is_left(gateway)
    backend.on("/open/never", behave.never_answers)
    backend.on("/open/flood", behave.floods(64 * MIB))
    worker = gateway.workers()[0]
    held = sockets(worker)
    for _ in range(3):
        round_of_sockets = [STAGES[stage](gateway) for _ in range(10)]
        for sock in round_of_sockets:
            reset(sock) if leave == "reset" else sock.close()
    nothing_is_left(gateway)
    assert backend.wait_for(lambda b: all(c.closed_at or not c.served or c.pending == b"" for c in b.connections), 5)
    every_slot_is_free(gateway, backend, SLOTS)
    wait_until(lambda: sockets(worker) <= held + SLOTS, 5, "no socket is left but the kept ones to the backend")


# ---- Who may come at all ----

def test_only_allowed_addresses_get_in_and_deny_wins(start):
    backend = start.backend()
    gateway = start.gateway(backend, change=lambda config: config["listeners"][0].update(allow=["127.0.0.0/29"], deny=["127.0.0.3/32"]))
    for address, welcome in (("127.0.0.1", True), ("127.0.0.2", True), ("127.0.0.3", False), ("127.0.0.9", False)):
        try:
            with client_from(address, gateway, 5) as client:
                assert client.request("GET", "/open/echo").status == 200
                assert welcome, f"{address} got in"
        except (OSError, ssl.SSLError):
            assert not welcome, f"{address} was refused"
    wait_until(lambda: gateway.metric("sallyport_connections_refused_total") == 2, 5, "both refusals are counted")
    gateway.config["listeners"][0].update(allow=[], deny=[])
    assert gateway.reload().returncode == 0

    def welcome_now():
        try:
            with client_from("127.0.0.3", gateway, 5) as client:
                return client.request("GET", "/open/echo").status == 200
        except (OSError, ssl.SSLError):
            return False
    wait_until(welcome_now, 5, "a reload lets it in")


class Speaker:
    """A TLS client whose bytes leave when it is told to, and which does not close its socket."""

    def __init__(self, gateway):
        self.raw = connect(gateway)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.send()
                self.incoming.write(self.raw.recv(65536))
        self.send()

    def send(self):
        self.raw.sendall(self.outgoing.read())

    def say_goodbye(self):
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()


def test_a_client_that_says_only_close_notify_has_left(gateway, backend):
    """As asyncio's clients do: the socket stays open until the gateway says it too."""
    backend.on("/open/never", behave.never_answers)
    with Speaker(gateway) as client:
        client.tls.write(b"GET /open/never HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.send()
        assert backend.wait_for(lambda b: b.requests)
        client.say_goodbye()
        client.send()
        assert backend.wait_for(lambda b: b.requests[0].connection.closed_at, 2), "before the first byte"
    nothing_is_left(gateway)


@pytest.mark.parametrize("framing, body", [("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")])
def test_a_client_whose_goodbye_comes_together_with_its_body_has_left(start, framing, body):
    """Three records in one segment, read at once."""
    backend = start.backend().on("/open/never", behave.never_answers)
    gateway = start.gateway(backend, change=lambda config: config.update(workers=1))
    worker = gateway.workers()[0]
    with Speaker(gateway) as client:
        wait_until(lambda: gateway.metric("sallyport_connections") == 1, 5, "it is there")
        os.kill(worker, signal.SIGSTOP)
        client.tls.write(f"POST /open/never HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode())
        client.tls.write(body)
        client.say_goodbye()
        client.send()
        os.kill(worker, signal.SIGCONT)
        wait_until(lambda: gateway.metric("sallyport_connections") == 0, 2, "it is gone, though its socket is open")
        assert all(backend.wait_for(lambda b, request=request: request.connection.closed_at, 2) for request in backend.requests)
    nothing_is_left(gateway)
