"""Model servers that are early, late, talkative, silent or broken: the client gets one answer of a known shape, others notice nothing."""
import os
import signal
import threading
import time

import backend as behave
import pytest
from harness import BrokenTransfer, free_port, join, wait_until
from hostile import MIB, every_slot_is_free, nothing_is_left
from test_memory import settled

SLOTS = 20


def configure(config):
    config["pools"]["main"]["servers"][0]["max_in_flight"] = SLOTS
    config["pools"]["main"]["outlier"] = {"consecutive_failures": 1000, "eject_for": "1s"}
    config["listeners"][0]["max_connections_per_address"] = 1000
    for route in config["routes"]:
        route["max_body"] = "64MiB"
        route["timeouts"] = {"first_byte": "1s", "idle": "1s", "total": "30s"}


def broken(client, path, request_id):
    client.send_request("GET", path, headers={"X-Request-ID": request_id})
    with pytest.raises(BrokenTransfer):
        client.read_response()


# ---- Early, late, twice, never ----

@pytest.mark.parametrize("keeps", [True, False])
def test_an_answer_before_the_body_was_read_arrives_and_the_connection_is_used_no_more(gateway, backend, keeps):
    @behave.before_body
    def early(connection, request):
        connection.answer(422, {"error": "early"}, [] if keeps else [("connection", "close")])
        connection.wait_gone(5)
        return False
    backend.on("/open/early", early)
    with gateway.client() as client:
        client.send("POST /open/early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n")
        client.send(b"x" * 200000)
        response = client.read_response()
        assert response.status == 422 and response.json() == {"error": "early"}
    assert backend.wait_for(lambda b: b.requests[0].connection.closed_at, 5), "half a request is never followed by another"
    assert gateway.ask("GET", "/open/echo").status == 200


def test_a_late_answer_is_504_and_reaches_nobody_afterwards(gateway, backend):
    late = threading.Event()

    def answers_late(connection, request):
        late.wait(10)
        connection.answer(200, {"late": True})
    backend.on("/open/late", answers_late)
    with gateway.client() as client:
        assert client.request("GET", "/open/late").status == 504
        late.set()
        for number in range(20):
            assert client.request("GET", f"/open/{number}").json()["target"] == f"/open/{number}"


def test_a_server_that_sends_nothing_but_what_is_kept_back_keeps_nobody_waiting(start, key):
    """Events of usage that the client did not ask for, without end and as fast as they are read."""
    flood = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}\n\n' * 20000
    started = threading.Event()

    def floods(connection, _):
        connection.begin_stream()
        while True:
            connection.chunk(flood)
            started.set()

    def change(config):
        config["workers"] = 1
        config["models"] = {"m": {"pool": "main"}}
        config["routes"].insert(0, {"name": "chat", "path": "/v1/chat/completions", "authenticate": ["api_key"], "models": "body",
                                    "timeouts": {"first_byte": "5s", "idle": "5s", "total": "3s"}})
    backend = start.backend().on("/v1/chat/completions", floods)
    gateway = start.gateway(backend, change=change)
    workers = gateway.workers()
    with gateway.client() as flooded:
        flooded.send_request("POST", "/v1/chat/completions", body={"model": "m", "stream": True, "messages": []}, key=key)
        assert started.wait(5)
        for _ in range(5):
            assert gateway.ask("GET", "/open/echo").status == 200
        with pytest.raises(BrokenTransfer):
            flooded.read_response("POST")
    assert gateway.workers() == workers


TWICE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst"
SECOND = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond"


@pytest.mark.parametrize("pause", [None, 0, 0.0005, 0.002, 0.01])
def test_a_second_answer_to_one_request_reaches_nobody(gateway, backend, pause):
    """Together with the first, or behind it, while the connection is kept and others ask at the same time."""
    def twice(connection, request):
        try:
            connection.send(TWICE + SECOND if pause is None else TWICE)
            if pause is not None:
                time.sleep(pause)
                connection.send(SECOND)
        finally:
            sent.set()
    sent = threading.Event()
    backend.on("/open/twice", twice)
    for _ in range(30):
        with gateway.client() as one:
            sent.clear()
            assert one.request("GET", "/open/twice").body == b"first"
            assert sent.wait(10)  # who asks later must not be given it; what is already on its way no proxy can tell
            assert one.request("GET", "/open/echo").json()["target"] == "/open/echo"


def stopped(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "T"


def test_a_second_answer_that_comes_as_a_connection_is_lent_again_is_seen_in_time(gateway, backend):
    """The next request and the second answer are in the sockets before the worker looks at either, the request first."""
    go, said = threading.Event(), threading.Event()

    def twice(connection, request):
        connection.send(TWICE)
        go.wait(10)
        connection.send(SECOND)
        said.set()
    backend.on("/open/twice", twice)
    worker = gateway.workers()[0]
    with gateway.client() as client:
        for number in range(10):
            assert client.request("GET", "/open/twice").body == b"first"
            os.kill(worker, signal.SIGSTOP)
            try:
                wait_until(lambda: stopped(worker), 5, "the worker stands still")
                client.send_request("GET", f"/open/{number}")
                go.set()
                assert said.wait(5), "the second answer is sent"
            finally:
                os.kill(worker, signal.SIGCONT)
            go.clear()
            said.clear()
            assert client.read_response().json()["target"] == f"/open/{number}"


def test_never_is_504_in_time_and_the_connection_is_closed(gateway, backend):
    backend.on("/open/never", behave.never_answers)
    with gateway.client() as client:
        began = time.monotonic()
        assert client.request("GET", "/open/never").status == 504
        assert time.monotonic() - began >= 0.9
    assert backend.wait_for(lambda b: b.requests[0].connection.closed_at, 5)


# ---- Heads ----

def test_a_head_that_comes_drop_by_drop_is_504(gateway, backend):
    def drips(connection, request):
        for byte in b"HTTP/1.1 200 OK\r\n" + b"x-drop: y\r\n" * 1000:
            connection.send(bytes([byte]))
            time.sleep(0.05)
    backend.on("/open/drips", drips)
    with gateway.client() as client:
        assert client.request("GET", "/open/drips").status == 504


def test_endless_interim_answers_are_502(gateway, backend):
    def talks(connection, request):
        for _ in range(1000000):
            connection.send(b"HTTP/1.1 102 Processing\r\n\r\n")
    backend.on("/open/talks", talks)
    with gateway.client() as client:
        assert client.request("GET", "/open/talks").status == 502


def test_slow_endless_interim_answers_do_not_put_the_answer_off_for_ever(gateway, backend):
    def talks(connection, request):
        while True:
            connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            time.sleep(0.2)
    backend.on("/open/talks", talks)
    with gateway.client() as client:
        assert client.request("GET", "/open/talks").status == 504


def test_a_few_interim_answers_are_nothing(gateway, backend):
    backend.on("/open/few", behave.raw(b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 10 + TWICE, close=False))
    with gateway.client() as client:
        response = client.request("GET", "/open/few")
        assert response.body == b"first" and response.interim == []


HEADS = {
    "HTTP/0.9": b"<html>\n<p>no head at all\n</html>\n",
    "garbage": bytes(range(256)) * 8,
    "an unknown version": b"HTTP/3.0 200 OK\r\n\r\n",
    "HTTP/2 unasked": b"\0\0\x12\x04\0\0\0\0\0" + b"\0" * 18,
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nfirst",
    "a length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "an endless line": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200000,
    "endless fields": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50000,
    "another coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADS)
def test_what_is_no_answer_is_502_and_not_asked_for_again(gateway, backend, head):
    backend.on("/open/odd", behave.raw(HEADS[head], close=False, linger=3))
    with gateway.client() as client:
        assert client.request("POST", "/open/odd", body=b"x").status == 502
        assert client.request("GET", "/open/echo").status == 200
    assert [request.path for request in backend.requests] == ["/open/odd", "/open/echo"]


# ---- Bodies ----

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
BODIES = {
    "a length longer than the body": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfive!",
    "chunks without an end": CHUNKED,
    "garbage between chunks": CHUNKED + b"\xff\xfe\r\n",
    "a chunk size that overflows": CHUNKED + b"fffffffffffffffff\r\n",
    "a chunk longer than its size": CHUNKED + b"2\r\nabcdef\r\n0\r\n\r\n",
    "endless extensions": CHUNKED + b"5;" + b"e" * 100000,
    "endless trailers": CHUNKED + b"0\r\n" + b"x-trailer: y\r\n" * 10000,
    "a trailer that belongs into the head": CHUNKED + b"0\r\ncontent-length: 3\r\n\r\n",
}


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_lies_is_never_a_complete_one(gateway, backend, body):
    backend.on("/open/lies", behave.raw(BODIES[body]))
    request_id = "lies-" + body.replace(" ", "-")
    with gateway.client() as client:
        broken(client, "/open/lies", request_id)
    assert gateway.logged(request_id)["reason"] not in ("ok", "client left")
    assert gateway.ask("GET", "/open/echo").status == 200


def test_a_length_shorter_than_the_body_cuts_it_and_the_rest_reaches_nobody(gateway, backend):
    backend.on("/open/lies", behave.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", close=False))
    with gateway.client() as client:
        for _ in range(20):
            assert client.request("GET", "/open/lies").body == b"first"
            assert client.request("GET", "/open/echo").json()["target"] == "/open/echo"


def test_trailers_are_read_and_dropped(gateway, backend):
    backend.on("/open/trailers", behave.raw(CHUNKED + b"0\r\nx-checksum: 1\r\n\r\n", close=False))
    with gateway.client() as client:
        for _ in range(3):
            response = client.request("GET", "/open/trailers")
            assert response.body == b"hello" and response.header("x-checksum") is None
    assert len({request.connection.number for request in backend.requests}) == 1, "and the connection is kept"


def test_a_body_that_trickles_goes_through_and_one_that_stops_is_broken_off(gateway, backend):
    def trickles(connection, request):
        connection.begin_stream("text/plain")
        for _ in range(8):
            connection.chunk(b"x")
            time.sleep(0.2)
        connection.wait_gone(5)
    backend.on("/open/trickles", trickles)
    with gateway.client() as client:
        client.send_request("GET", "/open/trickles", headers={"X-Request-ID": "trickles"})
        client.read_head()
        assert [client.read_chunk() for _ in range(8)] == [b"x"] * 8, "longer than the idle timeout in all, never silent for as long"
        with pytest.raises(BrokenTransfer):
            client.read_chunk()
    assert gateway.logged("trickles")["reason"] == "backend too slow"


@pytest.mark.measures
def test_a_gibibyte_for_a_client_that_does_not_read_waits_at_the_backend(gateway, backend, record_property):
    backend.on("/open/gibibyte", behave.floods(1 << 30))
    worker = gateway.workers()[0]
    before = settled(worker)
    with gateway.client(receive_buffer=16384) as client:
        client.send_request("GET", "/open/gibibyte")
        client.read_head()
        grown = 0
        for _ in range(20):
            client.read_chunk()
            time.sleep(0.02)
            grown = max(grown, settled(worker) - before) if _ == 10 else grown
        record_property("mebibytes", round(grown / MIB, 2))
        assert grown <= 2 * MIB
        assert backend.requests[0].connection.sent < 64 * MIB
    assert backend.wait_for(lambda b: b.requests[0].connection.closed_at, 5)


@pytest.mark.measures
def test_a_server_that_never_reads_holds_up_its_client_in_little_memory_and_is_504(start):
    backend = start.backend(receive_buffer=8192)
    backend.on("/open/deaf", behave.before_body(behave.never_answers_nor_reads))

    def change(config):
        configure(config)
    gateway = start.gateway(backend, change=change)
    worker = gateway.workers()[0]
    gateway.ask("GET", "/open/echo")
    before = settled(worker)
    with gateway.client() as client:
        client.send("POST /open/deaf HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: deaf\r\nContent-Length: 60000000\r\n\r\n")
        pushed = [0]

        def push():
            try:
                while pushed[0] < 60_000_000:
                    client.send(b"x" * 50000)
                    pushed[0] += 50000
            except OSError:
                pass
        pusher = threading.Thread(target=push, daemon=True)
        pusher.start()
        assert backend.wait_for(lambda b: b.requests)
        assert settled(worker) - before <= 2 * MIB
        assert client.read_response().status == 504
        join([pusher])
        assert pushed[0] < 40_000_000
    assert gateway.logged("deaf")["reason"] == "backend too slow"


# ---- Closing ----

def test_a_server_that_closes_at_the_very_moment_of_the_next_request_loses_none_of_2000(start, record_property):
    """It says keep-alive and closes: before, while or after the next request is written to it."""
    backend = start.backend()

    def closes_soon(connection, request):
        connection.answer(body=b'{"n":1}')
        time.sleep((connection.number % 8) * 0.0002)
        return False
    backend.on("/open/race", closes_soon)
    gateway = start.gateway(backend, change=configure)
    statuses = []

    def ask(method):
        with gateway.client() as client:
            for _ in range(500):
                statuses.append(client.request(method, "/open/race", body=b"question" if method == "POST" else None).status)
    threads = [threading.Thread(target=ask, args=(method,)) for method in ("GET", "POST", "GET", "POST")]
    for thread in threads:
        thread.start()
    join(threads)
    record_property("retries", wait_until(lambda: gateway.metric("sallyport_retries_total") + 1, 1, "metrics") - 1)
    assert statuses == [200] * 2000


RESETS = {
    "at once": lambda connection: None,
    "in the status line": lambda connection: connection.send(b"HTTP/1.1 2"),
    "in the head": lambda connection: connection.send(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "after the head": lambda connection: connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
    "in the body": lambda connection: connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
    "in a chunk": lambda connection: connection.send(CHUNKED + b"5\r\nhe"),
    "after the answer": lambda connection: connection.answer(body=b"{}"),
}


@pytest.mark.parametrize("stage", RESETS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_resets_leaves_nothing_behind(gateway, backend, stage, method):
    def resets(connection, request):
        RESETS[stage](connection)
        connection.abort()
        return False
    backend.on("/open/resets", resets)
    outcomes = set()
    for _ in range(20):
        with gateway.client() as client:
            try:
                outcomes.add(client.request(method, "/open/resets", body=b"x" if method == "POST" else None).status)
            except BrokenTransfer:
                outcomes.add("broken")
    assert outcomes <= ({200, "broken", 502} if stage == "after the answer" else {502, "broken"})
    nothing_is_left(gateway)
    every_slot_is_free(gateway, backend, SLOTS)


# ---- Two servers ----

def test_when_one_of_two_servers_dies_requests_go_on_and_none_that_may_be_repeated_is_lost(start):
    alive, dies = start.backend(), start.backend()

    def change(config):
        config["pools"]["main"] = {"servers": [{"url": alive.url}, {"url": dies.url}], "balance": "round_robin", "retries": 1,
                                   "outlier": {"consecutive_failures": 2, "eject_for": "30s"}}
    gateway = start.gateway(alive, change=change)
    statuses, go_on = [], threading.Event()
    lock = threading.Lock()

    def ask():
        with gateway.client() as client:
            while not go_on.is_set():
                status = client.request("GET", "/open/echo").status
                with lock:
                    statuses.append(status)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(statuses) > 100 and dies.requests, 10, "both are asked")
    dies.stop()
    then = len(statuses)
    wait_until(lambda: len(statuses) > then + 400, 20, "requests go on")
    go_on.set()
    join(threads)
    assert set(statuses) == {200}
    wait_until(lambda: gateway.metric("sallyport_backend_up", server=dies.url) == 0, 5, "it is passed over")
    assert gateway.metric("sallyport_backend_up", server=alive.url) == 1


def test_a_server_that_is_not_there_at_all_costs_nobody_an_answer(start):
    alive = start.backend()
    servers = [{"url": alive.url}] + [{"url": f"http://127.0.0.1:{free_port()}"} for _ in range(3)]

    def change(config):
        config["pools"]["main"] = {"servers": servers, "balance": "round_robin", "retries": 3}
    gateway = start.gateway(alive, change=change)
    with gateway.client() as client:
        assert {client.request("POST", "/open/echo", body=b"x").status for _ in range(100)} == {200}
