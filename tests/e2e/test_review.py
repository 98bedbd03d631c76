"""What a hostile reader of the request path tried: each of these once failed, or is what must never be possible."""
import multiprocessing
import os
import random
import signal
import socket
import ssl
import threading

import pytest

import harness
from backend import Gone, before_body, fixed, never_answers, raw


def timeouts(**values):
    def change(config):
        for route in config["routes"]:
            route["timeouts"] = values
            route["max_body"] = "64MiB"
    return change


def ends_in_state(pid, letters):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] in letters


# ---- One client's answer must never reach another ----

def test_what_a_backend_says_too_late_on_a_kept_connection_reaches_nobody(start):
    """The worker is held while two things happen: a request comes, and then an answer nobody asked for on the connection kept for it."""
    kept = {}

    def answers_first(connection, request):
        kept["connection"] = connection
        connection.answer(body=b'"for the first"')

    backend = start.backend()
    backend.on("/open/first", answers_first)
    backend.on("/open/second", fixed(body=b'"for the second"'))
    gateway = start.gateway(backend)
    worker = gateway.workers()[0]
    with gateway.client() as first, gateway.client() as second:
        assert second.request(path="/open/warm").status == 200
        assert first.request(path="/open/first").body == b'"for the first"'
        os.kill(worker, signal.SIGSTOP)
        try:
            harness.wait_until(lambda: ends_in_state(worker, "T"), what="the worker is held")
            second.send_request(path="/open/second")
            kept["connection"].answer(body=b'"for the first, once more"')
        finally:
            os.kill(worker, signal.SIGCONT)
        assert second.read_response().body == b'"for the second"'
        assert second.request(path="/open/second").body == b'"for the second"'


def test_an_early_answer_does_not_leave_its_connection_to_the_next(start):
    backend = start.backend()

    @before_body
    def early(connection, request):
        connection.answer(body=b'"early"')
        try:
            connection.read_body(request)
        except Gone:
            return False

    backend.on("/open/early", early)
    gateway = start.gateway(backend)
    with gateway.client() as first, gateway.client() as second:
        first.send(b"POST /open/early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 70000)
        assert first.read_response().body == b'"early"'
        assert second.request(path="/open/other").json()["target"] == "/open/other"
        first.send(b"GET /open/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n".ljust(30000, b"y"))
        assert first.request(path="/open/after").json()["target"] == "/open/after"
    assert all(request.path != "/open/smuggled" for request in backend.requests)


class Mischief:
    """One client that does everything wrong that a client can, and looks into each answer for its own name and nobody else's."""

    def __init__(self, gateway, name, seed, rounds):
        self.gateway, self.name, self.random, self.rounds = gateway, name, random.Random(seed), rounds
        self.wrong, self.answers = [], 0

    def path(self):
        return f"/open/{self.name}/{self.random.randrange(1 << 30)}"

    def check(self, client, path):
        response = client.read_response()
        self.answers += 1
        if response.status == 200 and path.encode() not in response.body:
            self.wrong.append((path, response))

    def asks(self, client):
        path = self.path()
        client.send_request(path=path)
        self.check(client, path)

    def pipelines(self, client):
        paths = [self.path() for _ in range(self.random.randrange(2, 12))]
        client.send("".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths))
        for path in paths:
            self.check(client, path)

    def uploads_and_expects(self, client):
        path, size = self.path(), self.random.randrange(1, 200000)
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n")
        client.send(b"z" * size)
        self.check(client, path)

    def pipelines_and_leaves(self, client):
        client.send("".join(f"GET {self.path()} HTTP/1.1\r\nHost: a\r\n\r\n" for _ in range(5)))
        client.reset() if self.random.random() < 0.5 else client.close()
        return False

    def leaves_in_its_body(self, client):
        client.send(f"POST {self.path()} HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + "q" * self.random.randrange(49999))
        client.reset()
        return False

    def sends_a_broken_chunk(self, client):
        client.send(f"POST {self.path()} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n")
        client.read_to_end()
        return False

    def leaves_a_large_answer(self, client):
        client.send("GET /open/large HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_exactly(self.random.randrange(1, 30000))
        client.reset() if self.random.random() < 0.5 else client.close()
        return False

    def run(self):
        ways = [self.asks, self.asks, self.pipelines, self.uploads_and_expects, self.pipelines_and_leaves, self.leaves_in_its_body,
                self.sends_a_broken_chunk, self.leaves_a_large_answer]
        client = None
        for _ in range(self.rounds):
            client = client or self.gateway.client()
            try:
                if self.random.choice(ways)(client) is False:
                    client.close()
                    client = None
            except (harness.BrokenTransfer, OSError) as problem:
                self.wrong.append((self.name, repr(problem)))
                client.close()
                client = None
        if client:
            client.close()


def test_among_clients_that_misbehave_everybody_gets_his_own_answers(start):
    backend = start.backend()

    def large(connection, request):
        connection.begin_stream()
        for _ in range(64):
            connection.chunk(b"secret of another" * 1000)
        connection.end_stream()

    backend.on("/open/large", large)
    gateway = start.gateway(backend)
    crowd = [Mischief(gateway, f"client-{number}", number, 60) for number in range(12)]
    threads = [threading.Thread(target=one.run) for one in crowd]
    for thread in threads:
        thread.start()
    harness.join(threads)
    assert not [wrong for one in crowd for wrong in one.wrong]
    assert sum(one.answers for one in crowd) > 100
    harness.wait_until(lambda: gateway.metric("sallyport_exchanges") == 0, 10, "no exchange is left")
    harness.wait_until(lambda: gateway.metric("sallyport_body_bytes") == 0, 10, "no body is left")


# ---- One peer must not keep the others waiting ----

def test_interim_answers_without_end_are_no_answer(start):
    backend = start.backend()

    def interim_for_ever(connection, request):
        while not connection.backend.stopping:
            connection.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 500)

    backend.on("/open/interim", interim_for_ever)
    gateway = start.gateway(backend)
    assert gateway.ask(path="/open/interim").status == 502
    assert gateway.ask(path="/open/other").status == 200


def test_a_few_interim_answers_are_taken(start):
    backend = start.backend()
    backend.on("/open/hints", raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 8 + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"))
    gateway = start.gateway(backend)
    assert gateway.ask(path="/open/hints").body == b"ok"


class Flood:
    """Requests without end on one connection, and answers taken as fast as they come: sealed here, but never opened again. In processes of
    their own, so that this one's pace is not theirs."""

    def __init__(self, gateway):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.sealing, self.sealed = harness.tls_context().wrap_bio(incoming, outgoing), outgoing
        self.sock = socket.create_connection(("127.0.0.1", gateway.port), 60)
        while True:
            try:
                self.sealing.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(outgoing.read())
                incoming.write(self.sock.recv(65536))
        fork = multiprocessing.get_context("fork")
        self.taken = fork.Value("Q", 0)
        self.processes = [fork.Process(target=self.send, daemon=True), fork.Process(target=self.take, daemon=True)]
        for process in self.processes:
            process.start()

    def send(self):
        requests = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * 30000
        try:
            while True:
                self.sealing.write(requests)
                self.sock.sendall(self.sealed.read())
        except OSError:
            pass

    def take(self):
        try:
            while piece := len(self.sock.recv(1 << 20)):
                self.taken.value += piece
        except OSError:
            pass

    def end(self):
        for process in self.processes:
            process.kill()
            process.join(10)
        self.sock.close()


@pytest.mark.measures
def test_a_client_that_pipelines_without_end_does_not_have_the_worker_for_itself(start, record_property):
    """Measured in what the flood gets while another waits for one answer: some turns of the loop, not all that fits between two sockets."""
    gateway = start.gateway(change=lambda config: config["logs"].update(access="off", level="info"))
    flood, meanwhile = Flood(gateway), []
    try:
        harness.wait_until(lambda: flood.taken.value > 1 << 20, 10, "the flood has begun")
        with gateway.client() as client:
            for _ in range(41):
                before = flood.taken.value
                assert client.request(path="/open/x").status == 200
                meanwhile.append(flood.taken.value - before)
    finally:
        flood.end()
    total = sum(meanwhile)
    record_property("bytes_for_the_flood_meanwhile", total)
    print(f"{total} bytes for the flood meanwhile")
    assert total < 6 << 20


# ---- Whose fault is it? ----

def test_a_backend_that_does_not_take_the_body_is_the_one_who_is_too_slow(start):
    backend = start.backend(receive_buffer=4096)

    @before_body
    def reads_nothing(connection, request):
        harness.wait_until(lambda: over.is_set(), 30, "the test is over")
        return False

    over = threading.Event()
    backend.on("/open/stuck", reads_nothing)
    gateway = start.gateway(backend, change=timeouts(first_byte="1s", idle="1s", total="1m"))
    try:
        with gateway.client() as client:
            size = 32 << 20
            client.send(f"POST /open/stuck HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")

            def send():
                try:
                    client.send(b"x" * size)
                except OSError:
                    pass
            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            logged = harness.wait_until(lambda: [line["status"] for line in gateway.log_lines() if line["path"] == "/open/stuck"], 10,
                                        "the request is logged")
            assert logged == [504]
            harness.join([sender])
    finally:
        over.set()


def test_bodies_that_wait_for_memory_are_not_waiting_for_each_other(start):
    """Each holds a part of the budget and wants more: what they hold must go on to the server, or nobody's ever would."""
    backend = start.backend()

    def change(config):
        config["memory"] = {"bodies": "1MiB"}
        for route in config["routes"]:
            route["max_body"] = "1MiB"

    gateway = start.gateway(backend, change=change)
    clients = [gateway.client() for _ in range(64)]
    try:
        for client in clients:
            client.send(b"POST /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 12000)
        harness.wait_until(lambda: gateway.metric("sallyport_body_bytes") == 1 << 20, what="the budget is spent")
        for client in clients:
            client.send(b"x" * 48000)
        for client in clients:
            assert client.read_response().json()["length"] == 60000
    finally:
        for client in clients:
            client.close()


# ---- Leaving ----

def test_who_pipelines_and_half_closes_has_left(start):
    """Its end is seen while it does not take the first answers; the last request must then not wait for nobody."""
    backend = start.backend()
    backend.on("/open/slow", never_answers)
    gateway = start.gateway(backend)
    with gateway.client(receive_buffer=4096) as client:
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * 2000 + b"GET /open/slow HTTP/1.1\r\nHost: a\r\n\r\n")
        socket.socket.shutdown(client.sock, socket.SHUT_WR)  # the socket's own: no close_notify
        assert client.read_to_end().count(b"HTTP/1.1 404") > 100
        assert client.ended == "cut"
    harness.wait_until(lambda: gateway.metric("sallyport_exchanges") == 0, 10, "the exchange ends with its client")


@pytest.mark.parametrize("state", ["handshake done", "rest of a body", "half a head"])
def test_a_drain_does_not_wait_for_who_is_silent(start, state):
    """Nothing is under way on these connections, so nothing is lost by ending them well before drain_timeout."""
    backend = start.backend()

    def change(config):
        config["drain_timeout"] = "1h"
        config["listeners"][0]["header_timeout"] = "2s"

    gateway = start.gateway(backend, change=change)
    with gateway.client() as client:
        if state == "rest of a body":
            client.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + b"x" * 10)
            assert client.read_response().status == 404
        elif state == "half a head":
            client.send(b"GET /open/x HTTP/1.1\r\n")
        gateway.stop()


def test_what_a_client_sends_of_an_unwanted_body_during_a_drain_ends_its_connection(start):
    gateway = start.gateway(change=lambda config: config.update(drain_timeout="1h"))
    with gateway.client() as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + b"x" * 10)
        assert client.read_response().status == 404
        gateway.signal(signal.SIGTERM)
        harness.wait_until(lambda: gateway.admin("/readyz")[0] != 200, what="the drain has begun")
        client.send(b"x" * 90)
        assert client.at_end() == "clean"
        assert gateway.ended(10) == 0


def test_a_drain_does_not_wait_for_who_has_only_shaken_hands(start):
    def change(config):
        config["drain_timeout"] = config["listeners"][0]["idle_timeout"] = "1h"

    gateway = start.gateway(change=change)
    raw_socket = socket.create_connection(("127.0.0.1", gateway.port), 10 * harness.SLOWER)
    harness.wait_until(lambda: gateway.metric("sallyport_connections") == 1, what="the connection is known")
    gateway.signal(signal.SIGTERM)
    harness.wait_until(lambda: gateway.admin("/readyz")[0] != 200, what="the drain has begun")
    with harness.tls_context().wrap_socket(raw_socket, server_hostname="localhost") as client:
        assert client.recv(1) == b""
        assert gateway.ended(10) == 0


# ---- Memory ----

@pytest.mark.measures
def test_a_thousand_open_streams_cost_little(start, record_property):
    backend = start.backend()
    over = threading.Event()

    def held(connection, request):
        connection.begin_stream()
        connection.chunk(b"data: first\n\n")
        over.wait(60)
        connection.end_stream()

    backend.on("/open/held", held)

    def change(config):
        config["listeners"][0]["max_connections_per_address"] = 2000
        config["pools"]["main"]["connections"] = 2000

    gateway = start.gateway(backend, change=change)

    def resident():
        with open(f"/proc/{gateway.workers()[0]}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) * 1024

    assert gateway.ask(path="/open/x").status == 200
    before, clients = resident(), []
    try:
        for _ in range(1000):
            client = gateway.client()
            clients.append(client)
            client.send_request(path="/open/held")
        for client in clients:
            assert client.read_head().status == 200
            assert client.read_chunk() == b"data: first\n\n"
        each = (resident() - before) / 1000
        record_property("bytes_per_open_stream", each)
        print(f"{each:.0f} bytes for each open stream")
        assert each < 96 * 1024
    finally:
        over.set()
        for client in clients:
            client.close()
