"""Floods: connections by the thousand, idle, refused, slow. The caps hold exactly, others are served, and memory comes back."""
import resource
import select
import socket
import ssl
import subprocess
import threading
import time

import backend as behave
import pytest
from harness import SANITIZED, SLOWER, join, put_down, tls_context, wait_until
from hostile import MIB, client_from, connect, is_closed, nothing_is_left, sockets
from test_memory import settled

MANY = 600 if SANITIZED else 3000


@pytest.fixture(autouse=True, scope="module")
def descriptors():
    """Both ends of thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def caps(total=20000, per_address=256, workers=1, **more):
    def change(config):
        config["workers"] = workers
        config["listeners"][0].update(max_connections=total, max_connections_per_address=per_address, **more)
    return change


def refused(address, gateway):
    try:
        with client_from(address, gateway, 5) as client:
            return client.request("GET", "/open/echo").status != 200
    except (OSError, ssl.SSLError):
        return True


class Honest:
    """Somebody who asks all the time, on new connections and on a kept one, from an address of their own."""

    def __init__(self, gateway, address="127.0.0.2"):
        self.gateway, self.address = gateway, address
        self.statuses, self.failures, self.slowest = [], [], 0.0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(kept,)) for kept in (True, False)]

    def run(self, kept):
        client = None
        while not self.over.is_set():
            began = time.monotonic()
            try:
                client = client or client_from(self.address, self.gateway)
                self.statuses.append(client.request("POST", "/open/echo", body=b"honest").status)
            except (OSError, ssl.SSLError) as error:
                self.failures.append(repr(error))
                client = None
            self.slowest = max(self.slowest, time.monotonic() - began)
            if client and not kept:
                client.close()
                client = None
            self.over.wait(0.02)
        if client:
            client.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        join(self.threads)

    def check(self, at_least):
        assert not self.failures, self.failures[:3]
        assert set(self.statuses) == {200} and len(self.statuses) >= at_least, len(self.statuses)


# ---- Caps ----

def test_a_flood_of_connections_from_one_address_ends_at_its_cap_and_others_are_served(start, record_property):
    gateway = start.gateway(change=caps(per_address=50, workers=2, handshake_timeout="60s"))
    with Honest(gateway) as honest:
        held = [connect(gateway) for _ in range(400)]
        wait_until(lambda: sum(map(is_closed, held)) >= 350, 10, "all but the cap are refused")
        assert not refused("127.0.0.3", gateway), "another address"
        assert refused("127.0.0.1", gateway)
        wait_until(lambda: len(honest.statuses) >= 60, 20, "honest requests go on")
    honest.check(60)
    # Of two workers that let somebody in at the last free place both may refuse: whoever comes alone then gets it.
    held = [sock for sock in held if not is_closed(sock)]
    assert len(held) <= 50
    while len(held) < 50:
        held.append(connect(gateway))
        time.sleep(0.05)  # a refusal would have come by now
        assert not is_closed(held[-1]), f"only {len(held) - 1} of 50 places"
    assert refused("127.0.0.1", gateway)
    for sock in held:
        sock.close()
    wait_until(lambda: not refused("127.0.0.1", gateway), 10, "places come back")
    record_property("slowest_honest_ms", round(honest.slowest * 1000))


def test_connections_in_all_are_capped_over_addresses_and_workers(start):
    gateway = start.gateway(change=caps(total=30, workers=2, handshake_timeout="60s"))
    held = []
    for number in range(30):
        held.append(connect(gateway, f"127.0.1.{number + 1}"))
        time.sleep(0.01)
    assert refused("127.0.2.1", gateway) and refused("127.0.0.1", gateway)
    held.pop().close()
    wait_until(lambda: not refused("127.0.2.1", gateway), 10, "a place that was given back is taken")
    for sock in held:
        sock.close()


def test_connections_that_linger_after_an_error_count_against_the_cap(start):
    """Who is answered an error and does not close is waited for (RFC 9112 §9.6): that must not be a way around the cap."""
    gateway = start.gateway(change=caps(per_address=20))
    worker = gateway.workers()[0]
    before, most, held = sockets(worker), 0, []
    until = time.monotonic() + 3
    while time.monotonic() < until:
        try:
            client = gateway.client(timeout=3)
            client.send(b"\0\r\n\r\n")
            held.append(client)
        except (OSError, ssl.SSLError):
            pass
        most = max(most, sockets(worker) - before)
    assert len(held) >= 20, "places do come back while nobody closes"
    assert most <= 20, f"{most} sockets for one address"
    for client in held:
        client.close()
    nothing_is_left(gateway)


def test_a_cap_that_a_reload_lowers_cuts_nobody_and_holds_for_newcomers(start):
    gateway = start.gateway(change=caps(per_address=50))
    clients = [gateway.client() for _ in range(30)]
    for client in clients:
        client.request("GET", "/open/echo")
    gateway.config["listeners"][0]["max_connections_per_address"] = 10
    assert gateway.reload().returncode == 0
    wait_until(lambda: refused("127.0.0.1", gateway), 5, "newcomers are refused")
    assert {client.request("GET", "/open/echo").status for client in clients} == {200}
    for client in clients:
        client.close()
    wait_until(lambda: not refused("127.0.0.1", gateway), 5, "places come back")


# ---- Thousands ----

def open_many(gateway, count):
    """TLS connections, a hundred handshakes at a time."""
    context, opened = tls_context(gateway.cafile), []
    while len(opened) < count:
        waiting = {}
        for _ in range(min(100, count - len(opened))):
            raw = socket.create_connection(("127.0.0.1", gateway.port), 30)
            sock = context.wrap_socket(raw, server_hostname="localhost", do_handshake_on_connect=False)
            sock.setblocking(False)
            waiting[sock.fileno()] = sock
        poll = select.poll()
        for fd in waiting:
            poll.register(fd, select.POLLIN | select.POLLOUT)
        while waiting:
            ready = poll.poll(30000 * SLOWER)
            assert ready, f"{len(waiting)} handshakes stand still"
            for fd, _ in ready:
                try:
                    waiting[fd].do_handshake()
                    poll.unregister(fd)
                    opened.append(waiting.pop(fd))
                except ssl.SSLWantReadError:
                    poll.modify(fd, select.POLLIN)
                except ssl.SSLWantWriteError:
                    poll.modify(fd, select.POLLOUT)
    return opened


@pytest.mark.measures
def test_thousands_of_idle_connections_cost_little_and_their_memory_comes_back(start, record_property):
    gateway = start.gateway(change=caps(per_address=100000, idle_timeout="120s"))
    worker = gateway.workers()[0]
    gateway.ask("GET", "/open/echo")
    before = settled(worker)
    idle = open_many(gateway, MANY)
    wait_until(lambda: gateway.metric("sallyport_connections") == MANY, 10, "all are open")
    grown = settled(worker) - before
    began = time.monotonic()
    for _ in range(20):
        assert gateway.ask("GET", "/open/echo").status == 200
    record_property("kibibytes_per_connection", round(grown / MANY / 1024, 1))
    record_property("ms_per_new_request", round((time.monotonic() - began) * 50, 2))
    print(f"{grown / MANY / 1024:.1f} KiB per idle connection, {MANY} of them")
    assert grown / MANY <= 64 * 1024
    for sock in idle:
        sock.close()
    nothing_is_left(gateway)
    kept = settled(worker) - before
    record_property("mebibytes_kept_after", round(kept / MIB, 1))
    print(f"{kept / MIB:.1f} of {grown / MIB:.1f} MiB are kept afterwards")
    assert kept <= max(grown / 4, 8 * MIB), f"{kept / MIB:.1f} of {grown / MIB:.1f} MiB are kept"


@pytest.mark.measures
def test_what_a_second_flood_needs_the_first_has_left(start):
    """Whatever an allocator keeps, it keeps once."""
    backend = start.backend()
    backend.on("/open/flood", behave.floods(8 * MIB))
    gateway = start.gateway(backend, change=caps(per_address=1000, header_timeout="20s"))
    worker = gateway.workers()[0]

    def storm():
        clients = [gateway.client(receive_buffer=8192) for _ in range(100)]
        for number, client in enumerate(clients):
            if number % 2:
                client.send(b"POST /open/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100000)
            else:
                client.send_request("GET", "/open/flood")
        for client in clients:
            client.reset()
        nothing_is_left(gateway)
        return settled(worker)
    storm()
    after_two = storm()
    assert storm() - after_two <= 2 * MIB


# ---- slowhttptest ----

SLOW = {
    "headers": ["-H", "-i", "1"],
    "body": ["-B", "-i", "1", "-s", "100000", "-x", "10"],
    "read": ["-X", "-n", "1", "-w", "1", "-y", "10", "-z", "1", "-k", "3"],
}


@pytest.mark.parametrize("mode", SLOW)
def test_slowhttptest_with_2000_connections_leaves_honest_requests_alone(start, tmp_path, mode, record_property):
    backend = start.backend()
    backend.on("/open/large", behave.fixed(200, b"x" * 60000))

    def change(config):
        caps(per_address=2100, header_timeout="5s", idle_timeout="6s")(config)
        for route in config["routes"]:
            route["timeouts"] = {"first_byte": "10s", "idle": "5s", "total": "30s"}
    gateway = start.gateway(backend, change=change)
    worker = gateway.workers()[0]
    gateway.ask("GET", "/open/echo")
    before = settled(worker)
    with Honest(gateway) as honest:
        attack = subprocess.Popen(["slowhttptest", *SLOW[mode], "-c", str(MANY * 2 // 3), "-r", "1000", "-l", "60", "-p", "5", "-v", "0",
                                   "-u", f"https://127.0.0.1:{gateway.port}/open/large"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  stdin=subprocess.DEVNULL, cwd=tmp_path)
        try:
            most = []
            began = time.monotonic()  # it lasts for seven seconds, or for as long as it takes until so many are there
            while attack.poll() is None and (time.monotonic() < began + 7 or max(most) < MANY / 3):
                most.append(gateway.metric("sallyport_connections"))
                time.sleep(0.2)
        finally:
            put_down(attack)
    record_property("most_connections", max(most))
    record_property("slowest_honest_ms", round(honest.slowest * 1000))
    record_property("honest_requests", len(honest.statuses))
    honest.check(50)
    assert max(most) >= MANY / 3, "there was an attack"
    nothing_is_left(gateway)
    kept = settled(worker) - before
    record_property("mebibytes_kept_after", round(kept / MIB, 1))
    print(f"{mode}: {kept / MIB:.1f} MiB kept, {max(most):.0f} connections, {len(honest.statuses)} honest requests, slowest {honest.slowest * 1000:.0f} ms")
    assert SANITIZED or kept <= 24 * MIB, f"{kept / MIB:.1f} MiB are kept"
